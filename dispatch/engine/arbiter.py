"""Who gets a GPU that two clients saw free at the same time.

Owns the rule by which no two containers with our label run on one GPU, whichever clients start them. The
engine itself gives a device to as many as ask. Refuses to choose GPUs: that is the scheduler's part.

Every client creates its container, lists those that name one of its GPUs, and only then starts. Of any two
at least one lists after the other was created, so at least one sees the other. One that runs keeps its GPU.
Of those that are only created the older one goes first, but not before the others have given way: the younger
one may have listed before it was there, and be about to start. A container whose client was killed before it
started it would be waited for in vain, so one that has been created for long does not count; and a client
that took so long itself begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from dispatch._docker.containers import Containers, ListedContainer
from dispatch.engine.base import RUN_LABEL
from dispatch.engine.container import gpus_of

CREATED = "created"
CONTENDING = (CREATED, "running", "paused")
# Seconds by the engine's clock. Between our look and our start there are at least 30 to spare.
STALE = 60.0
DECIDE_WITHIN = 30.0
LOOK_EVERY = 0.1
SETTLING_LOOKS = 50
ENDED = "the client ended before the job was started"


class Arbiter:
    """Asked between the creation of a container and its start. ``wait`` sleeps; True if we are ending."""

    def __init__(self, containers: Containers, wait: Callable[[float], bool]) -> None:
        self._containers = containers
        self._wait = wait

    def contest(
        self, name: str, gpus: Sequence[str], cancelled: Callable[[], bool], again: Callable[[], object]
    ) -> str:
        """Return an empty text if the container may be started now, or if it was cancelled meanwhile.

        Otherwise the container has been removed, and the text says why. ``again`` creates it anew.
        Raises EngineError when the engine does not answer. Without GPUs nothing is asked.
        """
        while gpus and not cancelled():
            own, rivals = self._look(name, gpus)
            if own is None:
                return ""  # somebody removed it, which its start will tell
            lost = [rival for rival in rivals if rival.state != CREATED or _rank(rival) < _rank(own)]
            if lost:
                self._containers.remove(name)
                self._settle(name, gpus, cancelled)
                return _taken(lost, gpus)
            if own.age > DECIDE_WITHIN:
                self._containers.remove(name)
                again()
            elif not rivals:
                return ""
            elif self._wait(LOOK_EVERY):
                self._containers.remove(name)
                return ENDED
        return ""

    def _look(
        self, name: str, gpus: Collection[str]
    ) -> tuple[ListedContainer | None, Sequence[ListedContainer]]:
        """Find our container, and the others that want or have one of its GPUs."""
        own, rivals = None, []
        for row in self._containers.labelled(RUN_LABEL, states=CONTENDING):
            if row.name == name:
                own = row
            elif not (row.state == CREATED and row.age > STALE) and not set(gpus).isdisjoint(
                gpus_of(row.labels)
            ):
                rivals.append(row)
        return own, rivals

    def _settle(self, name: str, gpus: Sequence[str], cancelled: Callable[[], bool]) -> None:
        """Let the winner start, so that our scheduler sees what it holds before it tries again."""
        for _ in range(SETTLING_LOOKS):
            _, rivals = self._look(name, gpus)
            if all(rival.state != CREATED for rival in rivals) or cancelled() or self._wait(LOOK_EVERY):
                return


def _rank(row: ListedContainer) -> tuple[int, str]:
    return row.created, row.id


def _taken(rivals: Sequence[ListedContainer], gpus: Sequence[str]) -> str:
    taken = {gpu for rival in rivals for gpu in gpus_of(rival.labels)}
    named = ", ".join(gpu for gpu in gpus if gpu in taken)
    return f"GPU {named} was taken by another client just before"
