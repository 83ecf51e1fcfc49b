"""Who is who: rows of keypoints are people, whatever order the pose model gives them in."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from epam_extract.clips import WindowCutter, keep_persons
from epam_extract.config import PoseConfig, WindowConfig
from epam_extract.heatmaps import render_heatmaps
from epam_extract.pipeline.video_worker import as_stored
from epam_extract.pose import MEMORY_FRAMES, PersonLinker, open_pose_model
from epam_extract.records import FramePiece, PoseTrack, concatenate
from epam_extract.video import open_video

SAMPLES = Path(__file__).parents[2] / "sample_videos"
BODY = np.random.default_rng(4).uniform((-15, -40), (15, 40), (17, 2)).astype(np.float32)


def walk(x: np.ndarray, y: float = 100.0, size: float = 1.0) -> np.ndarray:
    """(T, 17, 2): a body at ``x`` (T,), NaN where there is nobody."""
    return (np.stack([x, np.full_like(x, y)], -1)[:, None] + BODY * size).astype(np.float32)


def scene(*people: np.ndarray, seed: int | None = 0, scores: np.ndarray | None = None) -> PoseTrack:
    """People (T, 17, 2) as a pose model gives them: those there first, in a random order."""
    keypoints = np.stack(people)
    there = np.isfinite(keypoints).all((2, 3))  # (M, T)
    order = np.arange(len(people))[:, None].repeat(keypoints.shape[1], 1)
    if seed is not None:
        order = np.random.default_rng(seed).permuted(order, axis=0)
    order = np.take_along_axis(order, np.argsort(~np.take_along_axis(there, order, 0), 0), 0)
    frames = np.arange(keypoints.shape[1])
    keypoints = np.nan_to_num(keypoints[order, frames])
    sure = np.linspace(0.9, 0.5, len(people)) if scores is None else scores
    peaks = np.where(there, sure[:, None], 0)[order, frames]  # (M, T)
    peaks = np.repeat(peaks[..., None], 17, -1).astype(np.float16).astype(np.float32)
    return PoseTrack(keypoints, peaks)


def part(track: PoseTrack, start: int, stop: int) -> PoseTrack:
    return PoseTrack(track.keypoints[:, start:stop], track.keypoint_scores[:, start:stop])


def linked(track: PoseTrack, *, piece: int = 16, linker: PersonLinker | None = None) -> PoseTrack:
    linker = linker or PersonLinker()
    frames = track.keypoints.shape[1]
    return concatenate([linker.link(part(track, i, i + piece)) for i in range(0, frames, piece)])


def rows_of(track: PoseTrack, person: np.ndarray) -> list[int]:
    """Which rows a person (T, 17, 2) is in over time; -1 for a frame where they should be."""
    same = (track.keypoints == person[None]).all((2, 3)) & (track.keypoint_scores > 0).all(-1)
    there = np.isfinite(person).all((1, 2))
    return sorted({int(column.argmax()) if column.any() else -1 for column in same.T[there]})


def swaps(track: PoseTrack, truth: np.ndarray, visible: np.ndarray) -> tuple[int, int]:
    """How often true people (M, T, 17, 2) change rows, and in how many person-frames they are
    found: nearest pairs first, by the joints' mean distance under 0.3 of the person's height."""
    last: dict[int, int] = {}
    changed = found = 0
    for frame in range(truth.shape[1]):
        there = track.keypoint_scores[:, frame] > 0  # (R, 17)
        apart = np.linalg.norm(track.keypoints[:, None, frame] - truth[None, :, frame], axis=-1)
        height = np.ptp(truth[:, frame], axis=1).max(-1)
        mean = (apart * there[:, None]).sum(-1) / np.maximum(there.sum(-1), 1)[:, None] / height
        mean[~there.any(-1)] = np.inf
        mean[:, visible[:, frame].sum(-1) < 5] = np.inf
        while mean.size and mean.min() < 0.3:
            row, person = np.unravel_index(mean.argmin(), mean.shape)
            mean[row], mean[:, person] = np.inf, np.inf
            found += 1
            changed += last.get(int(person), int(row)) != row
            last[int(person)] = int(row)
    return changed, found


STEPS = np.arange(120, dtype=np.float64)
HERE, LATER = walk(100 + 0 * STEPS), walk(np.where(STEPS >= 20, 220.0, np.nan))


def test_people_keep_their_rows_whatever_order_the_model_gives() -> None:
    track = linked(scene(HERE, LATER))
    assert len(track.keypoints) == 2
    assert rows_of(track, HERE) == [0]
    assert rows_of(track, LATER) == [1]


def test_people_who_cross_keep_their_rows() -> None:
    right, left = walk(40 + 2 * STEPS), walk(280 - 2 * STEPS, y=106, size=0.9)
    track = linked(scene(right, left))
    assert sorted([rows_of(track, right), rows_of(track, left)]) == [[0], [1]]


def test_somebody_hidden_for_a_while_comes_back_in_their_row() -> None:
    x = 40 + 2 * STEPS
    x[31:46] = np.nan  # behind the other
    passing = walk(x, y=106, size=0.9)
    track = linked(scene(HERE, passing))
    assert len(track.keypoints) == 2
    assert rows_of(track, passing) != rows_of(track, HERE)
    assert len(rows_of(track, passing)) == 1


def test_single_missing_joints_do_not_part_a_person() -> None:
    track = scene(HERE, LATER)
    lost = np.random.default_rng(1).random(track.keypoint_scores.shape) < 0.5
    track.keypoint_scores[lost] = 0
    track.keypoints[lost] = 0
    rows = linked(track)
    assert len(rows.keypoints) == 2
    x = np.where(rows.keypoint_scores > 0, rows.keypoints[..., 0], np.nan)
    assert (np.nanmax(x[0]) < 160) != (np.nanmax(x[1]) < 160)


def test_a_row_is_free_again_only_after_the_memory_is_over() -> None:
    for away, row in ((MEMORY_FRAMES - 1, 1), (MEMORY_FRAMES, 0)):
        first = walk(np.where(STEPS < 10, 100.0, np.nan))
        second = walk(np.where(STEPS - away >= 10, 600.0, np.nan))
        track = linked(scene(first, second))
        assert rows_of(track, first) == [0]
        assert rows_of(track, second) == [row]


def test_a_cut_to_other_people_takes_new_rows_and_never_more_than_are_remembered() -> None:
    tens = STEPS // 10
    places = [walk(np.where(tens == i, 100.0 + 300 * i, np.nan)) for i in range(12)]
    track = linked(scene(*places))
    assert len(track.keypoints) == MEMORY_FRAMES // 10 + 2
    for place in places:
        assert len(rows_of(track, place)) == 1


@pytest.mark.parametrize("piece", [1, 7, 16, 120])
def test_the_length_of_pieces_changes_nothing(piece: int) -> None:
    x = 40 + 2 * STEPS
    x[30:45] = np.nan
    track = scene(HERE, LATER, walk(x))
    expected = linked(track)
    found = linked(track, piece=piece)
    np.testing.assert_array_equal(found.keypoints, expected.keypoints)
    np.testing.assert_array_equal(found.keypoint_scores, expected.keypoint_scores)


@pytest.mark.parametrize("start", [0, 5, 47, 48, 49, 64, 100])
def test_stored_rows_are_all_that_a_resumed_run_needs(start: int) -> None:
    gone = walk(np.where(STEPS < 30, 300.0, np.nan))  # its row is free when the run resumes
    away = np.where((STEPS < 40) | (STEPS > 70), 160 + STEPS, np.nan)
    track = scene(gone, HERE, LATER, walk(away, y=130))
    whole = linked(track)
    stored = part(whole, max(start - MEMORY_FRAMES, 0), start)
    linker = PersonLinker.resume(stored.keypoints, stored.keypoint_scores.astype(np.float16))
    rest = linked(part(track, start, 120), linker=linker)
    rows = len(rest.keypoints)
    np.testing.assert_array_equal(rest.keypoints, whole.keypoints[:rows, start:])
    np.testing.assert_array_equal(rest.keypoint_scores, whole.keypoint_scores[:rows, start:])
    assert not whole.keypoint_scores[rows:, start:].any()


def test_linked_people_are_linked_to_the_same_rows_again() -> None:
    once = linked(scene(HERE, LATER, walk(40 + 2 * STEPS)))
    again = linked(once)
    np.testing.assert_array_equal(once.keypoints, again.keypoints)


def test_nobody_is_lost_or_invented() -> None:
    rng = np.random.default_rng(7)
    x = np.where(rng.random((6, 120)) < 0.6, rng.uniform(0, 2000, (6, 120)), np.nan)
    track = scene(*[walk(row) for row in x])
    result = linked(track)
    for frame in range(120):
        given, kept = (
            np.sort(t.keypoints[(t.keypoint_scores[:, frame] > 0).all(-1), frame, 0, 0])
            for t in (track, result)
        )
        np.testing.assert_array_equal(given, kept)
    empty = PersonLinker().link(part(track, 0, 0))
    assert empty.keypoints.shape == (0, 0, 17, 2)


@pytest.mark.slow
def test_features_do_not_change() -> None:
    track = part(scene(HERE, LATER, walk(40 + 2 * STEPS)), 0, 96)
    pixels = np.zeros((96, 240, 400, 3), np.uint8)
    drawn = []
    for people in (track, linked(track)):
        cutter = WindowCutter("v", WindowConfig(stride=16))
        cuts = cutter.add(FramePiece(0, pixels), people) + cutter.finish()
        clips = [cut.clip() for cut in cuts]
        drawn.append(
            [
                (
                    clip.box,
                    render_heatmaps(
                        torch.from_numpy(clip.keypoints)[None],
                        torch.from_numpy(clip.keypoint_scores)[None],
                    ),
                )
                for clip in clips
            ]
        )
    assert len(drawn[0]) == 6
    for (box, heatmaps), (linked_box, linked_heatmaps) in zip(*drawn, strict=True):
        assert box == linked_box
        assert heatmaps.any()
        assert torch.equal(heatmaps, linked_heatmaps)


def test_the_longest_and_surest_people_are_kept() -> None:
    scores = np.zeros((5, 10, 17), np.float32)
    scores[0, :2] = 1.0  # seen for a moment, surest
    scores[1] = 0.6
    scores[3, :8] = 0.9
    scores[4] = 0.6
    np.testing.assert_array_equal(keep_persons(scores, None), [0, 1, 3, 4])
    np.testing.assert_array_equal(keep_persons(scores, 1), [3])
    np.testing.assert_array_equal(keep_persons(scores, 2), [1, 3])  # of equals the lower row
    np.testing.assert_array_equal(keep_persons(scores, 9), [0, 1, 3, 4])
    assert keep_persons(np.zeros((0, 48, 17), np.float32), 2).shape == (0,)


def test_the_crop_stays_with_the_person_who_is_seen_longest() -> None:
    """Scores alternate, so each frame's best person is another one every time."""
    one, other = walk(100 + 0 * STEPS[:48]), walk(np.where(STEPS[:48] % 2 == 0, 280.0, np.nan))
    track = linked(scene(one, other, scores=np.array([0.8, 0.9])))
    pixels = np.zeros((48, 240, 400, 3), np.uint8)
    boxes = []
    for people in (None, 1):
        cutter = WindowCutter("v", WindowConfig(grid="valid"), max_persons=people)
        cuts = cutter.add(FramePiece(0, pixels), track) + cutter.finish()
        boxes.append(cuts[0].clip().box)
    assert boxes[0][2] > 280  # everybody
    assert boxes[1][2] < 160
    assert np.isin(one[:, 0, 0], cuts[0].track.keypoints[0, :, 0, 0]).all()


