"""Annotation files: every form says the same, and a bad file is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epam_extract.errors import ConfigError
from epam_extract.exchange.annotations import Event, read_annotations

ACTIVITYNET = {
    "database": {
        "a/b": {
            "subset": "training",
            "duration": 30.5,
            "fps": 25,
            "frame": None,
            "annotations": [
                {"segment": [1, 2.5], "label": "wave  twice"},
                {"segment": [0, 0.5], "label": 3},
            ],
        },
        "quiet": {"annotations": []},
    }
}


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def test_activitynets_json_is_read_whole(tmp_path: Path) -> None:
    found = read_annotations(written(tmp_path / "a", ACTIVITYNET))
    video = found.videos["a/b"]
    assert video.events == [Event(1.0, 2.5, "wave twice"), Event(0.0, 0.5, "3")]
    assert video.stated == {"duration": 30.5, "fps": 25.0}
    assert (video.subset, found.videos["quiet"].events) == ("training", [])
    assert found.labels == ["3", "wave twice"]


@pytest.mark.parametrize(
    "text",
    [
        "a,1,2.5,wave,train\nb,0,1,sit,val\n",
        "video,start,end,label,subset\na,1,2.5,wave,train\nb,0,1,sit,val\n",
        "# mine\nVideo,subset,label,start,end\na,training,wave,1,2.5\nb,valid, sit ,0,1\n",
        "\ufeffvideo,label,start,end,subset\na,wave,1,2.5,\nb,sit,0,1,validation\n",
    ],
)
def test_columns_of_a_csv_are_found_by_their_names(tmp_path: Path, text: str) -> None:
    videos = read_annotations(written(tmp_path / "a.csv", text)).videos
    assert [video.events for video in videos.values()] == [
        [Event(1.0, 2.5, "wave")],
        [Event(0.0, 1.0, "sit")],
    ]
    assert [video.subset for video in videos.values()] == ["training", "validation"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "holds no video"),
        ("# nothing\n", "holds no video"),
        ("{", "Expecting"),
        ("[]", "no 'database'"),
        ({"videos": []}, "no 'database'"),
        ({"database": {"a": {"annotations": [{"segment": [1, 2]}]}}}, "'label'"),
        ({"database": {"a": {"annotations": [{"segment": [1], "label": "x"}]}}}, "unpack"),
        ({"database": {"a": {"annotations": [{"segment": [2, 1], "label": "x"}]}}}, "from 2.0 to"),
        ({"database": {"a": {"subset": "mine"}}}, "a: its subset is 'mine', not training"),
        ("video,start,label\na,1,x\n", "has no column end"),
        ("a,1,2\n", "row 1 has 3 columns"),
        ("a,1,soon,x\n", "could not convert"),
        ("a,1,nan,x\n", "a: a segment from 1.0 to nan s"),
        ("a,1,2, \n", "a: a segment without a label"),
    ],
)
def test_a_bad_file_is_one_sentence_that_says_what_is_expected(
    tmp_path: Path, content: object, words: str
) -> None:
    path = written(tmp_path / "a", content)
    with pytest.raises(ConfigError) as caught:
        read_annotations(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and words in message
    assert "expected ActivityNet's JSON" in message and "\n" not in message


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="annotations cannot be read: No such file"):
        read_annotations(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_bytes(b"caf\xe9,1,2,x\n")
    with pytest.raises(ConfigError, match="annotations cannot be read"):
        read_annotations(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (("train", "val", "test"), ("training", "validation", "testing")),
        (("Training", "Test", "test"), ("training", "validation", "validation")),
        (("Validation", "Test", "Test"), ("training", "validation", "validation")),  # THUMOS-14
        (("validation", "validation", "valid"), ("validation", "validation", "validation")),
    ],
)
def test_subsets_have_three_names(
    tmp_path: Path, said: tuple[str, ...], meant: tuple[str, ...]
) -> None:
    path = tmp_path / "a.json"
    entries = {str(n): {"subset": name, "annotations": []} for n, name in enumerate(said)}
    path.write_text(json.dumps({"database": entries}))
    videos = read_annotations(path).videos
    assert tuple(video.subset for video in videos.values()) == meant


def test_the_samples_segments_are_complete() -> None:
    path = Path(__file__).parents[2] / "sample_videos" / "segments.json"
    annotations = read_annotations(path)
    video = annotations.videos["untrimmed"]
    assert video.stated == {"duration": 12.0, "fps": 25.0, "frame": 300.0}
    assert annotations.labels == sorted(set(annotations.labels)) and len(video.events) > 3
