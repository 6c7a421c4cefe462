"""What a workspace is: the place of results, runs and records, behind one class.

Two callers, two halves. A user's program calls the one (``register_run``, ``step_starting`` …). The
dispatcher calls the other: it claims a step, has the attempt's directory filled by a job, and commits or
fails it. Both speak of the same states, so each sees what the other did. Whoever looks after a workspace
searches it, and removes and verifies what is in it.

Owns no storage; refuses to know engines and images.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union, cast

from dispatch.errors import ConfigurationError
from dispatch.location import HostPath, Location
from dispatch.registrable import Registrable
from dispatch.workspace.claims import (
    Adopts,
    Attempt,
    Orphan,
    StepCompletedError,
    StepHeldError,
    StepSupersededError,
    Superseded,
)
from dispatch.workspace.search import RunSort, StepInfoSort

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from urllib.parse import ParseResult

    from dispatch.formats import Format
    from dispatch.info import AttemptFacts, Run, RunInfo, StepInfo, StepRecord, StepState
    from dispatch.step import Step
    from dispatch.workspace.driving import Driver, Driving, Journal, Request
    from dispatch.workspace.runs import RunRecord

    StepLike = Union[Step, StepRecord]

T = TypeVar("T")

__all__ = [
    "Adopts",
    "Attempt",
    "Orphan",
    "RunSort",
    "StepCache",
    "StepCompletedError",
    "StepHeldError",
    "StepInfoSort",
    "StepSupersededError",
    "Superseded",
    "Workspace",
]


class StepCache(Registrable, ABC):
    """A mapping from steps to their results. Keys are steps and records, by ``unique_id``.

    A value comes back as its format holds it: what cannot be written is a FormatError and leaves no result,
    and of an iterator everything is written first. Each read makes a new object, so that no step can change
    what another one gets.
    """

    @abstractmethod
    def __contains__(self, step: object) -> bool:
        """Say whether the step has a result here that is to be used again."""

    @abstractmethod
    def __getitem__(self, step: StepLike) -> Any:
        """Return the step's result. KeyError where there is none; WorkspaceError where it is damaged.

        FormatError where it cannot be read here: a module is missing, or a pickle is not trusted.
        """

    @abstractmethod
    def __setitem__(self, step: StepLike, value: Any) -> None:
        """Store a result. ValueError where the step has one; StepStateError while somebody works at it.

        The result of a step that is not to be cached is not stored, with a warning.
        """

    @abstractmethod
    def __delitem__(self, step: StepLike) -> None:
        """Remove a step's result and nothing else of it. KeyError where there is none."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of results."""


