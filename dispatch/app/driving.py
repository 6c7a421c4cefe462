"""Driving a run: its journal beside the progress display, what others ask of it, and its end.

Owns the order in which a run begins and ends for those who watch it. Refuses to know how steps are run: an
executor does that.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from dispatch.app.journaling import JournalObserver, Observers
from dispatch.app.registering import Seat
from dispatch.dispatcher import Observer, StepOutcome, Verdict
from dispatch.plan import RunPlan, Standing

if TYPE_CHECKING:
    from dispatch.workspace.driving import Driver, Request

# How long what is asked of a driver may lie there.
LISTEN_EVERY = 0.2

Say = Callable[[str], None]
Begun = Callable[[str], None]


class Stoppable(Protocol):
    """What can be stopped while it runs, from any thread: a dispatcher, or an executor in front of one."""

    def cancel(self, names: Sequence[str] | None, grace: float | None) -> None:
        """Stop these steps, or without names the run; jobs get ``grace`` seconds, None for the usual."""


class Runner(Stoppable, Protocol):
    """What brings the steps of a plan to their verdicts; see :class:`dispatch.executor.Executor`."""

    def execute(self, plan: RunPlan, run: str) -> Mapping[str, StepOutcome]:
        """Bring every step that is to run to a verdict."""


class Listener:
    """Hands what is asked of a driver to whoever can do it, while it is entered. Has a thread of its own."""

    def __init__(self, driver: Driver, target: Stoppable, heard: Callable[[Request], None]) -> None:
        self._driver = driver
        self._target = target
        self._heard = heard
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="dispatch-listen", daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _listen(self) -> None:
        while not self._over.wait(LISTEN_EVERY):
            for request in self._driver.requests():
                self._target.cancel(request.steps, request.grace)
                # A terminal that is gone is no reason to hear nothing more.
                with contextlib.suppress(Exception):
                    self._heard(request)


def carry_out(
    seat: Seat, make: Callable[[Observer], Runner], observer: Observer, begun: Begun, say: Say
) -> Mapping[str, StepOutcome]:
    """Drive a run of which we have the seat to its end, recorded whatever happens, and return the verdicts.

    ``make`` gives what runs the steps; it is asked only if there are any to run. ``begun`` is called once the
    run can be watched by others. KeyboardInterrupt where the run was cancelled.
    """
    driver, plan = seat.driver, seat.plan
    assert driver is not None
    journal = JournalObserver(driver, time.time, say)
    outcomes = {
        step.node.name: StepOutcome(step.node.name, Verdict.CACHED, step.reason)
        for step in plan.standing(Standing.CACHED)
    }
    state = "failed"
    try:
        journal.opened(plan, os.uname().nodename, os.getpid())
        begun(seat.name)
        if plan.standing(Standing.RUN):
            runner = make(Observers((journal, _Noting(outcomes), observer)))
            with Listener(driver, runner, lambda request: _hear(request, journal, say)):
                outcomes.update(runner.execute(plan, seat.name))
        state = state_of(outcomes.values())
        return outcomes
    except KeyboardInterrupt:
        state = "cancelled"
        raise
    finally:
        driver.finish(state, ends(outcomes))
        driver.release()


def ends(outcomes: Mapping[str, StepOutcome]) -> dict[str, dict[str, str]]:
    """What a run's record says of the ends of its steps."""
    return {
        "verdicts": {step: outcome.verdict.value for step, outcome in outcomes.items()},
        "reasons": {step: outcome.reason for step, outcome in outcomes.items() if outcome.reason},
    }


def state_of(outcomes: Iterable[StepOutcome]) -> str:
    """``completed`` if every step has its result, else ``failed``."""
    good = (Verdict.CACHED, Verdict.COMPLETED)
    return "completed" if all(each.verdict in good for each in outcomes) else "failed"


def _hear(request: Request, journal: JournalObserver, say: Say) -> None:
    what = "the run" if request.steps is None else ", ".join(request.steps)
    text = f"cancelling {what}, as {request.sender} asks"
    journal.said(text)
    say(text)


class _Noting:
    """Notes verdicts as they fall, so that a run which breaks off has them too."""

    def __init__(self, outcomes: dict[str, StepOutcome]) -> None:
        self._outcomes = outcomes

    def starting(self, name: str, attempt: int) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""

    def running(self, name: str, event: object) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""

    def waiting(self, name: str, reason: str) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""

    def retrying(self, name: str, reason: str, delay: float) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""

    def ended(self, outcome: StepOutcome) -> None:
        """See :class:`dispatch.dispatcher.Observer`."""
        self._outcomes[outcome.name] = outcome
