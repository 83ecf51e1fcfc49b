"""Everything the terminal shows: a running extraction, and tables of what a command found.

The pipeline reports to a :class:`Progress`. The base class shows nothing;
``displays.open_progress`` makes those that do. rich and tqdm are used here and nowhere else.
"""

from .protocol import SILENT, Progress
from .units import describe_plan, escaped, format_duration, format_rate, plural

__all__ = [
    "SILENT",
    "Progress",
    "describe_plan",
    "escaped",
    "format_duration",
    "format_rate",
    "plural",
]
