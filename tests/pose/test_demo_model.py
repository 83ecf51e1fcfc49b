"""The bundled model: its format, its export, and what it finds on people it never saw."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from epam_extract.demo import DETECTOR_ONNX, DETECTOR_SIZE, POSE_ONNX, POSE_SIZE
from sample_videos.training.evaluate import Model, evaluate, match, read_video
from sample_videos.training.export import (
    DOUBT,
    PERSONS,
    SPREAD,
    USUAL,
    DetectorExport,
    PoseExport,
    export,
    fold,
)
from sample_videos.training.loader import MIRROR
from sample_videos.training.networks import Detector, KeypointNet, cell_centres
from sample_videos.training.render import draw_skeleton, render_clip
from sample_videos.training.restore import restore
from sample_videos.training.scenes import EASY, HARD

SAMPLES = Path(__file__).parents[2] / "sample_videos"
KIND = "CPUExecutionProvider"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model()


def test_the_two_files_are_small():
    assert DETECTOR_ONNX.stat().st_size + POSE_ONNX.stat().st_size < 6_000_000


@pytest.mark.slow
def test_detector_takes_any_number_of_pictures():
    session = onnxruntime.InferenceSession(str(DETECTOR_ONNX), providers=[KIND])
    clip = render_clip(61, frames=2, people=2)
    pictures = np.full((3, 3, *DETECTOR_SIZE), 114, np.float32)
    for row, frame in zip(pictures, clip.frames, strict=False):
        row[:, : frame.shape[0]] = frame[..., ::-1].transpose(2, 0, 1)
    (together,) = session.run(None, {"input": pictures})
    assert together.shape == (3, PERSONS, 5)
    for picture, answer in zip(pictures, together, strict=True):
        (alone,) = session.run(None, {"input": picture[None]})
        np.testing.assert_allclose(alone[0], answer, atol=2e-2)
        scores = answer[:, 4]
        assert (np.diff(scores) <= 0).all()  # rtmlib takes them in this order
        assert scores.min() >= 0
        assert scores.max() <= 1
        kept = answer[scores > 0.05]
        assert (kept[:, :4] >= 0).all()
        assert (kept[:, 2] <= DETECTOR_SIZE[1]).all()
        assert (kept[:, 3] <= DETECTOR_SIZE[0]).all()


def test_pose_takes_any_number_of_crops_and_its_peaks_are_shares():
    session = onnxruntime.InferenceSession(str(POSE_ONNX), providers=[KIND])
    width, height = POSE_SIZE
    crops = np.random.default_rng(0).normal(0, 1, (3, 3, height, width)).astype(np.float32)
    along_x, along_y = session.run(None, {"input": crops})
    assert along_x.shape == (3, 17, 2 * width)
    assert along_y.shape == (3, 17, 2 * height)
    for values in (along_x, along_y):
        assert values.min() >= 0
        assert 0 < values.max() <= 1


@pytest.mark.slow
def test_people_never_seen_before_are_found(model):
    """The card's figures, less what 60 frames may vary."""
    easy, hard = (evaluate(model, look, frames=60) for look in (EASY, HARD))
    assert easy["recall"] >= 0.95
    assert easy["pck"] >= 0.93
    assert easy["false_a_frame"] <= 0.1
    assert easy["swapped_left_right"] <= 0.1
    assert easy["score_error"] <= 0.15
    assert hard["recall"] >= 0.82
    assert hard["pck"] >= 0.86
    assert hard["false_a_frame"] <= 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["walk_and_wave", "workout", "untrimmed"])
