"""Old name of :mod:`epam_extract.report.preview`, to be removed in the next version."""

import warnings

from .report.preview import draw_preview

__all__ = ["draw_preview"]

warnings.warn(
    "epam_extract.preview is now epam_extract.report.preview", DeprecationWarning, stacklevel=2
)
