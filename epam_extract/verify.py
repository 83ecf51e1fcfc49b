"""Old name of :mod:`epam_extract.store.verify`, to be removed in the next version."""

import warnings

from .store.verify import Problem, repair, verify

__all__ = ["Problem", "repair", "verify"]

warnings.warn(
    "epam_extract.verify is now epam_extract.store.verify", DeprecationWarning, stacklevel=2
)
