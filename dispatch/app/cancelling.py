"""Ending a run, or steps of it, from outside: by asking its driver, and where that is gone, by ourselves.

Owns when a cancellation has had its effect: the ends are recorded and nothing of the steps runs any more.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol

from dispatch.app.driving import ends
from dispatch.app.records import ORPHANED, RUNNING, step_of
from dispatch.app.watching import RETRYING, STARTING, Pace, StepView, Watch, views
from dispatch.dispatcher import StepOutcome, Verdict
from dispatch.engine.base import Handle
from dispatch.errors import EngineError, WorkspaceError
from dispatch.info import AttemptFacts, StepState
from dispatch.plan import Place
from dispatch.workspace.driving import Driver, Request, RunCompletedError, RunHeldError
from dispatch.workspace.journal import Entry, Kind, section

if TYPE_CHECKING:
    from dispatch.app import App
    from dispatch.engine.base import Engine
    from dispatch.workspace.base import Workspace

# What a driver gives jobs that are to stop, unless it is asked otherwise; and what we wait beyond that.
GRACE = 10.0
BEYOND = 20.0
LOOK_EVERY = 0.05
CANCELLED = Verdict.CANCELLED.value


@dataclass
class Cancelled:
    """What became of a run that was to be cancelled: ``state`` is empty while it goes on.

    ``steps`` holds verdict and reason of the steps that ended for it, ``over`` those that had ended before.
    """

    run: str
    state: str = ""
    steps: dict[str, tuple[str, str]] = field(default_factory=dict)
    over: dict[str, str] = field(default_factory=dict)


class Stops(Protocol):
    """Whoever can end what dead clients left."""

    def stop(self, run: str, unique_ids: set[str], grace: float, pace: Pace) -> None:
        """Stop the run's jobs of these steps, and wait for their ends. EngineError where they do not end."""

    def close(self) -> None:
        """Wait for what is being removed."""


class Cancelling:
    """Cancels runs of one workspace. ``left`` gives the engine on which a dead client's jobs may be left."""

    def __init__(
        self, workspace: Workspace, left: Callable[[], Stops], sender: str, pace: Pace | None = None
    ) -> None:
        self._workspace = workspace
        self._left = left
        self._sender = sender
        self._pace = pace or Pace()

    def cancel(self, run: str, steps: Sequence[str], grace: float | None) -> Cancelled:
        """End a run, or with ``steps`` these alone, and wait until it has happened.

        ConfigurationError for a step that the run does not have; EngineError if it does not end in time.
        """
        for step in steps:
            step_of(self._workspace, run, step)
        done = Cancelled(run, self._workspace.run_record(run).state)
        while not done.state:
            driving = self._workspace.driver_of(run)
            if driving is not None and driving.alive:
                if self._ask(done, driving.number, steps, grace):
                    break
                continue
            try:
                driver = self._workspace.drive(run)
            except RunHeldError:
                # Somebody goes on with it in this moment.
                continue
            except RunCompletedError:
                done.state = self._workspace.run_record(run).state
                break
            try:
                self._end(done, driver, steps, GRACE if grace is None else grace)
            finally:
                driver.release()
            break
        return done

    # With a driver that lives.

    def _ask(self, done: Cancelled, number: int, steps: Sequence[str], grace: float | None) -> bool:
        """Ask the driver and wait for the effect; False if the driver is gone before it."""
        watch = Watch(self._workspace, done.run, self._pace)
        watch.look()
        pending = self._pending(done, watch, steps)
        if (steps and not pending) or watch.state:
            done.state = "" if watch.state == ORPHANED else watch.state
            return watch.state != ORPHANED
        request = Request(tuple(pending) if steps else None, grace, self._sender)
        self._workspace.ask(done.run, request)
        deadline = self._pace.clock() + (GRACE if grace is None else grace) + BEYOND
        while True:
            for entry in watch.look():
                if entry.kind is Kind.ENDED and entry.verdict == CANCELLED:
                    done.steps[entry.step] = (entry.verdict, entry.reason)
                elif entry.kind is Kind.ENDED and entry.step in pending:
                    done.over[entry.step] = entry.verdict
                elif entry.kind is Kind.OPENED and entry.driver != number:
                    # Another one drives it now, who was not asked.
                    return False
            if watch.state == ORPHANED:
                return False
            if watch.state:
                done.state = watch.state
                return True
            if steps and all(step in done.steps or step in done.over for step in pending):
                return True
            self._hold_deadline(done, deadline)
            watch.pause()

    def _pending(self, done: Cancelled, watch: Watch, steps: Iterable[str]) -> list[str]:
        known = views(watch.entries)
        for step in steps:
            if step in known and known[step].is_over:
                done.over[step] = known[step].state
        return [step for step in steps if step not in done.over]

    def _hold_deadline(self, done: Cancelled, deadline: float) -> None:
        if self._pace.clock() < deadline:
            return
        raise EngineError(
            f"run {done.run!r}: was asked to cancel, and has not ended yet",
            f"see `dispatch status {done.run}`; ending its client ends it, too",
        )

    # With a driver that is gone.

    def _end(self, done: Cancelled, driver: Driver, steps: Sequence[str], grace: float) -> None:
        known = views(section(self._workspace.journal(done.run).read()))
        done.over = {step: known[step].state for step in steps if step in known and known[step].is_over}
        wanted = {
            name: view for name, view in known.items() if not view.is_over and (not steps or name in steps)
        }
        self._stop(done.run, wanted, grace)
        for name, view in wanted.items():
            reason = "cancelled"
            if view.state in (RUNNING, STARTING, RETRYING):
                self._record(done.run, name)
            else:
                reason = "the run was cancelled"
            done.steps[name] = (CANCELLED, reason)
            now = datetime.now(timezone.utc).timestamp()
            with contextlib.suppress(OSError):
                driver.write(Entry(Kind.ENDED, now, name, reason, verdict=CANCELLED))
        if not steps:
            outcomes = {
                **{name: each for name, view in known.items() if (each := _outcome(name, view)) is not None},
                **{step: StepOutcome(step, Verdict.CANCELLED, why) for step, (_, why) in done.steps.items()},
            }
            driver.finish(CANCELLED, ends(outcomes))
            done.state = CANCELLED

    def _stop(self, run: str, wanted: Mapping[str, StepView], grace: float) -> None:
        """Stop what the engine still has of these steps.

        Their logs stay as their client left them: what the engine has beyond that may hold secrets, which we
        do not know and could not mask.
        """
        contained = [view for view in wanted.values() if view.planned.place == Place.CONTAINER.value]
        if not any(view.attempt for view in contained):
            return
        left = self._left()
        try:
            left.stop(run, {view.planned.unique_id for view in contained}, grace, self._pace)
        finally:
            left.close()

    def _record(self, run: str, step: str) -> None:
        """Record an attempt as cancelled; one that was completed, or that another run makes, is not ours."""
        record = self._workspace.step_of_run(run, step)
        with contextlib.suppress(WorkspaceError):
            attempt = self._workspace.claim(record, run)
            now = datetime.now(timezone.utc)
            facts = AttemptFacts(StepState.FAILED, ended=now, reason=CANCELLED, error=CANCELLED)
            self._workspace.fail(attempt, record, facts)


