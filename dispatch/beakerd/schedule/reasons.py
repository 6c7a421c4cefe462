"""Why a job waits, in one sentence for its owner.

Owns the words. They are kept as events of the job, so they must not change at every pass: how many are ahead
is said in steps, and what is free only to those who are next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from dispatch.beakerd.schedule.room import Room, shortage
from dispatch.beakerd.schedule.values import Amount, Node, Waiting
from dispatch.units import format_duration, format_size

_STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
# To so many at the head of a queue it is said what is free.
_NEXT = 3
_NAMED = 3


class Reasons:
    """Collects the jobs that wait, in their order; :meth:`sentences` at the end of the pass."""

    def __init__(self, nodes: Sequence[Node]):
        self._nodes = nodes
        self._bits = {node.id: 1 << place for place, node in enumerate(nodes)}
        # How many wait already, by the nodes that they can run on.
        self._ahead: Counter[int] = Counter()
        self._said: dict[str, str] = {}
        self._waiting: list[tuple[Waiting, list[Room], int]] = []

    def impossible(self, job: Waiting) -> None:
        """A job that no open node can take, however long it waits."""
        self._said[job.id] = impossible(job, self._nodes)

    def waits(self, job: Waiting, rooms: list[Room], why: str) -> None:
        """A job that one of these could take; ``why`` is what is done for it already, empty for nothing."""
        nodes = 0
        for room in rooms:
            nodes |= self._bits[room.node.id]
        ahead = sum(count for others, count in self._ahead.items() if others & nodes)
        self._ahead[nodes] += 1
        if why:
            self._said[job.id] = why
        else:
            self._waiting.append((job, rooms, ahead))

    def sentences(self) -> Mapping[str, str]:
        """The sentence of each."""
        for job, rooms, ahead in self._waiting:
            self._said[job.id] = _lacks(job, rooms, ahead)
        return self._said


def impossible(job: Waiting, nodes: Sequence[Node]) -> str:
    """Why none of the nodes takes a job."""
    asked = [node for node in nodes if not job.clusters or node.cluster in job.clusters]
    if not asked:
        return "can never run: " + ("its clusters have no node" if job.clusters else "there is no node")
    named = [node for node in asked if not job.hostnames or node.hostname in job.hostnames]
    if not named:
        return f"can never run: no node of its clusters is named {_some(job.hostnames)}"
    allowed = [
        node
        for node in named
        if job.timeout is None or node.max_timeout is None or job.timeout <= node.max_timeout
    ]
    if not allowed:
        longest = max(named, key=lambda node: node.max_timeout or 0)
        return (
            f"can never run: its time limit of {format_duration((job.timeout or 0) / 1e9)} is over the"
            f" {format_duration((longest.max_timeout or 0) / 1e9)} that {longest.cluster_name} allows"
        )
    large = [node for node in allowed if job.need.fits(node.capacity)]
    if large:
        return f"waits for a node: {_some([f'{node.hostname} is {node.closed}' for node in large])}"
    for name in ("gpus", "memory", "cpus", "slots"):
        wanted, most = getattr(job.need, name), max(getattr(node.capacity, name) for node in allowed)
        if wanted > most:
            largest = "the largest node" if len(allowed) > 1 else allowed[0].hostname
            return f"can never run: asks {_say(name, wanted)}, {largest} has {_say(name, most)}"
    return f"can never run: no node has {_all_of(job.need)} together"


def _lacks(job: Waiting, rooms: list[Room], ahead: int) -> str:
    room = min(rooms, key=lambda room: shortage(job.need, room.free))
    missing = [name for name in Amount._fields if _lacking(job.need, room.free, name)]
    if not missing:
        text = f"waits: the room for it on {room.node.hostname} is kept for a job ahead that needs more"
    elif ahead < _NEXT:
        where = (
            room.node.hostname if len(rooms) == 1 else f"{room.node.hostname}, the nearest of {len(rooms)}"
        )
        lacks = ", ".join(
            f"{_say(name, getattr(job.need, name))} ({_free(name, room)} free)" for name in missing
        )
        text = f"waits for {lacks} on {where}"
    else:
        where = room.node.hostname if len(rooms) == 1 else f"one of {len(rooms)} nodes"
        text = f"waits for {_all_of(job.need, missing)} on {where}"
    if ahead == 0:
        return text
    step = max(each for each in _STEPS if each <= ahead)
    count = str(ahead) if ahead <= _NEXT else f"{step} or more"
    return f"{text}; {count} {'is' if ahead == 1 else 'are'} ahead of it"


def _lacking(need: Amount, room: Amount, name: str) -> bool:
    wanted: int = getattr(need, name)
    return wanted > 0 and wanted > getattr(room, name)


def _free(name: str, room: Room) -> str:
    free, of = max(getattr(room.free, name), 0), getattr(room.node.capacity, name)
    if name in ("gpus", "slots"):
        return f"{free} of {of}"
    return _say(name, free) if free else "none"


def _all_of(need: Amount, names: Iterable[str] = Amount._fields) -> str:
    return " and ".join(
        _say(name, getattr(need, name))
        for name in names
        if getattr(need, name) and (name != "slots" or names is not Amount._fields)
    )


def _say(name: str, amount: int) -> str:
    if name == "slots":
        return "a slot" if amount == 1 else f"{amount} slots"
    if name == "gpus":
        return f"{amount} GPU" if amount == 1 else f"{amount or 'no'} GPUs"
    if name == "cpus":
        return f"{amount / 1000:g} cpu" if amount == 1000 else f"{amount / 1000:g} cpus"
    return f"{format_size(amount)} of memory"


def _some(things: Sequence[str]) -> str:
    more = len(things) - _NAMED
    return ", ".join(things[:_NAMED]) + (f" and {more} more" if more > 0 else "")
