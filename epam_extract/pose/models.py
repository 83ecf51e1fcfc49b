"""Where the pose models' files come from: rtmlib's cache, the network, or the package itself.

The names, addresses and input sizes are ``rtmlib.Body``'s own tables, and files land where rtmlib
keeps its own, so that either tool finds what the other downloaded. The download is ours because
rtmlib's writes no lock, unpacks all models through one shared folder, and hangs for a while
without a connection. Nothing here loads a network; see ``pose_networks.py``.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import urlparse

from ..config import POSE_MODES
from ..errors import ConfigError, PoseModelError

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, its bytes so far, and its bytes in all (None when unknown)."""

CONNECT_SECONDS = 8.0  # for the name, the connection and the first answer together
STALL_SECONDS = 30.0  # without one byte
BLOCK = 1 << 18
MODEL_IN_ZIP = "end2end.onnx"  # what mmdeploy calls every model; rtmlib looks for it, too
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True)
class ModelFile:
    """One ONNX file of a pose mode."""

    mode: str
    role: str
    """``detector`` or ``pose``."""
    path: Path
    """Where it is, or would be after a download."""
    input_size: tuple[int, int] | None
    """Width and height as rtmlib's table gives them; None when the model tells."""
    url: str | None
    """None for the package's own."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def present(self) -> bool:
        return self.path.is_file()


def cache_folder() -> Path:
    """rtmlib's own: ``~/.cache/rtmlib/hub/checkpoints``, moved by XDG_CACHE_HOME or TORCH_HOME."""
    from rtmlib.tools.file import _get_rtmhub_dir

    return Path(_get_rtmhub_dir()) / "checkpoints"


def model_files(mode: str) -> tuple[ModelFile, ...]:
    """The files of one mode: detector then pose network, or the pose network alone (RTMO).

    Raises:
        ConfigError: for a mode that is none of ``POSE_MODES``.
    """
    if mode not in POSE_MODES:
        raise ConfigError(f"pose must be one of {', '.join(POSE_MODES)}, got {mode!r}")
    if mode == "bundled":
        folder = Path(__file__).parents[1] / "demo"
        return (
            ModelFile(mode, "detector", folder / "detector.onnx", None, None),
            ModelFile(mode, "pose", folder / "pose.onnx", None, None),
        )
    from rtmlib import Body

    one_stage = mode.startswith("rtmo-")
    table = Body.RTMO_MODE[mode.removeprefix("rtmo-")] if one_stage else Body.MODE[mode]
    files = []
    for key, role in (("pose", "pose"),) if one_stage else (("det", "detector"), ("pose", "pose")):
        url = table[key]
        # rtmlib's rule for the name: everything before the first dot.
        stem = PurePosixPath(urlparse(url).path).name.split(".")[0]
        path = cache_folder() / f"{stem}.onnx"
        files.append(ModelFile(mode, role, path, tuple(table[f"{key}_input_size"]), url))
    return tuple(files)


def list_models() -> list[ModelFile]:
    """Every file of every mode, whether it is here or not."""
    return [file for mode in POSE_MODES for file in model_files(mode)]


def download_models(modes: Sequence[str], *, progress: Progress | None = None) -> list[Path]:
    """Have every file of these modes in the cache, and say where they are.

    Raises:
        ConfigError: for a mode that is none of ``POSE_MODES``.
        PoseModelError: when a file cannot be had.
    """
    files = {file.path: file for mode in modes for file in model_files(mode)}
    return [ensure(file, progress=progress) for file in files.values()]


def ensure(file: ModelFile, *, progress: Progress | None = None) -> Path:
    """The file's path, downloading it first where it is missing.

    Two processes that start together download once where the file system has locks, and twice
    without harm where it has none: a file appears whole, under its name, or not at all.

    Raises:
        PoseModelError: no connection, a broken download, no room or right to write; the message
            names the three ways out.
    """
    if file.present:
        return file.path
    if file.url is None:
        raise PoseModelError(
            f"{file.path}: the package's own pose model is missing from this installation; "
            "install epam-extract again, or pass --det-model and --pose-model"
        )
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.path.with_suffix(".lock")) as alone:
            if file.present:  # the process we waited for has just finished it
                return file.path
            if alone:
                for left_over in file.path.parent.glob(f"{file.path.stem}.*.part"):
                    left_over.unlink(missing_ok=True)
            _obtain(file, file.url, progress)
    except OSError as error:
        raise PoseModelError(
            f"{file.path}: cannot be written ({error}). Make room or give the right to write "
            "there, or set XDG_CACHE_HOME to another folder"
        ) from error
    return file.path


