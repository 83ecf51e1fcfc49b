"""COCO's annotation files: ``images`` with their names, ``annotations`` with keypoints."""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from .poses import Annotation, Poses, coco_joints, flat_joints, require_coco_names, stack


def is_coco(content: Any) -> bool:
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def coco_videos(content: Any, name: str) -> dict[str, Annotation]:
    """Each directory of pictures is a video, with its frames in the order of their numbers.

    Pictures without a directory belong to the video ``name``. All frames must be in ``images``.
    Raises KeypointsError if a category names its joints differently from COCO.
    """
    for category in content.get("categories", ()):
        require_coco_names(category.get("keypoints", ()))
    pictures = defaultdict(list)
    for image in content["images"]:
        path = PurePosixPath(str(image["file_name"]).replace("\\", "/"))
        folder = path.parent.as_posix()
        pictures[name if folder == "." else folder].append((_natural(path.name), image))
    people = defaultdict(list)
    for person in content["annotations"]:
        if "keypoints" in person:
            people[person["image_id"]].append(person)
    return {
        video: functools.partial(_poses, [i for _, i in sorted(found, key=lambda f: f[0])], people)
        for video, found in pictures.items()
    }


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts ``img_9.jpg`` before ``img_10.jpg``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _poses(
    images: Sequence[Mapping[str, Any]],
    people: Mapping[object, Sequence[Mapping[str, Any]]],
) -> Poses:
    """A joint's third number is its score, or 0, 1 or 2: absent, hidden, visible."""
    rows = [
        (index, int(person.get("track_id", -1)), person["keypoints"])
        for index, image in enumerate(images)
        for person in people.get(image["id"], ())
    ]
    sizes = {(image.get("height"), image.get("width")) for image in images}
    height, width = sizes.pop() if len(sizes) == 1 else (None, None)
    return stack(
        coco_joints(flat_joints([row[2] for row in rows])),
        [row[0] for row in rows],
        persons=[row[1] for row in rows],
        length=len(images),
        size=(float(height), float(width)) if height and width else None,
    )
