"""What the tests of keypoints share."""

import warnings
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def no_warnings() -> Any:
    """Odd numbers are dealt with, not warned about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
