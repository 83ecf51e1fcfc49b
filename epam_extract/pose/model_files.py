"""The files of each pose mode: from rtmlib's cache, a download, or the package itself.

Names, addresses and input sizes are those of ``rtmlib.Body``, and files are stored where rtmlib
stores its own, so that each tool finds what the other downloaded. The download is ours because
rtmlib's takes no lock, unpacks all models in one shared folder, and hangs for a while without a
connection; see ``download.py``.
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
from .download import OnDownload, download, left_over, locked, place, temporary

log = logging.getLogger(__name__)

# SHA-256 of the networks in the published archives, as several independent projects pin them. None
# was found for the RTMO files: the digest of the first download is recorded and checked from then.
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
    """Where it is, or will be once it is downloaded."""
    input_size: tuple[int, int] | None
    """Width and height from rtmlib's table; None if the model itself says."""
    url: str | None
    """None for the package's own models."""

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def present(self) -> bool:
        return self.path.is_file()

    @property
    def record(self) -> Path:
        """The file next to it with the digest it had at first use, as ``sha256sum`` writes it."""
        return self.path.with_name(f"{self.name}.sha256")


def cache_folder() -> Path:
    """rtmlib's: ``~/.cache/rtmlib/hub/checkpoints``, unless XDG_CACHE_HOME or TORCH_HOME is set."""
    from rtmlib.tools.file import _get_rtmhub_dir

    return Path(_get_rtmhub_dir()) / "checkpoints"


def model_files(mode: str) -> tuple[ModelFile, ...]:
    """The files of one mode: detector then pose network, or the pose network alone (RTMO).

    Raises:
        ConfigError: ``mode`` is not one of ``POSE_MODES``.
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
    """Every file of every mode, downloaded or not."""
    return [file for mode in POSE_MODES for file in model_files(mode)]


def download_models(modes: Sequence[str], *, progress: OnDownload | None = None) -> list[Path]:
    """Download what is missing of these modes and return the paths of all their files.

    Raises:
        ConfigError: a mode is not one of ``POSE_MODES``.
        PoseModelError: a file cannot be obtained.
    """
    files = {file.path: file for mode in modes for file in model_files(mode)}
    return [ensure(file, progress=progress) for file in files.values()]


def ensure(file: ModelFile, *, progress: OnDownload | None = None) -> Path:
    """Download a file if it is missing, check it in any case, and return its path.

    Two processes that start together download it once if the file system has locks, and twice
    without harm if not: the file appears complete under its name, or not at all.

    Raises:
        PoseModelError: no connection, a broken download, a full disk or no permission to write
            (the message lists three ways out); or the file is not the published one, or not the
            one that was used first.
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
            f"{file.path}: cannot be written ({error}). Free some space or allow writing there, "
            "or set XDG_CACHE_HOME to another folder"
        ) from error
    _check(file)
    return file.path


def _check(file: ModelFile) -> None:
    """Compare with the pinned or recorded digest; record it if there is none.

    Raises:
        PoseModelError: it is a different file, or it cannot be read.
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
        log.info("%s: the digest is not recorded: %s", file.path, error)  # a read-only folder
        return
    if expected not in (None, found):
        raise PoseModelError(
            f"{file.path}: its SHA-256 is {found}, expected {expected}: delete a damaged download "
            f"(and {file.record.name}, if you want another version) and start again, or pass your "
            "own file with --det-model or --pose-model"
        )


def _expected(file: ModelFile) -> str | None:
    """The digest that the file must have; None before its first use."""
    if file.name in PINNED:
        return PINNED[file.name]
    if not file.record.is_file():
        return None
    with file.record.open(encoding="ascii", errors="replace") as record:
        return record.read(64)


def _obtain(file: ModelFile, url: str, progress: OnDownload | None) -> None:
    """Download the model, or take an archive that was copied into its folder, and store it."""
    folder, expected = file.path.parent, _expected(file)
    reasons = []
    copied = folder / PurePosixPath(urlparse(url).path).name
    if copied.suffix == ".zip" and copied.is_file():
        reason = place(copied, file.path, expected=expected)
        if reason is None:
            return
        reasons.append(f"{copied.name} next to it: {reason}")
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
        f"The {file.role} model {file.name} is missing and could not be downloaded "
        f"({'; '.join(reasons)}). Either run `epam-extract models download {mode}` on a connected "
        f"machine and copy its folder {folder} here, or pass local ONNX files with --det-model "
        "and --pose-model, or use the package's own small model with --pose bundled"
    )


def _sources(url: str) -> list[str]:
    """The address, and its mirror if this version of rtmlib knows one."""
    try:
        from rtmlib.tools.file import get_mirror_url
    except ImportError:  # rtmlib before 0.0.16
        return [url]
    mirror = get_mirror_url(url)
    return [url] if mirror is None else [url, mirror]
