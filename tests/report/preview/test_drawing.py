"""Text that stays on the canvas."""

from __future__ import annotations

from epam_extract.report.preview.drawing import blank, printable, shortened, text_width, write


def test_text_is_kept_on_the_canvas() -> None:
    canvas = blank(20, 50)
    for x, y in ((-30, 10), (45, 10), (10, 3), (10, 30), (200, 200)):
        write(canvas, "text", x, y)
    assert write(canvas, "", 7, 10) == 7
    name = shortened("a" * 80 + ".mp4", 200)
    assert text_width(name) <= 200
    assert name.startswith("aaa")
    assert name.endswith(".mp4")
    assert printable("vidéo\n") == "vid?o?"
