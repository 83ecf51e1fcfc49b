"""What all videos of a file share: options, weights and the source of the keypoints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import StoreMismatch

if TYPE_CHECKING:
    from .feature_file import FeatureFile


@dataclass(frozen=True)
class StoreHeader:
    """What must be the same for every video of a file, JSON-ready."""

    config: Mapping[str, object]
    """``ExtractConfig.identity()``."""
    weights: Mapping[str, object]
    pose_source: Mapping[str, object]

    def as_json(self) -> dict[str, str]:
        """Attribute name -> JSON text."""
        parts = {"config": self.config, "weights": self.weights, "pose_source": self.pose_source}
        return {name: json.dumps(part, sort_keys=True, default=str) for name, part in parts.items()}

    def require_same(self, stored: Mapping[str, str], path: Path) -> None:
        """Raise StoreMismatch, naming every field that differs, unless ``stored`` is the same."""
        lines = [
            f"{key}: {theirs} in the file, {ours} now"
            for key, ours, theirs in self.differences(stored)
        ]
        if lines:
            raise StoreMismatch(
                f"{path} was made with other settings ({'; '.join(lines)}). Use the file's "
                "settings to resume it, pass --overwrite to replace it, or choose another --out."
            )

    def differences(self, stored: Mapping[str, str]) -> list[tuple[str, object, object]]:
        """Fields that differ: name, value here, value in ``stored`` (name -> JSON)."""
        found = []
        for name, text in self.as_json().items():
            theirs, ours = _flat(json.loads(stored[name]), name), _flat(json.loads(text), name)
            for key in sorted(ours.keys() | theirs.keys()):
                one, other = ours.get(key, "nothing"), theirs.get(key, "nothing")
                if one != other:
                    found.append((key, one, other))
        return found


def _flat(value: object, name: str) -> dict[str, object]:
    if isinstance(value, dict):
        return {
            k: v for key, part in value.items() for k, v in _flat(part, f"{name}.{key}").items()
        }
    return {name: value}


def common_header(files: Sequence[FeatureFile]) -> StoreHeader:
    """The header that all files share; raises StoreMismatch naming every field that differs."""
    first = files[0]
    header = first.header
    for file in files[1:]:
        attributes = {name: str(value) for name, value in file.attributes.items()}
        lines = [
            f"{name}: {theirs} there, {ours} here"
            for name, ours, theirs in header.differences(attributes)
        ]
        if lines:
            raise StoreMismatch(
                f"{file.path} was made with other settings than {first.path} "
                f"({'; '.join(lines)}). Only files of the same settings can be read or merged as "
                "one."
            )
    return header
