"""The compiled library is loaded only where it is ours and whole, and is built again where not."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from epam_extract.model import native_build

COMPILER = native_build.find_compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler is here")
TINY = (
    'extern "C" { long epam_block_scratch() { return 7; } long epam_stem_scratch() { return 8; } }'
)
USE = """
import importlib.util, sys
# alone, since the package around it takes seconds to load
spec = importlib.util.spec_from_file_location("native_build", sys.argv[1])
native_build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native_build)
print(native_build.library().epam_block_scratch(), flush=True)
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with the two functions that loading asks for."""
    folder = tmp_path_factory.mktemp("tiny")
    source, built = folder / "tiny.cpp", folder / "tiny.so"
    source.write_text(TINY)
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", built, source], check=True)
    return built


@pytest.fixture
def builds(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a compiler that is quick; the file counts what it built."""
    log, compiler, temporary = tmp_path / "builds", tmp_path / "c++", tmp_path / "tmp"
    log.touch()
    temporary.mkdir()
    compiler.write_text(
        "#!/bin/sh\n"
        "test $1 = --version && echo tiny 1.0 && exit\n"
        f"echo built >> {log}\n"
        'test -n "$WAIT_FOR" && until test -e $WAIT_FOR; do sleep 0.02; done\n'
        "while test $1 != -o; do shift; done\n"
        f"cat {tiny} > $2\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    native_build.library.cache_clear()
    yield log
    native_build.library.cache_clear()


def built(builds: Path) -> int:
    """How often the library was built."""
    return len(builds.read_text().splitlines())


def load() -> None:
    native_build.library.cache_clear()
    assert native_build.library().epam_block_scratch() == 7


def kept() -> list[Path]:
    return sorted(native_build.cache_folder().iterdir())


def test_it_is_built_once_and_nothing_else_is_left(builds):
    assert not native_build.is_built()
    load()
    assert native_build.is_built()
    load()
    assert built(builds) == 1
    (library,) = kept()
    assert library.stat().st_mode & 0o777 == 0o600
    assert library.parent.stat().st_mode & 0o777 == 0o700


def make_link(path: Path) -> None:
    elsewhere = path.parents[1] / "elsewhere.so"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: os.truncate(path, 5000), id="cut off"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes() + b"\0"), id="grown"),
        pytest.param(lambda path: path.chmod(0o666), id="others may write to it"),
        pytest.param(make_link, id="a link"),
        pytest.param(lambda path: (path.unlink(), os.mkfifo(path)), id="a pipe"),
    ],
)
def test_a_library_that_does_not_fit_is_built_again(builds, damage, caplog):
    load()
    (library,) = kept()
    copy = library.read_bytes()
    library.unlink()  # and again under another inode, since this process has the old one mapped
    library.write_bytes(copy)
    library.chmod(0o600)
    damage(library)
    assert not native_build.is_built()
    load()
    assert built(builds) == 2
    assert "removed" in caplog.text
    (again,) = kept()
    assert again.read_bytes() == copy


def test_a_folder_that_others_may_write_to_is_not_used(builds, tmp_path, caplog):
    load()
    native_build.cache_folder().chmod(0o777)
    assert not native_build.is_built()
    load()
    assert built(builds) == 2
    assert "others may write to it, so the compiled network is built for this run" in caplog.text
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root's rights")
@pytest.mark.parametrize("whose", ["folder", "file"])
def test_what_belongs_to_somebody_else_is_not_loaded(builds, tmp_path, whose):
    load()
    (library,) = kept()
    os.chown(library.parent if whose == "folder" else library, 65534, 65534)
    assert not native_build.is_built()
    load()
    assert built(builds) == 2
    assert not list((tmp_path / "tmp").iterdir())


def test_where_there_can_be_no_cache_no_folder_is_left(builds, tmp_path):
    (tmp_path / "cache").write_text("a file where the cache should be")
    load()
    assert not list((tmp_path / "tmp").iterdir())


def start(wait_for: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USE, native_build.__file__],
        env={**os.environ, "WAIT_FOR": str(wait_for)},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for_builds(builds: Path, count: int, running: list[subprocess.Popen[str]]) -> None:
    while built(builds) < count:
        assert all(process.poll() is None for process in running)


def test_two_may_build_at_once(builds, tmp_path):
    go = tmp_path / "go"
    both = [start(go), start(go)]
    wait_for_builds(builds, 2, both)
    go.touch()
    assert [process.communicate()[0].strip() for process in both] == ["7", "7"]
    assert len(kept()) == 1
    load()
    assert built(builds) == 2


def test_a_killed_build_is_built_again_and_cleared_away(builds, tmp_path):
    go = tmp_path / "go"
    process = start(go)
    wait_for_builds(builds, 1, [process])
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left_over,) = native_build.cache_folder().glob(f"{native_build.BUILDING}*")
    go.touch()
    while not (left_over / "native.so").exists():  # its compiler outlives it
        time.sleep(0.02)
    load()
    assert built(builds) == 2
    assert left_over.exists()
    os.utime(left_over, (0, 0))  # of long ago: no build takes that long
    load()
    assert kept() == list(native_build.cache_folder().glob("native-*.so"))
