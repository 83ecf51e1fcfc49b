"""Remote videos: which files an address stands for, and how one of them is downloaded.

Addresses and credentials are fsspec's: ``s3://``, ``gs://``, ``https://``, ``hf://`` and the others
it knows. Credentials in an address or in fsspec's settings are passed to it and never shown.
"""

from __future__ import annotations

import errno
import hashlib
import html
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import ConfigError, FetchError, MachineError
from ..records import RemoteFile

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(::.*)?://", re.DOTALL)
SECRETS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+://)([^\s/]*@)?(?P<rest>[^\s?#'\"]*)([?#][^\s'\"]*)?"
)
WEB = ("http", "https")
IN_EXTRA = {"s3", "s3a", "gs", "gcs", "hf", *WEB}  # their packages come with epam-extract[remote]
TIMES = ("LastModified", "last_modified", "Last-Modified", "mtime", "modified", "updated")
MARKS = ("ETag", "etag", "Content-MD5", "md5Hash", "blob_id", "sha256", "sha")
MADE = ("created", "ctime")  # of stores that say nothing else
ASKED_AT_ONCE = 16  # files on a web server, whose lists hold names alone
# aiohttp's own limit, 5 minutes for all of a file, is too short for a long video.
CONNECT_SECONDS, SILENT_SECONDS = 30, 60
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
LONGEST_REASON = 300  # characters
SHORTEST_SECRET = 4  # shorter query values are not masked in a server's messages

log = logging.getLogger(__name__)

Named = tuple[PurePosixPath, RemoteFile]
"""A path to name a video by, such as ``/s3/bucket/videos/a.mp4``, and the file it stands for."""


def is_address(source: str) -> bool:
    """Whether a source is an address. If so, it is never treated as a path."""
    return ADDRESS.match(source) is not None


def without_secrets(text: str) -> str:
    """``text`` without the user, password, query and fragment of any address in it."""
    return SECRETS.sub(lambda found: found["scheme"] + found["rest"], text)


def shown_address(source: str) -> str:
    """An address without user, password, query and fragment, whatever characters they have."""
    scheme, colon, rest = source.partition("://")
    authority, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}{colon}{authority.rpartition('@')[2]}{slash}{path}"


def find_remote(
    source: str, suffixes: Collection[str], *, pictures: bool = False
) -> tuple[PurePosixPath, list[Named]]:
    """The videos that an address stands for: a file, a folder, or a pattern with ``*``.

    Returns the path that names are relative to, and the videos. No file is opened. In a folder,
    hidden files and those with other suffixes than ``suffixes`` are ignored. ``pictures`` means
    that folders of pictures count as videos; they are not supported here, and the error says so.

    Raises:
        ConfigError: the protocol is unknown or needs a package that is not installed, there is no
            video, or the store does not answer.
    """
    shown = shown_address(source)
    if "::" in source:
        raise ConfigError(f"{shown}: addresses chained with :: are not read; name the files")
    store, path = _open(source)
    web = _protocol(source) in WEB
    with _explained(shown, source):
        store.invalidate_cache()
        root, found = (_on_web if web else _in_store)(store, path, suffixes)
        store.invalidate_cache()  # it may hold a list of millions
        top = _name(source, root)
        videos: list[Named] = []
        for name, info in sorted(found.items()):
            here = shown_address(name) if web else _address(source, path, root, name)
            file = RemoteFile(here, _size(info), _stamp(info), source=source, path=name)
            videos.append((_name(source, name), file))
    if not videos:
        hint = "; --image-fps reads folders of pictures on this machine alone" if pictures else ""
        raise ConfigError(
            f"{shown}: no video there; looked for names ending in {', '.join(sorted(suffixes))}"
            f"{hint}"
        )
    return top, videos


def missing_remote(source: str) -> Named:
    """An address under which nothing was found, as a file; fetching it will give the reason."""
    name = source if _protocol(source) in WEB else source.partition("://")[2]
    return _name(source, name), RemoteFile(shown_address(source), 0, 0, source=source, path="")


class Ended(Exception):
    """Raised by ``on_bytes`` to abort a download."""


