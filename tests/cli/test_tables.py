"""How tables look, in a terminal and in a pipe."""

from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from epam_extract.cli.tables import NAME_WIDTH, grid, show, table


def printed(report: RenderableType, width: int = 80) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width).print(report)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_cells_are_shown_as_they_are() -> None:
    rows = [("[red]a[/red]", "two\nlines"), ("\x1b[31mb", Text("c", "green"))]
    text = "\n".join(printed(table(("video", "what"), rows)))
    assert "[red]a[/red]" in text and r"two\nlines" in text
    assert r"\x1b[31mb" in text and "\x1b" not in text and " c" in text
    assert r"x\ny" in printed(grid(("dim", ""), [("name", "x\ny")]))[0]


def test_a_first_cell_is_shown_once_and_groups_are_divided() -> None:
    rows = [("a", "1"), ("a", "2"), ("b", "3")]
    plain = printed(table(("what", "number"), rows, grouped=True))
    assert [line.split() for line in plain[3:6]] == [["a", "1"], ["2"], ["b", "3"]]
    ruled = printed(table(("what", "number"), rows, grouped=True, ruled=True))
    assert [line.split() for line in ruled[3:7]] == [["a", "1"], ["2"], [], ["b", "3"]]


def test_names_are_broken_where_numbers_are_not() -> None:
    rows = [("a_video_with_a_long_name", "1,234,567", "something that went wrong")]
    lines = printed(table(("video", "windows", "what"), rows, numbers=("windows",)), width=46)
    assert max(map(len, lines)) <= 46
    assert any("1,234,567" in line for line in lines)
    first = next(line for line in lines if "1,234,567" in line)
    assert "a_video_with_a_long_name".startswith(first.split()[0])
    assert len(first.split()[0]) >= NAME_WIDTH


def test_a_pipe_gets_lines_without_padding(capsys: pytest.CaptureFixture[str]) -> None:
    show(table(("video", "what"), [("a", "word " * 15), ("b", "short")]))
    lines = capsys.readouterr().out.splitlines()
    assert all(line == line.rstrip() for line in lines)
    assert sum("word" in line for line in lines) == 1  # 75 characters are not broken
