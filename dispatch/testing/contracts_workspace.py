"""What every workspace must do, as tests: derive from :class:`WorkspaceContract` and say how to make one."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from dispatch.errors import ConfigurationError, FormatError, StepStateError, WorkspaceError
from dispatch.info import AttemptFacts, Run, RunInfo, StepInfo, StepRecord, StepState
from dispatch.location import BeakerDataset, HostPath, Spool
from dispatch.params import Params
from dispatch.step import Step
from dispatch.workspace.base import (
    Attempt,
    RunSort,
    StepCompletedError,
    StepHeldError,
    StepInfoSort,
    StepSupersededError,
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


BAD_NAMES = [
    *("", ".", "..", ".x", "-x", "a/b", "../x", "/x", "a b", "a\n", "a\0", "ä", "名", "a:b", "a::b"),
    *("x" * 101, "x" * 300),
]
BAD_IDS = ["", ".", "..", ".x", "-x", "a/b", "../x", "/x", "a b", "a\n", "a\0", "x" * 201, "名" * 100]


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


def complete(workspace: Workspace, step: StepRecord, run: str = "run", text: str = '"value"\n') -> Attempt:
    """Run a step as the dispatcher does."""
    attempt = workspace.claim(step, run)
    fill(attempt, text)
    workspace.commit(attempt, step, DONE)
    return attempt


def files(workspace: Workspace, unique_id: str) -> Path:
    """Return the directory of a result, or of its copy, on this machine."""
    location = workspace.locate(unique_id)
    if isinstance(location, BeakerDataset):
        workspace.bring(unique_id)
        copy = workspace.copy_of(unique_id)
        assert copy is not None
        return copy
    assert isinstance(location, (HostPath, Spool))
    return location.path


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

    def test_a_result_is_replaced(self, workspace: Workspace) -> None:
        """An attempt that replaces takes the place of the result at its commit, not before, and not after."""
        complete(workspace, record())
        attempt = workspace.claim(record(), "again", replace=True)
        assert (attempt.number, attempt.replaces) == (2, True)
        assert workspace.step_info("Made-one").state is StepState.COMPLETED
        assert workspace.step_cache[record()] == "value"
        fill(attempt, '"new"\n')
        other = replace(DONE, image="new")
        assert workspace.commit(attempt, record(), other).attempt == other
        assert self.again(workspace).step_cache[record()] == "new"
        failing = workspace.claim(record(), "again", replace=True)
        assert workspace.fail(failing, record(), FAILED).state is StepState.COMPLETED
        assert workspace.step_cache[record()] == "new"
        assert len(workspace.step_cache) == 1

    def test_replacing_nothing(self, workspace: Workspace) -> None:
        """A step without a result can be claimed for replacement, too."""
        attempt = workspace.claim(record(), "run", replace=True)
        fill(attempt)
        assert workspace.commit(attempt, record(), DONE).state is StepState.COMPLETED

    def test_an_earlier_attempt_commits_nothing(self, workspace: Workspace) -> None:
        """Once a later attempt has begun, an earlier one is refused."""
        first = workspace.claim(record(), "run")
        fill(first, '"first"\n')
        workspace.fail(first, record(), FAILED)
        second = workspace.claim(record(), "run")
        with pytest.raises(StepSupersededError):
            workspace.commit(first, record(), DONE)
        assert workspace.locate("Made-one") is None
        fill(second)
        workspace.commit(second, record(), DONE)
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

    def test_result_of_one_run(self, workspace: Workspace) -> None:
        """What a run has of a step that is not to be cached is found by name and id, and is not cached."""
        dice = record("dice", cacheable=False, unique_id="Made-dice-a1b2c3d4")
        workspace.register_run([dice], "run")
        complete(workspace, dice, "run", "4\n")
        assert workspace.step_result_for_run("run", "dice") == workspace.step_result("dice") == 4
        assert (files(workspace, dice.unique_id) / "data.json").read_text() == "4\n"
        workspace.verify(dice.unique_id, deep=True)
        assert workspace.registered_run("run").steps["dice"].state is StepState.UNCACHEABLE
        assert dice not in workspace.step_cache
        assert len(workspace.step_cache) == 0

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
        for unique_id in ("Made-none", *BAD_IDS):
            for use in (workspace.step_info, workspace.remove_step):
                with pytest.raises(KeyError):
                    use(unique_id)
            with pytest.raises(KeyError):
                workspace.verify(unique_id, deep=False)
            assert workspace.locate(unique_id) is None
            assert workspace.log_path(unique_id) is None
            assert workspace.completed([unique_id]) == set()

    @pytest.mark.parametrize("unique_id", BAD_IDS)
    def test_bad_ids(self, workspace: Workspace, unique_id: str) -> None:
        """An id that could not be the name of a file is refused before anything is stored."""
        step = record(unique_id=unique_id)
        uses = (
            lambda: workspace.claim(step, "run"),
            lambda: workspace.step_starting(step),
            lambda: workspace.register_run([step], "run"),
            lambda: workspace.work_location(step),
        )
        for use in uses:
            with pytest.raises(ConfigurationError, match="unique id"):
                use()
        assert (workspace.num_steps(), workspace.num_registered_runs()) == (0, 0)

    def test_verifying(self, workspace: Workspace) -> None:
        """A result is held against what was committed: sizes always, every byte where that is asked for."""
        with pytest.raises(KeyError):
            workspace.verify("Made-one", deep=False)
        complete(workspace, record())
        workspace.verify("Made-one", deep=True)
        path = files(workspace, "Made-one") / "data.json"
        path.write_text('"VALUE"\n')
        workspace.verify("Made-one", deep=False)
        with pytest.raises(WorkspaceError, match=r"data\.json") as caught:
            workspace.verify("Made-one", deep=True)
        assert "dispatch repair" in caught.value.remedy
        with pytest.raises(WorkspaceError, match=r"data\.json"):
            workspace.step_cache[record()]
        path.write_text("1")
        with pytest.raises(WorkspaceError, match=r"data\.json"):
            workspace.verify("Made-one", deep=False)

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

    def test_generator_is_read_back(self, workspace: Workspace) -> None:
        """An iterator is gone through once, while it is written, and comes back as one."""
        step = Add(step_name="add", a=1)
        workspace.step_starting(step)
        asked: list[int] = []

        def numbers() -> Iterator[int]:
            for number in range(3):
                asked.append(number)
                yield number

        found = workspace.step_finished(step, numbers())
        assert asked == [0, 1, 2]
        assert list(found) == [0, 1, 2]
        assert list(workspace.step_cache[step]) == list(workspace.step_cache[step]) == [0, 1, 2]

    def test_file_in_the_work_directory(self, workspace: Workspace) -> None:
        """A path in the step's own directory is stored as the file it names; that one is returned."""
        step = Add(step_name="add", a=1)
        workspace.step_starting(step)
        path = workspace.work_dir(step) / "model.bin"
        path.write_bytes(b"weights")
        found = workspace.step_finished(step, path)
        assert found.read_bytes() == b"weights"
        assert found.is_relative_to(files(workspace, step.unique_id))
        assert workspace.step_cache[step] == found

    def test_what_is_recorded_of_a_step_in_this_process(self, workspace: Workspace) -> None:
        """Times, machine, process, identity and metadata are kept with the step."""
        step = Add(step_name="add", a=1, step_metadata={"owner": "me"})
        workspace.step_starting(step)
        started = workspace.step_info(step)
        workspace.step_finished(step, 2)
        info = self.again(workspace).step_info(step.unique_id)
        assert info == workspace.step_info(step)
        assert (info.record, info.metadata) == (started.record, {"owner": "me"})
        assert info.record.identity["version"] == "002"
        assert info.start_time is not None
        assert info.end_time is not None
        assert timedelta(0) <= info.end_time - info.start_time == info.duration
        assert info.start_time.utcoffset() == timedelta(0)
        assert {"os", "cpu_count", "user", "host"} <= set(info.platform)
        assert {"python", "executable", "command", "root", "dispatch", "git"} <= set(info.environment)
        assert StepInfo.from_json(info.to_json()) == info

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
        value = {"kept": 1, "lost": (number for number in "x")}
        with pytest.raises(FormatError, match="quarantine") as caught:
            workspace.step_finished(step, value)
        kept = Path(str(caught.value).rpartition(" is in ")[2])
        assert pickle.loads(kept.read_bytes())["kept"] == 1
        info = workspace.step_info(step)
        assert (info.state, info.result_location) == (StepState.FAILED, None)
        assert info.error is not None
        assert str(kept) in info.error
        assert step not in workspace.step_cache
        assert workspace.completed([step.unique_id]) == set()
        with pytest.raises(KeyError):
            workspace.step_cache[step]
        workspace.step_starting(step)
        assert workspace.step_finished(step, 2) == 2

    def test_result_that_its_format_cannot_hold(self, workspace: Workspace) -> None:
        """A format that was asked for is not exchanged for another one."""
        step = Add(a=1, step_format="text")
        workspace.step_starting(step)
        with pytest.raises(FormatError):
            workspace.step_finished(step, 2)
        assert workspace.step_info(step).state is StepState.FAILED

    def test_error_while_a_result_is_written(self, workspace: Workspace) -> None:
        """What an iterator raises is the end of its step."""
        step = Add(a=1)
        workspace.step_starting(step)

        def numbers() -> Iterator[int]:
            yield 1
            raise ValueError("no more")

        with pytest.raises(ValueError, match="no more"):
            workspace.step_finished(step, numbers())
        info = workspace.step_info(step)
        assert (info.state, info.error) == (StepState.FAILED, "ValueError: no more")
        assert step not in workspace.step_cache

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
        for client in (workspace, self.again(workspace)):
            with pytest.raises(StepStateError):
                client.claim(record(unique_id=step.unique_id), "run")
        workspace.step_finished(step, 2)
        for use in (
            lambda: workspace.step_starting(step),
            lambda: workspace.step_finished(step, 2),
            lambda: workspace.step_failed(step, ValueError()),
        ):
            with pytest.raises(StepStateError):
                use()
        assert workspace.step_info(step).state is StepState.COMPLETED

    def test_uncacheable_step_in_this_process(self, workspace: Workspace) -> None:
        """A step that is not to be cached leaves no trace."""
        dice = Dice()
        workspace.step_starting(dice)
        assert workspace.step_finished(dice, 4) == 4
        workspace.step_starting(dice)
        workspace.step_failed(dice, ValueError())
        info = workspace.step_info(dice)
        assert (info.state, info.attempt) == (StepState.UNCACHEABLE, None)
        assert dice not in workspace.step_cache
        assert workspace.num_steps() == 0

    def test_asking_leaves_no_trace(self, workspace: Workspace) -> None:
        """Of a step that was only asked about nothing is known afterwards, but what the object says."""
        step = Add(step_name="add", a=1)
        info = workspace.step_info(step)
        assert (info.state, info.step_name, info.step_class_name) == (StepState.INCOMPLETE, "add", "Add")
        assert info.record.identity["version"] == "002"
        assert (step in workspace.step_cache, workspace.num_steps()) == (False, 0)
        with pytest.raises(KeyError):
            workspace.step_info(step.unique_id)

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

    @pytest.mark.parametrize("value", [[1, [2]], {"a": []}, {1, 2}, (1, []), bytearray(b"x"), None])
    def test_results_are_never_shared(self, workspace: Workspace, value: Any) -> None:
        """What is handed out twice is equal, and never the same object if that can be changed."""
        step = Add(a=1)
        workspace.step_starting(step)
        given = workspace.step_finished(step, value)
        first, second = workspace.step_cache[step], workspace.step_cache[step]
        assert given == value == first == second
        assert type(first) is type(value)
        if isinstance(value, (list, dict, set, bytearray)):
            assert len({id(value), id(first), id(second)}) == 3
            first.clear()
        if isinstance(value, tuple):
            first[1].append(1)
        assert workspace.step_cache[step] == second

    def test_cache_takes_what_can_be_stored(self, workspace: Workspace) -> None:
        """A value that cannot be stored leaves no result, and an iterator is read back."""
        cache, one, two = workspace.step_cache, Add(a=1), Add(a=2)
        with pytest.raises(FormatError):
            cache[one] = lambda: None
        assert (one in cache, len(cache)) == (False, 0)
        assert workspace.step_info(one).state is StepState.FAILED
        cache[two] = (number for number in range(3))
        assert list(cache[two]) == [0, 1, 2]

    def test_cache_and_work_exclude_each_other(self, workspace: Workspace) -> None:
        """Nothing is put into the cache behind the back of who works at the step."""
        workspace.claim(record(), "run")
        with pytest.raises(StepStateError):
            workspace.step_cache[record()] = 1
        assert record() not in workspace.step_cache

    def test_cache_knows_only_steps(self, workspace: Workspace) -> None:
        """Anything can be asked for; only steps can be there."""
        complete(workspace, record())
        assert record() in workspace.step_cache
        assert workspace.step_info(record()) in workspace.step_cache
        for other in ("Made-one", None, 3, record(unique_id="../x"), record(unique_id="")):
            assert other not in workspace.step_cache

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
        assert isinstance(found, Run)
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

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_bad_names(self, workspace: Workspace, name: str) -> None:
        """Names that could leave their directory, or be taken for an option, are refused."""
        with pytest.raises(ValueError, match="name"):
            workspace.register_run([], name)
        with pytest.raises(ValueError, match="name"):
            workspace.register_run([record(name, unique_id="Made-x")], "run")
        uses = (
            workspace.registered_run,
            workspace.run_record,
            workspace.remove_run,
            lambda bad: workspace.finish_run(bad, "failed"),
            lambda bad: workspace.step_result_for_run(bad, "one"),
            lambda bad: workspace.step_of_run("first", bad),
            workspace.capture_logs_for_run,
            workspace.step_result,
        )
        workspace.register_run([record()], "first")
        for use in uses:
            with pytest.raises(KeyError):
                use(name)
        assert list(workspace.registered_runs()) == ["first"]

    def test_names_inside_records(self, workspace: Workspace) -> None:
        """What is no name of a file may be any text: types, classes, config."""
        odd = record(
            type="mine::train/1", class_name="Größe", config={"type": "mine::train/1", "ä\n": "\0../"}
        )
        workspace.register_run([odd], "first")
        complete(workspace, odd)
        assert self.again(workspace).step_info("Made-one").record == odd

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

    def test_results_by_name(self, workspace: Workspace) -> None:
        """A step's result is that of the newest run which has the name and a result."""
        with pytest.raises(KeyError):
            workspace.step_result("one")
        for run, unique_id in (("a", "Made-1"), ("b", "Made-2"), ("c", "Made-3")):
            workspace.register_run([record(unique_id=unique_id)], run)
        with pytest.raises(KeyError):
            workspace.step_result("one")
        complete(workspace, record(unique_id="Made-1"), text="1\n")
        assert workspace.step_result("one") == 1
        complete(workspace, record(unique_id="Made-2"), text="2\n")
        assert workspace.step_result("one") == 2

    # Searching

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ({}, ["c", "ab", "a"]),
            ({"sort_descending": False}, ["a", "ab", "c"]),
            ({"sort_by": RunSort.START_DATE}, ["c", "ab", "a"]),
            ({"sort_by": RunSort.NAME}, ["c", "ab", "a"]),
            ({"sort_by": RunSort.NAME, "sort_descending": False}, ["a", "ab", "c"]),
            ({"match": "a"}, ["ab", "a"]),
            ({"match": "A"}, []),
            ({"match": "*"}, []),
            ({"match": ""}, ["c", "ab", "a"]),
            ({"start": 1}, ["ab", "a"]),
            ({"stop": 1}, ["c"]),
            ({"start": 1, "stop": 2}, ["ab"]),
            ({"match": "a", "stop": 1}, ["ab"]),
            ({"start": 2, "stop": 1}, []),
            ({"start": 9, "stop": 12}, []),
            ({"stop": 0}, []),
        ],
    )
    def test_searching_runs(self, workspace: Workspace, query: dict[str, Any], names: list[str]) -> None:
        """Runs are found by a part of their name, sorted by date or name, and cut to a page."""
        for name in ("a", "ab", "c"):
            workspace.register_run([record()], name)
        found = self.again(workspace).search_registered_runs(**query)
        assert [run.name for run in found] == names
        for run in found:
            assert isinstance(run, RunInfo)
            assert run.start_date == workspace.registered_run(run.name).start_date
        if not set(query) & {"start", "stop"}:
            assert workspace.num_registered_runs(match=query.get("match")) == len(names)

    @pytest.mark.parametrize(
        ("query", "ids"),
        [
            ({}, ["Made-4", "Made-3", "Made-2", "Made-1"]),
            ({"sort_descending": False}, ["Made-1", "Made-2", "Made-3", "Made-4"]),
            ({"sort_by": StepInfoSort.UNIQUE_ID}, ["Made-4", "Made-3", "Made-2", "Made-1"]),
            ({"sort_by": StepInfoSort.START_TIME}, ["Made-2", "Made-3", "Made-1", "Made-4"]),
            (
                {"sort_by": StepInfoSort.START_TIME, "sort_descending": False},
                ["Made-1", "Made-3", "Made-2", "Made-4"],
            ),
            ({"sort_by": StepInfoSort.START_TIME, "start": 1, "stop": 3}, ["Made-3", "Made-1"]),
            ({"match": "-2"}, ["Made-2"]),
            ({"match": "one"}, []),
            ({"state": StepState.COMPLETED}, ["Made-2", "Made-1"]),
            ({"state": StepState.FAILED}, ["Made-3"]),
            ({"state": StepState.INCOMPLETE}, ["Made-4"]),
            ({"state": StepState.UNCACHEABLE}, []),
            ({"state": StepState.COMPLETED, "match": "1"}, ["Made-1"]),
            ({"state": StepState.COMPLETED, "stop": 1}, ["Made-2"]),
            ({"state": StepState.COMPLETED, "start": 1}, ["Made-1"]),
            ({"start": 1, "stop": 3}, ["Made-3", "Made-2"]),
        ],
    )
    def test_searching_steps(self, workspace: Workspace, query: dict[str, Any], ids: list[str]) -> None:
        """Steps are found by a part of their id and by state, sorted by id or start, and cut to a page."""
        steps = {n: record(unique_id=f"Made-{n}") for n in (1, 2, 3, 4)}
        workspace.register_run([steps[4]], "first")
        for number, hours in ((1, 0), (2, 2), (3, 1)):
            attempt = workspace.claim(steps[number], "run")
            ended = workspace.commit if number < 3 else workspace.fail
            fill(attempt)
            facts = DONE if number < 3 else FAILED
            ended(attempt, steps[number], replace(facts, started=NOON + timedelta(hours=hours)))
        found = self.again(workspace).search_step_info(**query)
        assert [info.unique_id for info in found] == ids
        assert found == [workspace.step_info(unique_id) for unique_id in ids]
        if not set(query) & {"start", "stop"}:
            counted = {key: query[key] for key in ("match", "state") if key in query}
            assert workspace.num_steps(**counted) == len(ids)

    def test_searching_what_runs(self, workspace: Workspace) -> None:
        """A step at which somebody works is found as running, and one that is not to be cached as such."""
        workspace.claim(record(), "run")
        complete(workspace, record("dice", cacheable=False))
        other = self.again(workspace)
        found = {state: [i.unique_id for i in other.search_step_info(state=state)] for state in StepState}
        assert {state: ids for state, ids in found.items() if ids} == {
            StepState.RUNNING: ["Made-one"],
            StepState.UNCACHEABLE: ["Made-dice"],
        }

    def test_bounds_of_a_page(self, workspace: Workspace) -> None:
        """Bounds are counted from 0."""
        for start, stop in ((-1, None), (0, -1)):
            with pytest.raises(ValueError, match="from 0"):
                workspace.search_registered_runs(start=start, stop=stop)
            with pytest.raises(ValueError, match="from 0"):
                workspace.search_step_info(start=start, stop=stop)

    def test_a_result_in_the_cache_is_a_known_step(self, workspace: Workspace) -> None:
        """What was only ever put into the cache is found with its record."""
        step = Add(step_name="add", a=1)
        workspace.step_cache[step] = 2
        (found,) = self.again(workspace).search_step_info()
        assert (found.unique_id, found.step_name, found.state) == (step.unique_id, "add", StepState.COMPLETED)
        assert workspace.num_steps() == 1

    # Removing

    def test_removing_a_step(self, workspace: Workspace) -> None:
        """Result, log, work directory and information go; runs keep the name; and all can be made again."""
        workspace.register_run([record()], "first")
        attempt = workspace.claim(record(), "first")
        (attempt.directory / "out.log").write_text("log")
        fill(attempt)
        (workspace.work_dir(record()) / "checkpoint").write_text("7")
        workspace.commit(attempt, record(), DONE)
        workspace.remove_step("Made-one")
        for client in (workspace, self.again(workspace)):
            with pytest.raises(KeyError):
                client.step_info("Made-one")
            assert client.locate("Made-one") is None
            assert client.log_path("Made-one") is None
            assert (client.num_steps(), len(client.step_cache)) == (0, 0)
            assert client.completed(["Made-one"]) == set()
            run = client.registered_run("first")
            assert {name: info.state for name, info in run.steps.items()} == {"one": StepState.INCOMPLETE}
            assert client.step_of_run("first", "one").unique_id == "Made-one"
            with pytest.raises(KeyError):
                client.step_result_for_run("first", "one")
        with pytest.raises(KeyError):
            workspace.remove_step("Made-one")
        assert not (workspace.work_dir(record()) / "checkpoint").exists()
        assert complete(workspace, record()).number > attempt.number
        assert workspace.step_result_for_run("first", "one") == "value"

    def test_removing_any_step_that_is_known(self, workspace: Workspace) -> None:
        """Registered, failed, not to be cached, done here: whatever is known of a step can be removed."""
        workspace.register_run([record("registered")], "first")
        workspace.fail(workspace.claim(record("failed"), "run"), record("failed"), FAILED)
        complete(workspace, record("dice", cacheable=False))
        here = Add(step_name="add", a=1)
        workspace.step_starting(here)
        workspace.step_finished(here, 2)
        cached = Add(step_name="cached", a=2)
        workspace.step_cache[cached] = 3
        known = ["Made-registered", "Made-failed", "Made-dice", here.unique_id, cached.unique_id]
        assert sorted(known) == sorted(info.unique_id for info in workspace.search_step_info())
        for unique_id in known:
            workspace.remove_step(unique_id)
            assert workspace.locate(unique_id) is None
        assert (workspace.num_steps(), len(workspace.step_cache)) == (0, 0)
        workspace.step_starting(here)

    def test_a_step_at_work_is_not_removed(self, workspace: Workspace) -> None:
        """While somebody alive works at a step it stays, with all that is there."""
        attempt = workspace.claim(record(), "run")
        here = Add(a=1)
        workspace.step_starting(here)
        for client in (workspace, self.again(workspace)):
            for unique_id in ("Made-one", here.unique_id):
                with pytest.raises(StepStateError, match="works at it"):
                    client.remove_step(unique_id)
        fill(attempt)
        assert workspace.commit(attempt, record(), DONE).state is StepState.COMPLETED
        assert workspace.step_finished(here, 2) == 2

    def test_an_attempt_from_before_a_removal(self, workspace: Workspace) -> None:
        """An attempt that had begun before the step was removed commits nothing."""
        attempt = workspace.claim(record(), "run")
        fill(attempt)
        workspace.fail(attempt, record(), FAILED)
        workspace.remove_step("Made-one")
        with pytest.raises(StepStateError):
            workspace.commit(attempt, record(), DONE)
        assert workspace.locate("Made-one") is None

    def test_removing_a_run(self, workspace: Workspace) -> None:
        """A run goes, its name is free, results stay, and the run before it is the latest."""
        for name in ("first", "second", "third"):
            workspace.register_run([record()], name)
        complete(workspace, record(), "third")
        workspace.remove_run("third")
        other = self.again(workspace)
        assert other.latest_run() == "second"
        workspace.remove_run("first")
        assert list(other.registered_runs()) == ["second"]
        assert (other.num_registered_runs(), other.latest_run()) == (1, "second")
        assert other.step_cache[record()] == "value"
        for use in (other.registered_run, other.remove_run):
            with pytest.raises(KeyError):
                use("third")
        workspace.remove_run("second")
        assert (other.latest_run(), other.registered_runs()) == (None, {})
        assert workspace.register_run([record()], "third").steps["one"].state is StepState.COMPLETED

    def test_a_run_at_work_is_not_removed(self, workspace: Workspace) -> None:
        """A run stays while somebody works for it; what works for another run does not hold it."""
        workspace.register_run([record()], "first")
        workspace.register_run([record()], "second")
        attempt = workspace.claim(record(), "first")
        with pytest.raises(StepStateError, match="first"):
            self.again(workspace).remove_run("first")
        workspace.remove_run("second")
        workspace.fail(attempt, record(), FAILED)
        workspace.remove_run("first")
        assert workspace.registered_runs() == {}

    # Pickling

    def test_pickling(self, workspace: Workspace) -> None:
        """A workspace comes through pickle as the same one; what was starting in the first is held there."""
        step = Add(a=1)
        workspace.step_cache[Add(a=2)] = 3
        workspace.step_starting(step)
        copy = pickle.loads(pickle.dumps(workspace))
        assert (type(copy), copy.url) == (type(workspace), workspace.url)
        assert copy.step_cache[Add(a=2)] == 3
        with pytest.raises(StepStateError):
            copy.step_starting(step)
        workspace.step_finished(step, 2)
        assert copy.step_cache[step] == 2
        assert copy.register_run([record()]).name in workspace.registered_runs()

    # URLs

    def test_url_round_trip(self, workspace: Workspace) -> None:
        """The URL leads to the same workspace, in config too."""
        workspace.register_run([], "first")
        assert Workspace.from_url(workspace.url).url == workspace.url
        for made in (
            Workspace.from_url(workspace.url),
            Workspace.by_name("from_url")(workspace.url),
            Workspace.from_params(Params({"type": "from_url", "url": workspace.url})),
        ):
            assert type(made) is type(workspace)
            assert list(made.registered_runs()) == ["first"]

    def test_unknown_scheme(self) -> None:
        """A scheme without a workspace is an error that lists what there is."""
        with pytest.raises(ConfigurationError, match="ftp") as caught:
            Workspace.from_url("ftp://host/path")
        assert "local" in caught.value.remedy
        with pytest.raises(ConfigurationError, match="from_url"):
            Workspace.from_url("from_url://host/path")
