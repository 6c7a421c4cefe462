"""What is free on a node, in the course of one pass.

Owns the two accounts of a node: what is free now, and what will be free when those that are stopping have
stopped, less what was promised to waiting jobs. Nothing is handed out that is not in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dispatch.beakerd.schedule.values import Amount, Node, Rules, Running, Waiting


class Room:
    """One node, for one pass; ``hold`` is a job too big for it now, whose part of it is kept."""

    def __init__(self, node: Node, running: Sequence[Running], rules: Rules):
        self.node = node
        self.hold: Waiting | None = None
        self.free = node.capacity
        self._rules = rules
        taken = {gpu for job in running for gpu in job.gpus}
        self._gpus = [gpu for gpu in node.gpus if gpu not in taken]
        for job in running:
            self.free = self.free.minus(job.need)
        self.leaving = sum(job.leaving for job in running)
        self.soon = self.free
        for job in running:
            if job.leaving:
                self.soon = self.soon.plus(job.need)
        self._others = [job for job in running if not job.leaving and rules.preemptible(job.yields)]

    def has(self, job: Waiting) -> bool:
        """Whether a job may be put here now."""
        gpus = job.need.gpus <= len(self._gpus)
        return gpus and job.need.fits(self.free) and self.will_have(job)

    def will_have(self, job: Waiting) -> bool:
        """Whether a job will fit once those that are stopping have stopped."""
        return job.need.fits(self.soon) and (self.hold is None or self._spares(job, self.hold))

    def take(self, job: Waiting) -> tuple[str, ...]:
        """Put a job here, and return its GPUs: the first that are free."""
        self.free = self.free.minus(job.need)
        self.promise(job)
        given, self._gpus = self._gpus[: job.need.gpus], self._gpus[job.need.gpus :]
        return tuple(given)

    def promise(self, job: Waiting) -> None:
        """Keep what will be free soon for a job."""
        self.soon = self.soon.minus(job.need)

    def stop(self, victims: Sequence[Running]) -> None:
        """Count what these hold as free soon."""
        for job in victims:
            self.soon = self.soon.plus(job.need)
            self._others.remove(job)
        self.leaving += len(victims)

    def missing(self, job: Waiting, now: int) -> float:
        """How far a job is from fitting, if all that it may preempt were gone: 0 where it would.

        It never grows on a node that is held for the job, so the node that is nearest stays the nearest.
        """
        room = self.soon
        for other in self._below(job, now):
            room = room.plus(other.need)
        return shortage(job.need, room)

    def victims(self, job: Waiting, now: int) -> list[Running] | None:
        """Those to preempt so that a job fits; None if it would not fit even so.

        Where one is not enough they are gathered by how much they give of what is missing, which makes them
        the fewest where one thing is scarce, and few where several are; none is among them without need.
        Among equals the lowest priority goes first, then the youngest.
        """
        below = sorted(self._below(job, now), key=_first_to_go)
        if not below or shortage(job.need, self._with(below)) > 0:
            return None
        for one in below:
            if job.need.fits(self._with([one])):
                return [one]
        chosen: list[Running] = []
        rest = list(below)
        while not job.need.fits(self._with(chosen)):
            best = min(rest, key=lambda other: shortage(job.need, self._with([*chosen, other])))
            rest.remove(best)
            chosen.append(best)
        for other in sorted(chosen, key=_first_to_go, reverse=True):
            fewer = [each for each in chosen if each is not other]
            if job.need.fits(self._with(fewer)):
                chosen = fewer
        return chosen

    def deadlines(self, job: Waiting, now: int) -> list[int]:
        """When those that a job may preempt later will have run for long enough.

        One that has not begun yet cannot be there before its whole minimum run time has passed.
        """
        ends = (
            (now if other.since is None else other.since) + other.yields.min_runtime
            for other in self._others
            if other.priority < job.priority
        )
        return [end for end in ends if end > now]

    def _below(self, job: Waiting, now: int) -> list[Running]:
        return [
            other
            for other in self._others
            if other.priority < job.priority
            and (
                other.yields.min_runtime == 0
                or (other.since is not None and other.since + other.yields.min_runtime <= now)
            )
        ]

    def _with(self, victims: Iterable[Running]) -> Amount:
        room = self.soon
        for other in victims:
            room = room.plus(other.need)
        return room

    def _spares(self, job: Waiting, held: Waiting) -> bool:
        """Whether a job leaves all that the held one still needs, or would make way for it at once."""
        if job.priority < held.priority and self._rules.at_once(job.yields):
            return True
        left = self.soon.minus(job.need)
        return all(
            not mine or rest >= theirs for mine, rest, theirs in zip(job.need, left, held.need, strict=True)
        )


def shortage(need: Amount, room: Amount) -> float:
    """What a room lacks of a need, as a part of each amount, summed: 0 where it fits."""
    return sum(
        (wanted - max(there, 0)) / wanted
        for wanted, there in zip(need, room, strict=True)
        if wanted and there < wanted
    )


def _first_to_go(job: Running) -> tuple[int, int, int, str]:
    begun = job.since is not None
    return job.priority, begun, -(job.since or 0), job.id
