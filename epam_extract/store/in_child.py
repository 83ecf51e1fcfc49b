"""Read a feature file in a child process, since HDF5 can crash on a damaged one.

``python -m epam_extract.store.in_child TASK FILE ARGUMENTS``, with the arguments as JSON, answers
with JSON on stdout.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import EpamExtractError, MachineError, StoreError

CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL} | (
    {signal.SIGBUS} if hasattr(signal, "SIGBUS") else set()  # not on Windows
)
"""Signals that end a process because of its own fault."""


def look(name: str, path: Path, **arguments: object) -> Any:
    """The result of the task ``name`` on a file; its errors are raised here.

    Raises:
        StoreError: also if HDF5 crashed the process.
        MachineError: something else ended the process, such as a lack of memory.
        RuntimeError: any other exception in it, which is a bug.
    """
    command = [sys.executable, "-m", "epam_extract.store.in_child", name, os.fspath(path)]
    package = Path(__file__).parents[2]
    search = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*command, json.dumps(arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": search},
        check=False,
    )
    if done.returncode:
        raise _how_it_ended(path, done.returncode)
    answer = json.loads(done.stdout)
    if "unforeseen" in answer:
        raise RuntimeError(answer["unforeseen"]) from RuntimeError(answer["where"])
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    return answer["result"]


def _how_it_ended(path: Path, status: int) -> EpamExtractError:
    """The error for a process that ended without an answer."""
    if -status in CRASHES:
        return StoreError(
            f"{path}: reading it crashed HDF5 ({signal.Signals(-status).name}), so it is badly "
            "damaged. Restore it from a copy, or delete it and run again."
        )
    if -status == signal.SIGKILL:
        return MachineError(
            f"{path}: the process that read it was killed (SIGKILL), perhaps because memory is "
            "full; the file is unchanged. Free some memory and run the same command again."
        )
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    return MachineError(
        f"{path}: the process that read it was ended {how} without a result; run the same command "
        "again"
    )


def _verify(path: Path, *, videos: str | None) -> object:
    from dataclasses import asdict

    from .verify import uncovered, verify

    folder = None if videos is None else Path(videos)
    problems = [asdict(problem) for problem in verify(path, videos=folder)]
    return {"problems": problems, "uncovered": uncovered(path)}


def _describe(path: Path, *, most_rows: int | None) -> object:
    from .describe import describe

    gc.disable()  # finds nothing among 10,000 videos, and takes a tenth of the time
    return describe(path, most_rows=most_rows)


def _repair(path: Path, *, problems: list[dict[str, Any]]) -> object:
    from .verify import Problem, repair

    return repair(path, [Problem(**problem) for problem in problems])


def _settings(path: Path) -> object:
    from . import FeatureStore

    with FeatureStore(path) as store:
        return {
            "config": store.config,
            "weights": store.weights,
            "pose_source": store.pose_source,
        }


def _survey(path: Path) -> object:
    from . import FeatureStore

    with FeatureStore(path) as store:
        return len(store.survey()[0])


TASKS: dict[str, Callable[..., object]] = {
    "verify": _verify,
    "describe": _describe,
    "repair": _repair,
    "settings": _settings,
    "survey": _survey,
}


def main() -> None:
    """Do one task; errors meant for the user are part of the answer."""
    name, path, arguments = sys.argv[1:]
    try:
        answer: dict[str, object] = {"result": TASKS[name](Path(path), **json.loads(arguments))}
    except EpamExtractError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        message = f"{path}: there is not enough memory to look at it"
        answer = {"error": MachineError.__name__, "message": message}
    except Exception as error:
        what = f"{path}: {type(error).__name__}: {error}"
        answer = {"unforeseen": what, "where": traceback.format_exc()}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
