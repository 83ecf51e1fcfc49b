"""Errors are one family, drawn as a tree at the head of their module."""

from __future__ import annotations

import inspect
import re

from epam_extract import errors
from epam_extract.errors import EpamExtractError, VideoError

CLASSES = dict(inspect.getmembers(errors, inspect.isclass))


def drawn() -> dict[str, str]:
    """Parent of each error in the tree of the module's docstring."""
    parents: dict[str, str] = {}
    above: list[tuple[int, str]] = [(-1, "EpamExtractError")]
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([ │]*)[├└]── (\w+)", line)
        if found:
            depth = len(found[1])
            while above[-1][0] >= depth:
                above.pop()
            parents[found[2]] = above[-1][1]
            above.append((depth, found[2]))
    return parents


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    real = {
        name: kind.__base__.__name__
        for name, kind in CLASSES.items()
        if kind is not EpamExtractError
    }
    assert drawn() == real
    assert all(issubclass(kind, EpamExtractError) for kind in CLASSES.values())


def test_every_failure_of_a_video_names_its_stage() -> None:
    stages = {name: kind.stage for name, kind in CLASSES.items() if issubclass(kind, VideoError)}
    assert stages == {
        "VideoError": "video",
        "FetchError": "fetch",
        "ProbeError": "probe",
        "DecodeError": "decode",
        "KeypointsFailed": "keypoints",
    }
