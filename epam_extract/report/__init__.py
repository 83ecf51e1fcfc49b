"""``epam-extract report``: one page, for a person, of what is in a feature file.

``summary`` says what is suspicious about each video, ``details`` what is shown of it, ``page``
puts the page together. Nothing on it moves, so its plots are plain SVG and small pictures, and
the only script sorts and filters.
"""

from .page import write_report

__all__ = ["write_report"]
