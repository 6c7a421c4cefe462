"""What every workspace promises about who drives a run. Derive a test class with a ``workspace`` fixture."""

from __future__ import annotations

import pytest

from dispatch.errors import StepStateError
from dispatch.testing.contracts_workspace import complete, fill, record
from dispatch.workspace.base import Workspace
from dispatch.workspace.driving import Request, RunCompletedError, RunHeldError
from dispatch.workspace.journal import Entry, JournalStep, Kind

OPENED = Entry(Kind.OPENED, 1.0, driver=1, steps=(JournalStep("one", "Made-one", "run", "no result yet"),))
STARTING = Entry(Kind.STARTING, 2.0, "one", attempt=1)


class DrivingContract:
    """One driver at a time; what it tells is read by others, and what they ask reaches it."""

    def test_a_new_run_has_its_driver(self, workspace: Workspace) -> None:
        """From the first moment on, nobody else can drive it; it is unfinished until its end."""
        driver = workspace.open_run([record()], "first", jobs=[record("two")], facts={"x": 1})
        assert (driver.run, driver.number, driver.is_lost) == ("first", 1, False)
        run = workspace.run_record("first")
        assert (dict(run.targets), dict(run.jobs)) == ({"one": "Made-one"}, {"two": "Made-two"})
        driving = workspace.driver_of("first")
        assert driving is not None
        assert (driving.number, driving.alive) == (1, True)
        with pytest.raises(RunHeldError, match="first"):
            workspace.drive("first")
        assert workspace.open_runs() == ["first"]
        driver.finish("failed", {"verdicts": {}})
        driver.release()
        assert workspace.open_runs() == []
        run = workspace.run_record("first")
        assert (run.state, run.facts) == ("failed", {"x": 1, "verdicts": {}})

    def test_names_of_runs_with_a_driver(self, workspace: Workspace) -> None:
        """They are as unique as others, and invented where none is given."""
        workspace.open_run([record()], "first")
        with pytest.raises(ValueError, match="first"):
            workspace.open_run([record()], "first")
        with pytest.raises(ValueError, match="a/b"):
            workspace.open_run([record()], "a/b")
        invented = workspace.open_run([record()]).run
        assert set(workspace.open_runs()) == {"first", invented}

    def test_going_on_with_a_run(self, workspace: Workspace) -> None:
        """Who lets go leaves a run that others can drive, under the next number; an end is taken back."""
        workspace.open_run([record()], "first").release()
        driving = workspace.driver_of("first")
        assert driving is not None
        assert not driving.alive
        assert workspace.open_runs() == ["first"]
        second = workspace.drive("first")
        assert second.number == 2
        second.finish("cancelled")
        second.release()
        third = workspace.drive("first")
        run = workspace.run_record("first")
        assert (run.state, run.ended) == ("", None)
        assert workspace.open_runs() == ["first"]
        third.finish("completed")
        third.release()
        with pytest.raises(RunCompletedError):
            workspace.drive("first")
        assert workspace.run_record("first").state == "completed"
        assert workspace.open_runs() == []

    def test_a_run_that_nobody_drove(self, workspace: Workspace) -> None:
        """A program's own run has no driver and no journal, and is not among the unfinished ones."""
        workspace.register_run([record()], "mine")
        assert workspace.driver_of("mine") is None
        assert workspace.journal("mine").read() == []
        assert workspace.open_runs() == []
        assert workspace.drive("mine").number == 1

    def test_no_such_run(self, workspace: Workspace) -> None:
        """Each question about it says so."""
        complete(workspace, record())
        for ask in (
            lambda: workspace.drive("no"),
            lambda: workspace.journal("no"),
            lambda: workspace.ask("no", Request(None, None, "me")),
        ):
            with pytest.raises(KeyError):
                ask()
        assert workspace.driver_of("no") is None
        assert workspace.driver_of("../runs") is None

    def test_what_a_driver_tells(self, workspace: Workspace) -> None:
        """Readers get each entry once, whenever they come, and those of all drivers in order."""
        driver = workspace.open_run([record()], "first")
        early = workspace.journal("first")
        assert early.read() == []
        driver.write(OPENED)
        assert early.read() == [OPENED]
        driver.write(STARTING)
        assert early.read() == [STARTING]
        assert early.read() == []
        driver.finish("failed")
        driver.release()
        (closed,) = early.read()
        assert (closed.kind, closed.driver, closed.state) == (Kind.CLOSED, 1, "failed")
        workspace.drive("first").write(OPENED)
        assert workspace.journal("first").read() == [OPENED, STARTING, closed, OPENED]

    def test_what_is_asked_of_a_driver(self, workspace: Workspace) -> None:
        """It reaches the driver once; what was asked of an earlier one is not for a later."""
        driver = workspace.open_run([record()], "first")
        assert driver.requests() == []
        wanted = [Request(None, None, "somebody"), Request(("one",), 0.5, "somebody")]
        for request in wanted:
            workspace.ask("first", request)
        assert sorted(driver.requests(), key=repr) == sorted(wanted, key=repr)
        assert driver.requests() == []
        workspace.ask("first", wanted[0])
        driver.release()
        assert workspace.drive("first").requests() == []

    def test_a_driven_run_is_not_removed(self, workspace: Workspace) -> None:
        """It is when its driver let go; nothing of it is left then."""
        driver = workspace.open_run([record()], "first")
        with pytest.raises(StepStateError, match="drives it"):
            workspace.remove_run("first")
        driver.release()
        workspace.remove_run("first")
        assert workspace.open_runs() == []
        assert workspace.open_run([record()], "first").number == 1

    def test_logs_of_attempts(self, workspace: Workspace) -> None:
        """Each attempt has its own; there is none before there is one."""
        assert workspace.log_of_attempt("Made-one", 1) is None
        assert workspace.log_of_attempt("../x", 1) is None
        attempt = workspace.claim(record(), "first")
        assert workspace.log_of_attempt("Made-one", 1) is None
        (attempt.directory / "out.log").write_text("hello\n")
        fill(attempt)
        found = workspace.log_of_attempt("Made-one", 1)
        assert found is not None
        assert found.read_text() == "hello\n"
        assert workspace.log_of_attempt("Made-one", 2) is None
