"""One engine in front of two: jobs with an image are containers, those without are processes.

Owns which job is whose, and the one stream of events made of two. Refuses to know more of either engine.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator, Mapping, Sequence

from dispatch.engine.base import Capabilities, Engine, Event, Handle, Holding, JobSpec, Usage
from dispatch.engine.pump import Pump
from dispatch.location import Location


class RoutedEngine:
    """Both on one machine; see :class:`~dispatch.engine.base.Engine` for the methods' contracts."""

    def __init__(self, containers: Engine, processes: Engine) -> None:
        self.containers = containers
        self.processes = processes
        self._routes: dict[str, Engine] = {}
        self._pumps: dict[int, Pump] = {}
        self._queue: queue.SimpleQueue[Event | Exception] = queue.SimpleQueue()

    def capabilities(self) -> Capabilities:
        """Those of the containers: the machine is the same."""
        return self.containers.capabilities()

    def submit(self, jobs: Sequence[JobSpec]) -> list[Handle]:
        """Hand each job to its engine."""
        handles = []
        for job in jobs:
            engine = self.processes if job.image is None else self.containers
            if job.key not in self._routes:
                self._pump(engine).expect(job.key)
            handles += engine.submit([job])
            self._routes[job.key] = engine
        return handles

    def next_event(self, timeout: float | None) -> Event | None:
        """Return the next event of either engine; raise what either raised."""
        try:
            item = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            self._queue.put(item)
            raise item
        return item

    def logs(self, handle: Handle) -> Iterator[bytes]:
        """Yield the job's log from its engine."""
        return self._of(handle).logs(handle)

    def cancel(self, handles: Sequence[Handle], grace: float) -> None:
        """Have each engine cancel its own."""
        for engine in (self.containers, self.processes):
            own = [handle for handle in handles if self._of(handle) is engine]
            if own:
                engine.cancel(own, grace)

    def find(self, run: str) -> list[Handle]:
        """Return the run's jobs of both."""
        return [*self.containers.find(run), *self.processes.find(run)]

    def usage(self, handles: Sequence[Handle]) -> Mapping[str, Usage]:
        """Ask each engine for its own."""
        found: dict[str, Usage] = {}
        for engine in (self.containers, self.processes):
            own = [handle for handle in handles if self._of(handle) is engine]
            if own:
                found.update(engine.usage(own))
        return found

    def others(self) -> tuple[Holding, ...]:
        """Return what other clients' containers hold: processes of others are not known."""
        return self.containers.others()

    def output(self, handle: Handle) -> Location:
        """Return where the job's engine has its output."""
        return self._of(handle).output(handle)

    def release(self, handle: Handle) -> None:
        """Have the job's engine forget it."""
        self._of(handle).release(handle)
        self._routes.pop(handle.key, None)

    def settle(self) -> None:
        """Wait for both."""
        self.containers.settle()
        self.processes.settle()

    def close(self) -> None:
        """Close both."""
        for pump in self._pumps.values():
            pump.stop()
        self._pumps.clear()
        self.processes.close()
        self.containers.close()

    def _of(self, handle: Handle) -> Engine:
        # A job that we did not submit was left by a client before us, which only containers outlive.
        return self._routes.get(handle.key, self.containers)

    def _pump(self, engine: Engine) -> Pump:
        if id(engine) not in self._pumps:
            self._pumps[id(engine)] = pump = Pump(engine, self._queue.put, self._queue.put)
            pump.start()
        return self._pumps[id(engine)]
