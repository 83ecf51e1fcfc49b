"""Options that exclude each other, where only the command knows what was typed."""

from __future__ import annotations

from typing import Any

import typer

from ..errors import ConfigError

PAIRS = {
    ("demo", "pose_model"): "--demo brings its own pose model",
    ("demo", "det_model"): "--demo brings its own pose model",
    ("pose", "pose_model"): "--pose names a pair of models, --pose-model a file of your own",
    ("pose", "det_model"): "--pose names a pair of models, --det-model a file of your own",
    ("stand_in", "demo"): "a stand-in takes the place of the models that --pose names",
    ("stand_in", "det_model"): "a stand-in takes the place of the models that --pose names",
    ("stand_in", "pose_model"): "a stand-in takes the place of the models that --pose names",
    ("overwrite", "retry_failed"): "a new file has no failed videos to retry",
    ("quiet", "verbose"): "one asks for less output, the other for more",
    ("ray", "shard"): "--ray divides the videos itself",
    ("ray", "dry_run"): "a plan needs no workers",
}


def refuse_contradictions(context: typer.Context) -> None:
    """Raise :class:`ConfigError` where options that were given exclude each other.

    Those in a ``--config`` file count too, unless a typed option overrides them.
    """
    given = Given(context)
    for (one, other), why in PAIRS.items():
        if given(one) and given(other):
            names = [f"--{name.replace('_', '-')}" for name in (one, other)]
            raise ConfigError(f"{' and '.join(names)} contradict each other: {why}")
    _check_config(given)
    _check_run(given)


class Given:
    """Which options were typed or set in a ``--config`` file, not left at their default."""

    def __init__(self, context: typer.Context) -> None:
        self.values: dict[str, Any] = context.params
        self._context = context

    def __call__(self, name: str, *, over: str | None = None) -> bool:
        """Whether ``name`` was given; in a file it does not count where ``over`` was typed."""
        if self._source(name) == "DEFAULT_MAP":
            return over is None or self._source(over) != "COMMANDLINE"
        return self._source(name) == "COMMANDLINE"

    def _source(self, name: str) -> str:
        found = self._context.get_parameter_source(name)
        return "" if found is None else found.name


def _check_config(given: Given) -> None:
    values = given.values
    if values.get("demo") and given("pose") and values["pose"] != "bundled":
        raise ConfigError(
            f"--demo and --pose {values['pose']} contradict each other: the demo uses "
            "--pose bundled; for other pose models, use --random-weights SEED"
        )
    if values.get("grid") == "single" and (
        given("stride", over="grid") or given("frame_interval", over="grid")
    ):
        raise ConfigError(
            "--grid single makes one window of the whole video: leave out --stride and "
            "--frame-interval"
        )
    if (
        values.get("no_full")
        and given("features", over="no_full")
        and "full" in values["features"].split(",")
    ):
        raise ConfigError("--no-full and --features with full contradict each other: choose one")


def _check_run(given: Given) -> None:
    values = given.values
    if values.get("plan") is not None and not (values["dry_run"] or values["shard"]):
        raise ConfigError(
            "--plan goes with --dry-run, which writes it, or --shard I/N, which uses it"
        )
    for name in ("gpus_per_worker", "cpus_per_worker"):
        if values.get(name) is not None:
            if values["ray"] is None:
                raise ConfigError(f"--{name.replace('_', '-')} goes with --ray")
            if values[name] <= 0:
                raise ConfigError(f"--{name.replace('_', '-')} must be more than 0")
    gpus = values.get("gpus_per_worker")
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        raise ConfigError(f"--gpus-per-worker must be a whole number or below 1, got {gpus:g}")
    if values.get("quiet") and values["progress"] in ("rich", "plain", "tqdm"):
        raise ConfigError(f"--quiet and --progress {values['progress']} contradict each other")
