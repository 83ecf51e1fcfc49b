"""How much memory there is, and how much of it the pictures of one video take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..config import frames_per_piece
from ..options import format_bytes

DECODER_FRAMES = 6  # that FFmpeg holds, in RGB pictures; measured on H.264: 4
CGROUP_FILES = (  # limit, use, and the key of memory in use that can be reclaimed
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclass(frozen=True)
class MemoryLimit:
    """Memory for the pictures of one video while it is read."""

    limit: int
    """Bytes."""
    frames: int = 0
    """Whole frames that the reader keeps."""
    pieces: int = 4
    """Pieces in flight, in addition."""

    def needed(self, height: int, width: int, promised: int) -> int:
        """Bytes for a video of so many frames (0: unknown), including the decoder's own."""
        alive = self.alive(height, width, promised)
        return (alive + DECODER_FRAMES) * height * width * 3

    def alive(self, height: int, width: int, promised: int) -> int:
        """Whole frames alive at once."""
        most = self.frames + self.pieces * frames_per_piece(height, width)
        return min(most, promised or most)

    def refusal(self, height: int, width: int, promised: int) -> str:
        """Why a video does not fit; empty if it does, or if its size is unknown (0)."""
        needed = self.needed(height, width, promised) if height and width else 0
        if needed <= self.limit:
            return ""
        return (
            f"its pictures of {width} x {height} need about {format_bytes(needed)} of memory at "
            f"once, and {format_bytes(self.limit)} may be used (--max-memory); make a smaller copy "
            "of it, or use a machine with more memory"
        )

    @property
    def most_pixels(self) -> int:
        """Most pixels of one picture: with more, the decoder alone would need all the memory."""
        return max(1, self.limit // (3 * DECODER_FRAMES))


def available_memory() -> int:
    """Bytes that this process can still allocate, by the machine and its cgroups."""
    return max(0, min([psutil.virtual_memory().available, *_left_in_cgroups()]))


def _left_in_cgroups(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """Bytes left under each cgroup limit (v1 or v2) of this process."""
    left = []
    for line in _text(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        top = root / "memory" if controllers else root
        if controllers and "memory" not in controllers.split(","):
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            for limit, use, reclaimable in CGROUP_FILES:
                most, used = _text(folder / limit).strip(), _text(folder / use).strip()
                if most.isdigit() and used.isdigit():
                    cached = re.search(
                        rf"^{reclaimable} (\d+)", _text(folder / "memory.stat"), re.M
                    )
                    left.append(int(most) - int(used) + (int(cached[1]) if cached else 0))
            if folder == top:
                break
    return left


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
