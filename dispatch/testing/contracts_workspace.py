"""What every workspace must do, as tests: derive from :class:`WorkspaceContract` and say how to make one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from dispatch.errors import ConfigurationError, FormatError, StepStateError
from dispatch.info import AttemptFacts, StepRecord, StepState
from dispatch.step import Step
from dispatch.workspace.base import (
    Attempt,
    StepCompletedError,
    StepHeldError,
    Workspace,
)

NOON = datetime(2024, 2, 29, 12, 0, 0, 250_000, tzinfo=timezone.utc)
DONE = AttemptFacts(StepState.COMPLETED, started=NOON, ended=NOON + timedelta(seconds=1.5), image="base")
FAILED = AttemptFacts(StepState.FAILED, started=NOON, ended=NOON, exit_code=1, error="it broke")


class Add(Step):
    """A step of a user's program."""

    VERSION = "002"

    def run(self, a: int, b: int = 1) -> int:
        """Add."""
        return a + b


class Dice(Step):
    """A step that is not to be cached."""

    DETERMINISTIC = False

    def run(self) -> int:
        """Throw."""
        return 4


def record(name: str = "one", cacheable: bool = True, **changes: Any) -> StepRecord:
    """A step as the dispatcher knows it."""
    facts: dict[str, Any] = {
        "name": name,
        "unique_id": f"Made-{name}",
        "class_name": "Made",
        "type": "made",
        "version": None,
        "cacheable": cacheable,
        "deterministic": cacheable,
        "dependencies": (),
        "config": {"type": "made", "n": 1},
    }
    return StepRecord(**{**facts, **changes})


def fill(attempt: Attempt, text: str = '"value"\n') -> None:
    """Do what a job does: leave a result."""
    attempt.result.mkdir(parents=True, exist_ok=True)
    (attempt.result / "data.json").write_text(text)


