"""The plan: who gets a place now, who must make way, and why the others wait. A pure function.

Owns the order and what may break it. Jobs are considered by priority, then by when they were queued:

- a job that fits somewhere gets its place, on the node that it fills best, so that others stay whole for big
  jobs;
- else it is promised what those that are stopping will leave, if that is enough;
- else it may preempt jobs of lower priority whose minimum run time has passed, on one node, and only where
  that really makes room for it: the fewest, and of those the youngest;
- else, with ``strict_order``, the node that is nearest to having room for it is kept for it. Jobs behind it
  may still use that node where they take nothing that it needs, or where it could preempt them at once. So
  small jobs that keep coming cannot starve a big one, and what cannot help it is not idle. Each node is kept
  for one job only, the first that is too big for it.

Without ``strict_order`` nothing is kept: whatever fits runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dispatch.beakerd.schedule.reasons import Reasons
from dispatch.beakerd.schedule.room import Room
from dispatch.beakerd.schedule.values import (
    Amount,
    Assigned,
    Decisions,
    Node,
    Preempted,
    Rules,
    Running,
    Waiting,
)

Shape = tuple[tuple[str, ...], tuple[str, ...], Amount, int | None]


def plan(
    waiting: Sequence[Waiting], running: Sequence[Running], nodes: Sequence[Node], now: int, rules: Rules
) -> Decisions:
    """Decide; the order of the arguments' elements makes no difference."""
    return _Pass(running, nodes, now, rules).decide(waiting)


class _Pass:
    def __init__(self, running: Sequence[Running], nodes: Sequence[Node], now: int, rules: Rules):
        there: dict[str, list[Running]] = defaultdict(list)
        for job in sorted(running, key=lambda job: job.id):
            there[job.node].append(job)
        self._nodes = sorted(nodes, key=lambda node: (node.hostname, node.id))
        self._rooms = {node.id: Room(node, there[node.id], rules) for node in self._nodes}
        self._now = now
        self._rules = rules
        self._eligible: dict[Shape, list[Room]] = {}
        # Shapes that found nothing, by priority: what is free, be it by preemption, only shrinks in a pass.
        self._failed: set[tuple[Shape, int, bool]] = set()
        self._assigned: list[Assigned] = []
        self._preempted: list[Preempted] = []
        self._wakes: list[int] = []

    def decide(self, waiting: Sequence[Waiting]) -> Decisions:
        """Consider every job in its turn."""
        reasons = Reasons(self._nodes)
        for job in sorted(waiting, key=lambda job: (-job.priority, job.queued, job.id)):
            rooms = self._rooms_for(job)
            if not rooms:
                reasons.impossible(job)
            elif (why := self._place(job, rooms)) is not None:
                reasons.waits(job, rooms, why)
        return Decisions(
            tuple(self._assigned),
            tuple(self._preempted),
            reasons.sentences(),
            min(self._wakes, default=None),
        )

    def _place(self, job: Waiting, rooms: list[Room]) -> str | None:
        """Place a job, or return what is done for it instead: a sentence, or nothing but waiting ("")."""
        mark = (_shape(job), job.priority, self._rules.at_once(job.yields))
        if mark in self._failed:
            return ""
        fitting = [room for room in rooms if room.has(job)]
        if fitting:
            room = min(fitting, key=_fullest)
            self._assigned.append(Assigned(job.id, room.node.id, room.take(job)))
            return None
        return self._promise(job, rooms) or self._preempt(job, rooms) or self._hold(job, rooms, mark)

    def _promise(self, job: Waiting, rooms: list[Room]) -> str:
        for room in rooms:
            if room.leaving and room.will_have(job):
                room.promise(job)
                return f"waits for a job to stop on {room.node.hostname}"
        return ""

    def _preempt(self, job: Waiting, rooms: list[Room]) -> str:
        choices = [
            (len(victims), max(each.priority for each in victims), place, victims)
            for place, room in enumerate(rooms)
            if room.hold is None and (victims := room.victims(job, self._now)) is not None
        ]
        if not choices:
            return ""
        count, _, place, victims = min(choices, key=lambda choice: choice[:3])
        rooms[place].stop(victims)
        rooms[place].promise(job)
        self._preempted += [Preempted(victim.id, job.id) for victim in victims]
        jobs = "a job" if count == 1 else f"{count} jobs"
        return f"preempts {jobs} of lower priority on {rooms[place].node.hostname}"

    def _hold(self, job: Waiting, rooms: list[Room], mark: tuple[Shape, int, bool]) -> str:
        self._failed.add(mark)
        for room in rooms:
            self._wakes += room.deadlines(job, self._now)
        open_rooms = [room for room in rooms if room.hold is None]
        if self._rules.strict_order and open_rooms:
            min(open_rooms, key=lambda room: room.missing(job, self._now)).hold = job
        return ""

    def _rooms_for(self, job: Waiting) -> list[Room]:
        """The open nodes that a job could run on if it were alone."""
        shape = _shape(job)
        if shape not in self._eligible:
            self._eligible[shape] = [
                self._rooms[node.id] for node in self._nodes if not node.closed and suits(job, node)
            ]
        return self._eligible[shape]


def suits(job: Waiting, node: Node) -> bool:
    """Whether a node is one that a job asks for, allows its time limit, and is large enough."""
    return (
        (not job.clusters or node.cluster in job.clusters)
        and (not job.hostnames or node.hostname in job.hostnames)
        and (job.timeout is None or node.max_timeout is None or job.timeout <= node.max_timeout)
        and job.need.fits(node.capacity)
    )


def _shape(job: Waiting) -> Shape:
    return job.clusters, job.hostnames, job.need, job.timeout


def _fullest(room: Room) -> tuple[int, int, int, str, str]:
    """Those without GPUs first, then those with the least left."""
    free = room.free
    return free.gpus, free.cpus, free.slots, room.node.hostname, room.node.id
