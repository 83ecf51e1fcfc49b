"""Which files of features a name, pattern, folder or list means."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..errors import StoreError
from .journal import journal_path, lock_path

SUFFIXES = (".h5", ".hdf5")
MAGIC = set("*?[")  # characters that make a name a pattern


def find_files(files: Path | str | Iterable[Path | str]) -> tuple[Path, ...]:
    """The files that a name, pattern, folder or list of names means, each once.

    Raises:
        StoreError: there are none.
    """
    if not isinstance(files, str | Path):
        found = [Path(file) for file in files]
        if not found:
            raise StoreError("no file of features: the list of them is empty")
    elif Path(files).is_dir():
        found = sorted(path for path in Path(files).iterdir() if path.suffix in SUFFIXES)
        if not found:
            raise StoreError(f"{files}: is a directory without any file *.h5")
    elif not MAGIC.isdisjoint(str(files)) and not Path(files).exists():
        pattern = Path(files)
        found = sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
        beside = {name(path) for path in found for name in (journal_path, lock_path)}
        found = [path for path in found if path not in beside]
        if not found:
            raise StoreError(f"{files}: there is no file of such a name")
    else:
        found = [Path(files)]
    once: dict[Path, Path] = {}
    for path in found:
        once.setdefault(path.resolve(), path)
    return tuple(once.values())
