"""check: what does not fit between features and annotations is found, and only that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from make_features import noise, write_pooled

from epam_extract.exchange.annotations import read_annotations
from epam_extract.exchange.check import FEW, Finding, check_annotations
from epam_extract.store import FeatureStore

ROWS = 10  # 160 frames at 25 fps: 6.4 s


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    person = np.ones(ROWS)
    person[3:5] = 0
    videos = {
        name: noise(number, ROWS) for number, name in enumerate(("a", "set/B_c", "late", "x"))
    }
    path = tmp_path_factory.mktemp("check") / "f.h5"
    return write_pooled(path, videos, person={"a": person}, unfinished=("late",))


def entry(*segments: tuple[float, float, str], **stated: float) -> dict[str, object]:
    events = [{"segment": [start, end], "label": label} for start, end, label in segments]
    return {"subset": "training", "annotations": events, **stated}


ENOUGH = [(0.0, 1.0, "wave")] * FEW
GOOD = {
    "a": entry(*ENOUGH, duration=6.4, fps=25, frame=160),
    "set/B_c": entry(*ENOUGH),
    "x": entry(*ENOUGH),
}


def findings(file: Path, database: dict[str, object]) -> list[Finding]:
    path = file.with_name("a.json")
    path.write_text(json.dumps({"database": database}))
    with FeatureStore(file) as store:
        return check_annotations(store, read_annotations(path))


def test_what_fits_is_well(file: Path) -> None:
    assert findings(file, GOOD) == []
    result = run("check", file, file.with_name("a.json"))
    assert (result.exit_code, "all is well" in result.stdout) == (0, True)


def test_videos_on_one_side_alone_are_listed_with_the_likely_match(file: Path) -> None:
    database = {**GOOD, "b_C.mp4": GOOD["set/B_c"], "late": entry(*ENOUGH), "zzz": entry(*ENOUGH)}
    del database["set/B_c"], database["x"]
    found = [(f.kind, f.subject, f.likely) for f in findings(file, database)]
    assert found == [
        ("not in the file", "b_C.mp4", "set/B_c"),
        ("not in the file", "late", None),
        ("not in the file", "zzz", None),
        ("not annotated", "set/B_c", "b_C.mp4"),
        ("not annotated", "x", None),
    ]
    messages = {f.subject: f.message for f in findings(file, database)}
    assert messages["late"] == "it is not complete yet"
    assert messages["b_C.mp4"] == "did you mean set/B_c?"


@pytest.mark.parametrize(
    ("theirs", "meant"), [("set/B_cc", "set/B_c"), ("v_B_c", "set/B_c"), ("q", None)]
)
def test_ids_that_nearly_match_are_told(file: Path, theirs: str, meant: str | None) -> None:
    database = {**GOOD, theirs: GOOD["set/B_c"]}
    del database["set/B_c"]
    (missing, *_) = findings(file, database)
    assert (missing.subject, missing.likely) == (theirs, meant)


@pytest.mark.parametrize(
    ("segment", "outside"),
    [((5.0, 6.4), False), ((5.0, 6.43), False), ((5.0, 6.6), True), ((-1.0, 2.0), True)],
)
def test_segments_outside_the_video_are_found(
    file: Path, segment: tuple[float, float], outside: bool
) -> None:
    database = {**GOOD, "x": entry(*ENOUGH, (*segment, "wave"))}
    assert [f.kind for f in findings(file, database)] == (["outside"] if outside else [])


@pytest.mark.parametrize(
    ("stated", "shift"),
    [
        ({"duration": 8.0}, (8.0 - 6.4) * 25 / 16),
        ({"fps": 30.0}, 6.4 * 5 / 16),
        ({"frame": 140}, -20 / 16),
        ({"duration": 6.6}, None),
        ({"fps": 25.5, "frame": 161}, None),
    ],
)
def test_another_clock_is_told_with_the_shift_in_rows(
    file: Path, stated: dict[str, float], shift: float | None
) -> None:
    found = findings(file, {**GOOD, "x": entry(*ENOUGH, **stated)})
    assert [f.kind for f in found] == ([] if shift is None else ["clock"])
    if shift is not None:
        assert found[0].shift_rows == pytest.approx(shift, abs=1e-3)
        assert f"shift by up to {abs(shift):.1f} rows" in found[0].message


def test_rare_classes_and_rows_without_a_person_are_told(file: Path) -> None:
    database = {**GOOD, "a": entry(*ENOUGH, (1.2, 4.0, "jump"))}  # rows 2 to 5 of a
    assert [(f.kind, f.subject, f.message) for f in findings(file, database)] == [
        ("few", "jump", "1 example"),
        ("nobody", "a", "2 of 6 rows inside segments have no person"),
    ]


def test_the_command_ends_with_3_and_lists_what_is_wrong(file: Path) -> None:
    findings(file, {**GOOD, "x": entry(*ENOUGH, fps=30.0)})
    result = run("check", file, file.with_name("a.json"))
    assert result.exit_code == 3
    assert "labels shift by up to 2.0 rows" in result.stdout and "1 finding" in result.stdout
    result = run("check", file, file.with_name("a.json"), "--json")
    content = json.loads(result.stdout)
    assert result.exit_code == 3 and content["counts"]["clock"] == 1
    assert content["findings"][0]["shift_rows"] == 2.0


def test_annotations_of_another_shape_are_one_sentence(file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    result = run("check", file, tmp_path / "a.json")
    assert result.exit_code == 2 and "has no 'database'" in result.stderr