def test_people_of_the_sample_videos_are_found(model, name):
    frames = read_video(SAMPLES / f"{name}.mp4")
    with np.load(SAMPLES / f"{name}.npz") as data:
        truth = data["keypoint"]
    errors, missed, people = [], 0, 0
    for index in range(15, len(frames) - 15, 24):
        answer = model(frames[index])
        boxes = np.stack([[*p.min(0), *p.max(0)] for p in truth[:, index]]).astype(np.float32)
        pairs = match(boxes, answer.boxes, least=0.4)
        people += len(boxes)
        missed += len(boxes) - len(pairs)
        for row, column in pairs:
            away = np.linalg.norm(answer.keypoints[column] - truth[row, index], axis=1)
            errors.append(np.median(away) / (boxes[row, 3] - boxes[row, 1]))
    assert missed <= 0.15 * people
    assert np.median(errors) < 0.04


@pytest.mark.slow
def test_an_empty_room_stays_empty(model):
    found = sum(
        len(model(render_clip(seed, frames=1, people=0).frames[0]).boxes) for seed in range(12)
    )
    assert found <= 3


def test_keypoint_scores_tell_a_person_from_a_wall(model):
    clip = render_clip(5, frames=1, motions=["idle"])
    on_person = model(clip.frames[0], clip.boxes[:, 0]).scores.mean()
    empty = render_clip(5, frames=1, people=0)
    on_wall = model(empty.frames[0], clip.boxes[:, 0]).scores.mean()
    assert on_person > 0.5
    assert on_wall < 0.7 * on_person


@pytest.mark.slow
@pytest.mark.parametrize("network", [Detector, KeypointNet])
def test_folding_batch_norm_changes_nothing(network):
    torch.manual_seed(0)
    plain = network().eval()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    folded = fold(plain)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    example = torch.randn(1, 3, 128, 96)
    with torch.no_grad():
        for a, b in zip(plain(example), folded(example), strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "outputs"),
    [(Detector, ["centre", "sides", "joints"]), (KeypointNet, ["simcc_x", "simcc_y"])],
)
def test_exported_networks_come_back(tmp_path, network, outputs):
    torch.manual_seed(0)
    built, back = network(), network()
    with torch.no_grad():  # as trained ones, no two layers are the same
        for weight in built.parameters():
            weight += 0.01 * torch.randn_like(weight)
        pictures = [torch.randn(3, 3, 128, 96) * 30 for _ in range(3)]
        for batch in pictures:
            built(batch)
    exported = torch.nn.Module()
    exported.network, exported.forward = fold(built), lambda x: exported.network(x)
    with torch.no_grad():
        export(exported, tmp_path / "net.onnx", size=(128, 96), outputs=outputs)
    restore(back, tmp_path / "net.onnx", pictures)
    with torch.no_grad():
        for wanted, got in zip(built.eval()(pictures[0]), back.eval()(pictures[0]), strict=True):
            torch.testing.assert_close(got, wanted, atol=0.02 * float(wanted.std()), rtol=0.02)
        once = back(torch.cat(pictures))[0]
        trained = back.train()(torch.cat(pictures))[0]  # by the batch's statistics: the same ones
    torch.testing.assert_close(trained, once, atol=0.05 * float(once.std()), rtol=0.05)
    other = KeypointNet() if network is Detector else Detector()
    with pytest.raises(ValueError, match="is of another network than"):
        restore(other, tmp_path / "net.onnx", pictures)


class Scripted(torch.nn.Module):
    """A detector that says what it is told: cells with a logit, all with boxes of 48 pixels."""

    def __init__(self, peaks: dict[int, float], joints: float = USUAL - DOUBT) -> None:
        super().__init__()
        self.peaks, self.joints = peaks, joints

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows, columns = images.shape[2] // 8, images.shape[3] // 8
        centres = torch.full((len(images), 1, rows, columns), -9.0)
        for cell, logit in self.peaks.items():
            centres.flatten(1)[:, cell] = logit
        joints = torch.full((len(images), 17, rows, columns), self.joints).logit()
        return centres, torch.zeros(len(images), 4, rows, columns), joints


