"""Look at a feature file in a process of its own: HDF5 can crash on a damaged one.

``python -m epam_extract.in_child NAME FILE [ARGUMENTS as JSON]`` answers with JSON on stdout.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import errors
from .errors import EpamExtractError, StoreError


def look(name: str, path: Path, **arguments: object) -> Any:
    """What the task ``name`` says of a file; its errors are raised here.

    Raises:
        StoreError: also where the process dies, since HDF5 crashed.
    """
    command = [sys.executable, "-m", "epam_extract.in_child", name, os.fspath(path)]
    package = Path(__file__).parents[1]
    search = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*command, json.dumps(arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": search},
        check=False,
    )
    if done.returncode:
        raise StoreError(
            f"{path}: reading it crashed HDF5 (exit status {done.returncode}), so it is badly "
            "damaged. Restore it from a copy, or delete it and run again."
        )
    answer = json.loads(done.stdout)
    if "error" in answer:
        kind = getattr(errors, answer["error"], StoreError)
        raise kind(answer["message"])
    return answer["result"]


def _verify(path: Path, *, videos: str | None) -> object:
    from dataclasses import asdict

    from .verify import uncovered, verify

    folder = None if videos is None else Path(videos)
    problems = [asdict(problem) for problem in verify(path, videos=folder)]
    return {"problems": problems, "uncovered": uncovered(path)}


def _describe(path: Path) -> object:
    from .store.describe import describe

    return describe(path)


def _repair(path: Path, *, problems: list[dict[str, Any]]) -> object:
    from .verify import Problem, repair

    return repair(path, [Problem(**problem) for problem in problems])


def _settings(path: Path) -> object:
    from .store import FeatureStore

    with FeatureStore(path) as store:
        return {
            "config": store.config,
            "weights": store.weights,
            "pose_source": store.pose_source,
        }


def _survey(path: Path) -> object:
    from .store import FeatureStore

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
    """Do one task; errors meant for the user become part of the answer."""
    name, path, arguments = sys.argv[1:]
    try:
        answer: dict[str, object] = {"result": TASKS[name](Path(path), **json.loads(arguments))}
    except EpamExtractError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
