"""``python -m sample_videos.training.labelled``: render a small labelled set of clips to probe.

Ten motions in turn, each clip of another person in another scene, and ``labels.csv`` beside them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from .render import render_clip
from .samples import HEIGHT, WIDTH, write_video

MOTIONS = ("walk", "run", "wave", "squat", "jack", "raise", "bend", "punch", "kick", "clap")
CLIPS, FRAMES = 160, 56
FIRST_SEED = 7000  # no other file's


def make_labelled(folder: Path, *, clips: int = CLIPS, frames: int = FRAMES) -> Path:
    """Render ``clips`` clips into ``folder``; return the CSV of their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = folder / "labels.csv"
    with labels.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("video", "label"))
        for number in range(clips):
            motion = MOTIONS[number % len(MOTIONS)]
            clip = render_clip(
                FIRST_SEED + number, frames=frames, motions=[motion], width=WIDTH, height=HEIGHT
            )
            name = f"clip{number:03d}"
            write_video(folder / f"{name}.mp4", clip.frames)
            writer.writerow((name, motion))
    return labels


def main() -> None:
    """Make the clips in the folder that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m sample_videos.training.labelled")
    parser.add_argument("--out", type=Path, default=Path("motions"))
    parser.add_argument("--clips", type=int, default=CLIPS)
    options = parser.parse_args()
    print(make_labelled(options.out, clips=options.clips))


if __name__ == "__main__":
    main()
