"""``epam-extract report``: one page, for a person, of what is in a feature file.

``summary`` says what is suspicious about each video, ``details`` what is shown of it, ``page``
puts the page together. Nothing on it moves, so its plots are plain SVG and small pictures, and
the only script sorts and filters. ``probe`` is the page of a probe's result.
"""

from .page import write_report
from .probe import probe_page

__all__ = ["probe_page", "write_report"]
