"""Download one model file over https, within limits of size and time, and check what arrived.

Network failures are returned as a short reason, so that one message can list those of several
sources; errors of the local disk are raised as OSError.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import secrets
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from ..records import sha256

log = logging.getLogger(__name__)

OnDownload = Callable[[str, int, int | None], None]
"""Called with a file's name, its bytes so far, and its total bytes (None if unknown)."""

CONNECT_SECONDS = 8.0  # for name lookup, connection and first answer together
STALL_SECONDS = 30.0  # without a single byte
TOTAL_SECONDS = 2 * 3600.0  # for one file; the largest, 380 MB, takes an hour at 1 Mbit/s
MAX_BYTES = (2 << 30) - 1  # of an archive, and of a model: the limit of protobuf, and so of ONNX
BLOCK = 1 << 18
PART = ".part"  # the suffix of files that are not complete yet
LOOPBACK = ("127.0.0.1", "::1", "localhost")
MODEL_IN_ZIP = "end2end.onnx"  # mmdeploy's name for every model; rtmlib looks for it, too
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)


def download(url: str, target: Path, name: str, progress: OnDownload | None) -> str | None:
    """Download ``url`` to ``target``; returns None, or a short reason why that failed."""
    until = time.monotonic() + TOTAL_SECONDS
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
            if max(done, total or 0) > MAX_BYTES:
                return f"it is larger than a model can be ({MAX_BYTES:,} bytes)"
            if time.monotonic() > until:
                return f"it was not here after {TOTAL_SECONDS / 60:.0f} minutes"
            try:
                block = opened.read1(
                    BLOCK
                )  # whatever has arrived, so that the deadline is checked often
            except (OSError, ValueError, http.client.HTTPException) as error:
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


def place(archive: Path, target: Path, *, expected: str | None) -> str | None:
    """Unpack, check and rename into place; returns None, or a short reason why not.

    ``expected`` is the model's SHA-256, or None if it is not known.
    """
    with temporary(target.parent, target.stem) as model:
        if zipfile.is_zipfile(archive):
            reason = _unpack(archive, model)
            if reason is not None:
                return reason
            source = model
        else:
            source = archive
        found = sha256(source)
        if expected is not None and found != expected:
            return f"what came is another file (SHA-256 {found}, expected {expected})"
        reason = _unreadable(source)
        if reason is None:
            source.replace(target)
    return reason


@contextlib.contextmanager
def temporary(folder: Path, stem: str) -> Iterator[Path]:
    """The path of an empty file that is deleted at the end unless it was renamed."""
    path = folder / f"{stem}.{secrets.token_hex(8)}{PART}"
    path.open("xb").close()  # its mode follows the umask
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def left_over(folder: Path, stem: str) -> list[Path]:
    """Files left by downloads of one model that were killed."""
    return list(folder.glob(f"{stem}.*{PART}"))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Wait for the lock at ``path`` and hold it; yields False if the system has no such locks.

    The lock ends with its process, so a killed download blocks no other.
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


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that ``_refused`` allows."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        reason = _refused(newurl, origin=req.full_url)
        if reason is not None:
            raise urllib.error.URLError(f"it redirects to {newurl[:200]}, and {reason}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refused(url: str, *, origin: str) -> str | None:
    """Why an address must not be used; None if it may. Plain http is for this machine only."""
    there, here = urlsplit(url), urlsplit(origin)
    if there.scheme == "https":
        return None
    if there.scheme == "http" and {there.hostname, here.hostname} <= set(LOOPBACK):
        return None
    return "only https is safe"


def _connect(url: str) -> http.client.HTTPResponse | str:
    """Open ``url``, or say why not, within ``CONNECT_SECONDS`` even if name lookup hangs."""
    reason = _refused(url, origin=url)
    if reason is not None:
        return reason
    answer: list[http.client.HTTPResponse | str] = []
    late = threading.Event()
    opener = urllib.request.build_opener(_SafeRedirects)

    def dial() -> None:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "epam-extract"})
            opened = opener.open(request, timeout=STALL_SECONDS)
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
    said = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(said) or type(error).__name__


def _unpack(archive: Path, model: Path) -> str | None:
    """Extract the model from a zip file to ``model``, at most ``MAX_BYTES`` of it."""
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [name for name in packed.namelist() if name.endswith(MODEL_IN_ZIP)]
            if not members:
                return f"the archive has no {MODEL_IN_ZIP}"
            with packed.open(members[0]) as source, model.open("wb") as out:
                return _copy(source, out)  # reading to the end checks the CRC
    except _BROKEN_ZIP as error:
        return f"the archive is damaged ({error})"


def _copy(source: IO[bytes], out: IO[bytes]) -> str | None:
    left = MAX_BYTES
    while block := source.read(BLOCK):
        left -= len(block)
        if left < 0:
            return f"the archive unpacks to more than a model can have ({MAX_BYTES:,} bytes)"
        out.write(block)
    out.flush()
    os.fsync(out.fileno())
    return None


def _unreadable(path: Path) -> str | None:
    """None if onnxruntime can load the file, or a short reason why not."""
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
