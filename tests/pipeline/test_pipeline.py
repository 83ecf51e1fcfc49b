"""The stages together: what ends up in the file, whatever happened on the way.

Decoding, cutting, batching and writing are real. The pose models and the network are stand-ins
whose numbers depend on every pixel and keypoint they are given, except where a test says so.
"""

import errno
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from make_videos import number_of, write_video
from stand_ins import (
    CONFIG,
    POOLED,
    StandInNetwork,
    StandInPose,
    StandInVideo,
    assert_same,
    contents,
    no_backbone,
    people,
)

from epam_extract import config as settings
from epam_extract.config import ExtractConfig, PoseConfig, WeightsConfig, WindowConfig
from epam_extract.errors import ConfigError, MachineError, StoreMismatch
from epam_extract.pipeline import concurrency, device, models, output, plan, run, video_worker
from epam_extract.pipeline.inference import BackboneRunner, LoadedBackbone, load_backbone
from epam_extract.pipeline.run import extract_features
from epam_extract.progress import Progress
from epam_extract.records import ClipBatch, FeatureBatch, FramePiece, PoseTrack
from epam_extract.store import FeatureStore
from epam_extract.windows import plan_windows


def test_the_file_holds_every_row_with_its_time_box_and_people(
    videos: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    summary = extract_features(videos, tmp_path / "f.h5", CONFIG)
    assert (summary.videos, summary.done, summary.failed) == (3, 3, 0)
    assert summary.frames == 111 == summary.frames_with_person
    with FeatureStore(tmp_path / "f.h5") as store:
        assert list(store) == ["long", "sub/one", "sub/short"]
        video = store["long"]
        windows = plan_windows(90, CONFIG.windows)
        np.testing.assert_array_equal(video["frames"], windows)
        assert video["rgb"].shape == (12, 432, 16, 7, 7) and video["rgb"].dtype == np.float16
        assert video["times"][0].tolist() == pytest.approx([0.0, 4 / 25, 28 / 25])
        assert (video["person"] == 1).all()
        assert video["valid"][0] == pytest.approx(28 / 48)
        assert video["keypoints"].shape == (2, 90, 17, 2)
        assert video["keypoint_scores"][1, :4, 0].tolist() == [0.75, 0, 0.75, 0]
        assert store["sub/one"]["frames"].tolist() == [[0] * 48]
        assert video.attrs["offset_frames"] == 4 and video.attrs["feat_stride"] == 8


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"workers": 3}, {"batch_size": 1}, {"batch_size": 7}])
def test_numbers_do_not_depend_on_workers_or_batches(
    videos: Path, stand_ins: StandInPose, tmp_path: Path, changes: dict[str, int]
) -> None:
    extract_features(videos, tmp_path / "one.h5", replace(CONFIG, workers=1))
    extract_features(videos, tmp_path / "other.h5", replace(CONFIG, **changes))
    assert_same(tmp_path / "one.h5", tmp_path / "other.h5")


