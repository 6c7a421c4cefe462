"""What a plan is made from and what it says: values, nothing else.

Owns amounts and how they compare. Times are nanoseconds of one clock that never goes back; it need not be the
one that is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Amount(NamedTuple):
    """How much of a node: jobs at once, thousandths of a cpu, bytes of memory, GPUs.

    Each is hard where it is asked for. A job that asks for no cpus, memory or GPUs needs none of them to be
    free, so an experiment without resources runs on any node; its slot is what bounds it.
    """

    slots: int = 0
    cpus: int = 0
    memory: int = 0
    gpus: int = 0

    def plus(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def minus(self, other: Amount) -> Amount:
        """What is left; below zero where a node was made smaller under its jobs."""
        return Amount(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))

    def fits(self, room: Amount) -> bool:
        """Whether a room holds this. What is not asked for fits everywhere."""
        return (
            self.slots <= room.slots
            and (not self.cpus or self.cpus <= room.cpus)
            and (not self.memory or self.memory <= room.memory)
            and (not self.gpus or self.gpus <= room.gpus)
        )


@dataclass(frozen=True)
class Preemptibility:
    """What a spec says: whether others may take its place, and after how long a run.

    ``preemptible`` None says nothing; see :class:`dispatch.beakerd.config.Assumptions`.
    """

    preemptible: bool | None = None
    min_runtime: int = 0


@dataclass(frozen=True)
class Waiting:
    """A job that may be given a place. ``clusters`` are ids and ``hostnames`` names, of which any will do;
    empty is any at all. ``queued`` is its place among those of its priority."""

    id: str
    priority: int
    queued: int
    need: Amount
    clusters: tuple[str, ...] = ()
    hostnames: tuple[str, ...] = ()
    timeout: int | None = None
    yields: Preemptibility = field(default_factory=Preemptibility)


@dataclass(frozen=True)
class Running:
    """A job that has a place, until it is finalized. ``since``: when its container began to run, None before.

    ``stopping``: a wish to stop it is written down already. ``exited``: its results are being kept.
    """

    id: str
    node: str
    priority: int
    need: Amount
    gpus: tuple[str, ...] = ()
    since: int | None = None
    yields: Preemptibility = field(default_factory=Preemptibility)
    stopping: bool = False
    exited: bool = False

    @property
    def leaving(self) -> bool:
        """Whether its place is free soon without anybody's doing."""
        return self.stopping or self.exited


@dataclass(frozen=True)
class Node:
    """A node. ``closed`` says why it takes no jobs; empty where it does. ``max_timeout`` is its cluster's."""

    id: str
    hostname: str
    cluster: str
    cluster_name: str
    capacity: Amount
    closed: str = ""
    max_timeout: int | None = None

    @property
    def gpus(self) -> tuple[str, ...]:
        """The ids of its GPUs."""
        return tuple(str(number) for number in range(self.capacity.gpus))


@dataclass(frozen=True)
class Rules:
    """See the switches of the same names in :class:`dispatch.beakerd.config.Assumptions`."""

    strict_order: bool = True
    preempt_unasked: bool = True

    def preemptible(self, yields: Preemptibility) -> bool:
        """Whether a job may be preempted at all, be it after its minimum run time."""
        if yields.preemptible is None:
            return self.preempt_unasked or yields.min_runtime > 0
        return yields.preemptible

    def at_once(self, yields: Preemptibility) -> bool:
        """Whether a job may be preempted as soon as it has a place."""
        return self.preemptible(yields) and yields.min_runtime == 0


@dataclass(frozen=True)
class Assigned:
    """A place for a job, and which of the node's GPUs."""

    job: str
    node: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preempted:
    """A running job that is to stop, and the one that is to have its place."""

    job: str
    by: str


@dataclass(frozen=True)
class Decisions:
    """What is to be done now. ``reasons``: why each other job waits. ``wake``: when to plan again although
    nothing has changed, since a minimum run time has passed by then; None for never."""

    assignments: tuple[Assigned, ...] = ()
    preemptions: tuple[Preempted, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    wake: int | None = None


def slots_of(cpus: int, gpus: int, declared: int | None) -> int:
    """How many jobs a node holds at once: what is declared, else one for each cpu, or for each GPU where it
    has more of those. ``cpus`` in thousandths."""
    return max(cpus // 1000, gpus, 1) if declared is None else declared
