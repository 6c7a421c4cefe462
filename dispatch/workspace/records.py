"""Between the values of ``dispatch.info`` and what is on disk. Decides, and touches no file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dispatch.errors import WorkspaceError
from dispatch.info import AttemptFacts, StepInfo, StepRecord, StepState
from dispatch.workspace.names import is_name

if TYPE_CHECKING:
    from dispatch.formats import Format
    from dispatch.workspace.attempts import Standing
    from dispatch.workspace.base import StepLike


class LazySteps(Mapping[str, StepInfo]):
    """The steps of a run by name; each is looked up when it is asked for, as it stands then."""

    def __init__(self, unique_ids: Mapping[str, str], look_up: Callable[[str], StepInfo]) -> None:
        self._unique_ids = unique_ids
        self._look_up = look_up

    def __getitem__(self, name: str) -> StepInfo:
        return self._look_up(self._unique_ids[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._unique_ids)

    def __len__(self) -> int:
        return len(self._unique_ids)

    def __repr__(self) -> str:
        return f"LazySteps({dict(self._unique_ids)!r})"


def record_of(step: StepLike) -> StepRecord:
    """Return a record as it is, and that of a step object."""
    if isinstance(step, StepRecord):
        return step
    return StepRecord(
        name=step.name,
        unique_id=step.unique_id,
        class_name=step.class_name,
        type=type(step).registered_name(type(step)) or f"{type(step).__module__}.{type(step).__qualname__}",
        version=step.VERSION,
        cacheable=step.cache_results,
        deterministic=step.DETERMINISTIC,
        dependencies=tuple(dependency.unique_id for dependency in step.dependencies),
        config={},
    )


def by_name(steps: Iterable[StepLike]) -> dict[str, StepRecord]:
    """Return the records of steps by name. ValueError for a bad name, and for one that two steps have."""
    found: dict[str, StepRecord] = {}
    for step in steps:
        record = record_of(step)
        # A step without a name goes by its unique id, which may be longer than a name.
        if record.name != record.unique_id and not is_name(record.name):
            raise ValueError(
                f"step name {record.name!r}: use up to 100 of A-Z a-z 0-9 _ . -, not led by . or -"
            )
        if found.setdefault(record.name, record).unique_id != record.unique_id:
            raise ValueError(f"step name {record.name!r}: two steps of the run have it")
    return found


def info(record: StepRecord, standing: Standing) -> StepInfo:
    """Say what is known of a step, from where it stands."""
    attempt = _attempt(standing)
    location = str(standing.directory / "result") if standing.directory else None
    if standing.manifest is not None:
        state = StepState.COMPLETED if record.cacheable else StepState.UNCACHEABLE
    elif standing.lease is not None:
        state = StepState.RUNNING
    elif attempt is not None and attempt.state is not StepState.COMPLETED:
        state = attempt.state
    else:
        # Never tried, cut off without an end, or completed once and its result removed since.
        state = StepState.INCOMPLETE if record.cacheable else StepState.UNCACHEABLE
    return StepInfo(record, state, attempt, location)


def _attempt(standing: Standing) -> AttemptFacts | None:
    if standing.facts:
        return AttemptFacts.from_json(standing.facts)
    if standing.lease is not None and standing.lease.since:
        return AttemptFacts(StepState.RUNNING, started=datetime.fromisoformat(standing.lease.since))
    return None


def record_in(standing: Standing) -> StepRecord | None:
    """Return the record that a result brings along, or None without a result."""
    return None if standing.manifest is None else StepRecord.from_json(standing.manifest.record)


def to_bytes(record: StepRecord) -> bytes:
    """Return a record's bytes, equal for equal records."""
    return (json.dumps(record.to_json(), indent=1, sort_keys=True) + "\n").encode("ascii")


def from_bytes(data: bytes) -> StepRecord:
    """Read :func:`to_bytes`' bytes. WorkspaceError for anything else."""
    try:
        raw = json.loads(data)
    except ValueError as error:
        raise WorkspaceError(
            f"a record of a step cannot be read: {error}", "it was changed or cut off: remove it"
        ) from error
    return StepRecord.from_json(raw)


def format_facts(format: Format[Any] | None) -> dict[str, Any] | None:
    """Return a format's name and version, for the manifest."""
    return None if format is None else {"name": format.NAME, "version": format.VERSION}


def facts_of_process(started: datetime, ended: datetime, error: BaseException | None = None) -> AttemptFacts:
    """Return the facts of an attempt made in this process."""
    if error is None:
        return AttemptFacts(StepState.COMPLETED, started, ended, phase="run")
    import traceback

    exception = {
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": str(error),
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }
    line = f"{type(error).__name__}: {error}".split("\n")[0]
    return AttemptFacts(StepState.FAILED, started, ended, phase="run", error=line, exception=exception)