def test_exported_detector_drops_overlaps_and_shifts_scores():
    row = DETECTOR_SIZE[1] // 8
    first, beside, third, apart = 5 * row + 10, 5 * row + 11, 5 * row + 12, 12 * row + 20
    export = DetectorExport(Scripted({first: 2.0, beside: 1.0, third: 1.5, apart: 0.0}), 0.5)
    with torch.no_grad():
        answer = export(torch.zeros(1, 3, *DETECTOR_SIZE))[0]
    kept = answer[answer[:, 4] > 0.01]
    middles = (kept[:, :2] + kept[:, 2:4]) / 2
    cells = cell_centres(DETECTOR_SIZE[0] // 8, row)
    torch.testing.assert_close(middles, cells[[first, third, apart, beside]])
    # 8 pixels aside is the same person (IoU 0.71), 16 may be another one (0.5)
    scores = torch.tensor([2.0, 1.5, 0.0, 1.0]) - math.log(0.7 / 0.3)  # 0.5 is rtmlib's 0.3 now
    decay = torch.tensor([0.0, 0.5, 0.0, 5 / 7]).pow(4).div(-SPREAD).exp()
    torch.testing.assert_close(kept[:, 4], scores.sigmoid() * decay)
    assert (kept[:, 4] >= 0.2999).tolist() == [True, True, True, False]


def test_boxes_without_joints_score_less():
    cell, picture, scores = 5 * DETECTOR_SIZE[1] // 8 + 10, torch.zeros(1, 3, *DETECTOR_SIZE), []
    for joints in (0.01, USUAL - DOUBT, 0.7):
        export = DetectorExport(Scripted({cell: 0.0}, joints), 0.5)
        with torch.no_grad():
            scores.append(float(export(picture)[0, 0, 4]))
    assert scores[0] < 0.1 < scores[1] < scores[2]
    assert scores[1] == pytest.approx(0.3)


def test_keypoints_of_a_mirrored_crop_are_the_mirrored_keypoints():
    torch.manual_seed(0)
    export, crops = PoseExport(KeypointNet().eval()), torch.randn(2, 3, 128, 96)
    with torch.no_grad():
        along_x, along_y = export(crops)
        mirrored_x, mirrored_y = export(crops.flip(3))
    torch.testing.assert_close(along_y, mirrored_y[:, MIRROR])
    # Two bins a pixel: the last one lies past the last pixel, and what is blurred reaches it.
    reach = export.kernel.shape[-1] // 2
    pixels, mirrored = along_x[..., :191], mirrored_x[:, MIRROR, :191].flip(-1)
    inner = slice(reach, 191 - reach)
    torch.testing.assert_close(pixels[..., inner], mirrored[..., inner])


def test_exported_peaks_grow_with_certainty():
    logits = torch.zeros(1, 3, 200)
    logits[0, 0, 40], logits[0, 1, 40], logits[0, 2, 40] = 3.0, 7.0, 11.0
    peaks = PoseExport(KeypointNet()).peak(logits.softmax(-1))[0]
    assert peaks.argmax(-1)[1:].tolist() == [40, 40]
    assert 0 < peaks[0].max() < peaks[1].max() < peaks[2].max() <= 1


def test_a_joint_goes_where_most_chance_is():
    """A narrow peak of a third of the chance loses against a wide one with the rest."""
    chance = torch.zeros(1, 1, 200)
    chance[..., 30], chance[..., 140:150] = 0.34, 0.066
    assert int(chance.argmax()) == 30
    assert int(PoseExport(KeypointNet()).peak(chance).argmax()) in (144, 145)


def test_skeletons_are_drawn_on_a_copy():
    clip = render_clip(2, frames=1)
    before = clip.frames[0].copy()
    drawn = draw_skeleton(clip.frames[0], clip.keypoints[0, 0], np.ones(17, np.float32))
    np.testing.assert_array_equal(clip.frames[0], before)
    assert (drawn != before).any(-1).sum() > 100
    hidden = draw_skeleton(clip.frames[0], clip.keypoints[0, 0], np.zeros(17, np.float32))
    np.testing.assert_array_equal(hidden, before)
