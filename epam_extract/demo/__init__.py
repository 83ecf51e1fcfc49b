"""The bundled pose model and the synthetic people that it was trained on; see ``MODEL.md``.

Only paths and sizes are here, so importing this costs nothing. The renderer, which is also the
tests' source of truth, is :mod:`epam_extract.demo.render`.
"""

from __future__ import annotations

from pathlib import Path

DETECTOR_ONNX = Path(__file__).with_name("detector.onnx")
POSE_ONNX = Path(__file__).with_name("pose.onnx")
DETECTOR_SIZE = (256, 320)  # rtmlib.YOLOX(model_input_size=...): height, width
POSE_SIZE = (96, 128)  # rtmlib.RTMPose(model_input_size=...): width, height

__all__ = ["DETECTOR_ONNX", "DETECTOR_SIZE", "POSE_ONNX", "POSE_SIZE"]
