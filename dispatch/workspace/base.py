"""What a workspace is: the place of results, runs and records, behind one class.

Two callers, two halves. A user's program calls the one (``register_run``, ``step_starting`` …). The
dispatcher calls the other: it claims a step, has the attempt's directory filled by a job, and commits or
fails it. Both speak of the same states, so each sees what the other did.

Owns no storage; refuses to know engines and images.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union, cast

from dispatch.errors import ConfigurationError, StepStateError
from dispatch.location import Location
from dispatch.registrable import Registrable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from urllib.parse import ParseResult

    from dispatch.formats import Format
    from dispatch.info import AttemptFacts, Run, StepInfo, StepRecord
    from dispatch.step import Step
    from dispatch.workspace.runs import RunRecord

    StepLike = Union[Step, StepRecord]

T = TypeVar("T")


class StepHeldError(StepStateError):
    """Somebody who is alive works at the step. ``holder`` says who, in words."""

    def __init__(self, unique_id: str, holder: str) -> None:
        super().__init__(f"step {unique_id}: {holder} works at it", "wait for it to end, or stop it")
        self.holder = holder


class StepCompletedError(StepStateError):
    """The step has a result already; there is nothing to claim."""

    def __init__(self, unique_id: str) -> None:
        super().__init__(f"step {unique_id}: has a result", "read it, or remove it first")


class StepSupersededError(StepStateError):
    """A later attempt at the step was claimed, so this one may commit nothing."""

    def __init__(self, unique_id: str, number: int) -> None:
        super().__init__(
            f"step {unique_id}: attempt {number} was taken for lost, and a later one has begun",
            "wait for the later attempt",
        )


@dataclass(frozen=True)
class Attempt:
    """A claimed attempt at a step: its number, counted from 1 and never used again, and its own directory.

    The directory holds ``job/``, ``output/``, ``src/`` and ``scratch/``, and may hold ``out.log``. The result
    is expected in ``output/result/``. With ``replaces`` it takes the place of the result that is there.
    """

    unique_id: str
    number: int
    directory: Path
    replaces: bool = False

    @property
    def key(self) -> str:
        """The attempt's name, unique for ever in its workspace."""
        return f"{self.unique_id}.{self.number}"

    @property
    def result(self) -> Path:
        """Where the job leaves its result."""
        return self.directory / "output" / "result"


class StepCache(Registrable, ABC):
    """A mapping from steps to their results. Keys are steps and records, by ``unique_id``."""

    @abstractmethod
    def __contains__(self, step: object) -> bool:
        """Say whether the step has a result here."""

    @abstractmethod
    def __getitem__(self, step: StepLike) -> Any:
        """Return the step's result, read anew each time. KeyError where there is none."""

    @abstractmethod
    def __setitem__(self, step: StepLike, value: Any) -> None:
        """Store a result. ValueError where the step has one; a step that is not to be cached is ignored."""

    @abstractmethod
    def __delitem__(self, step: StepLike) -> None:
        """Remove a step's result. KeyError where there is none."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of results."""


class Workspace(Registrable, ABC):
    """A place for the results of steps, runs, and what is recorded of both."""

    default_implementation = "local"

    @property
    @abstractmethod
    def url(self) -> str:
        """A URL from which :meth:`from_url` makes the same workspace again."""

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

        parsed = urlparse(url)
        return _class_of(parsed.scheme).from_parsed_url(parsed)

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
        """Return what is known of a step. KeyError for a unique id of which nothing is known."""

    @abstractmethod
    def step_starting(self, step: StepLike) -> None:
        """Note that a step starts in this process. StepStateError if it runs elsewhere or has a result.

        A step that is not to be cached leaves no trace.
        """

    @abstractmethod
    def step_finished(self, step: Step, result: T) -> T:
        """Store the result of a step that was starting here, and return what to use in its place.

        An iterator is used up by storing it, so what was stored is read back. StepStateError if the step
        was not starting here.
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

    def step_result_for_run(self, run_name: str, step_name: str) -> Any:
        """Return the result of a run's step. KeyError where there is no such run, step or result."""
        return self.step_cache[self.step_of_run(run_name, step_name)]

    @abstractmethod
    def step_of_run(self, run_name: str, step_name: str) -> StepRecord:
        """Return the record of a run's step, target or job. KeyError where there is no such run or step."""

    @abstractmethod
    def run_record(self, name: str) -> RunRecord:
        """Return all that is stored of a run: targets, jobs, facts, end. KeyError where there is none."""

    def latest_run(self) -> str | None:
        """Return the name of the run that was registered last, or None if there is none."""
        return next(reversed(list(self.registered_runs())), None)

    def capture_logs_for_run(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Return a context in which the run's log records are kept; here, nothing is."""
        return contextlib.nullcontext()

    def work_dir(self, step: StepLike) -> Path:
        """Return a directory in which the step may keep its state between attempts; here, a temporary one."""
        import tempfile

        return Path(tempfile.mkdtemp(prefix=f"{step.unique_id}-"))

    # What the dispatcher calls

    @abstractmethod
    def claim(self, record: StepRecord, run: str) -> Attempt:
        """Begin an attempt at a step for a run.

        StepCompletedError if it has a result, StepHeldError if somebody alive works at it.
        """

    @abstractmethod
    def commit(
        self, attempt: Attempt, record: StepRecord, facts: AttemptFacts, format: Format[Any] | None = None
    ) -> StepInfo:
        """Make what the attempt left in ``output/result/`` the step's result, durably and at once.

        A result that is there already is kept, and this one dropped. Calling it again after a crash in the
        middle is right. StepSupersededError if a later attempt was claimed; FormatError if the files cannot
        be a result; StepStateError if there are none.
        """

    @abstractmethod
    def fail(self, attempt: Attempt, record: StepRecord, facts: AttemptFacts) -> StepInfo:
        """Record the end of an attempt that has no result."""

    @abstractmethod
    def renew(self) -> tuple[Attempt, ...]:
        """Tell others that we are alive: to be called every 30 seconds or less while attempts are claimed.

        Returns those of our attempts that others took for lost.
        """

    @abstractmethod
    def locate(self, unique_id: str) -> Location | None:
        """Return where a step's result is, or None where it has none."""

    @abstractmethod
    def check_trust(self, unique_id: str) -> None:
        """Raise FormatError if reading a step's result would run code that somebody untrusted wrote."""

    @abstractmethod
    def completed(self, unique_ids: Iterable[str]) -> set[str]:
        """Return those of the steps that have a result to be used again. Fast for many."""

    @abstractmethod
    def work_location(self, record: StepRecord) -> Location:
        """Return the place that a step keeps between attempts, made where missing."""

    @abstractmethod
    def log_path(self, unique_id: str) -> Path | None:
        """Return the log of the attempt that gave the result, else of the latest with a log, else None."""


def _class_of(name: str) -> type[Workspace]:
    found: Any = Workspace.by_name(name)
    return cast("type[Workspace]", found)


Workspace.register("from_url", constructor="from_url")(Workspace)
Workspace.register_lazy("local", "dispatch.workspace.local:LocalWorkspace")