class Workspace(Registrable, ABC):
    """A place for the results of steps, runs, and what is recorded of both.

    All workspaces behave alike, also where there would be more than one way:

    - Asking leaves no trace. A step is *known* once it was registered with a run, claimed or started, or has
      a result; of a step object that is not known everything but its state comes from the object.
    - The name of a step is the one it was last given; a state is derived from what is there at the moment.
    - A step without a result can be claimed or started again whatever became of earlier attempts; one with a
      result cannot, unless it is to be replaced. Finishing or failing what was not starting is an error.
    - A step that is not to be cached leaves no trace when it runs in this process. One that the dispatcher
      runs has its latest result, which is found by ``locate`` and ``step_cache[…]``, but is neither counted,
      nor ``completed``, nor in the way of the next attempt.
    - Run names are unique and never replaced; runs hold their targets, by name. All times are aware, in UTC.
    - A damaged record is an error with a remedy where it is asked for by name, and left out of lists with a
      warning.
    - A workspace can be pickled: the copy is opened anew where it is unpickled. What was starting here is not
      starting there.
    """

    default_implementation = "local"

    look_every: ClassVar[float] = 0.1
    """How often others may look at what goes on in a run, in seconds."""

    @property
    @abstractmethod
    def url(self) -> str:
        """A URL from which :meth:`from_url` makes the same workspace again."""

    @property
    def keeps(self) -> type[Location]:
        """The kind of place where results are."""
        return HostPath

    @property
    @abstractmethod
    def step_cache(self) -> StepCache:
        """The cache in which the workspace keeps results."""

    @classmethod
    def from_url(cls, url: str) -> Workspace:
        """Make a workspace from a URL such as ``local:///data/ws``, or from a plain path.

        ConfigurationError for a scheme that no workspace is registered under.
        """
        if "://" not in url:
            return _class_of("local").from_path(url)
        from urllib.parse import urlparse

        return _class_of(url.partition("://")[0].lower()).from_parsed_url(urlparse(url))

    @classmethod
    def from_path(cls, path: str) -> Workspace:
        """Make a workspace from a path without a scheme; only workspaces made of files can."""
        raise ConfigurationError(f"workspace {path!r}: {cls.__name__} has no paths", "write a URL")

    @classmethod
    @abstractmethod
    def from_parsed_url(cls, parsed_url: ParseResult) -> Workspace:
        """Make a workspace from a URL that :func:`urllib.parse.urlparse` took apart."""

    # What a user's program calls

    @abstractmethod
    def step_info(self, step_or_unique_id: str | StepLike) -> StepInfo:
        """Return what is known of a step. KeyError for a unique id that is not known; never for a step."""

    @abstractmethod
    def step_starting(self, step: StepLike) -> None:
        """Note that a step starts in this process. StepStateError if somebody works at it or it has a result.

        A step that is not to be cached leaves no trace.
        """

    @abstractmethod
    def step_finished(self, step: Step, result: T) -> T:
        """Store the result of a step that was starting here, and return what to use in its place.

        An iterator is used up by storing it, and a file may be moved: what was stored is read back. If the
        result cannot be written the step has failed, what can be kept of the result is in the attempt's
        ``output/quarantine/``, and a FormatError says so. StepStateError if the step was not starting here.
        """

    @abstractmethod
    def step_failed(self, step: StepLike, e: BaseException) -> None:
        """Note that a step that was starting here failed. StepStateError if it was not."""

    @abstractmethod
    def register_run(
        self,
        targets: Iterable[StepLike],
        name: str | None = None,
        *,
        jobs: Iterable[StepLike] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> Run:
        """Store a new run of ``targets`` and return it; without a name, one is invented.

        ``jobs`` are the steps behind the targets, kept so that their results and logs are found by name.
        ``facts`` is kept as it is (JSON). ValueError for a name that is taken, malformed or ambiguous.
        """

    @abstractmethod
    def finish_run(self, name: str, state: str, facts: Mapping[str, Any] | None = None) -> None:
        """Note that a run ended now, and how; ``facts`` are added to its own. KeyError without such a run."""

    @abstractmethod
    def registered_run(self, name: str) -> Run:
        """Return a run. KeyError where there is none of that name."""

    @abstractmethod
    def registered_runs(self) -> dict[str, Run]:
        """Return all runs by name, oldest first."""

    @abstractmethod
    def search_registered_runs(
        self,
        *,
        sort_by: RunSort | None = None,
        sort_descending: bool = True,
        match: str | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> list[RunInfo]:
        """Return runs whose name contains ``match``: of the sorted list those from ``start`` to ``stop``.

        Sorted by the date of their start unless ``sort_by`` says otherwise, so the newest come first. Bounds
        count from 0, ValueError for a negative one.
        """

    @abstractmethod
    def num_registered_runs(self, *, match: str | None = None) -> int:
        """Return how many runs have a name that contains ``match``."""

    @abstractmethod
    def search_step_info(
        self,
        *,
        sort_by: StepInfoSort | None = None,
        sort_descending: bool = True,
        match: str | None = None,
        state: StepState | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> list[StepInfo]:
        """Return known steps in ``state`` whose unique id contains ``match``, as a page of a sorted list.

        Sorted by unique id unless ``sort_by`` says otherwise; by start time, those that never started come
        last. Bounds count from 0, ValueError for a negative one.
        """

    @abstractmethod
    def num_steps(self, *, match: str | None = None, state: StepState | None = None) -> int:
        """Return how many known steps are in ``state`` and have a unique id that contains ``match``."""

    def step_result(self, step_name: str) -> Any:
        """Return the result of a step from the newest run that has the name and a result; else KeyError."""
        for run in self.search_registered_runs(sort_by=RunSort.START_DATE):
            with contextlib.suppress(KeyError):
                return self.step_result_for_run(run.name, step_name)
        raise KeyError(step_name)

    def step_result_for_run(self, run_name: str, step_name: str) -> Any:
        """Return the result of a run's step. KeyError where there is no such run, step or result."""
        return self.step_cache[self.step_of_run(run_name, step_name)]

    @abstractmethod
    def step_of_run(self, run_name: str, step_name: str) -> StepRecord:
        """Return the record of a run's step, target or job. KeyError where there is no such run or step.

        Of a step that was removed since, only name and unique id are left.
        """

    def infos_of_run(self, name: str) -> dict[str, StepInfo]:
        """Return what is known of a run's steps, targets and jobs, by name. KeyError for no such run."""
        run = self.run_record(name)
        return {step: self.step_info(self.step_of_run(name, step)) for step in {**run.jobs, **run.targets}}

    @abstractmethod
    def run_record(self, name: str) -> RunRecord:
        """Return all that is stored of a run: targets, jobs, facts, end. KeyError where there is none."""

    def run_records(self, names: Iterable[str]) -> list[RunRecord]:
        """Return all that is stored of these runs, in this order; one that is gone is left out."""
        found = []
        for name in names:
            with contextlib.suppress(KeyError):
                found.append(self.run_record(name))
        return found

    def keep_difference(self, run_name: str, tree: str, text: bytes) -> None:
        """Keep with a run how the tree that ran differed from its commit; here, nothing is kept.

        What is there of that tree stays.
        """

    def differences(self, run_name: str) -> tuple[Path, ...]:  # noqa: ARG002
        """Return the files with what :meth:`keep_difference` kept."""
        return ()

    def latest_run(self) -> str | None:
        """Return the name of the run that was registered last, or None if there is none."""
        newest = self.search_registered_runs(sort_by=RunSort.START_DATE, stop=1)
        return newest[0].name if newest else None

    def capture_logs_for_run(self, name: str) -> AbstractContextManager[None]:
        """Return a context in which the run's log records are kept; here, none are. KeyError for no run."""
        self.run_record(name)
        return contextlib.nullcontext()

    def work_dir(self, step: StepLike) -> Path:
        """Return a directory in which the step may keep its state between attempts.

        Here, a temporary one that is removed when the process ends: an attempt finds nothing of another's.
        """
        import atexit
        import shutil
        import tempfile

        directory = tempfile.mkdtemp(prefix=f"{step.unique_id}-")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        return Path(directory)

    # What those call who look after the workspace

    @abstractmethod
    def remove_step(self, step_unique_id: str) -> None:
        """Remove a step's result, attempts, work directory and record, damaged or not.

        Numbers of attempts are not used again, so no attempt from before can come back. Runs keep its name
        and id, and it is INCOMPLETE to them. KeyError for one that is not known, StepStateError while
        somebody who is alive works at it.
        """

    @abstractmethod
    def remove_run(self, name: str) -> None:
        """Remove a run, but no result. KeyError if there is none, StepStateError while steps run for it."""

    @abstractmethod
    def verify(self, unique_id: str, *, deep: bool) -> None:
        """Hold a step's result against what was committed: files and sizes; with ``deep``, every byte.

        WorkspaceError names the file and how it differs. KeyError where there is no result.
        """

    # What the client of a run calls

    @abstractmethod
    def open_run(
        self,
        targets: Iterable[StepLike],
        name: str | None = None,
        *,
        jobs: Iterable[StepLike] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> Driver:
        """Register a run as :meth:`register_run` does, and become its driver in the same moment."""

    @abstractmethod
    def drive(self, name: str) -> Driver:
        """Become the driver of a run that is not completed; one that has an end has none from now on.

        RunHeldError where somebody alive drives it, RunCompletedError where it has all its results, KeyError
        where there is no such run. Of several who try at once, one gets it.
        """

    @abstractmethod
    def driver_of(self, name: str) -> Driving | None:
        """Return who drives a run, or drove it last; None where nobody ever did. Asking is watching."""

    @abstractmethod
    def open_runs(self) -> list[str]:
        """Return the runs that somebody drove and that have no end, in no order. Reads no other run."""

    @abstractmethod
    def journal(self, name: str) -> Journal:
        """Return what was told of a run, to be read from its beginning; empty where nobody drove it."""

    @abstractmethod
    def ask(self, name: str, request: Request) -> None:
        """Leave a request for a run's driver, who takes it within seconds if it is alive."""

    @abstractmethod
    def log_of_attempt(self, unique_id: str, number: int) -> Path | None:
        """Return the log of one attempt at a step, which may still grow; None where there is none yet."""

    def run_log(self, name: str) -> Path | None:  # noqa: ARG002
        """Return the file for what a run's client says once it has no terminal; None where there is none."""
        return None

    # What the dispatcher calls

    @abstractmethod
    def claim(
        self, record: StepRecord, run: str, *, replace: bool = False, adopts: Adopts | None = None
    ) -> Attempt:
        """Begin an attempt at a step for a run; with ``replace``, one whose result replaces the one there is.

        Where the latest attempt left a job that nobody looks after, ``adopts`` is asked about it, and may be
        asked again; if it says yes, the attempt looks after that job. StepCompletedError if the step has a
        result that is not to be replaced, StepHeldError if somebody alive works at it.
        """

    @abstractmethod
    def commit(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        format: Format[Any] | None = None,
        *,
        output: Location | None = None,
    ) -> StepInfo:
        """Make what the attempt left in ``output/result/`` the step's result, durably and at once.

        With ``output`` the result is there, where the engine keeps it, and nothing moves.

        A result that is there already is kept, and this one dropped, unless the attempt replaces it. Calling
        it again after a crash in the middle is right. StepSupersededError if a later attempt was claimed;
        FormatError if the files cannot be a result; StepStateError if there are none.
        """

    @abstractmethod
    def fail(
        self,
        attempt: Attempt,
        record: StepRecord,
        facts: AttemptFacts,
        *,
        output: Location | None = None,
    ) -> StepInfo:
        """Record the end of an attempt that has no result; what there is of its output is at ``output``."""

    @abstractmethod
    def renew(self) -> tuple[Superseded, ...]:
        """Tell others that we are alive: to be called every 30 seconds or less while attempts are claimed.

        Returns those of our attempts that others took for lost.
        """

    def orphan(self, unique_id: str) -> Orphan | None:  # noqa: ARG002
        """Return the job of the latest attempt at a step if nobody looks after it and its end is not known.

        Here, there is none: where nothing outlives us, nothing is left.
        """
        return None

    def attempt_directory(self, unique_id: str, number: int) -> Path | None:  # noqa: ARG002
        """Return where an attempt's own files are, or were; None where there is no such place."""
        return None

    def settled(self, unique_id: str, number: int) -> bool:  # noqa: ARG002
        """Say whether the job of an attempt is of no use any more, so that whoever finds it may end it.

        Here, it never is: where jobs do not outlive their clients there are none to be found.
        """
        return False

    @abstractmethod
    def locate(self, unique_id: str) -> Location | None:
        """Return where a step's result is, or None where it has none.

        That of a step that is not to be cached is found while its run is registered.
        """

    def copy_of(self, unique_id: str) -> Path | None:  # noqa: ARG002
        """Return where :meth:`bring` puts a step's result on this machine; None where it is here already.

        Asks nobody, for steps of which :meth:`locate` was asked before.
        """
        return None

    def bring(self, unique_id: str) -> None:
        """Bring a step's result to where :meth:`copy_of` says, and hold it there while this process lives.

        Every byte is checked. Waits for the network, and may be called from several threads.
        """

    @abstractmethod
    def check_trust(self, unique_id: str) -> None:
        """Raise FormatError if reading a step's result would run code that somebody untrusted wrote."""

    @abstractmethod
    def completed(self, unique_ids: Iterable[str]) -> set[str]:
        """Return those of the steps that have a result to be used again. Fast for many."""

    def results_of(self, unique_ids: Iterable[str]) -> dict[str, StepInfo]:
        """Return what is known of those of the steps that have a result to be used again."""
        return {unique_id: self.step_info(unique_id) for unique_id in self.completed(unique_ids)}

    @abstractmethod
    def work_location(self, record: StepRecord) -> Location:
        """Return the place that a step keeps between attempts, made where missing."""

    def work_before(self, unique_id: str) -> Location | None:  # noqa: ARG002
        """Return the output of the latest ended attempt at a step that left work where its engine keeps it.

        The work is ``work/`` in there, or the archive ``work.tar``. None where there is none; here, there
        never is, and what :meth:`work_location` names holds it.
        """
        return None

    @abstractmethod
    def log_path(self, unique_id: str) -> Path | None:
        """Return the log of the attempt that gave the result, else of the latest with a log, else None."""


def _class_of(name: str) -> type[Workspace]:
    found: Any = Workspace.by_name(name)
    if not isinstance(found, type):
        raise ConfigurationError(f"workspace {name}://: is not a scheme", "write local:///path, or memory://")
    return cast("type[Workspace]", found)


Workspace.register("from_url", constructor="from_url")(Workspace)
Workspace.register_lazy("local", "dispatch.workspace.local:LocalWorkspace")
Workspace.register_lazy("memory", "dispatch.workspace.memory:MemoryWorkspace")
Workspace.register_lazy("beaker", "dispatch.workspace.beaker.workspace:BeakerWorkspace")
StepCache.register_lazy("memory", "dispatch.workspace.memory_cache:MemoryStepCache")
StepCache.register_lazy("beaker", "dispatch.workspace.beaker.step_cache:BeakerStepCache")
