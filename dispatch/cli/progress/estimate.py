"""How long a run will still take: a simulation with the durations of earlier runs.

Owns when that is known well enough to be shown. Durations are a guess about another time and other data: what
comes out is for people, and nothing else depends on it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

# A type's steps stand for one another only if they took about as long; a few unknown steps do no harm.
ALIKE = 3.0
UNKNOWN = 0.1
# A step that has overrun what it took before is taken to be this far from its end.
OVERRUN = 0.1


@dataclass(frozen=True)
class Todo:
    """A step that has not ended: since how many seconds it works, None where it waits."""

    name: str
    type: str
    needs: Sequence[str] = ()
    elapsed: float | None = None


@dataclass(frozen=True)
class Durations:
    """Seconds that steps took: by name, and all of a type."""

    names: Mapping[str, float]
    types: Mapping[str, Sequence[float]]

    def of(self, step: Todo) -> float | None:
        """What a step will take: as it did before, else as its like did; None where neither is known."""
        known = self.names.get(step.name)
        if known is not None:
            return known
        like = self.types.get(step.type, ())
        return fmean(like) if like and max(like) <= ALIKE * max(min(like), 1.0) else None


def left(steps: Sequence[Todo], durations: Durations, width: int) -> float | None:
    """Return the seconds until all have ended, ``width`` at a time; None where too little is known."""
    guesses = {step.name: durations.of(step) for step in steps}
    known = [guess for guess in guesses.values() if guess is not None]
    if not known or len(steps) - len(known) > UNKNOWN * len(steps):
        return None
    usual = fmean(known)
    rests = {step.name: _rest(step, guesses[step.name], usual) for step in steps}
    return _simulated(steps, rests, max(width, 1))


def _rest(step: Todo, guess: float | None, usual: float) -> float:
    whole = usual if guess is None else guess
    if step.elapsed is None:
        return whole
    return max(whole - step.elapsed, OVERRUN * step.elapsed)


def _simulated(steps: Sequence[Todo], rests: Mapping[str, float], width: int) -> float:
    """Run the steps in their order as soon as they may; what works already goes on, however many."""
    missing = {step.name: sum(need in rests for need in step.needs) for step in steps}
    dependents: dict[str, list[str]] = {}
    for step in steps:
        for need in step.needs:
            dependents.setdefault(need, []).append(step.name)
    working = [(rests[step.name], step.name) for step in steps if step.elapsed is not None]
    heapq.heapify(working)
    ready = deque(_free(steps, missing))
    now = 0.0
    while working or ready:
        while ready and len(working) < width:
            name = ready.popleft()
            heapq.heappush(working, (now + rests[name], name))
        now, name = heapq.heappop(working)
        for dependent in dependents.get(name, ()):
            missing[dependent] -= 1
            if missing[dependent] == 0:
                ready.append(dependent)
    return now


def _free(steps: Iterable[Todo], missing: Mapping[str, int]) -> Iterable[str]:
    return (step.name for step in steps if step.elapsed is None and missing[step.name] == 0)
