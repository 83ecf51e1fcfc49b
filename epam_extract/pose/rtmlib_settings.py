"""The settings that rtmlib's classes hold as defaults of their constructors."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np

SCORE_THR, NMS_THR = 0.3, 0.45  # inside rtmlib's code, where a constructor does not take them


@dataclass(frozen=True)
class RtmlibSettings:
    """What rtmlib uses for one kind of network unless it is told otherwise."""

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    """Of the B, G and R channel, in grey levels; None where pictures go in as they are."""
    score_thr: float
    """The lowest score of a person."""
    nms_thr: float
    """The largest overlap (IoU) of two people."""

    @classmethod
    def of(cls, kind: str) -> RtmlibSettings:
        """Read them from the installed rtmlib: ``yolox``, ``rtmdet``, ``simcc`` or ``rtmo``."""
        import rtmlib

        tools = {
            "yolox": rtmlib.YOLOX,
            "rtmdet": rtmlib.RTMDet,
            "simcc": rtmlib.RTMPose,
            "rtmo": rtmlib.RTMO,
        }
        parameters = inspect.signature(tools[kind]).parameters
        defaults = {name: parameter.default for name, parameter in parameters.items()}
        return cls(
            mean=defaults.get("mean"),
            std=defaults.get("std"),
            score_thr=defaults.get("score_thr", SCORE_THR),
            nms_thr=defaults.get("nms_thr", NMS_THR),
        )

    def level_tables(self) -> np.ndarray:
        """What each byte of the B, G and R channel becomes: (3, 256) float32."""
        levels = np.repeat(np.arange(256.0)[None], 3, axis=0)
        if self.mean is not None:
            levels = (levels - np.array(self.mean)[:, None]) / np.array(self.std)[:, None]
        return levels.astype(np.float32)
