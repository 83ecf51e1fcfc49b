"""Where keypoints come from: rtmlib's networks over pieces of frames, and who is who.

``estimator`` is the stage. It runs ``batched``, rtmlib's detection and keypoints for many pictures
per network run, over an ``onnx_network`` that takes what ``preprocess`` makes. ``boxes`` carries
people over frames without detection, ``linking`` keeps each person in one row, ``model_files`` and
``download`` obtain the models.
"""

from .estimator import PoseEstimator, open_pose_model
from .linking import MEMORY_FRAMES, PersonLinker
from .model_files import download_models, list_models
from .onnx_network import gpu_provider_available
from .skeletons import draw_skeletons

__all__ = [
    "MEMORY_FRAMES",
    "PersonLinker",
    "PoseEstimator",
    "download_models",
    "draw_skeletons",
    "gpu_provider_available",
    "list_models",
    "open_pose_model",
]
