"""Build ``native.cpp`` with the machine's compiler, once, and keep the library in the user's cache.

Loading a library runs its code, so only what is ours and whole is loaded: the folder and the
file belong to this user, nobody else may write to them, and the file's name holds the SHA-256 of
its content. A library that does not fit its name is removed and built again.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import platform
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("native.cpp")
INCLUDED = [SOURCE.with_name(f"native_{part}.h") for part in ("math", "product", "stem")]
FLAGS = ("-O3", "-march=native", "-std=c++17", "-ffp-contract=fast", "-Wno-psabi")
COMPILERS = ("c++", "g++", "clang++")
BUILD_SECONDS = 300
BUILDING = ".building-"  # folders of builds that run, or were killed
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NativeUnavailable(RuntimeError):
    """The compiled streams cannot be had on this machine; the message says why."""


def find_compiler() -> str | None:
    """The C++ compiler to use: ``$CXX``, or the first of ``COMPILERS`` that is there."""
    names = [os.environ.get("CXX", ""), *COMPILERS]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def is_built() -> bool:
    """Whether an earlier run has built the library for this machine, so that it costs nothing."""
    try:
        key, folder = _key(_buildable()), cache_folder()
    except (NativeUnavailable, OSError):
        return False
    return _problem_of(folder) is None and _kept(folder, key) is not None


@cache
def library() -> ctypes.CDLL:
    """Find the library built, or build it, and load it.

    Processes that build at the same time do not disturb each other. Where the cache cannot be
    used, the library is built for this process alone and leaves no file behind.

    Raises:
        NativeUnavailable: no compiler, or it fails, or its result cannot be loaded.
    """
    compiler = _buildable()
    key = _key(compiler)
    try:
        folder = _private_folder()
        kept = folder and _kept(folder, key)
        if kept:
            return _load(kept)
        with tempfile.TemporaryDirectory(
            prefix=BUILDING, dir=folder, ignore_cleanup_errors=True
        ) as place:
            built = Path(place) / "native.so"
            _run([compiler, *FLAGS, "-shared", "-fPIC", "-o", str(built), str(SOURCE)])
            if folder is None:
                return _load(built)  # once it is loaded, it needs no file
            kept = _keep(built, folder, key)
    except OSError as error:
        raise NativeUnavailable(f"the compiled network cannot be kept: {error}") from error
    logger.info("built %s with %s", kept, compiler)
    return _load(kept)


def cache_folder() -> Path:
    """Where built libraries are kept; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "epam_extract"


def require_compiler() -> str:
    """``find_compiler()``, or NativeUnavailable."""
    compiler = find_compiler()
    if compiler is None:
        raise NativeUnavailable("no C++ compiler (g++ or clang++) is here")
    return compiler


def _buildable() -> str:
    """The compiler, where there is something to compile."""
    compiler = require_compiler()
    for source in (SOURCE, *INCLUDED):
        if not source.exists():
            raise NativeUnavailable(f"{source} is missing from this copy of the package")
    return compiler


def _key(compiler: str) -> str:
    """What the library depends on: source, compiler, flags and processor."""
    version = _run([compiler, "--version"])
    sources = [source.read_text() for source in (SOURCE, *INCLUDED)]
    parts = (*sources, version, " ".join(FLAGS), _processor())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    """What ``-march=native`` depends on: a cache may be shared by machines that differ."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    known = [line for line in lines if line.startswith(("model name", "flags", "CPU part"))]
    return platform.machine() + platform.processor() + "".join(sorted(set(known)))


def _run(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NativeUnavailable(f"{command[0]} cannot be run: {error}") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing said"])[0]
        raise NativeUnavailable(f"{command[0]} failed: {said}")
    return done.stdout or done.stderr


def _private_folder() -> Path | None:
    """The cache folder, made if need be; None, with a warning, where it is not safe to use."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        problem = _problem_of(folder)
        if problem is None and not os.access(folder, os.W_OK):
            problem = "it cannot be written"
    except OSError as error:
        problem = str(error.strerror)
    if problem is not None:
        logger.warning(
            "%s: %s, so the compiled network is built for this run alone. Mend the folder, or set "
            "XDG_CACHE_HOME to another",
            folder,
            problem,
        )
        return None
    for left_over in folder.glob(f"{BUILDING}*"):
        with contextlib.suppress(OSError):  # another run may be quicker
            if left_over.lstat().st_mtime < time.time() - 2 * BUILD_SECONDS:
                shutil.rmtree(left_over)
    return folder


def _problem_of(path: Path) -> str | None:
    """Why code from this file or folder must not run; None where it may."""
    try:
        found = path.lstat()
    except OSError as error:
        return str(error.strerror)
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        return "it is a link or a device"
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        return "it belongs to another user"
    if hasattr(os, "geteuid") and found.st_mode & WRITABLE_BY_OTHERS:
        return "others may write to it"
    return None


def _kept(folder: Path, key: str) -> Path | None:
    """The library that is kept for ``key``, checked; those that do not fit are removed."""
    for path in sorted(folder.glob(f"native-{key}-*.so")):
        problem = _problem_of(path)
        with contextlib.suppress(OSError):
            if problem is None and path == _named(folder, key, path.read_bytes()):
                return path
            logger.warning("%s: %s; removed", path, problem or "damaged")
            path.unlink()
    return None


def _named(folder: Path, key: str, content: bytes) -> Path:
    return folder / f"native-{key}-{hashlib.sha256(content).hexdigest()}.so"


def _keep(built: Path, folder: Path, key: str) -> Path:
    """Move a new library into the cache, whole or not at all."""
    built.chmod(0o600)
    with built.open("rb") as file:
        kept = _named(folder, key, file.read())
        os.fsync(file.fileno())
    built.replace(kept)
    return kept


def _load(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeUnavailable(f"{path} cannot be loaded: {error}") from error