@pytest.mark.slow
def test_clips_of_different_videos_fill_one_batch(
    videos: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    extract_features(videos, tmp_path / "f.h5", replace(CONFIG, batch_size=16))
    assert StandInNetwork.calls == [16]  # 12 + 3 + 1 windows


class StopAfter(Progress):
    """Asks the run to stop once this many frames are through."""

    def __init__(self, frames: int) -> None:
        self.left, self.stop = frames, threading.Event()

    def advance(self, frames: int) -> None:
        self.left -= frames
        if self.left <= 0:
            self.stop.set()


@pytest.mark.slow
@pytest.mark.parametrize("crop", ["window", "video"])
def test_an_interrupted_run_goes_on_inside_the_video(
    stand_ins: StandInPose, tmp_path: Path, crop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "v.mp4", frames=400)
    config = replace(POOLED, crop=crop, batch_size=1)
    extract_features(tmp_path / "v.mp4", tmp_path / "whole.h5", config)
    rows = len(contents(tmp_path / "whole.h5")["v/frames"])
    progress = StopAfter(100)
    first = extract_features(
        tmp_path / "v.mp4", tmp_path / "f.h5", config, progress=progress, stop=progress.stop
    )
    assert first.interrupted and first.done == 0
    assert 0 < first.windows < rows
    stand_ins.pieces.clear()
    second = extract_features(tmp_path / "v.mp4", tmp_path / "f.h5", config)
    assert second.done == 1 and second.windows == rows - first.windows
    if crop == "window":
        assert min(stand_ins.pieces) > 0
    assert_same(tmp_path / "whole.h5", tmp_path / "f.h5")


def swapping_people(piece: FramePiece) -> PoseTrack:
    """One leaves after 30 frames, another stays, a third comes; every other frame turns them."""
    numbers = np.array([number_of(frame) for frame in piece.frames])
    joints = np.stack([np.arange(17) % 4 * 5, np.arange(17) * 2], -1)
    keypoints = (np.array([[5, 5], [40, 20], [75, 10]])[:, None, None] + joints).astype(np.float32)
    keypoints = np.repeat(keypoints, len(numbers), axis=1)  # (3, F, 17, 2)
    there = np.stack([numbers < 30, numbers >= 0, numbers >= 60])
    keypoints *= there[..., None, None]
    scores = np.repeat(there[..., None] * np.float32(0.75), 17, axis=-1).astype(np.float32)
    odd = numbers % 2 == 1
    keypoints[:, odd], scores[:, odd] = keypoints[::-1, odd], scores[::-1, odd]
    return PoseTrack(keypoints, scores)


@pytest.mark.slow
@pytest.mark.parametrize("crop", ["window", "video"])
def test_a_row_is_one_person_also_where_a_run_resumes(
    stand_ins: StandInPose, tmp_path: Path, crop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stand_ins, "estimate", swapping_people)
    write_video(tmp_path / "v.mp4", frames=400)
    pose = replace(POOLED.pose, max_persons=1)
    config = replace(POOLED, crop=crop, batch_size=1, pose=pose)
    extract_features(tmp_path / "v.mp4", tmp_path / "whole.h5", config)
    keypoints = contents(tmp_path / "whole.h5")["v/keypoints"]
    assert keypoints.shape == (3, 400, 17, 2)
    assert (keypoints[1, :, 0, 0] == 40).all()  # the one who stays, in the row they began in
    progress = StopAfter(150)
    options = {"progress": progress, "stop": progress.stop}
    assert extract_features(tmp_path / "v.mp4", tmp_path / "f.h5", config, **options).interrupted
    assert extract_features(tmp_path / "v.mp4", tmp_path / "f.h5", config).done == 1
    assert_same(tmp_path / "whole.h5", tmp_path / "f.h5")
    box = contents(tmp_path / "f.h5")["v/box"]
    if crop == "video":  # the one who is seen longest is all that the network sees
        assert (box == box[0]).all() and box[0, 0] > 20


@pytest.mark.slow
def test_a_failure_of_the_machine_stops_the_run_and_keeps_what_is_committed(
    stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "v.mp4", frames=300)
    config = replace(POOLED, batch_size=1)
    extract_features(tmp_path / "v.mp4", tmp_path / "whole.h5", config)

    class Broken(StandInNetwork):
        def __call__(self, batch: ClipBatch) -> FeatureBatch:
            if batch.rows[0].window == 20:
                raise MachineError("the GPU is lost")
            return super().__call__(batch)

    monkeypatch.setattr(run, "BackboneRunner", Broken)
    monkeypatch.setattr(output, "COMMIT_SECONDS", 0.0)
    with pytest.raises(MachineError, match="GPU is lost"):
        extract_features(tmp_path / "v.mp4", tmp_path / "f.h5", config)
    monkeypatch.setattr(run, "BackboneRunner", StandInNetwork)
    summary = extract_features(tmp_path / "v.mp4", tmp_path / "f.h5", config)
    assert 0 < summary.windows < 38 and summary.failed == 0
    assert_same(tmp_path / "whole.h5", tmp_path / "f.h5")


@pytest.mark.slow
def test_done_videos_are_not_opened_again_and_changed_ones_are_redone(
    stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        write_video(tmp_path / f"{name}.mp4", frames=30)
    out = tmp_path / "f.h5"
    extract_features(tmp_path, out, POOLED)
    opened: list[str] = []

    def watched(real):
        def call(path: Path, *arguments: object, **options: object):
            opened.append(path.stem)
            return real(path, *arguments, **options)

        return call

    monkeypatch.setattr(video_worker, "open_video", watched(video_worker.open_video))
    monkeypatch.setattr(plan, "read_header", watched(plan.read_header))
    summary = extract_features(tmp_path, out, POOLED)
    assert summary.skipped == 2 and opened == []
    write_video(tmp_path / "b.mp4", frames=50)
    summary = extract_features(tmp_path, out, POOLED)
    assert summary.skipped == 1 and set(opened) == {"b"}
    with FeatureStore(out) as store:
        assert store["b"]["keypoints"].shape[1] == 50


def test_a_bad_video_is_recorded_and_tried_again_only_on_request(
    videos: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    write_video(tmp_path / "good.mp4", frames=20)
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty.mkv").touch()
    out = tmp_path / "f.h5"
    summary = extract_features(tmp_path, out, POOLED)
    assert summary.done == 1
    assert [(f.video_id, f.stage) for f in summary.failures] == [
        ("empty", "probe"),
        ("text", "probe"),
    ]
    again = extract_features(tmp_path, out, POOLED)
    assert again.failed == 2 and again.skipped == 1 and again.frames == 0
    (tmp_path / "text.mp4").write_bytes((videos / "sub" / "short.mp4").read_bytes())
    third = extract_features(tmp_path, out, POOLED, retry_failed=True)
    assert third.done == 2 and [f.video_id for f in third.failures] == ["empty"]
    with FeatureStore(out) as store:
        assert list(store) == ["good", "text"] and list(store.failures) == ["empty"]


def test_an_unexpected_error_in_a_stage_fails_that_video_only(
    videos: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate(piece: FramePiece) -> PoseTrack:
        if len(piece.frames) == 1:
            raise ZeroDivisionError("no good")
        return people(piece)

    monkeypatch.setattr(stand_ins, "estimate", estimate)
    summary = extract_features(videos, tmp_path / "f.h5", POOLED)
    assert summary.done == 2
    (failure,) = summary.failures
    assert failure.video_id == "sub/one" and "no good" in failure.message


def test_an_id_that_cannot_be_stored_fails_that_video_only(
    videos: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a.mp4", "a/rgb.mp4", "a/b.mp4"):
        (tmp_path / name).write_bytes((videos / "sub" / "short.mp4").read_bytes())
    summary = extract_features(tmp_path, tmp_path / "f.h5", POOLED)
    assert summary.done == 2
    (failure,) = summary.failures
    assert failure.stage == "write" and "rgb" in failure.message


def test_features_that_are_no_numbers_fail_the_video(
    videos: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad(StandInNetwork):
        def __call__(self, batch: ClipBatch) -> FeatureBatch:
            features = super().__call__(batch)
            for i, clip in enumerate(batch.rows):
                if clip.video_id == "long" and clip.window == 5:
                    features.arrays["rgb_pooled"][i, 7] = np.nan
            return features

    monkeypatch.setattr(run, "BackboneRunner", Bad)
    summary = extract_features(videos, tmp_path / "f.h5", POOLED)
    assert [(f.video_id, f.stage) for f in summary.failures] == [("long", "write")]
    with FeatureStore(tmp_path / "f.h5") as store:
        assert list(store) == ["sub/one", "sub/short"]


def test_too_low_a_limit_of_open_files_is_raised_or_told(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (24, before[1]))
        concurrency.require_open_files(2)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (64, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (24, 24))
    with pytest.raises(MachineError, match=r"only 24 files .* needs 64: .*ulimit -n 1024"):
        concurrency.require_open_files(2)


def test_running_out_of_open_files_is_not_the_videos_fault(
    videos: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(video_worker, "open_video", no_more)
    with pytest.raises(MachineError, match="too many files are open"):
        extract_features(videos, tmp_path / "f.h5", POOLED)
    with FeatureStore(tmp_path / "f.h5") as store:
        assert not store.failures


def test_a_compiled_file_without_a_compiler_says_what_to_do(
    videos: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "f.h5"
    monkeypatch.setattr(StandInNetwork, "compiled", "native")
    extract_features(videos / "sub" / "one.mp4", out, POOLED)
    before = contents(out)
    monkeypatch.setattr(StandInNetwork, "compiled", "")
    monkeypatch.setattr(StandInNetwork, "uncompiled_because", "no compiler is here", raising=False)
    with pytest.raises(StoreMismatch, match=r"no compiler is here\. Install a C\+\+ compiler"):
        extract_features(videos, out, POOLED)
    assert contents(out).keys() == before.keys()
    monkeypatch.setattr(StandInNetwork, "compiled", "native")
    assert extract_features(videos, out, POOLED).done == 3


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"windows": WindowConfig(stride=4)}, "stride"),
        ({"crop": "video"}, "crop"),
        ({"weights": WeightsConfig(random_seed=1)}, "seed"),
        ({"pose": PoseConfig(det_every=5)}, "det_every"),
    ],
)
def test_other_options_than_the_files_are_refused_by_name(
    videos: Path, stand_ins: StandInPose, tmp_path: Path, changed: dict[str, object], field: str
) -> None:
    out = tmp_path / "f.h5"
    extract_features(videos / "sub", out, POOLED)
    before = contents(out)
    other = replace(POOLED, **changed)
    with pytest.raises(StoreMismatch, match=field):
        extract_features(videos / "sub", out, other)
    assert contents(out).keys() == before.keys()
    assert extract_features(videos / "sub", out, other, overwrite=True).windows > 0


def test_a_dry_run_plans_and_writes_nothing(videos: Path, tmp_path: Path) -> None:
    plans = []

    class Listen(Progress):
        def plan(self, plan: object) -> None:
            plans.append(plan)

    summary = extract_features(videos, tmp_path / "f.h5", CONFIG, dry_run=True, progress=Listen())
    assert not (tmp_path / "f.h5").exists() and summary.windows == 0
    plan = plans[-1]
    assert plan.exact and not plans[0].exact
    assert (plan.to_do, plan.frames, plan.windows) == (3, 111, 16)
    assert plan.bytes > 16 * 1.6e6


def test_a_plan_asks_once_how_much_memory_there_is(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(place: str) -> int:
        asked.append(place)
        return 8 << 30

    monkeypatch.setattr(plan, "available_memory", lambda: ask("plan"))
    monkeypatch.setattr("epam_extract.video.frames.available_memory", lambda: ask("header"))
    extract_features(videos, tmp_path / "f.h5", CONFIG, dry_run=True)
    assert asked == ["plan"]


def test_a_dry_run_with_overwrite_counts_everything_again(
    videos: Path, stand_ins: StandInPose, tmp_path: Path
) -> None:
    extract_features(videos / "sub", tmp_path / "f.h5", POOLED)
    out = tmp_path / "f.h5"
    before = out.read_bytes()
    assert extract_features(videos / "sub", out, POOLED, dry_run=True).skipped == 2
    again = extract_features(videos / "sub", out, POOLED, dry_run=True, overwrite=True)
    assert again.skipped == 0 and out.read_bytes() == before


def test_a_disk_too_small_is_refused_with_the_ways_out(
    videos: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1_000_000

    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(MachineError, match=r"--no-full.*--compression.*--stride"):
        extract_features(videos, tmp_path / "f.h5", CONFIG)


@pytest.mark.slow
def test_a_long_video_stays_in_bounded_memory(
    stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = 12_000  # 8 minutes at 25/s; nothing grows with it but time stamps and row indices
    most_alive = 0
    alive = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            if self.base is None:
                alive -= len(self)

    def black(start: int) -> np.ndarray:
        nonlocal alive, most_alive
        piece = np.zeros((16, 64, 96, 3), np.uint8).view(Counted).copy()
        alive += 16
        most_alive = max(most_alive, alive)
        return piece

    def opened(path: Path, video_id: str, **_: object) -> StandInVideo:
        return StandInVideo(path, video_id, frames=frames, make=black)

    pending: list[int] = []
    commit = run.StoreWriter.commit

    def watched(store: run.StoreWriter) -> None:
        pending.append(store.pending_bytes)
        commit(store)

    monkeypatch.setattr(video_worker, "open_video", opened)
    monkeypatch.setattr(plan, "read_header", lambda path, **_: opened(path, "v").header)
    monkeypatch.setattr(run.StoreWriter, "commit", watched)
    monkeypatch.setattr(output, "COMMIT_BYTES", 1 << 20)
    (tmp_path / "v.mp4").write_bytes(b"stand-in")
    config = replace(POOLED, windows=WindowConfig(stride=16))
    summary = extract_features(tmp_path / "v.mp4", tmp_path / "f.h5", config)
    assert summary.windows == 750 and summary.done == 1
    assert most_alive <= 48 + 16 * 12
    assert len(pending) > 3 and max(pending) < 2 << 20


def real_batch() -> ClipBatch:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (3, 16, 224, 224, 3), np.uint8)
    keypoints = rng.uniform(0, 56, (3, 1, 48, 17, 2)).astype(np.float32)
    return ClipBatch((), rgb, keypoints, np.full((3, 1, 48, 17), 0.9, np.float32))


def make_network(**changes: object) -> BackboneRunner:
    config = replace(CONFIG, precision="float32", **changes)
    return BackboneRunner(
        load_backbone(config.weights).backbone, config, device=torch.device("cpu")
    )


@pytest.mark.slow
def test_the_network_stage_gives_what_the_module_gives() -> None:
    from epam_extract.heatmaps import render_heatmaps

    loaded = load_backbone(CONFIG.weights)
    batch = replace(real_batch(), rows=(None,) * 2)  # two real rows and one of padding
    stage = make_network(features=settings.FEATURES)
    arrays = stage(batch).arrays
    mean = torch.tensor(settings.IMAGENET_MEAN).view(3, 1, 1, 1)
    std = torch.tensor(settings.IMAGENET_STD).view(3, 1, 1, 1)
    rgb = (torch.from_numpy(batch.rgb[:2]).permute(0, 4, 1, 2, 3) - mean) / std
    heatmaps = render_heatmaps(
        torch.from_numpy(batch.keypoints[:2]), torch.from_numpy(batch.keypoint_scores[:2])
    )
    with torch.inference_mode():
        expected = loaded.backbone(rgb, heatmaps)
        attention = loaded.backbone.attention_module(expected[1][:, :, ::3])[:, 0]
    assert arrays["attention"].dtype == np.float16 and attention.std() > 0.01
    np.testing.assert_allclose(arrays["attention"], attention, atol=1e-3)
    for name, want in zip(("rgb", "pose"), expected, strict=True):
        spread = float(want.std())
        np.testing.assert_allclose(
            arrays[f"{name}_pooled"], want.mean((2, 3, 4)), atol=1e-4 * spread
        )
        tokens = want.mean((3, 4)).transpose(1, 2)
        np.testing.assert_allclose(arrays[f"{name}_tokens"], tokens, atol=1e-4 * spread)
        assert arrays[name].dtype == np.float16 and arrays[name].shape == tuple(want.shape)
        np.testing.assert_allclose(arrays[name], want, atol=2e-3 * float(want.abs().max()))


@pytest.mark.slow
def test_a_full_gpu_halves_the_batch_and_says_so() -> None:
    stage = make_network(features=("pooled",))
    told: list[int] = []
    stage._on_halved = told.append

    def forward(rgb: torch.Tensor, heatmaps: torch.Tensor):
        if len(rgb) > 1:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return rgb.float().mean((2, 3, 4))[:, :, None, None, None], heatmaps[:, :, :1, :1, :1]

    stage._fused = forward
    batch = replace(real_batch(), rows=(None,) * 3)
    assert stage(batch).arrays["rgb_pooled"].shape == (3, 16)
    assert told == [1]

    def never(rgb: torch.Tensor, heatmaps: torch.Tensor):
        raise torch.cuda.OutOfMemoryError("out of memory")

    stage._fused = never
    with pytest.raises(MachineError, match="even one clip"):
        stage(batch)


@pytest.mark.slow
def test_values_beyond_f16_are_clipped_and_counted() -> None:
    stage = make_network(features=("full",))
    big = torch.full((1, 2, 3, 7, 7), 1e6)
    stage._fused = lambda rgb, heatmaps: (big, -big)
    features = stage(replace(real_batch(), rgb=real_batch().rgb[:1], rows=(None,)))
    assert features.clipped.tolist() == [2 * big.numel()]
    assert features.arrays["rgb"].max() == 65504 and features.arrays["pose"].min() == -65504


def test_the_file_counts_clipped_values_by_video(
    videos: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clipping(StandInNetwork):
        def __call__(self, batch: ClipBatch) -> FeatureBatch:
            ours = [7 if clip.video_id == "sub/short" else 0 for clip in batch.rows]
            return replace(super().__call__(batch), clipped=np.array(ours))

    monkeypatch.setattr(run, "BackboneRunner", Clipping)
    summary = extract_features(videos, tmp_path / "f.h5", replace(POOLED, batch_size=16))
    assert summary.clipped == 3 * 7
    with FeatureStore(tmp_path / "f.h5") as store:
        assert {name: store[name].attrs["clipped"] for name in store} == {
            "long": 0,
            "sub/one": 0,
            "sub/short": 21,
        }


def test_weights_that_are_not_named_are_found_as_the_command_finds_them(
    videos: Path, stand_ins: StandInPose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Path | None] = []

    def load(weights: WeightsConfig) -> LoadedBackbone:
        used.append(weights.file)
        return no_backbone(weights)

    monkeypatch.setattr(models, "load_backbone", load)
    monkeypatch.setenv("EPAM_WEIGHTS", str(checkpoint := tmp_path / "epam.pth"))
    checkpoint.touch()
    extract_features(videos / "sub", tmp_path / "f.h5", replace(POOLED, weights=WeightsConfig()))
    assert used == [checkpoint]
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("EPAM_WEIGHTS")
    with pytest.raises(ConfigError, match="no EPAM-Net weights: pass --weights FILE"):
        extract_features(videos / "sub", tmp_path / "g.h5", ExtractConfig())


def test_a_missing_gpu_and_missing_weights_are_clear() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="--device cuda cannot be used"):
            device.pick_device("cuda")
    with pytest.raises(ConfigError, match="auto, cpu, cuda"):
        device.pick_device("tpu")
    with pytest.raises(ConfigError, match="--random-weights"):
        load_backbone(WeightsConfig())
