"""Labels, from every file that people have them in."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from make_features import noise, write_pooled

from epam_extract import ConfigError
from epam_extract.errors import KeypointsError
from epam_extract.exchange.labels import find_examples, read_labels
from epam_extract.store import FeatureStore


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    videos = {f"set/v{number}": noise(number, rows=number + 1) for number in range(4)}
    return write_pooled(tmp_path_factory.mktemp("labels") / "f.h5", videos)


def test_labels_of_segments_are_about_their_rows(file: Path, tmp_path: Path) -> None:
    labels = tmp_path / "l.csv"
    labels.write_text("video,start,end,label\nv3,0,1.2,a\nv3,1.2,9,b\nv3,0.4,0.5,c\n")
    with FeatureStore(file) as store:  # centres of v3: 0.32, 0.96, 1.6, 2.24 s
        examples = find_examples(store, read_labels(labels))
    assert [example.rows.tolist() for example in examples.found] == [[0, 1], [2, 3]]
    assert examples.rowless == ["v3/400-500"]
    assert examples.unlabelled == ["set/v0", "set/v1", "set/v2"]


def test_stored_segments_belong_to_the_group_of_their_video(tmp_path: Path) -> None:
    file = write_pooled(tmp_path / "f.h5", {"a/0-640": noise(0), "a/640-1280": noise(1)})
    labels = tmp_path / "l.csv"
    labels.write_text("video,label,start,end\na,x,0,0.64\na,y,0.64,1.28\n")
    with FeatureStore(file) as store:
        examples = find_examples(store, read_labels(labels)).found
    assert [(one.video, one.group, one.label) for one in examples] == [
        ("a/0-640", "a", "x"),
        ("a/640-1280", "a", "y"),
    ]


def test_labels_in_a_pickle_that_names_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"annotations": [print]}))
    with pytest.raises(KeypointsError, match="could run code"):
        read_labels(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "holds no label"),
        ("a.csv", b"video,label\n", "holds no label"),
        ("a.csv", b"video,class\na,b\n", "no column label"),
        ("a.csv", b"video,label\na\n", "row 1 has no video or no label"),
        ("a.csv", b"video,label,start\na,b,1\n", "one of the columns start and end"),
        ("a.csv", b"video,label,start,end\na,b,3,1\n", "a segment from 3.0 to 1.0 s"),
        ("a.csv", b"video,label,start,end\na,b,x,1\n", "could not convert"),
        ("a.csv", b"\xff\xfe\x00", "no UTF-8 text"),
        ("a.json", b'{"taxonomy": []}', "has no 'database'"),
        ("a.pkl", pickle.dumps([1]), "expected a CSV"),
        ("a.pkl", pickle.dumps({"annotations": [{"frame_dir": "a"}]}), "holds no label"),
    ],
)
def test_labels_of_another_shape_are_one_sentence(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_labels(path)
