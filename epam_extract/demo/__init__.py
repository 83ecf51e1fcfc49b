"""The bundled pose model: two ONNX files and their card, ``MODEL.md``.

Only paths and sizes are here, so importing this costs nothing. What trains the model is beside the
sample videos in a checkout, in ``sample_videos/training``.
"""

from __future__ import annotations

from pathlib import Path

DETECTOR_ONNX = Path(__file__).with_name("detector.onnx")
POSE_ONNX = Path(__file__).with_name("pose.onnx")
DETECTOR_SIZE = (256, 320)  # rtmlib.YOLOX(model_input_size=...): height, width
POSE_SIZE = (96, 128)  # rtmlib.RTMPose(model_input_size=...): width, height

__all__ = ["DETECTOR_ONNX", "DETECTOR_SIZE", "POSE_ONNX", "POSE_SIZE"]
