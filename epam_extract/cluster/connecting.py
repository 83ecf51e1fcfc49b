"""Connect to a Ray cluster, or start one on this machine, and see what fits on it.

Ray is imported only here. It sends no usage statistics.
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, MachineError
from ..pipeline.concurrency import available_cores

log = logging.getLogger(__name__)

THIS_MACHINE = "local"
"""Used instead of an address."""
ANSWER_SECONDS = 10.0
OBJECT_STORE_BYTES = 100 << 20  # only jobs and reports go through it
USUAL_CORES = 4  # per worker without a GPU, unless a machine has fewer
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # silences a deprecation notice
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
TRY = """
import json, logging, sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
    answer = None
except Exception as error:
    answer = f"{type(error).__name__}: {error}"
print(json.dumps(answer), flush=True)
"""


@dataclass(frozen=True)
class Size:
    """What Ray reserves for one worker."""

    gpus: float
    cpus: int

    def places(self, nodes: Sequence[dict[str, float]]) -> int:
        """How many workers fit on these machines, given the ``CPU`` and ``GPU`` of each."""
        places = 0
        for node in nodes:
            fits = [int(node.get("CPU", 0) // self.cpus)]
            if self.gpus >= 1:
                fits.append(int(node.get("GPU", 0) // self.gpus))
            elif self.gpus > 0:  # a fraction is always of a single GPU
                fits.append(int(node.get("GPU", 0)) * int(1 / self.gpus + 1e-9))
            places += min(fits)
        return places


def worker_size(
    nodes: Sequence[dict[str, float]],
    *,
    device: str,
    gpus_per_worker: float | None,
    cpus_per_worker: int | None,
) -> Size:
    """One GPU per worker if there are any, else cores, unless the options say otherwise.

    Raises:
        ConfigError: no machine has room for a worker.
    """
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    if device == "cpu" or (device == "auto" and not with_gpus and gpus_per_worker is None):
        most = int(max((node.get("CPU", 0) for node in nodes), default=0))
        cores = cpus_per_worker or max(1, min(USUAL_CORES, most))
        size = Size(0.0, cores)
    else:
        gpus = gpus_per_worker or 1.0
        fair = (node.get("CPU", 0) / node["GPU"] * gpus for node in with_gpus)
        size = Size(gpus, cpus_per_worker or max(1, math.floor(min(fair, default=1))))
    if size.places(nodes) == 0:
        wanted = f"{size.cpus} cores" + (f" and {size.gpus:g} GPU" if size.gpus else "")
        raise ConfigError(
            f"--ray: no machine there has {wanted} for a worker; see --cpus-per-worker and "
            "--gpus-per-worker"
        )
    return size


def machines(ray: Any) -> list[dict[str, float]]:
    """Resources of each live machine of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module ``ray``, connected to ``address`` or to a cluster on this machine.

    If this process is already connected, that connection is used and left open. What Ray prints
    goes to the log.

    Raises:
        ConfigError: Ray is not installed, no Ray answers within 10 s, or its version or that of its
            Python differs.
        MachineError: Ray cannot be started here.
    """
    os.environ.update(ENVIRONMENT)
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            f"--ray needs Ray, which cannot be imported ({error}): pip install 'epam-extract[ray]'"
        ) from error
    with redirect_stdout(_ToLog()):
        if ray.is_initialized():
            yield ray
            return
        if address != THIS_MACHINE:
            require_answer(address)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        local = {
            "num_cpus": available_cores(),
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
        try:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                **(local if address == THIS_MACHINE else {}),
            )
        except Exception as error:
            raise MachineError(f"--ray: Ray cannot be started: {_first_line(error)}") from error
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray has replaced them
                signal.signal(number, handler)
        try:
            yield ray
        finally:
            ray.shutdown()


def require_answer(address: str) -> None:
    """Raise ConfigError unless a Ray of our version answers. Asks in a separate process."""
    command = [sys.executable, "-c", TRY, address]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout.splitlines()[-1]) if done.stdout else "it gave up"
    except subprocess.TimeoutExpired as late:
        answer = f"nothing came within {ANSWER_SECONDS:.0f} s"
        if b"InvalidAuthToken" in (late.stderr or b""):
            raise ConfigError(
                f"--ray {address}: the Ray there asks for a token: set RAY_AUTH_MODE=token and see "
                "Ray's documentation of token authentication"
            ) from None
    except ValueError:
        answer = "its answer makes no sense"
    if answer is None:
        return
    if "Version mismatch" in answer:
        words = " ".join(answer.split())
        raise ConfigError(
            f"--ray {address}: another version of Ray or Python runs there ({words}); install the "
            "same on both"
        )
    raise ConfigError(
        f"--ray {address}: no Ray answers there ({answer.splitlines()[0].split('. ')[0]}). Start "
        "one with Ray's own command, or leave out the address to use this machine alone"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


class _ToLog(io.TextIOBase):
    """Sends what Ray prints to the log instead of stdout."""

    def write(self, text: str) -> int:
        if text.strip():
            log.debug("%s", text.rstrip())
        return len(text)