def fetch(file: RemoteFile, to: Path, on_bytes: Callable[[int], None]) -> None:
    """Download a file to ``to``. ``on_bytes`` gets the bytes so far; it may raise Ended.

    Raises:
        FetchError: the store fails, even after fsspec's retries, or the file has changed.
        MachineError: the disk is full or cannot be written.
    """
    from fsspec.callbacks import Callback

    class CountBytes(Callback):
        def relative_update(self, inc: int = 1) -> None:
            self.value += inc
            on_bytes(self.value)

    try:
        store, path = _open(file.source)
        store.get_file(file.path or path, str(to), callback=CountBytes())
        size = to.stat().st_size
    except ConfigError as error:
        raise FetchError(str(error)) from None
    except Ended:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise MachineError(
                f"{to.parent}: {error.strerror} while {file} was fetched; free some space, or hold "
                "fewer videos there with --fetch-ahead, then run the same command again"
            ) from None
        raise FetchError(f"{file}: cannot be fetched: {_reason(error, file.source)}") from None
    if file.size and size != file.size:
        raise FetchError(
            f"{file}: {size} bytes came, {file.size} were listed: the connection broke, or the "
            "file was changed meanwhile"
        )


def _protocol(source: str) -> str:
    return source.partition("://")[0].lower()


def _open(source: str) -> tuple[Any, str]:
    """The store of an address, and the path within it."""
    shown, protocol = shown_address(source), _protocol(source)
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(source, **_options(protocol))
    except ImportError as error:
        needed = "pip install 'epam-extract[remote]'"
        if protocol not in IN_EXTRA and not str(error.name).startswith("fsspec"):
            needed = _reason(error, source)
        raise ConfigError(
            f"{shown}: is an address, and a package that reads {protocol}:// is not installed: "
            f"{needed}"
        ) from None
    except Exception as error:
        raise ConfigError(f"{shown}: cannot be opened: {_reason(error, source)}") from None


def _options(protocol: str) -> dict[str, Any]:
    """Options for a protocol; fsspec's own settings override them."""
    if protocol not in WEB:
        return {}
    import aiohttp
    from fsspec.config import conf

    limits = aiohttp.ClientTimeout(
        total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS
    )
    given = {
        name: value
        for key in WEB
        for name, value in conf.get(key, {}).get("client_kwargs", {}).items()
    }
    return {"client_kwargs": {"timeout": limits, **given}}


@contextmanager
def _explained(shown: str, source: str) -> Iterator[None]:
    """Turn a store's exceptions into one sentence without secrets."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{shown}: cannot be looked up: {_reason(error, source)}") from None


def _reason(error: BaseException, source: str) -> str:
    """A store's error in one line, without secrets."""
    error = error.__cause__ or error  # fsspec calls whatever a web server says "not found"
    text = without_secrets(" ".join(str(error).split()))
    with suppress(ValueError):  # not a valid address
        parts = urlsplit(source)
        values = [value for _, value in parse_qsl(parts.query) if len(value) >= SHORTEST_SECRET]
        for secret in filter(None, (parts.query, parts.password, *values)):
            text = text.replace(secret, "...").replace(unquote(secret), "...")
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return f"{type(error).__name__}: {text}"[:LONGEST_REASON].rstrip(": ")


def _is_video(name: str, root: str, suffixes: Collection[str] | None) -> bool:
    """Whether a file counts as a video: not hidden, and with one of these suffixes (None: any)."""
    below = name[len(root) :].strip("/").split("/")
    if any(part.startswith(".") for part in below):
        return False
    return suffixes is None or PurePosixPath(below[-1]).suffix.lower() in suffixes


def _asked(path: str, suffixes: Collection[str]) -> Collection[str] | None:
    """The suffixes that a pattern may match; any (None) if it names one, such as ``*.dat``."""
    ending = PurePosixPath(path).suffix
    return None if ending and not re.search(r"[*?\[]", ending) else suffixes


Found = dict[str, Mapping[str, Any]]
"""What a store says about each file, by its name in the store."""


def _in_store(store: Any, path: str, suffixes: Collection[str]) -> tuple[str, Found]:
    """The folder that names are relative to, and the videos."""
    found: Found = {}
    if not re.search(r"[*?\[]", path):
        info = store.info(path)
        if info["type"] != "directory":
            return path.rpartition("/")[0], {path: info}
        root, hits = path.rstrip("/"), {path: info}
    else:
        root = re.split(r"[*?\[]", path, maxsplit=1)[0].rpartition("/")[0]
        hits = store.glob(path, detail=True)
    for hit, info in hits.items():
        if info["type"] == "directory":
            inside = store.find(hit, detail=True)
            found |= {n: more for n, more in inside.items() if _is_video(n, root, suffixes)}
        elif _is_video(hit, root, _asked(path, suffixes)):
            found[hit] = info
    return root, found


