"""The dispatcher's scheduler on Beaker: asks a :class:`BeakerScheduler`, and keeps to our own limits.

Owns the number of steps at once, of all and of each group, and what becomes of errors in users' code: those
that may pass hold a step back, the others end it. What a scheduler refused is not asked again at once.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from dispatch.errors import (
    ConfigurationError,
    DispatchError,
    ResourceAssignmentError,
    UnrecoverableResourceAssignmentError,
)
from dispatch.resources import StepResources
from dispatch.schedule.base import GroupFullError, ResourceAssignment, Scheduler
from dispatch.schedule.beaker.answers import assigned, assignment_of
from dispatch.schedule.beaker.base import BeakerScheduler, ScheduledStep
from dispatch.schedule.beaker.terms import NO_TERMS, Terms, terms_of

_log = logging.getLogger(__name__)
# For how long a refusal stands, if nothing of ours ends meanwhile.
PAUSE = 2.0
# For how long Beaker may not answer before a step that waits for it is given up.
PATIENCE = 120.0
LOCAL = "local"


def _none() -> Collection[str]:
    return ()


@dataclass(frozen=True)
class Rules:
    """What the settings say: terms of jobs, how many steps at once, and how many of each group."""

    terms: Terms = NO_TERMS
    parallelism: int = sys.maxsize
    groups: Mapping[str, int] = field(default_factory=dict)


EVERYTHING_GOES = Rules()


class BeakerPlacing:
    """Schedules for Beaker; implements :class:`dispatch.schedule.Scheduler`.

    ``steps`` are those of the run, by unique id; what their metadata say prevails over the ``rules``.
    ``running`` tells the unique ids whose job an earlier client left running: they have their place already.
    ``here`` places those steps that have to run on the client's own machine. Raises ConfigurationError,
    naming the step, for metadata that mean nothing.
    """

    def __init__(
        self,
        scheduler: BeakerScheduler,
        steps: Mapping[str, ScheduledStep],
        rules: Rules = EVERYTHING_GOES,
        *,
        running: Callable[[], Collection[str]] = _none,
        here: Scheduler | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._steps = steps
        self._rules = rules
        self._running = running
        self._here = here
        self._clock = clock
        self._terms = {key: _terms(step).over(rules.terms) for key, step in steps.items()}
        self._held: dict[str, tuple[ResourceAssignment, str | None]] = {}
        self._in_group: Counter[str | None] = Counter()
        self._taken: set[str] = set()
        self._refused: dict[str, tuple[float, ResourceAssignmentError]] = {}
        self._silent: float | None = None

    def schedule(
        self, unique_id: str, resources: StepResources, group: str | None = None
    ) -> ResourceAssignment:
        """See :class:`~dispatch.schedule.base.Scheduler`; a step that holds already gets the same again."""
        if unique_id in self._held:
            return self._held[unique_id][0]
        if unique_id not in self._taken and unique_id in self._running():
            # Once: an attempt after that one is to be placed as any other.
            self._taken.add(unique_id)
            found = assigned(resources, self._terms[unique_id], self._terms[unique_id].clusters)
        else:
            self._refuse_crowd(group)
            if self._here is not None and resources.machine == LOCAL:
                found = self._here.schedule(unique_id, resources)
            else:
                self._refuse_again(unique_id)
                found = self._ask(self._steps[unique_id])
        self._held[unique_id] = found, group
        self._in_group[group] += 1
        self._refused.pop(unique_id, None)
        return found

    def release(self, unique_id: str) -> None:
        """See :class:`~dispatch.schedule.base.Scheduler`."""
        if unique_id in self._held:
            _, group = self._held.pop(unique_id)
            self._in_group[group] -= 1
            self._refused.clear()
            if self._here is not None:
                self._here.release(unique_id)
            try:
                self._scheduler.release(unique_id)
            except Exception as error:
                # The step has ended well or not, whatever the scheduler makes of it.
                _log.warning("%s", self._broken(error).message)

    def refuse_impossible(self, resources: StepResources) -> None:
        """See :class:`~dispatch.schedule.base.Scheduler`: refused if no step that asks for this ever can.

        :raises ConfigurationError: for what the scheduler or the step's metadata cannot mean
        """
        if self._here is not None and resources.machine == LOCAL:
            self._here.refuse_impossible(resources)
            return
        refused = None
        for step in self._steps.values():
            if step.resources == resources:
                try:
                    self._scheduler.refuse_impossible(step)
                except UnrecoverableResourceAssignmentError as error:
                    refused = error
                else:
                    return
        if refused is not None:
            raise refused

    def _ask(self, step: ScheduledStep) -> ResourceAssignment:
        try:
            answer = self._scheduler.schedule(step)
            found = assignment_of(answer, step.resources, self._terms[step.unique_id])
        except ResourceAssignmentError as error:
            self._refused[step.unique_id] = self._clock(), error
            raise
        except Exception as error:
            if _may_pass(error):
                raise self._later(step, error) from error
            if isinstance(error, DispatchError):
                raise
            raise self._broken(error) from error
        self._silent = None
        return found

    def _later(self, step: ScheduledStep, error: Exception) -> DispatchError:
        """What to raise where Beaker did not answer: for a while, that the step has to wait."""
        now = self._clock()
        if self._silent is None:
            self._silent = now
        if now - self._silent >= PATIENCE:
            return error if isinstance(error, DispatchError) else self._broken(error)
        later = ResourceAssignmentError(f"Beaker cannot be asked for room now: {error}")
        self._refused[step.unique_id] = now, later
        return later

    def _broken(self, error: Exception) -> ConfigurationError:
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return ConfigurationError(
            f"the scheduler {type(self._scheduler).__name__} fails: {what}",
            "correct it, or use another `scheduler`",
        )

    def _refuse_crowd(self, group: str | None) -> None:
        """Hold a step back that would be one too many, of its group or of all."""
        if group is not None and group not in self._rules.groups:
            raise UnrecoverableResourceAssignmentError(f"it is of the group {group!r}, which is not known")
        if group is not None and self._in_group[group] >= self._rules.groups[group]:
            fact = f"{self._in_group[group]} steps of the group {group!r} run, and no more may at once"
            raise GroupFullError(fact)
        if len(self._held) >= self._rules.parallelism:
            raise ResourceAssignmentError(f"{len(self._held)} steps run, and no more may at once")

    def _refuse_again(self, unique_id: str) -> None:
        at, error = self._refused.get(unique_id, (0.0, None))
        if error is not None and self._clock() - at < PAUSE:
            raise ResourceAssignmentError(error.message, error.remedy)


def _terms(step: ScheduledStep) -> Terms:
    try:
        return terms_of(step.metadata)
    except ConfigurationError as error:
        raise ConfigurationError(f"step {step.name!r}: {error.message}", error.remedy) from None


def _may_pass(error: Exception) -> bool:
    """Whether it is Beaker that did not answer, our own calls or those of a user's scheduler."""
    # Too much to import where nobody else did, and then nobody called Beaker.
    if "dispatch._beaker.calls" not in sys.modules:
        return False
    from dispatch._beaker.calls import is_transient
    from dispatch._beaker.problems import BeakerUnreachableError

    return isinstance(error, BeakerUnreachableError) or is_transient(error)
