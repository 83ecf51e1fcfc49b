"""Where the pose models' files come from: rtmlib's cache, the network, or the package itself.

The names, addresses and input sizes are ``rtmlib.Body``'s own tables, and files land where rtmlib
keeps its own, so that either tool finds what the other downloaded. The download is ours because
rtmlib's writes no lock, unpacks all models through one shared folder, and hangs for a while
without a connection; see ``download.py``. Nothing here loads a network; see ``networks.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

from ..config import POSE_MODES
from ..errors import ConfigError, PoseModelError
from ..records import sha256
from .download import Progress, download, left_over, locked, place, temporary

log = logging.getLogger(__name__)

# SHA-256 of the networks in the published archives, as several projects independent of each other
# pin them; of the RTMO files none was found, so the first one that comes is kept to.
PINNED = {
    "yolox_tiny_8xb8-300e_humanart-6f3252f9.onnx": (
        "ceb11c07298f95c50d7c5abeb906d03340c85f23aa79e3e66966e7fb6c307250"
    ),
    "yolox_m_8xb8-300e_humanart-c2c7a14a.onnx": (
        "3dea6513388889f0fff4b77bf7a26013600321b9eb9ceb0e9a400a82572f5f23"
    ),
    "yolox_x_8xb8-300e_humanart-a39d44ed.onnx": (
        "8e9ea96a176bd48501eaaa77216e49ee30794d2f8ba80c7b9862beca4ea972da"
    ),
    "rtmpose-s_simcc-body7_pt-body7_420e-256x192-acd4a1ef_20230504.onnx": (
        "9aeb635b83f86aea45cf45d85798f7eba1a162de8e0d721c44e54fe5eebaf47d"
    ),
    "rtmpose-m_simcc-body7_pt-body7_420e-256x192-e48f03d0_20230504.onnx": (
        "5c0a4bf67953e6d2ac43ce15e77dc9d5d354ae18430a47d2c5963a7bc5683e3c"
    ),
    "rtmpose-x_simcc-body7_pt-body7_700e-384x288-71d7b7e9_20230629.onnx": (
        "df0c0fa91e9870b1515dcaff741fd76cc753dcfb12786862f61b243bae81cd52"
    ),
}


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

    @property
    def record(self) -> Path:
        """Beside it: the digest it had when it was first used, as ``sha256sum`` writes it."""
        return self.path.with_name(f"{self.name}.sha256")


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
    """The file's path, downloading it first where it is missing, and checking it in any case.

    Two processes that start together download once where the file system has locks, and twice
    without harm where it has none: a file appears whole, under its name, or not at all.

    Raises:
        PoseModelError: no connection, a broken download, no room or right to write (the message
            names the three ways out); or the file is not the one that was published, or first used.
    """
    if file.url is None:
        if file.present:
            return file.path
        raise PoseModelError(
            f"{file.path}: the package's own pose model is missing from this installation; "
            "install epam-extract again, or pass --det-model and --pose-model"
        )
    folder, stem = file.path.parent, file.path.stem
    try:
        if not file.present or left_over(folder, stem):
            folder.mkdir(parents=True, exist_ok=True)
            with locked(file.path.with_suffix(".lock")) as alone:
                if alone:
                    for part in left_over(folder, stem):
                        part.unlink(missing_ok=True)
                if not file.present:  # else the process we waited for has just finished it
                    _obtain(file, file.url, progress)
    except OSError as error:
        raise PoseModelError(
            f"{file.path}: cannot be written ({error}). Make room or give the right to write "
            "there, or set XDG_CACHE_HOME to another folder"
        ) from error
    _check(file)
    return file.path


def _check(file: ModelFile) -> None:
    """Compare with the digest that is pinned, or that was recorded; record it where there is none.

    Raises:
        PoseModelError: another file is there, or it cannot be read.
    """
    try:
        found = sha256(file.path)
        expected = _expected(file)
        if expected is None:
            with temporary(file.path.parent, file.path.stem) as new:
                new.write_text(f"{found}  {file.name}\n", encoding="ascii")
                new.replace(file.record)
    except OSError as error:
        if not file.present:
            raise PoseModelError(f"{file.path}: cannot be read ({error})") from error
        log.info("%s: the digest is not recorded: %s", file.path, error)  # a folder to read only
        return
    if expected not in (None, found):
        raise PoseModelError(
            f"{file.path}: its SHA-256 is {found}, expected {expected}: delete a damaged download "
            f"(and {file.record.name}, if you want another version) and start again, or pass your "
            "own file with --det-model or --pose-model"
        )


def _expected(file: ModelFile) -> str | None:
    """The digest the file must have; None before it is first used."""
    if file.name in PINNED:
        return PINNED[file.name]
    if not file.record.is_file():
        return None
    with file.record.open(encoding="ascii", errors="replace") as record:
        return record.read(64)


def _obtain(file: ModelFile, url: str, progress: Progress | None) -> None:
    """Download, or take the archive somebody copied beside, and move the model into place."""
    folder, expected = file.path.parent, _expected(file)
    reasons = []
    copied = folder / PurePosixPath(urlparse(url).path).name
    if copied.suffix == ".zip" and copied.is_file():
        reason = place(copied, file.path, expected=expected)
        if reason is None:
            return
        reasons.append(f"{copied.name} beside it: {reason}")
    for source in _sources(url):
        with temporary(folder, file.path.stem) as archive:
            reason = download(source, archive, file.name, progress)
            if reason is None:
                reason = place(archive, file.path, expected=expected)
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