class WorkspaceContract:
    """Derive from it, and give the fixture ``workspace``, and ``again`` where a second process can look."""

    @pytest.fixture
    def workspace(self) -> Workspace:
        """Return an empty workspace."""
        raise NotImplementedError

    def again(self, workspace: Workspace) -> Workspace:
        """Return the same workspace as another client would open it."""
        return Workspace.from_url(workspace.url)

    # Steps that the dispatcher runs

    def test_committed_result_is_found_by_all(self, workspace: Workspace) -> None:
        """After a commit every client sees a completed step, its facts to the microsecond, and its result."""
        attempt = workspace.claim(record(), "calm-heron-001")
        fill(attempt)
        info = workspace.commit(attempt, record(), DONE)
        other = self.again(workspace)
        assert info == other.step_info("Made-one") == other.step_info(record())
        assert (info.state, info.attempt) == (StepState.COMPLETED, DONE)
        assert other.completed(["Made-one", "Made-two"]) == {"Made-one"}
        assert other.locate("Made-one") is not None
        assert other.step_cache[record()] == "value"

    def test_states_of_an_attempt(self, workspace: Workspace) -> None:
        """A step is incomplete, running while an attempt is at it, and failed with the facts of its end."""
        assert workspace.step_info(record()).state is StepState.INCOMPLETE
        attempt = workspace.claim(record(), "run")
        assert workspace.step_info("Made-one").state is StepState.RUNNING
        info = workspace.fail(attempt, record(), FAILED)
        assert (info.state, info.error) == (StepState.FAILED, "it broke")
        assert workspace.locate("Made-one") is None
        assert workspace.completed(["Made-one"]) == set()

    def test_a_step_is_claimed_once(self, workspace: Workspace) -> None:
        """While somebody works at a step nobody else can claim it, and the error says who."""
        workspace.claim(record(), "calm-heron-001")
        for client in (workspace, self.again(workspace)):
            with pytest.raises(StepHeldError, match="calm-heron-001"):
                client.claim(record(), "other")

    def test_attempts_are_counted(self, workspace: Workspace) -> None:
        """After a failure the next attempt has the next number and another place, and its result counts."""
        first = workspace.claim(record(), "run")
        workspace.fail(first, record(), FAILED)
        second = workspace.claim(record(), "run")
        assert (first.number, second.number) == (1, 2)
        assert (first.key, second.key) == ("Made-one.1", "Made-one.2")
        assert first.directory != second.directory
        fill(second)
        assert workspace.commit(second, record(), DONE).state is StepState.COMPLETED

    def test_completed_step_is_not_claimed(self, workspace: Workspace) -> None:
        """A step with a result cannot be claimed again."""
        attempt = workspace.claim(record(), "run")
        fill(attempt)
        workspace.commit(attempt, record(), DONE)
        with pytest.raises(StepCompletedError):
            workspace.claim(record(), "run")

    def test_first_result_is_kept(self, workspace: Workspace) -> None:
        """A second commit changes nothing, and tells of the first."""
        attempt = workspace.claim(record(), "run")
        fill(attempt)
        workspace.commit(attempt, record(), DONE)
        fill(attempt, '"other"\n')
        info = workspace.commit(attempt, record(), AttemptFacts(StepState.COMPLETED, image="other"))
        assert info.attempt == DONE
        assert workspace.step_cache[record()] == "value"

    def test_nothing_to_commit(self, workspace: Workspace) -> None:
        """An attempt without a result directory commits nothing."""
        attempt = workspace.claim(record(), "run")
        with pytest.raises(StepStateError, match="left no result"):
            workspace.commit(attempt, record(), DONE)
        assert workspace.completed(["Made-one"]) == set()

    def test_bad_result_is_refused(self, workspace: Workspace) -> None:
        """A result with a link out of it is refused, and the attempt can be failed then."""
        attempt = workspace.claim(record(), "run")
        fill(attempt)
        (attempt.result / "out").symlink_to("/etc/hostname")
        with pytest.raises(FormatError, match="'out'"):
            workspace.commit(attempt, record(), DONE)
        assert workspace.fail(attempt, record(), FAILED).state is StepState.FAILED

    def test_uncacheable_step_runs_each_time(self, workspace: Workspace) -> None:
        """A step that is not to be cached has its result for this run, and can be claimed again."""
        dice = record("dice", cacheable=False)
        for number in (1, 2):
            attempt = workspace.claim(dice, "run")
            assert attempt.number == number
            fill(attempt, f"{number}\n")
            assert workspace.commit(attempt, dice, DONE).state is StepState.UNCACHEABLE
            assert workspace.step_cache[dice] == number
            assert workspace.locate("Made-dice") is not None
        assert workspace.completed(["Made-dice"]) == set()

    def test_log_of_the_attempt_that_counts(self, workspace: Workspace) -> None:
        """The log is the latest one, and that of the result once there is one."""
        assert workspace.log_path("Made-one") is None
        first = workspace.claim(record(), "run")
        (first.directory / "out.log").write_text("first")
        workspace.fail(first, record(), FAILED)
        second = workspace.claim(record(), "run")
        path = workspace.log_path("Made-one")
        assert path is not None
        assert path.read_text() == "first"
        (second.directory / "out.log").write_text("second")
        fill(second)
        workspace.commit(second, record(), DONE)
        path = workspace.log_path("Made-one")
        assert path is not None
        assert path.read_text() == "second"

    def test_work_survives_attempts(self, workspace: Workspace) -> None:
        """What a step keeps in its work directory is there for the next attempt, and is its own."""
        (workspace.work_dir(record()) / "checkpoint").write_text("7")
        workspace.fail(workspace.claim(record(), "run"), record(), FAILED)
        assert (workspace.work_dir(record()) / "checkpoint").read_text() == "7"
        assert not (workspace.work_dir(record("two")) / "checkpoint").exists()

    def test_unknown_step(self, workspace: Workspace) -> None:
        """Of an id nobody mentioned nothing is known."""
        for unique_id in ("Made-none", "../x", "", "."):
            with pytest.raises(KeyError):
                workspace.step_info(unique_id)

    # Steps that run in this process

    def test_step_in_this_process(self, workspace: Workspace) -> None:
        """Starting and finishing a step stores its result, with what the step is."""
        step = Add(step_name="add", a=1)
        workspace.step_starting(step)
        assert workspace.step_info(step).state is StepState.RUNNING
        assert workspace.step_finished(step, 2) == 2
        info = workspace.step_info(step.unique_id)
        assert (info.state, info.step_name, info.version) == (StepState.COMPLETED, "add", "002")
        assert workspace.step_cache[step] == 2

    def test_iterator_is_read_back(self, workspace: Workspace) -> None:
        """A result that was used up by storing it is replaced by what was stored."""
        step = Add(step_name="add", a=1)
        workspace.step_starting(step)
        result: Iterator[int] = iter([1, 2])
        assert list(workspace.step_finished(step, result)) == [1, 2]

    def test_failing_step_in_this_process(self, workspace: Workspace) -> None:
        """A failed step keeps the exception, and may start again."""
        step = Add(a=1)
        workspace.step_starting(step)
        workspace.step_failed(step, ValueError("no good"))
        info = workspace.step_info(step)
        assert (info.state, info.error) == (StepState.FAILED, "ValueError: no good")
        assert info.attempt is not None
        assert info.attempt.exception is not None
        assert "no good" in info.attempt.exception["traceback"]
        workspace.step_starting(step)

    def test_result_that_cannot_be_written(self, workspace: Workspace) -> None:
        """If storing fails the step has failed, and may start again."""
        step = Add(a=1)
        workspace.step_starting(step)
        with pytest.raises(FormatError):
            workspace.step_finished(step, lambda: None)
        assert workspace.step_info(step).state is StepState.FAILED
        workspace.step_starting(step)

    def test_wrong_states(self, workspace: Workspace) -> None:
        """Finishing or failing what was not starting, and starting twice, are errors of state."""
        step = Add(a=1)
        with pytest.raises(StepStateError):
            workspace.step_finished(step, 2)
        with pytest.raises(StepStateError):
            workspace.step_failed(step, ValueError())
        workspace.step_starting(step)
        with pytest.raises(StepStateError):
            workspace.step_starting(step)
        workspace.step_finished(step, 2)
        with pytest.raises(StepStateError):
            workspace.step_starting(step)

    def test_uncacheable_step_in_this_process(self, workspace: Workspace) -> None:
        """A step that is not to be cached leaves no trace."""
        dice = Dice()
        workspace.step_starting(dice)
        assert workspace.step_finished(dice, 4) == 4
        assert workspace.step_info(dice).state is StepState.UNCACHEABLE
        assert dice not in workspace.step_cache

    # The cache

    def test_cache_is_a_mapping(self, workspace: Workspace) -> None:
        """Results can be stored, found, counted and removed; none is overwritten."""
        cache, one, two = workspace.step_cache, Add(a=1), Add(a=2)
        assert one not in cache
        cache[one] = [1]
        assert (one in cache, two in cache, len(cache)) == (True, False, 1)
        assert cache[one] == [1]
        assert cache[one] is not cache[one]
        with pytest.raises(ValueError, match="has a result"):
            cache[one] = [2]
        del cache[one]
        assert (one in cache, len(cache)) == (False, 0)
        assert workspace.step_info(one).state is StepState.INCOMPLETE
        for use in (cache.__getitem__, cache.__delitem__):
            with pytest.raises(KeyError):
                use(one)
        cache[one] = [3]
        assert cache[one] == [3]

    def test_cache_ignores_uncacheable(self, workspace: Workspace) -> None:
        """Storing what is not to be cached warns and does nothing."""
        with pytest.warns(UserWarning, match="not to be cached"):
            workspace.step_cache[Dice()] = 4
        assert len(workspace.step_cache) == 0

    # Runs

    def test_run_holds_its_targets(self, workspace: Workspace) -> None:
        """A run has its targets, finished or not; the jobs beside them are found by name only."""
        run = workspace.register_run(
            [record()], "first", jobs=[record("dep"), record()], facts={"commit": "c"}
        )
        found = self.again(workspace).registered_run("first")
        assert run.name == found.name == "first"
        assert list(run.steps) == list(found.steps) == ["one"]
        assert found.steps["one"].state is StepState.INCOMPLETE
        assert found.start_date == run.start_date
        assert found.start_date.tzinfo is not None
        assert workspace.step_of_run("first", "dep") == record("dep")
        stored = workspace.run_record("first")
        assert (dict(stored.jobs), dict(stored.facts)) == ({"dep": "Made-dep"}, {"commit": "c"})

    def test_run_follows_its_steps(self, workspace: Workspace) -> None:
        """A run shows its steps as they stand when asked."""
        run = workspace.register_run([record()])
        attempt = workspace.claim(record(), run.name)
        fill(attempt)
        workspace.commit(attempt, record(), DONE)
        assert run.steps["one"].state is StepState.COMPLETED
        assert workspace.step_result_for_run(run.name, "one") == "value"

    def test_results_by_run_and_name(self, workspace: Workspace) -> None:
        """An unknown run, an unknown step and a step without a result are KeyErrors."""
        workspace.register_run([record()], "first")
        for run, step in (("second", "one"), ("first", "two"), ("first", "one"), ("../runs/first", "one")):
            with pytest.raises(KeyError):
                workspace.step_result_for_run(run, step)

    def test_run_names_are_unique(self, workspace: Workspace) -> None:
        """A taken name is a ValueError and leaves the run as it was; invented names never clash."""
        first = workspace.register_run([record()], "first")
        with pytest.raises(ValueError, match="first"):
            workspace.register_run([record("two")], "first")
        assert list(workspace.registered_run("first").steps) == ["one"]
        invented = {workspace.register_run([]).name for _ in range(20)}
        assert len(invented) == 20
        assert next(iter(workspace.registered_runs())) == first.name
        assert set(workspace.registered_runs()) == {"first", *invented}

    @pytest.mark.parametrize("name", ["", ".", "..", ".x", "-x", "a/b", "../x", "a b", "a\n", "x" * 101, "ä"])
    def test_bad_names(self, workspace: Workspace, name: str) -> None:
        """Names that could leave their directory, or be taken for an option, are refused."""
        with pytest.raises(ValueError, match="name"):
            workspace.register_run([], name)
        with pytest.raises(ValueError, match="name"):
            workspace.register_run([record(name, unique_id="Made-x")], "run")
        with pytest.raises(KeyError):
            workspace.registered_run(name)

    def test_ambiguous_step_names(self, workspace: Workspace) -> None:
        """Two targets of one name are refused."""
        with pytest.raises(ValueError, match="two steps"):
            workspace.register_run([record(), record(unique_id="Made-other")])

    def test_end_of_a_run(self, workspace: Workspace) -> None:
        """A run has no end until it is told; then state and time are kept."""
        workspace.register_run([record()], "first", facts={"commit": "c"})
        assert (workspace.run_record("first").state, workspace.run_record("first").ended) == ("", None)
        workspace.finish_run("first", "failed", {"verdicts": {"one": "failed"}})
        stored = self.again(workspace).run_record("first")
        assert stored.state == "failed"
        assert dict(stored.facts) == {"commit": "c", "verdicts": {"one": "failed"}}
        assert stored.ended is not None
        assert stored.ended >= stored.start_date
        with pytest.raises(KeyError):
            workspace.finish_run("second", "failed")

    def test_latest_run(self, workspace: Workspace) -> None:
        """The latest run is the one registered last."""
        assert workspace.latest_run() is None
        for name in ("zebra", "ape"):
            workspace.register_run([], name)
            assert self.again(workspace).latest_run() == name

    def test_logs_of_a_run(self, workspace: Workspace) -> None:
        """Capturing logs is a context, for runs that exist."""
        workspace.register_run([], "first")
        with workspace.capture_logs_for_run("first") as captured:
            assert captured is None
        assert list(self.again(workspace).registered_runs()) == ["first"]

    # URLs

    def test_url_round_trip(self, workspace: Workspace) -> None:
        """The URL leads to the same workspace, in config too."""
        workspace.register_run([], "first")
        assert Workspace.from_url(workspace.url).url == workspace.url
        made = Workspace.by_name("from_url")(workspace.url)
        assert type(made) is type(workspace)
        assert list(made.registered_runs()) == ["first"]

    def test_unknown_scheme(self) -> None:
        """A scheme without a workspace is an error that lists what there is."""
        with pytest.raises(ConfigurationError, match="ftp") as caught:
            Workspace.from_url("ftp://host/path")
        assert "local" in caught.value.remedy