def _outcome(name: str, view: StepView) -> StepOutcome | None:
    """How a step ended; None for one that has not, or is computed inside others."""
    try:
        return StepOutcome(name, Verdict(view.state), view.reason)
    except ValueError:
        return None


class Left:
    """What a client of a workspace left on an engine when it died. ``runs`` says whether a job still runs."""

    def __init__(self, engine: Engine, runs: Callable[[Handle], bool], workspace: Workspace) -> None:
        self._engine = engine
        self._runs = runs
        self._workspace = workspace

    def stop(self, run: str, unique_ids: set[str], grace: float, pace: Pace) -> None:
        """Stop the run's jobs of these steps, wait for their ends, and let the engine forget them."""
        found = [
            handle
            for handle in self._engine.find(run)
            if handle.key.rpartition(".")[0] in unique_ids and self._is_ours(handle)
        ]
        self._engine.cancel(found, grace)
        deadline = pace.clock() + grace + BEYOND
        while any(self._runs(handle) for handle in found):
            if pace.clock() > deadline:
                raise EngineError(f"run {run!r}: its containers do not end", "see `docker ps`")
            pace.sleep(LOOK_EVERY)
        for handle in found:
            self._engine.release(handle)

    def close(self) -> None:
        """Wait for what is being removed."""
        self._engine.close()

    def _is_ours(self, handle: Handle) -> bool:
        """Whether a job is of our workspace: others may have runs of the same name and steps."""
        unique_id, _, number = handle.key.rpartition(".")
        return number.isdecimal() and handle.is_of(self._workspace.attempt_directory(unique_id, int(number)))


def left_behind(app: App) -> Stops:
    """What a dead client of this application's workspace may have left where its executor runs steps."""
    if app.settings.executor.type == "beaker":
        from dispatch.app.onbeaker.left import left_on_beaker

        return left_on_beaker(app)
    from dispatch.app.engines import Engines

    containers = app.door.containers

    def runs(handle: Handle) -> bool:
        state = containers.inspect(handle.engine_id)
        return state is not None and state.status in ("running", "paused", "restarting")

    return Left(Engines(app, None).docker(), runs, app.workspace)


def sender() -> str:
    """Who asks, in words."""
    return f"process {os.getpid()} on {os.uname().nodename}"
