"""The command in this process, and what it needs to run without torch and videos."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from epam_extract.cli import app
from epam_extract.config import ExtractConfig
from epam_extract.progress import Progress
from epam_extract.progress.records import Plan, StageLoad, Summary
from epam_extract.records import VideoFailure
from epam_extract.store import in_child

ROOT = Path(__file__).parents[1]
MAIN = "import sys; sys.argv[0] = 'epam-extract'; from epam_extract.cli import main; main()"
CONTENTS: dict[str, Any] = {
    "path": "f.h5",
    "bytes": 5_000_000,
    "parts": [],
    "schema_version": 1,
    "tool": "epam-extract 0.1.0",
    "created": "2026-01-02T03:04:05+00:00",
    "config": {"stride": 16, "features": ["full", "pooled"], "det_score": None},
    "weights": {"random_seed": 7},
    "pose_source": {"mode": "local", "pose": {"name": "p.onnx", "sha256": "ab" * 32}},
    "totals": {
        "videos": 1,
        "incomplete": 1,
        "failed": 1,
        "damaged": 0,
        "windows": 12,
        "frames": 190,
        "seconds": 7.6,
        "person_share": 0.0,
        "clipped": 3,
        "uncovered": 1,
    },
    "arrays": {"rgb_pooled": {"shape": ["windows", 432], "dtype": "float32"}},
    "videos": [
        {
            "id": "a [x]",
            "complete": True,
            "windows": 12,
            "frames": 190,
            "seconds": 7.6,
            "fps": "25/1",
            "height": 256,
            "width": 340,
            "person_share": 0.0,
            "clipped": 3,
            "notes": "truncated",
            "label": "",
            "source": "a.mp4",
        },
        {
            "id": "half",
            "complete": False,
            "windows": 2,
            "frames": 32,
            "seconds": 3600.0,
            "fps": "0/1",
            "height": 1080,
            "width": 1920,
            "person_share": None,
            "clipped": 0,
            "notes": "",
            "label": "",
            "source": "half.mp4",
        },
    ],
    "failures": [{"id": "b", "stage": "decode", "message": "61 of 74 frames decoded"}],
    "damaged": [],
}


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_DATA_HOME": str(tmp_path)}


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


class StandInRun:
    """Stands in for extract_features: remembers its call and plays a run."""

    def __init__(self) -> None:
        self.calls: list[dict[str, object]] = []
        self.error: BaseException | None = None
        self.failures: tuple[VideoFailure, ...] = ()
        self.interrupted = False

    @property
    def config(self) -> ExtractConfig:
        config = self.calls[-1]["config"]
        assert isinstance(config, ExtractConfig)
        return config

    def __call__(
        self,
        videos: object,
        out: Path,
        config: ExtractConfig,
        *,
        list_file: Path | None = None,
        segments: Path | None = None,
        overwrite: bool = False,
        retry_failed: bool = False,
        dry_run: bool = False,
        only: object = None,
        progress: Progress,
        stop: threading.Event,
    ) -> Summary:
        self.calls.append(
            {
                "videos": videos,
                "out": out,
                "config": config,
                "list_file": list_file,
                "segments": segments,
                "overwrite": overwrite,
                "retry_failed": retry_failed,
                "dry_run": dry_run,
                "only": only,
            }
        )
        if self.error is not None:
            raise self.error
        progress.message("random weights: these features are for trying the tool")
        progress.plan(Plan(3, 2, 1, 0, 100, 12, 5_000_000, 9_000_000_000))
        progress.video_started("a", 100)
        progress.advance(100)
        progress.stages({"network": StageLoad(5.0, 1.0, "windows")})
        progress.video_done("a", 12)
        for failure in self.failures:
            progress.video_failed(failure)
        summary = Summary(
            out, 3, 3 - len(self.failures), 1, self.failures, 12, 100, 93, 4.0, 5_000_000,
            interrupted=self.interrupted,
        )  # fmt: skip
        progress.finished(summary)
        return summary


def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands look at feature files in this process, so that stand-ins count."""

    def look(name: str, path: Path, **arguments: object) -> object:
        return in_child.TASKS[name](path, **arguments)

    monkeypatch.setattr(in_child, "look", look)