def _obtain(file: ModelFile, url: str, progress: Progress | None) -> None:
    """Download, or take the archive somebody copied beside, and move the model into place."""
    folder = file.path.parent
    copied = folder / PurePosixPath(urlparse(url).path).name
    if copied.suffix == ".zip" and copied.is_file() and _place(copied, file.path) is None:
        return
    reasons = []
    for source in _sources(url):
        with _temporary(folder, file.path.stem) as archive:
            reason = _download(source, archive, file.name, progress)
            if reason is None:
                reason = _place(archive, file.path)
        if reason is None:
            return
        log.info("%s: %s", source, reason)
        reasons.append(f"{urlparse(source).netloc}: {reason}")
    modes = [mode for mode in POSE_MODES if mode != "bundled"]
    mode = file.mode if file.mode in modes else modes[0]
    raise PoseModelError(
        f"The {file.role} model {file.name} is not here and could not be downloaded "
        f"({'; '.join(reasons)}). Either run `epam-extract models download {mode}` on a connected "
        f"machine and copy its folder {folder} here, or pass local ONNX files with --det-model "
        "and --pose-model, or use the package's own small model with --pose bundled"
    )


def _sources(url: str) -> list[str]:
    """The address and its mirror, where this version of rtmlib knows one."""
    try:
        from rtmlib.tools.file import get_mirror_url
    except ImportError:  # rtmlib before 0.0.16
        return [url]
    mirror = get_mirror_url(url)
    return [url] if mirror is None else [url, mirror]


def _download(url: str, target: Path, name: str, progress: Progress | None) -> str | None:
    """Fetch ``url`` into ``target``; None, or in a few words why that failed.

    An OSError of the local disk is raised, one of the connection is told.
    """
    opened = _connect(url)
    if isinstance(opened, str):
        return opened
    with opened, target.open("wb") as out:
        length = opened.headers.get("Content-Length")
        total = int(length) if length and length.isdigit() else None
        done = 0
        if progress:
            progress(name, 0, total)
        while True:
            try:
                block = opened.read(BLOCK)
            except (OSError, http.client.HTTPException) as error:
                return f"the connection broke after {done:,} bytes ({_words(error)})"
            if not block:
                break
            out.write(block)
            done += len(block)
            if progress:
                progress(name, done, total)
        out.flush()
        os.fsync(out.fileno())
    if total is not None and done != total:
        return f"the download ended after {done:,} of {total:,} bytes"
    if progress and total is None:
        progress(name, done, done)
    return None


def _connect(url: str) -> http.client.HTTPResponse | str:
    """Open ``url``, or tell why not, within ``CONNECT_SECONDS`` even where a resolver hangs."""
    answer: list[http.client.HTTPResponse | str] = []
    late = threading.Event()

    def dial() -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "epam-extract"})
        try:
            opened = urllib.request.urlopen(request, timeout=STALL_SECONDS)
        except (OSError, ValueError, http.client.HTTPException) as error:
            answer.append(_words(error))
        else:
            answer.append(opened)
            if late.is_set():
                opened.close()

    thread = threading.Thread(target=dial, name="epam-extract-connect", daemon=True)
    thread.start()
    thread.join(CONNECT_SECONDS)
    if not answer:
        late.set()
        return f"no answer within {CONNECT_SECONDS:.0f} s"
    return answer[0]


def _words(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


def _place(archive: Path, target: Path) -> str | None:
    """Unpack, check and rename into place; None, or in a few words what is wrong with the file."""
    with _temporary(target.parent, target.stem) as model:
        if zipfile.is_zipfile(archive):
            try:
                with zipfile.ZipFile(archive) as packed:
                    members = [n for n in packed.namelist() if n.endswith(MODEL_IN_ZIP)]
                    if not members:
                        return f"the archive has no {MODEL_IN_ZIP}"
                    with packed.open(members[0]) as source, model.open("wb") as out:
                        _copy(source, out)  # reading to the end checks the CRC
            except _BROKEN_ZIP as error:
                return f"the archive is damaged ({error})"
            source_file = model
        else:
            source_file = archive
        reason = _unreadable(source_file)
        if reason is None:
            source_file.chmod(0o644)
            source_file.replace(target)
    return reason


def _copy(source: IO[bytes], out: IO[bytes]) -> None:
    while block := source.read(BLOCK):
        out.write(block)
    out.flush()
    os.fsync(out.fileno())


def _unreadable(path: Path) -> str | None:
    """None when onnxruntime reads the file as a network, or in a few words why not."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class but this one
        return f"what came is no ONNX network ({str(error).splitlines()[0][:160]})"
    return None


@contextlib.contextmanager
def _temporary(folder: Path, stem: str) -> Iterator[Path]:
    """The path of an empty file that is gone afterwards unless it was renamed."""
    handle, name = tempfile.mkstemp(prefix=f"{stem}.", suffix=".part", dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Wait for and hold the lock at ``path``; False where the system has no such locks.

    The lock dies with its process, so that a killed download blocks nobody.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    with path.open("ab") as handle:
        held = True
        waited = False
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waited:
                    log.info("%s: another process is downloading it; waiting", path.stem)
                waited = True
                time.sleep(0.1)
                continue
            except OSError:  # a network file system without locks
                held = False
            break
        yield held
