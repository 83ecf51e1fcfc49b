"""What to tell the user when the operating system refuses to open or write a file."""

from __future__ import annotations

import errno
from pathlib import Path

from ..errors import EpamExtractError, MachineError, StoreError

MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EFBIG, errno.ENODEV}


def from_os_error(error: OSError, path: Path) -> EpamExtractError:
    """The error to raise when the operating system fails to open or write ``path``."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            f"{path}: the disk is full ({reason}); what was committed is safe. Free some space "
            "and run the same command again, or write a smaller file to another disk (--no-full, "
            "--compression, a larger --stride)."
        )
    if error.errno in MACHINE_ERRORS:
        return MachineError(
            f"{path}: the disk failed ({reason}); what was committed is safe. Once the disk works, "
            "run the same command again."
        )
    where = path.parent
    sentences = {
        errno.EISDIR: f"{path}: is a directory; name a file, such as {path / 'feats.h5'}",
        errno.EROFS: f"{path}: the file system is read-only; choose another output file",
        errno.EACCES: f"{path}: you may not write there; change the permissions of the file or of "
        f"{where}, or choose another output file",
        errno.ENOTDIR: f"{path}: {where} is not a directory; choose another output file",
        errno.ENAMETOOLONG: f"{path}: the name is too long for this file system",
        errno.ENOENT: f"{path}: there is no such file",
    }
    sentences[errno.EPERM] = sentences[errno.EACCES]
    sentences[errno.EEXIST] = sentences[errno.ENOTDIR]  # of making the folder
    return StoreError(sentences.get(error.errno or 0, f"{path}: {reason}"))
