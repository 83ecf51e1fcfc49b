"""Synthetic people: the same every time, and their truth is where they are drawn."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from epam_extract.demo import DETECTOR_SIZE
from sample_videos.training import dataset, loader, motions, samples, train
from sample_videos.training.evaluate import Found, Tally, match
from sample_videos.training.muon import Muon, orthogonal
from sample_videos.training.networks import (
    STRIDE,
    Detector,
    KeypointNet,
    cell_centres,
    decode_boxes,
)
from sample_videos.training.people import Body
from sample_videos.training.props import make_thing
from sample_videos.training.render import RenderedClip, render_clip, render_scene
from sample_videos.training.restore import restore
from sample_videos.training.scenes import EASY, HARD, HIDDEN, VISIBLE, Person, Scene

CHECKOUT = Path(__file__).parents[2]
SAMPLES = CHECKOUT / "sample_videos"


@pytest.fixture(scope="module")
def waving() -> RenderedClip:
    return render_clip(3, frames=12, motions=["wave"], fps=6)


def test_clip_has_the_documented_shapes(waving):
    assert waving.frames.shape == (12, 240, 320, 3)
    assert waving.frames.dtype == np.uint8
    assert waving.keypoints.shape == (1, 12, 17, 2)
    assert waving.visibility.shape == waving.scores.shape == (1, 12, 17)
    assert waving.boxes.shape == (1, 12, 4)
    assert waving.usable.all()


def test_same_seed_gives_the_same_pixels_and_truth(waving):
    again = render_clip(3, frames=2, motions=["wave"], fps=6)
    np.testing.assert_array_equal(again.frames, waving.frames[:2])
    np.testing.assert_array_equal(again.keypoints, waving.keypoints[:, :2])
    other = render_clip(4, frames=2, motions=["wave"], fps=6)
    assert (other.frames != again.frames).mean() > 0.5


def test_person_is_drawn_where_the_truth_says():
    scene = Scene(5, look=EASY, empty=True)
    scene.noise = scene.jpeg = scene.blur = 0
    scene.shadows = False
    room = scene.frame(0.0).image.astype(int)
    scene.cast(1, ["jack"])
    frame = scene.frame(0.4)
    changed = np.abs(frame.image.astype(int) - room).max(-1) > 12
    rows, columns = np.nonzero(changed)
    (person,) = frame.people
    tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(person.box, tight, atol=6)
    for (x, y), visible in zip(
        person.keypoints.round().astype(int), person.visibility, strict=True
    ):
        if visible == VISIBLE:
            assert changed[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4].any()


def test_left_is_left():
    scene = Scene(8, look=EASY, empty=True)
    scene.cast(1, ["idle"])
    scene.bodies[0].yaw = 0.0  # faces the camera: its left is on our right
    left, right = scene.frame(0.0).people[0].keypoints[[5, 6], 0]
    assert left > right + 5
    scene.bodies[0].yaw = np.pi
    left, right = scene.frame(0.0).people[0].keypoints[[5, 6], 0]
    assert left < right - 5


def test_waving_lifts_a_wrist_above_the_shoulder(waving):
    wrists, shoulders = waving.keypoints[0, :, 9:11, 1], waving.keypoints[0, :, 5:7, 1]
    assert (wrists < shoulders).any(1).all()


def test_something_in_front_hides_keypoints_and_shrinks_the_box():
    scene = Scene(5, look=EASY, empty=True)
    scene.cast(1, ["idle"])
    (free,) = scene.frame(0.0).people
    body = scene.bodies[0]
    scene.things += make_thing(
        "cupboard", np.random.default_rng(1), seed=0, x=body.x, z=body.z + 0.6, yaw=0.0
    )
    (behind,) = scene.frame(0.0).people
    np.testing.assert_array_equal(behind.keypoints, free.keypoints)
    assert behind.pixels < 0.8 * free.pixels
    assert (behind.visibility[13:] == HIDDEN).any()


@pytest.mark.slow
def test_looks_make_scenes_harder():
    def bodies(**changes: float) -> list[Body]:
        look = dataclasses.replace(HARD, **changes)
        return [body for seed in range(30) for body in Scene(seed, look=look).bodies]

    def share_of_random(people: list[Body]) -> float:
        return float(np.mean([body.moves.kind == "random" for body in people]))

    assert share_of_random(bodies(wild=500.0)) > 0.9
    assert share_of_random(bodies(wild=0.0)) == 0
    assert sum(abs(body.yaw) > 1.6 for body in bodies(turned=1.0)) > 10
    scenes = [Scene(seed, look=dataclasses.replace(HARD, hidden=1.0)) for seed in range(15)]
    assert all(scene.things for scene in scenes if scene.bodies)


def test_training_shows_more_of_what_is_hard():
    for look in dataset.LOOKS:
        assert (look.wild, look.hidden, look.turned) > (HARD.wild, HARD.hidden, HARD.turned)
    assert any("desk" in look.things for look in dataset.LOOKS)
    assert sum(dataset.LOOK_SHARES) == pytest.approx(1)


def test_an_empty_room_has_nobody():
    clip = render_clip(9, frames=2, people=0)
    assert clip.keypoints.shape == (0, 2, 17, 2)
    assert clip.frames.std() > 1


def test_wrong_motions_are_explained():
    with pytest.raises(ValueError, match=r"unknown motion 'fly'; there are: idle, walk"):
        render_clip(1, frames=1, motions=["fly"])
    with pytest.raises(ValueError, match="1 motions for 2 people"):
        render_clip(1, frames=1, people=2, motions=["walk"])


@pytest.mark.parametrize("kind", motions.MOTIONS)
def test_every_motion_moves_smoothly(kind):
    motion = motions.Motion(kind, np.random.default_rng(2))
    turns = np.array(
        [np.concatenate([m.flex, m.hip, m.knee]) for m in map(motion, np.arange(0, 4, 0.02))]
    )
    assert np.isfinite(turns).all()
    assert np.abs(np.diff(turns, axis=0)).max() < 0.8


def test_shares_cover_the_motions():
    assert len(motions.SHARES) == len(motions.MOTIONS)


def test_script_fades_from_one_motion_to_the_next():
    script = motions.Script([(0.0, "idle"), (1.0, "jack")], np.random.default_rng(0), fade=0.5)
    steps = [script(t).abduct[0] for t in np.arange(0.9, 1.6, 0.01)]
    assert np.abs(np.diff(steps)).max() < 0.2


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    (folder / "frames").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "SHARD", 12)
        dataset.render_shard((folder / "frames", 1, 0))
    return folder


def test_shards_are_kept_and_counted(shards, monkeypatch):
    monkeypatch.setattr(dataset, "SHARD", 12)
    assert list(dataset.render(shards / "frames", 12, seed=1)) == [12]
    (shard,) = dataset.open_shards(shards / "frames")
    assert shard.frames.shape == (12, 240, 320, 3)
    assert (shard.state == dataset.USABLE).any()


def test_augmented_keypoints_stay_on_their_person(shards):
    (shard,) = dataset.open_shards(shards / "frames")
    batches = loader.DetectorBatches(shards / "frames", batch=2, seed=0)
    rng = np.random.default_rng(0)
    seen = 0
    for _ in range(40):
        image, keypoints, boxes, state = batches.sample([shard], rng)
        assert image.shape == (*DETECTOR_SIZE, 3)
        for person in np.flatnonzero(state == dataset.USABLE):
            visible = keypoints[person, keypoints[person, :, 2] == VISIBLE, :2]
            slack = 0.08 * (boxes[person, 3] - boxes[person, 1]) + 3
            assert (visible >= boxes[person, :2] - slack).all()
            assert (visible <= boxes[person, 2:] + slack).all()
            seen += 1
    assert seen > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["detector", "pose"])
def test_training_saves_and_goes_on(shards, monkeypatch, name):
    monkeypatch.setitem(train.RECIPES, name, dataclasses.replace(train.RECIPES[name], batch=3))
    path = train.train(name, shards, minutes=0.001, seed=1, threads=1)
    first = torch.load(path, weights_only=True)
    assert first["step"] >= 1
    train.train(name, shards, minutes=first["seconds"] / 60 + 0.001, seed=1, threads=1)
    second = torch.load(path, weights_only=True)
    assert second["step"] > first["step"]
    assert all(torch.isfinite(v).all() for v in second["mean"].values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["detector", "pose"])
def test_training_again_starts_from_the_shipped_networks(shards, monkeypatch, tmp_path, name):
    monkeypatch.setitem(train.RECIPES, name, dataclasses.replace(train.RECIPES[name], batch=3))
    (tmp_path / "frames").symlink_to(shards / "frames")
    path = train.train(name, tmp_path, minutes=0.0001, seed=1, threads=1, again=True)
    saved = torch.load(path, weights_only=True)
    shipped, again = train.RECIPES[name].network(), train.RECIPES[name].network()
    pictures = torch.from_numpy(np.stack([render_clip(31, frames=1).frames[0, :128, :96]] * 2))
    restore(shipped, train.RECIPES[name].shipped, [train.inputs(name, pictures)])
    again.load_state_dict(saved["mean"])
    assert saved["step"] < 3
    with torch.no_grad():
        kept = again.eval()(train.inputs(name, pictures))
        for one, other in zip(kept, shipped.eval()(train.inputs(name, pictures)), strict=True):
            assert (one - other).abs().mean() < 0.3 * other.std()
    rates = [group["lr"] for tool in saved["optimisers"] for group in tool["param_groups"]]
    assert max(rates) <= train.AGAIN * train.MUON_RATE


def test_training_asks_for_onnx_before_it_starts(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(train.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("sys.argv", ["train", "--out", str(tmp_path / "new")])
    with pytest.raises(SystemExit) as stopped:
        train.main()
    assert stopped.value.code == 2
    assert "pip install -e '.[dev]'" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_training_stops_kindly(tmp_path):
    command = [sys.executable, "-m", "sample_videos.training.train", "--only", "render", "--out"]
    with subprocess.Popen(
        [*command, str(tmp_path)],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored in the background
    ) as run:
        assert run.stdout.readline().startswith("rendered 0 of")
        os.killpg(run.pid, signal.SIGINT)  # as the terminal does
        _, told = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "the same command resumes" in told


def test_learning_rate_warms_up_and_falls():
    rates = [train.learning_rate(1.0, 1000, share) for share in (0.0, 0.5, 1.0)]
    assert rates == pytest.approx([1.004, 0.504, 0.004], abs=1e-6)
    assert train.learning_rate(1.0, 0, 0.0) < 0.02


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_orthogonal_step_turns_and_does_not_stretch(shape):
    gradient = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    step = orthogonal(gradient).float()
    assert ((left.T @ step @ right.T).diagonal() > 0.6).all()  # the polynomial stops near 1
    assert torch.linalg.matrix_norm(step, 2) < 1.3


def test_muon_fits_a_convolution_to_another():
    torch.manual_seed(0)
    wanted, network = torch.nn.Conv2d(4, 8, 3, bias=False), torch.nn.Conv2d(4, 8, 3, bias=False)
    tool = Muon(network.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        pictures = torch.randn(8, 4, 8, 8)
        losses.append((network(pictures) - wanted(pictures).detach()).square().mean())
        network.zero_grad()
        losses[-1].backward()
        tool.step()
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("network", [Detector, KeypointNet])
def test_every_weight_has_one_optimiser(network):
    built = network()
    muon, adam = train.optimisers(built)
    hidden = {id(w) for group in muon.param_groups for w in group["params"]}
    rest = {id(w) for group in adam.param_groups for w in group["params"]}
    assert not hidden & rest
    assert hidden | rest == {id(w) for w in built.parameters()}
    names = {name for name, weight in built.named_parameters() if id(weight) in hidden}
    assert not any(name.startswith(network.ENDS) or name.endswith("bias") for name in names)
    assert "body.mix16.0.weight" in names


def test_boxes_decode_around_their_cells():
    cells = cell_centres(2, 3)
    assert cells.tolist()[:2] == [[3.5, 3.5], [3.5 + STRIDE, 3.5]]
    box = decode_boxes(torch.zeros(4), cells[0])
    assert box.tolist() == [3.5 - 24, 3.5 - 24, 3.5 + 24, 3.5 + 24]


def test_detector_works_at_any_size():
    with torch.no_grad():
        centres, sides, joints = Detector().eval()(torch.zeros(1, 3, 96, 160))
    assert centres.shape == (1, 1, 12, 20)
    assert sides.shape == (1, 4, 12, 20)
    assert joints.shape == (1, 17, 12, 20)


def person(box: list[float], *, usable: bool = True) -> Person:
    x0, y0, x1, y1 = box
    grid = np.stack([np.linspace(x0, x1, 17), np.linspace(y0, y1, 17)], 1).astype(np.float32)
    return Person(grid, np.full(17, 2, np.int8), np.array(box, np.float32), 500, usable)


def test_tally_counts_found_wrong_and_near():
    people = [person([0, 0, 40, 100]), person([100, 0, 140, 100])]
    boxes = np.array([[0, 0, 40, 100], [250, 0, 290, 100]], np.float32)
    keypoints = np.stack([people[0].keypoints + 1, people[1].keypoints])
    tally = Tally()
    tally.add(people, Found(boxes, keypoints, np.ones((2, 17), np.float32)))
    figures = tally.figures()
    assert (figures["recall"], figures["false_a_frame"], figures["pck"]) == (0.5, 1.0, 1.0)
    tally.add(
        [person([250, 0, 290, 100], usable=False)],
        Found(boxes[1:], keypoints[1:], np.ones((1, 17), np.float32)),
    )
    assert tally.wrong == 1  # a person too hidden to be asked for is no mistake


def test_score_error_is_how_far_scores_are_from_the_share_that_is_right():
    truth = person([0, 0, 40, 100])
    keypoints = truth.keypoints.copy()
    keypoints[:5] += 500
    scores = np.full(17, 0.95, np.float32)
    scores[:5] = 0.25
    tally = Tally()
    tally.add([truth], Found(truth.box[None], keypoints[None], scores[None]))
    assert tally.figures()["score_error"] == pytest.approx((12 * 0.05 + 5 * 0.25) / 17, abs=1e-4)


def test_match_uses_each_box_once():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
    assert match(boxes[:1], boxes) == [(0, 0)]
    assert match(boxes, boxes[:1]) == [(0, 0)]
    assert match(boxes, np.zeros((0, 4), np.float32)) == []


def test_sample_videos_are_small_and_their_truth_fits():
    plans = {plan.name: plan for plan in samples.PLANS}
    videos = sorted(SAMPLES.glob("*.mp4"))
    assert {path.stem for path in videos} == set(plans)
    assert sum(path.stat().st_size for path in videos) < 1_000_000
    for path in videos:
        with av.open(str(path)) as container:
            frames = [(f.height, f.width) for f in container.decode(video=0)]
        with np.load(path.with_suffix(".npz")) as truth:
            assert str(truth["frame_dir"]) == path.stem
            assert int(truth["total_frames"]) == len(frames) == plans[path.stem].seconds * 25
            assert tuple(truth["img_shape"]) == frames[0]
            assert truth["keypoint"].shape == (len(plans[path.stem].actors), len(frames), 17, 2)
            assert truth["keypoint_score"].shape == truth["keypoint"].shape[:3]


def test_segments_lie_in_their_video():
    content = json.loads((SAMPLES / "segments.json").read_text())
    assert content == json.loads(json.dumps(samples.activitynet(samples.PLANS)))
    (video,) = content["database"].values()
    ends = [0.0]
    for annotation in video["annotations"]:
        start, end = annotation["segment"]
        assert ends[-1] < start < end <= video["duration"]  # with a pause before each
        ends.append(end)
    assert len(ends) > 4


def test_samples_can_be_made_again():
    """The first frame's truth of the shortest clip is what the file says."""
    plan = next(plan for plan in samples.PLANS if plan.name == "workout")
    short = samples.Plan(plan.name, 0.04, plan.room, plan.actors, plan.things)
    clip = samples.film(short)
    with np.load(SAMPLES / "workout.npz") as truth:
        np.testing.assert_allclose(truth["keypoint"][:, :1], clip.keypoints, atol=0.1)


def test_filming_gives_every_person_a_row():
    scene = Scene(2, look=EASY, empty=True)
    scene.cast(3)
    assert render_scene(scene, frames=2).keypoints.shape == (3, 2, 17, 2)
