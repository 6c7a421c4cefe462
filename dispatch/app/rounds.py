"""Building once more where that is the way out: what was to be had when it was planned is so no longer.

Owns which failures are worth a second round with a new plan: a registry that did not give what it holds, and
a base that somebody removed from the engine meanwhile. Each is tried once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dispatch.app.sharing import Lenient
from dispatch.errors import BaseVanishedError, DispatchError
from dispatch.image.builder import FetchError
from dispatch.image.plan import BuildPlan
from dispatch.image.report import BuildReport
from dispatch.reporting import Reporter


@dataclass(frozen=True)
class Rounds:
    """Builds with ``build``; ``plan`` makes the same plan anew, as things are now."""

    build: Callable[[BuildPlan], BuildReport]
    plan: Callable[[], BuildPlan]
    registry: Lenient | None
    say: Reporter

    def carry_out(self, plan: BuildPlan) -> BuildReport:
        """Carry out a plan, and a new one where that helps; what failed in the end is in the report."""
        report = self.build(plan)
        unfetched = _first(report, FetchError)
        if unfetched is not None and self.registry is not None:
            self.registry.give_up(unfetched)
            report = self.build(self.plan())
        if _first(report, BaseVanishedError) is not None:
            self.say("an image was removed from the engine while others were made on it: building once more")
            report = self.build(self.plan())
        return report


def _first(report: BuildReport, kind: type[DispatchError]) -> DispatchError | None:
    return next((each for each in report.failures.values() if isinstance(each, kind)), None)
