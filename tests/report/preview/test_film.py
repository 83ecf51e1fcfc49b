"""The film: the crop of each moment, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import make_videos
import numpy as np
import pytest
from walker import GRIDS, Walker, scene_of

from epam_extract.config import RGB_STEP
from epam_extract.records import Video
from epam_extract.report.preview import film
from epam_extract.report.preview.picture import draw_sheet
from epam_extract.report.preview.skeletons import cropped
from epam_extract.video import probe


@pytest.mark.parametrize("options", GRIDS[:4], ids=str)
def test_the_film_shows_the_last_rgb_frame_of_the_window(video: Video, options: dict) -> None:
    scene = scene_of(video, **options)
    crops, frames, shown = film.Crops(scene), [], 0
    for index, frame in scene.frames():
        frames.append(frame.copy())
        row = scene.row_at(index)
        crop = crops.see(index, frame, row)
        seen = [i for i in scene.windows[row, ::RGB_STEP] if i <= index]
        if not seen:
            assert crop is None
            continue
        shown += 1
        assert crop is not None
        np.testing.assert_array_equal(crop, cropped(frames[seen[-1]], scene.rgb_box(row), 224))
        assert len(crops._cut) <= crops.ahead + 1  # memory does not grow
    assert shown >= 60


@pytest.mark.slow
@pytest.mark.parametrize("frames", (1, 4))
def test_short_and_narrow(tmp_path: Path, frames: int) -> None:
    path = make_videos.write_video(tmp_path / "short.mp4", frames=frames, height=160, width=96)
    scene = scene_of(probe(path, "short"))
    sheet = draw_sheet(scene)
    pictures = list(film.draw_film(scene))
    assert len(pictures) == frames
    assert pictures[0].shape == (film.HEIGHT, film.WIDTH, 3)
    assert sheet.shape[1] > 1000


@pytest.mark.slow
def test_film_moves(video: Video) -> None:
    scene = scene_of(video, Walker(absent=range(20, 40)), grid="valid", stride=70)
    pictures = film.draw_film(scene)
    first = next(pictures)
    later = [next(pictures) for _ in range(8)][-1]
    pictures.close()
    strip = slice(film.HEIGHT - 100, film.HEIGHT - 60)
    assert (first[strip] != later[strip]).any()  # the cursor
    assert not np.array_equal(first[100:300, 200:800], later[100:300, 200:800])