def measure(name: str, pieces: int | None) -> tuple[int, int, int]:
    """Swaps of a sample video's people by the bundled model, and with linking; person-frames."""
    path = SAMPLES / f"{name}.mp4"
    model = open_pose_model(PoseConfig(mode="bundled"), threads=1)
    with open_video(path, name, decoder="pyav") as video:
        found = [model.estimate(piece) for piece in islice(video.frames(0), pieces)]
    track = as_stored(concatenate(found))
    frames = track.keypoints.shape[1]
    with np.load(path.with_suffix(".npz")) as file:
        truth, visible = file["keypoint"][:, :frames], file["keypoint_score"][:, :frames] >= 0.5
    before, _ = swaps(track, truth, visible)
    return before, *swaps(linked(track), truth, visible)


@pytest.mark.slow
def test_people_of_a_sample_video_never_swap_rows() -> None:
    before, after, person_frames = measure("living_room", 3)
    assert person_frames == 3 * 48
    assert before > 0 == after


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "person_frames"),
    [("living_room", 600), ("untrimmed", 300), ("walk_and_wave", 175), ("workout", 300)],
)
def test_people_of_the_sample_videos_swap_at_most_once_in_1000_frames(
    name: str, person_frames: int
) -> None:
    _, after, found = measure(name, None)
    assert found > 0.98 * person_frames
    assert after * 1000 <= found
