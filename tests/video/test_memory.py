"""How much memory may be used, and the videos that need more."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from make_videos import write_video
from stand_ins import POOLED, StandInPose

from epam_extract.errors import DecodeError, ProbeError
from epam_extract.options import format_bytes
from epam_extract.pipeline.run import extract_features
from epam_extract.store import FeatureStore
from epam_extract.video import memory, open_video
from epam_extract.video.memory import DECODER_FRAMES, MemoryLimit, available_memory

FRAME = 64 * 96 * 3  # bytes of one picture of ``write_video``


@pytest.mark.slow
def test_a_video_that_needs_more_memory_fails_and_the_others_are_done(
    stand_ins: StandInPose, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "small.mp4")
    write_video(folder / "large.mp4", height=640, width=960)
    limit = 100 * FRAME
    summary = extract_features(folder, tmp_path / "f.h5", replace(POOLED, max_memory=limit))
    (failure,) = summary.failures
    assert (failure.video_id, summary.done) == ("large", 1)
    needed = (40 + DECODER_FRAMES) * 640 * 960 * 3
    assert f"960 x 640 need about {format_bytes(needed)} of memory at once" in failure.message
    assert f"and {format_bytes(limit)} may be used (--max-memory)" in failure.message
    with FeatureStore(tmp_path / "f.h5") as store:
        assert set(store) == {"small"}
    again = replace(POOLED, max_memory=2 * needed)  # no option that numbers depend on
    summary = extract_features(folder, tmp_path / "f.h5", again, retry_failed=True)
    assert not summary.failures


@pytest.mark.slow
def test_a_header_that_promises_fewer_frames_does_not_get_past_the_limit(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mkv", frames=80)
    data = bytearray(path.read_bytes())
    where = data.index(b"\x44\x89\x88") + 3  # the duration, in ms
    struct.pack_into(">d", data, where, 80.0)
    path.write_bytes(data)
    memory = MemoryLimit(30 * FRAME, 48, 4)
    with open_video(path, "v", memory=memory) as opened:
        assert opened.header.frames == 2
        with pytest.raises(DecodeError, match=r"need about .+ of memory at once"):
            for _ in opened.frames(piece_frames=4):
                pass


@pytest.mark.slow
def test_pictures_that_grow_in_mid_video_are_not_decoded_past_the_limit(tmp_path: Path) -> None:
    small = write_video(tmp_path / "a.ts", format="mpegts", frames=20)
    large = write_video(tmp_path / "b.ts", format="mpegts", frames=20, height=640, width=960)
    (tmp_path / "both.ts").write_bytes(small.read_bytes() + large.read_bytes())
    with open_video(tmp_path / "both.ts", "both", memory=MemoryLimit(40 * FRAME)) as opened:
        assert sum(len(piece.frames) for piece in opened.frames()) == 20
        assert opened.video is not None
        assert "damaged or cut short: 20 of 40" in opened.video.notes[0]


@pytest.mark.slow
def test_a_first_picture_larger_than_the_header_says_is_not_decoded(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", "mpeg4", height=640, width=960)
    data = path.read_bytes().replace(struct.pack(">HH", 960, 640), struct.pack(">HH", 96, 64))
    path.write_bytes(data)
    with pytest.raises(
        ProbeError, match=r"not one frame of it can be decoded in 1\.1 MB of memory"
    ):
        open_video(path, "v", memory=MemoryLimit(60 * FRAME))
    open_video(path, "v", memory=MemoryLimit(10000 * FRAME)).close()


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        (
            "0::/a/b\n",
            {
                "a/memory.max": "1000",
                "a/memory.current": "700",
                "a/memory.stat": "anon 600\ninactive_file 50\n",
                "a/b/memory.max": "max",
                "a/b/memory.current": "300",
            },
            [350],
        ),
        (
            "4:memory:/a\n3:cpuset:/c\n0::/\n",
            {
                "memory/a/memory.limit_in_bytes": "2000",
                "memory/a/memory.usage_in_bytes": "500",
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "memory/memory.usage_in_bytes": "600",
            },
            [1500, 9223372036854771112],
        ),
        ("", {}, []),
    ],
)
def test_limits_of_cgroups_count(
    groups: str, files: dict[str, str], left: list[int], tmp_path: Path
) -> None:
    (tmp_path / "groups").write_text(groups)
    root = tmp_path / "cgroup"
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    assert memory._left_in_cgroups(tmp_path / "groups", root) == left


def test_what_is_available_is_the_least_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_memory() > 0
    monkeypatch.setattr(memory, "_left_in_cgroups", lambda: [12345, 10**18])
    assert available_memory() == 12345
