"""What the driver uses of the module ``ray``, with workers in threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import SimpleNamespace

from epam_extract.cluster.worker import Worker


class RayError(Exception):
    pass


class RayActorError(RayError):
    pass


class ActorUnavailableError(RayActorError):
    pass


class FakeActor:
    """A worker that is made anew, from the same arguments, after every :meth:`die`."""

    def __init__(self, ray: FakeRay, kind: type, arguments: tuple) -> None:
        self._ray, self._kind, self._arguments = ray, kind, arguments
        self.dead = False
        self.lock = threading.Lock()
        self.worker = kind(*arguments)

    def __getattr__(self, name: str) -> SimpleNamespace:
        def remote(*arguments: object) -> Future:
            worker = self.worker

            def call() -> object:
                if self.dead:
                    raise RayActorError("the actor is dead")
                answer = getattr(worker, name)(*arguments) if worker is not None else None
                if worker is None or worker is not self.worker:
                    raise ActorUnavailableError("the actor died meanwhile")
                return answer

            return self._ray.pool.submit(call)

        return SimpleNamespace(remote=remote)

    def die(self, *, release: Callable[[], None] = lambda: None) -> None:
        """End the worker as well as threads allow, and start another one."""
        with self.lock:
            old, self.worker = self.worker, None
            old.stop()
            release()
            if old._thread is not None:
                old._thread.join()
            self.worker = self._kind(*self._arguments)

    def vanish(self) -> Worker:
        """Start another worker although this one lives: nobody can reach it any more."""
        old, self.worker = self.worker, None
        self.worker = self._kind(*self._arguments)
        return old


class FakeRay:
    """``nodes`` are the machines' resources."""

    exceptions = SimpleNamespace(
        RayError=RayError,
        RayActorError=RayActorError,
        ActorUnavailableError=ActorUnavailableError,
    )

    def __init__(self, *nodes: dict[str, float]) -> None:
        self.machines = list(nodes)
        self.actors: list[FakeActor] = []
        self.options: list[dict[str, object]] = []
        self.pool = ThreadPoolExecutor(16)

    def nodes(self) -> list[dict[str, object]]:
        return [{"Alive": True, "Resources": node} for node in self.machines]

    def remote(self, kind: type) -> SimpleNamespace:
        def options(**options: object) -> SimpleNamespace:
            self.options.append(options)

            def remote(*arguments: object) -> FakeActor:
                self.actors.append(FakeActor(self, kind, arguments))
                return self.actors[-1]

            return SimpleNamespace(remote=remote)

        return SimpleNamespace(options=options)

    def wait(
        self, refs: Sequence[Future], *, num_returns: int, timeout: float
    ) -> tuple[list[Future], list[Future]]:
        done, left = wait(refs, timeout, FIRST_COMPLETED)
        return list(done)[:num_returns], list(left)

    def get(self, ref: Future) -> object:
        return ref.result()

    def kill(self, actor: FakeActor) -> None:
        actor.dead = True
        with actor.lock:  # one that is dying is waited for, as its locks end with a process
            actor.worker.stop()
            if actor.worker._thread is not None:
                actor.worker._thread.join()


def when(condition: Callable[[], bool], then: Callable[[], None]) -> threading.Thread:
    """Do something in a thread once ``condition`` holds."""

    def watch() -> None:
        event = threading.Event()
        while not condition():
            event.wait(0.01)
        then()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread
