"""An event of known frames lands in the same rows whichever export is read.

The readers' own formulas are evaluated, as they stand in ActionFormer, OpenTAD, ASFormer, BMN,
PDAN and Moment-DETR.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from make_features import CLOCKS, EVENT, FRAMES, setting, write_features

from epam_extract.config import WindowConfig
from epam_extract.errors import ConfigError
from epam_extract.exchange import export_features, read_annotations
from epam_extract.windows import grid_attributes, plan_windows

NAMES = {clock: clock.replace(".", "_") for clock in CLOCKS}


def annotate(path: Path) -> None:
    """The event of frames 72 to 136 in every video, in its own seconds, as CSV."""
    lines = [
        f"{clock},{stamps[EVENT[0]]!r},{stamps[EVENT[1]]!r},pick  up,train\n"
        for clock, (_, stamps) in CLOCKS.items()
    ]
    path.write_text("".join(lines).replace("np.float64(", "").replace(")", ""))


@pytest.mark.slow
@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("grid", ["centered", "valid"])
def test_an_event_lands_in_the_same_rows_whoever_reads(
    tmp_path: Path, stride: int, grid: str
) -> None:
    windows = WindowConfig(grid=grid, stride=stride)
    file = write_features(tmp_path / "f.h5", windows, {clock: clock for clock in CLOCKS})
    annotate(tmp_path / "a.csv")
    annotations = read_annotations(tmp_path / "a.csv")
    for form in ("actionformer", "opentad", "segmentation", "bmn", "tsu", "moment"):
        export_features(file, form, tmp_path / form, annotations=annotations, jobs=2)
    offset = grid_attributes(FRAMES, windows)["offset_frames"]
    last = offset + (len(plan_windows(FRAMES, windows)) - 1) * stride
    wanted = (np.array(EVENT) - offset) / stride  # row coordinates

    config = (tmp_path / "actionformer" / "config.yaml").read_text()
    num_frames, feat_stride = setting(config, "num_frames"), setting(config, "feat_stride")
    actionformer = json.loads((tmp_path / "actionformer" / "annotations.json").read_text())
    namespace: dict = {}
    exec((tmp_path / "opentad" / "dataset.py").read_text(), namespace)
    train = namespace["dataset"]["train"]
    opentad = json.loads(Path(train["ann_file"]).read_text())
    bmn = json.loads((tmp_path / "bmn" / "anno.json").read_text())
    tsu = json.loads((tmp_path / "tsu" / "annotations.json").read_text())
    mapping = dict(
        reversed(line.split(" "))
        for line in (tmp_path / "segmentation" / "mapping.txt").read_text().splitlines()
    )

    for clock, (fps, stamps) in CLOCKS.items():
        # The file has no time of every frame: between those it has, uneven ones are interpolated.
        slack = {"uneven": 1.5, "variable": 0.7}.get(clock, 2e-3)  # frames
        off = slack / stride if clock == "uneven" else 1e-3
        video = actionformer["database"][clock]
        (event,) = video["annotations"]
        segment = np.array(event["segment"], np.float32)
        loader = segment * video["fps"] / feat_stride - 0.5 * num_frames / feat_stride
        np.testing.assert_allclose(loader, wanted, atol=off)
        assert (video["frame"], event["label_id"], video["subset"]) == (FRAMES, 0, "training")

        video = opentad["database"][clock]
        (event,) = video["annotations"]
        frames = [int(s / video["duration"] * video["frame"]) for s in event["segment"]]
        loader = (np.array(frames) - train["offset_frames"]) / train["feature_stride"]
        if clock == "uneven":  # rounded down to frames
            np.testing.assert_allclose(loader, wanted, atol=(slack + 1) / stride)
        else:
            np.testing.assert_array_equal(loader, wanted)

        dense = np.load(tmp_path / "segmentation" / "features" / f"{NAMES[clock]}.npy")
        lines = (tmp_path / "segmentation" / "groundTruth" / f"{NAMES[clock]}.txt").read_text()
        classes = [mapping[line] for line in lines.split("\n")[:-1]]  # as ASFormer reads them
        assert dense.shape == (648, FRAMES) and len(classes) == FRAMES
        labelled = [n for n, line in enumerate(classes) if line == "1"]
        assert labelled == list(range(labelled[0], labelled[-1] + 1))
        assert np.abs(np.array(EVENT) - (labelled[0], labelled[-1] + 1)).max() <= int(slack)
        inside = np.clip(np.arange(FRAMES) + 0.5, offset, last)
        np.testing.assert_allclose(dense[0], inside, atol=1e-3)

        # Readers of a fixed length: the row of a moment is that of the frame shown then.
        frame_seconds = float(1 / fps)
        edges = np.append(stamps, stamps[-1] + frame_seconds)
        duration = edges[-1] - edges[0]

        def shown(seconds: np.ndarray, edges: np.ndarray = edges) -> np.ndarray:
            seconds = np.clip(seconds + edges[0], edges[0], edges[-1])
            return np.clip(np.interp(seconds, edges, np.arange(FRAMES + 1)), offset, last)

        rows = np.loadtxt(tmp_path / "bmn" / f"{clock}.csv", delimiter=",", skiprows=1)
        assert rows.shape == (100, 648)
        middles = (np.arange(100) + 0.5) * duration / 100
        np.testing.assert_allclose(rows[:, 0], shown(middles), atol=slack)
        (event,) = bmn[clock]["annotations"]
        where = np.array(event["segment"]) / bmn[clock]["duration_second"] * 100  # BMN's rows
        moments = (stamps[list(EVENT)] - stamps[0]) / duration * 100
        np.testing.assert_allclose(where, moments, atol=1e-6)

        rows = np.load(tmp_path / "tsu" / f"{clock}.npy")
        assert rows.shape == (13, 648)
        middles = (np.arange(13) + 0.5) * duration / 13
        np.testing.assert_allclose(rows[:, 0], shown(middles), atol=slack)
        ((number, start, end),) = tsu[clock]["actions"]
        marked = [n for n in range(13) if start < n / (13 / tsu[clock]["duration"]) < end]  # PDAN
        begins = np.interp(np.arange(13) * duration / 13 + edges[0], edges, np.arange(FRAMES + 1))
        inside = np.flatnonzero((begins > EVENT[0]) & (begins < EVENT[1]))
        assert number == 0 and marked == inside.tolist()

        with np.load(tmp_path / "moment" / f"{clock}.npz") as archive:
            rows = archive["features"]
        assert rows.shape == (int(np.ceil(duration / 2)), 648)
        middles = np.arange(len(rows)) * 2.0 + 1
        np.testing.assert_allclose(rows[:-1, 0], shown(middles[:-1]), atol=slack)


@pytest.mark.slow
def test_a_file_of_one_row_per_video_goes_where_rows_are_resampled(tmp_path: Path) -> None:
    single = WindowConfig(grid="single")
    file = write_features(tmp_path / "f.h5", single, {clock: clock for clock in CLOCKS})
    annotate(tmp_path / "a.csv")
    annotations = read_annotations(tmp_path / "a.csv")
    for form in ("segmentation", "bmn", "npy"):
        export_features(file, form, tmp_path / form, annotations=annotations)
    for clock in CLOCKS:
        dense = np.load(tmp_path / "segmentation" / "features" / f"{NAMES[clock]}.npy")
        assert dense.shape == (648, FRAMES) and np.ptp(dense, axis=1).max() == 0
        lines = (tmp_path / "segmentation" / "groundTruth" / f"{NAMES[clock]}.txt").read_text()
        labelled = [n for n, line in enumerate(lines.splitlines()) if line == "pick_up"]
        assert abs(labelled[0] - EVENT[0]) < 4 and abs(labelled[-1] + 1 - EVENT[1]) < 4
        assert np.load(tmp_path / "npy" / f"{clock}.npy").shape == (1, 648)
    for form in ("actionformer", "opentad"):
        with pytest.raises(ConfigError, match="nothing to localize in"):
            export_features(file, form, tmp_path / form)
        assert not (tmp_path / form).exists()
