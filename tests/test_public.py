"""The public names, pinned: changing one of these breaks somebody's code."""

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import epam_extract

NAMES = {
    "CBAMSpatialEfficientTemporalAttention",
    "CheckpointError",
    "ConfigError",
    "EPAMBackbone",
    "EpamExtractError",
    "ExtractConfig",
    "FeatureStore",
    "MachineError",
    "PoseConfig",
    "PoseModelError",
    "StoreError",
    "Summary",
    "VideoError",
    "WeightsConfig",
    "WindowConfig",
    "X3DTemporalShift",
    "X3DTemporalShiftPose",
    "__version__",
    "extract_features",
    "fuse",
    "load_heads",
    "load_weights",
}


def test_the_public_names_are_these() -> None:
    assert set(epam_extract.__all__) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_loads_and_is_documented(name: str) -> None:
    value = getattr(epam_extract, name)
    if name != "__version__":
        assert value.__doc__


def test_names_that_other_code_calls() -> None:
    from epam_extract.clips import person_box
    from epam_extract.heatmaps import render_heatmaps
    from epam_extract.windows import uniform_window

    assert list(inspect.signature(person_box).parameters) == ["keypoints", "height", "width"]
    assert list(inspect.signature(render_heatmaps).parameters)[:2] == ["keypoints", "scores"]
    assert list(inspect.signature(uniform_window).parameters) == ["num_frames"]
    backbone = inspect.signature(epam_extract.EPAMBackbone).parameters
    assert {name: p.default for name, p in backbone.items()} == {
        "num_classes": 60,
        "rgb_pretrained": None,
        "pose_pretrained": None,
        "attention_type": "CBAM_spatial_efficient_temporal",
        "freeze_rgb": False,
        "freeze_pose": False,
        "return_both_streams": True,
    }
    assert list(inspect.signature(epam_extract.load_weights).parameters) == ["backbone", "path"]


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("epam_extract.verify", "epam_extract.store.verify", "verify"),
        ("epam_extract.preview", "epam_extract.report.preview", "draw_preview"),
    ],
)
def test_old_names_work_with_a_warning(
    old: str, new: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}") as warned:
        module = importlib.import_module(old)
    assert getattr(module, name) is getattr(importlib.import_module(new), name)
    assert Path(warned[0].filename).name != Path(str(module.__file__)).name  # the importer's line


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        epam_extract.nothing  # noqa: B018


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, epam_extract; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