def _on_web(store: Any, url: str, suffixes: Collection[str]) -> tuple[str, Found]:
    """Like :func:`_in_store`, for a server that lists a folder as a page of links."""
    place, _, query = url.partition("?")
    if not re.search(r"[*\[]", place):
        if not place.endswith("/"):
            info = store.info(url)
            if info.get("mimetype") != "text/html":
                return place.rpartition("/")[0], {url: info}
            place += "/"
        root, names = place.rstrip("/"), _linked(store, place, query)
        names = [name for name in names if _is_video(_plain(name), root, suffixes)]
    else:
        from fsspec.utils import glob_translate

        root = re.split(r"[*\[]", place, maxsplit=1)[0].rpartition("/")[0]
        pattern = re.compile(glob_translate(place))
        names = []
        for name in _linked(store, f"{root}/", query):
            plain = _plain(name)
            folders = [plain[: slash.start()] for slash in re.finditer("/", plain)]
            if pattern.match(plain):
                asked = _asked(place, suffixes)
            elif any(map(pattern.match, folders)):
                asked = suffixes
            else:
                continue
            if _is_video(plain, root, asked):
                names.append(name)
    if query:  # what grants access to the folder grants access to its files
        names = [name if "?" in name else f"{name}?{query}" for name in names]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        return root, dict(zip(names, pool.map(lambda name: _info(store, name), names), strict=True))


def _linked(store: Any, top: str, query: str) -> list[str]:
    """Every file linked from the pages of a folder and its subfolders, each once."""
    names: set[str] = set()
    seen, waiting = {top}, [top]
    while waiting:
        folder = waiting.pop()
        asked = f"{folder}?{query}" if query else folder
        try:
            entries = store.ls(asked, detail=True)
        except Exception as error:
            if folder == top:
                raise
            why = _reason(error, folder)
            log.warning("%s: cannot be listed and is left out: %s", without_secrets(folder), why)
            continue
        for entry in entries:
            name = html.unescape(str(entry["name"])).partition("#")[0]
            if query and name.startswith(asked):  # fsspec puts a link behind the query
                name = folder + name[len(asked) :].lstrip("/")
            below = name[len(top) :].split("/")
            if not name.startswith(top) or any(part[:1] in (".", "?") for part in below):
                continue  # elsewhere, hidden, or the same folder in another order
            if not name.endswith("/"):
                names.add(name)
            elif name not in seen:
                seen.add(name)
                waiting.append(name)
    return sorted(names)


def _plain(url: str) -> str:
    return url.partition("?")[0]


def _info(store: Any, name: str) -> Mapping[str, Any]:
    """What a web server says about a file; empty if it fails, since fetching gives the reason."""
    try:
        return store.info(name)
    except Exception as error:
        log.info("%s: nothing is known of it: %s", without_secrets(name), _reason(error, name))
        return {}


def _name(source: str, name: str) -> PurePosixPath:
    """A store's name as a path: protocol, host or bucket, folders, file."""
    protocol = _protocol(source)
    if protocol in WEB:
        name = unquote(shown_address(name).partition("://")[2])
    first, *parts = [part for part in name.split("/") if part] or [""]
    return PurePosixPath("/", protocol, first.rpartition("@")[2], *parts)


def _address(source: str, path: str, root: str, name: str) -> str:
    """The address of a store's file, to show."""
    if name == path:
        return shown_address(source)
    folder = re.split(r"[*?\[]", source, maxsplit=1)[0]
    top = source.rstrip("/") if folder == source else folder.rpartition("/")[0]
    return f"{shown_address(top)}/{name[len(root) :].lstrip('/')}"


def _size(info: Mapping[str, Any]) -> int:
    """Bytes, 0 where the store does not say."""
    size = info.get("size")
    return int(size) if size else 0


def _stamp(info: Mapping[str, Any]) -> int:
    """Modification time in ns, or a number derived from an ETag or checksum; 0 without either."""
    for name in TIMES:
        time = _time_ns(info.get(name))
        if time:
            return time
    for name in MARKS:
        if info.get(name):
            digest = hashlib.blake2b(str(info[name]).encode(), digest_size=8).digest()
            return int.from_bytes(digest, "big") >> 1
    return next(filter(None, (_time_ns(info.get(name)) for name in MADE)), 0)


def _time_ns(value: object) -> int:
    """A store's time in ns, 0 if it is not a time."""
    if isinstance(value, str):
        with suppress(ValueError, TypeError):
            value = parsedate_to_datetime(value)
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    if isinstance(value, datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=timezone.utc)
        whole = int(value.replace(microsecond=0).timestamp())
        return whole * 10**9 + value.microsecond * 1000
    return round(value * 10**6) * 1000 if isinstance(value, (int, float)) else 0
