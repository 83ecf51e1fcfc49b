"""``epam-extract report``: an HTML page about a feature file, and one about a probe's result.

``summary`` flags what is suspicious about each video, ``details`` collects what is shown of it, and
``page`` renders the page. Plots are static SVG and small pictures; the only script sorts and
filters. ``probe`` renders the page of a probe.
"""

from .page import write_report
from .probe import probe_page

__all__ = ["probe_page", "write_report"]
