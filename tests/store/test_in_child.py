"""A feature file is looked at in a process of its own, and what that dies of is told apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from make_rows import HEADER, write_video

from epam_extract.errors import MachineError, StoreError
from epam_extract.store import StoreWriter, in_child
from epam_extract.store.describe import describe


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole file of one video."""
    with StoreWriter(tmp_path / "feats.h5", HEADER) as store:
        write_video(store, "a", 2, 20)
        store.commit()
    return tmp_path / "feats.h5"


@pytest.mark.slow
def test_looking_in_a_child_says_the_same(path: Path) -> None:
    assert in_child.look("verify", path, videos=None) == {"problems": [], "uncovered": 0}
    assert in_child.look("describe", path, most_rows=None) == json.loads(json.dumps(describe(path)))
    with pytest.raises(StoreError, match="no such file"):
        in_child.look("describe", path.with_name("none.h5"), most_rows=None)


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", StoreError, r"crashed HDF5 \(SIGSEGV\)"),
        ("os.kill(os.getpid(), signal.SIGBUS)", StoreError, r"crashed HDF5 \(SIGBUS\)"),
        ("os.abort()", StoreError, r"crashed HDF5 \(SIGABRT\)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", MachineError, "was killed .*memory is full"),
        ("os.kill(os.getpid(), signal.SIGTERM)", MachineError, "was ended by SIGTERM"),
        ("sys.exit(3)", MachineError, "was ended with status 3"),
    ],
)
def test_a_file_is_not_blamed_for_a_reader_that_was_killed(
    code: str,
    kind: type[Exception],
    sentence: str,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stand_in = path.with_name("python")
    no_core = "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))"
    lines = [f"#!{sys.executable}", "import os, resource, signal, sys", no_core, code]
    stand_in.write_text("\n".join(lines))
    stand_in.chmod(0o755)
    monkeypatch.setattr(in_child.sys, "executable", str(stand_in))
    with pytest.raises(kind, match=sentence):
        in_child.look("verify", path, videos=None)


@pytest.mark.parametrize(
    ("raised", "kind", "sentence"),
    [
        (MemoryError(), MachineError, "not enough memory to look at it"),
        (ZeroDivisionError("by zero"), RuntimeError, "ZeroDivisionError: by zero"),
    ],
)
def test_what_a_reader_in_a_child_meets_is_told(
    raised: Exception,
    kind: type[Exception],
    sentence: str,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setitem(in_child.TASKS, "fail", fail)
    monkeypatch.setattr(in_child.sys, "argv", ["in_child", "fail", str(path), "{}"])
    in_child.main()
    answer = capsys.readouterr().out.encode()
    done = subprocess.CompletedProcess([], 0, answer)
    monkeypatch.setattr(in_child.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(kind, match=sentence) as caught:
        in_child.look("fail", path)
    if kind is RuntimeError:
        assert "in fail" in str(caught.value.__cause__)  # for the log
