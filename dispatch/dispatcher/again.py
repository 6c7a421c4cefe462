"""Whether a step whose attempt failed is tried again, and after how long. Decides, and starts nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from dispatch.dispatcher.work import Work
from dispatch.engine.base import Reason
from dispatch.retry import FREE, FREE_LIMIT, NO_RETRIES

if TYPE_CHECKING:
    from dispatch.info import AttemptFacts

# Trying again changes nothing about these.
_FINAL = frozenset({"", Reason.IMAGE.value, Reason.CANCELLED.value})


class Retries:
    """Counts the further attempts of a run's steps. ``chance`` gives a number in [0, 1)."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._own: Counter[str] = Counter()
        self._free: Counter[str] = Counter()

    def pause(self, work: Work, facts: AttemptFacts) -> float | None:
        """Return the seconds until the next attempt; None where the step has failed for good.

        A preempted attempt is no failure, and counts for nothing. One that was lost is the machine's fault:
        a few are made up for, whatever the step asks for.
        """
        name, reason = work.name, facts.reason
        if reason == Reason.PREEMPTED.value:
            # Always the first pause: it is the cluster's queue that makes it wait until there is room.
            return NO_RETRIES.pause(1, self._chance())
        if reason in _FINAL:
            return None
        policy = work.retries
        if self._own[name] < policy.limit and policy.covers(reason, facts.exit_code, _exceptions(facts)):
            self._own[name] += 1
            return policy.pause(self._own[name], self._chance())
        if reason in FREE and self._free[name] < FREE_LIMIT:
            self._free[name] += 1
            return NO_RETRIES.pause(self._free[name], self._chance())
        return None


def _exceptions(facts: AttemptFacts) -> set[str]:
    """The names by which a step's exception, or a class it derives from, may be called."""
    if facts.exception is None:
        return set()
    full = {facts.exception.get("type", ""), *facts.exception.get("bases", "").split()}
    return {*full, *(name.rpartition(".")[2] for name in full)} - {""}
