"""From what the dispatcher tells to a run's journal, and from a journal to what an observer is told.

Owns the correspondence of the two. Refuses to let a disk that is full end a run: then the journal ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from dispatch.dispatcher import Observer, StepOutcome, Verdict
from dispatch.dispatcher.telling import Telling
from dispatch.engine.base import Event, JobState
from dispatch.plan import RunPlan, Standing
from dispatch.workspace.journal import Entry, JournalStep, Kind

if TYPE_CHECKING:
    from dispatch.info import StepInfo
    from dispatch.workspace.driving import Driver

Now = Callable[[], float]
Say = Callable[[str], None]
LookUp = Callable[[str], "StepInfo | None"]


class Observers:
    """Tells several observers everything; one that raises is told nothing more, and the others are."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._all = [Telling(observer) for observer in observers]

    def starting(self, name: str, attempt: int) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        for each in self._all:
            each.starting(name, attempt)

    def running(self, name: str, event: Event) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        for each in self._all:
            each.running(name, event)

    def waiting(self, name: str, reason: str) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        for each in self._all:
            each.waiting(name, reason)

    def retrying(self, name: str, reason: str, delay: float) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        for each in self._all:
            each.retrying(name, reason, delay)

    def ended(self, outcome: StepOutcome) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        for each in self._all:
            each.ended(outcome)


class JournalObserver:
    """Writes what it is told into the journal of the run that ``driver`` drives.

    ``now`` gives the seconds since the epoch. Where the disk refuses, ``say`` is told once, and the journal
    ends there.
    """

    def __init__(self, driver: Driver, now: Now, say: Say) -> None:
        self._driver = driver
        self._now = now
        self._say = say
        self._ended = False
        self._waiting: dict[str, str] = {}

    def opened(self, plan: RunPlan, host: str, pid: int) -> None:
        """This process drives the run, and means to do this."""
        steps = tuple(_journal_step(plan, name) for name in (step.node.name for step in plan.steps))
        entry = Entry(Kind.OPENED, self._now(), driver=self._driver.number, host=host, pid=pid, steps=steps)
        self._write(entry)

    def said(self, text: str) -> None:
        """Something that is of no step alone."""
        self._write(Entry(Kind.SAID, self._now(), reason=text))

    def starting(self, name: str, attempt: int) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        self._waiting.pop(name, None)
        self._write(Entry(Kind.STARTING, self._now(), name, attempt=attempt))

    def running(self, name: str, event: Event) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        self._write(Entry(Kind.RUNNING, self._now(), name, since=event.time, node=event.node, key=event.key))

    def waiting(self, name: str, reason: str) -> None:
        """Write the reason, once while it lasts."""
        if self._waiting.get(name) != reason:
            self._waiting[name] = reason
            self._write(Entry(Kind.WAITING, self._now(), name, reason))

    def retrying(self, name: str, reason: str, delay: float) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        self._write(Entry(Kind.RETRYING, self._now(), name, reason, delay=delay))

    def ended(self, outcome: StepOutcome) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        self._waiting.pop(outcome.name, None)
        verdict = outcome.verdict.value
        self._write(Entry(Kind.ENDED, self._now(), outcome.name, outcome.reason, verdict=verdict))

    def _write(self, entry: Entry) -> None:
        if self._ended:
            return
        try:
            self._driver.write(entry)
        except OSError as error:
            self._ended = True
            self._say(f"the run's journal ends here, so nobody can follow it ({error.strerror})")


def _journal_step(plan: RunPlan, name: str) -> JournalStep:
    step = plan[name]
    return JournalStep(
        name=name,
        unique_id=step.record.unique_id if step.record is not None else "",
        standing=step.standing.value,
        reason=step.reason,
        image=step.image or "",
        place=step.place.value if step.standing is Standing.RUN else "",
    )


def replay(entries: Sequence[Entry], observer: Observer, look_up: LookUp = lambda _: None) -> None:
    """Tell an observer what a journal tells. ``look_up`` gives what is recorded of an ended step, by name.

    What a newer version wrote, and entries of no step, are passed over.
    """
    for entry in entries:
        if entry.kind is Kind.STARTING:
            observer.starting(entry.step, entry.attempt)
        elif entry.kind is Kind.RUNNING:
            event = Event(entry.key, JobState.RUNNING, entry.since, node=entry.node)
            observer.running(entry.step, event)
        elif entry.kind is Kind.WAITING:
            observer.waiting(entry.step, entry.reason)
        elif entry.kind is Kind.RETRYING:
            observer.retrying(entry.step, entry.reason, entry.delay)
        elif entry.kind is Kind.ENDED:
            outcome = outcome_of(entry, look_up)
            if outcome is not None:
                observer.ended(outcome)


def outcome_of(entry: Entry, look_up: LookUp = lambda _: None) -> StepOutcome | None:
    """The outcome that an ENDED entry tells; None for a verdict that is not known here."""
    try:
        verdict = Verdict(entry.verdict)
    except ValueError:
        return None
    return StepOutcome(entry.step, verdict, entry.reason, look_up(entry.step))
