"""How much memory there is, and how much of it the pictures of one video take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..config import format_bytes, frames_per_piece

DECODER_FRAMES = 6  # RGB pictures' worth that FFmpeg holds, measured on H.264: 4
CGROUP_FILES = (  # limit, use, and the key of what the use counts though it can be given back
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


@dataclass(frozen=True)
class Room:
    """Memory for the pictures of one video that is being read."""

    limit: int
    """Bytes."""
    frames: int = 0
    """Whole frames that whoever reads keeps."""
    pieces: int = 4
    """Pieces under way beside them."""

    def needed(self, height: int, width: int, promised: int) -> int:
        """Bytes for a video of so many frames (0: not known), the decoder's own included."""
        alive = self.alive(height, width, promised)
        return (alive + DECODER_FRAMES) * height * width * 3

    def alive(self, height: int, width: int, promised: int) -> int:
        """Whole frames alive at once."""
        most = self.frames + self.pieces * frames_per_piece(height, width)
        return min(most, promised or most)

    def refusal(self, height: int, width: int, promised: int) -> str:
        """Why a video does not fit, empty if it does, or its size is not known (0)."""
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
        """Of one picture, whatever the header says: the decoder alone would need all of it."""
        return max(1, self.limit // (3 * DECODER_FRAMES))


def available_memory() -> int:
    """Bytes that this process can still have: of the machine, and of its cgroups."""
    return max(0, min([psutil.virtual_memory().available, *_left_in_cgroups()]))


def _left_in_cgroups(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> list[int]:
    """Bytes left under each limit that is set on this process, of either version of cgroups."""
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
