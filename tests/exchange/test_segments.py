"""``--segments``: files of parts and labels, and which videos they are of."""

import json
import os
from pathlib import Path

import pytest

from epam_extract.errors import ConfigError
from epam_extract.exchange.segments import NamedSegment, find_segments, read_segments
from epam_extract.records import Segment
from epam_extract.video import FoundVideo

ACTIVITYNET = {
    "database": {
        "long": {"annotations": [{"segment": [1, 2.5], "label": "wave  twice"}]},
        "short": {"annotations": [{"segment": [0, 0.5], "label": 3}]},
        "quiet": {"duration": 3},
    }
}

FORMS = {
    "csv": "long,1,2.5,wave twice\nshort,0:00,0.5,3\n",
    "csv with header": "# ours\nvideo,subset,start,end,label\nlong,train,00:00:01,2.5,wave twice\n"
    "short,train,0,0:00:0.5,3\n",
    "activitynet": json.dumps(ACTIVITYNET),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_says_the_same(tmp_path: Path, form: str) -> None:
    path = tmp_path / "segments"
    path.write_text(FORMS[form])
    expected = [("long", Segment(1.0, 2.5, "wave twice")), ("short", Segment(0.0, 0.5, "3"))]
    assert [(one.video, one.segment) for one in read_segments(path)] == expected


def test_thumos_and_mmaction_files(tmp_path: Path) -> None:
    folder = tmp_path / "annotation"
    folder.mkdir()
    (folder / "CliffDiving_val.txt").write_text("video_1  72.80 76.40\nvideo_2  1.0 2.0\n")
    (folder / "Ambiguous_val.txt").write_text("video_1  1.0 2.0\n")
    (folder / "detclasslist.txt").write_text("7 BaseballPitch\n9 BasketballDunk\n")
    found = read_segments(folder)
    assert [str(one) for one in found] == ["video_1, 72.8 to 76.4 s", "video_2, 1 to 2 s"]
    assert {one.segment.label for one in found} == {"CliffDiving"}
    (one,) = read_segments(_written(tmp_path / "one.txt", "video_1  72.80 76.40\n"))
    assert one.segment == Segment(72.8, 76.4)
    text = "some class/a b.mp4 12\nc.avi 1\n"
    listed = read_segments(_written(tmp_path / "list.txt", text))
    assert [one.video for one in listed] == ["some class/a b.mp4", "c.avi"]
    assert all(one.segment.whole for one in listed) and listed[0].segment.label == "12"


def _written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


BAD = {
    "empty": (b"", "holds no segment"),
    "only comments": (b"# nothing\n\n", "holds no segment"),
    "binary": (b"\x89PNG\xff\xfe\x00", "no UTF-8 text"),
    "no database": (b'{"videos": []}', "no 'database'"),
    "a list": (b"[1, 2]", "no 'database'"),
    "broken json": (b'{"database": ', "Expecting value"),
    "deep json": (b"[" * 100_000, "nested too deeply"),
    "no segment": (b'{"database": {"a": {"annotations": [{"label": "x"}]}}}', "segment"),
    "three times": (b'{"database": {"a": {"annotations": [{"segment": [1, 2, 3]}]}}}', "unpack"),
    "text times": (b'{"database": {"a": {"annotations": [{"segment": [[], {}]}]}}}', "no time"),
    "not a time": (b"a,1,soon,x\n", "row 1: 'soon' is no time"),
    "infinite": (b"a,1,1e999,x\n", "'1e999' is no time"),
    "NaN": (b'{"database": {"a": {"annotations": [{"segment": [NaN, 2]}]}}}', "no time"),
    "an endless number": (
        b'{"database": {"a": {"annotations": [{"segment": [0, %s]}]}}}' % (b"9" * 400),
        "too large",
    ),
    "an endless label": (b"a,1,2," + b"x" * 2000 + b"\n", "a label of 2,000 characters"),
    "huge": (b"a,1,99999999999,x\n", "no time in a video"),
    "short row": (b"video,start,end\na,1,2\nb,1\n", "row 2 has no video, start or end"),
    "no column": (b"video,from,till\na,1,2\n", "no column start, end"),
    "null": (b"a,1,2,\x00\nb", ""),
    "one word": (b"walk.mp4\n", "line 1 has no label"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    content, words = BAD[what]
    with pytest.raises(ConfigError) as error:
        read_segments(_written(tmp_path / "s", content))
    message = str(error.value)
    assert words in message and "--segments" in message
    assert "\n" not in message and len(message) < 500


def test_half_a_character_in_a_label_is_written_out(tmp_path: Path) -> None:
    text = '{"database": {"a": {"annotations": [{"segment": [0, 1], "label": "\\ud800 x"}]}}}'
    (one,) = read_segments(_written(tmp_path / "s.json", text))
    assert one.segment.label == "\\ud800 x"


def test_no_file_and_no_regular_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_segments(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="holds no segment"):
        read_segments(tmp_path)
    with (tmp_path / "video").open("wb") as file:
        file.truncate(300 << 20)  # a hole: takes no space
    with pytest.raises(ConfigError, match="larger than 256 MB"):
        read_segments(tmp_path / "video")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="no regular file"):
        read_segments(tmp_path / "pipe")


def test_what_is_odd_is_said_and_the_rest_is_done() -> None:
    videos = [FoundVideo(name, Path(f"/{name}.mp4")) for name in ("a/one", "b/two_rgb", "c")]
    named = [
        NamedSegment("one.mp4", Segment(1, 2, "x")),  # by its file's name
        NamedSegment("b/too", Segment(1, 2, "x")),  # of no video
        NamedSegment("two", Segment(3, 4, "x")),  # NTU's _rgb
        NamedSegment("a/one", Segment(5, 5, "x")),
        NamedSegment("a/one", Segment(-1, 0, "x")),
        NamedSegment("a/one", Segment(-1, 1.5, "y")),
        NamedSegment("a/one", Segment(1, 2, "x")),
        NamedSegment("a/one", Segment(1, 2, "z")),
    ]
    parts, notes = find_segments(named, videos, source="s.csv")
    assert [part.id for part in parts] == ["a/one/0-1500", "a/one/1000-2000", "b/two_rgb/3000-4000"]
    assert parts[0].segment == Segment(0, 1.5, "y") and parts[1].segment == Segment(1, 2, "x")
    assert notes == [
        "s.csv: 1 left out, of videos that are not among those given (first: b/too, 1 to 2 s)",
        "s.csv: 2 left out, since they end no later than they start (first: a/one, 5 to 5 s)",
        "s.csv: 1 begin before 0 s, and are done from 0 s on (first: a/one, -1 to 1.5 s)",
        "s.csv: 1 named more than once, done once (first: a/one, 1 to 2 s)",
        "s.csv: 1 with more than one label, of which the first is kept "
        "(first: a/one, 1 to 2 s: x, z)",
        "s.csv: 1 overlap another one of their video; each is done by itself "
        "(first: a/one/1000-2000)",
        "s.csv: 1 of the videos have no segment, and are not done (first: c)",
    ]
    with pytest.raises(ConfigError, match=r"none of its 1 segments .* first video: a/one"):
        find_segments([NamedSegment("x", Segment(1, 2))], videos, source="s.csv")
