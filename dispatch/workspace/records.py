"""Between the values of ``dispatch.info`` and what is on disk. Decides, and touches no file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dispatch.errors import ConfigurationError, WorkspaceError
from dispatch.info import AttemptFacts, StepInfo, StepRecord, StepState
from dispatch.workspace import surroundings
from dispatch.workspace.names import is_name, is_unique_id
from dispatch.workspace.runs import RunRecord

if TYPE_CHECKING:
    from dispatch.formats import Format
    from dispatch.step import Step
    from dispatch.workspace.attempts import Standing
    from dispatch.workspace.base import StepLike


class LazySteps(Mapping[str, StepInfo]):
    """The steps of a run by name; each is looked up when it is asked for, as it stands then.

    Of one that was removed since, name and unique id are left.
    """

    def __init__(self, unique_ids: Mapping[str, str], look_up: Callable[[str], StepInfo]) -> None:
        self._unique_ids = unique_ids
        self._look_up = look_up

    def __getitem__(self, name: str) -> StepInfo:
        unique_id = self._unique_ids[name]
        try:
            return self._look_up(unique_id)
        except KeyError:
            return StepInfo(forgotten(name, unique_id), StepState.INCOMPLETE)

    def __iter__(self) -> Iterator[str]:
        return iter(self._unique_ids)

    def __len__(self) -> int:
        return len(self._unique_ids)

    def __repr__(self) -> str:
        return f"LazySteps({dict(self._unique_ids)!r})"


def forgotten(name: str, unique_id: str) -> StepRecord:
    """Return the record of a step of which nothing but its name and id is known."""
    return StepRecord(name, unique_id, "", "", None, True, True, (), {})


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
        config=_plain(step, "config", step.config),
        identity=_identity_of(step),
        metadata=_plain(step, "metadata", step.metadata),
    )


def _plain(step: Step, what: str, value: Mapping[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(value), allow_nan=False))
        return plain
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"step {step.name!r}: its {what} cannot be kept: {error}", "let it hold only what JSON can hold"
        ) from error


def _identity_of(step: Step) -> dict[str, Any]:
    """Return what the unique id of a step object is the digest of; nothing where it was given an id."""
    from dispatch.fingerprint import canonical, resolve
    from dispatch.step import describe_step

    try:
        found = describe_step(type(step), "", step.kwargs, step.format, name=step.name)
        return {
            "type": found["type"],
            "version": found["version"],
            "format": canonical(found["format"]),
            "arguments": resolve(found["arguments"], {}),
        }
    except ConfigurationError:
        # Its id was given because none can be computed.
        return {}


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


def run_record(
    name: str,
    targets: Iterable[StepLike],
    jobs: Iterable[StepLike],
    facts: Mapping[str, Any] | None,
    start_date: datetime,
) -> tuple[RunRecord, list[StepRecord]]:
    """Return a run as it is stored, and the records of all its steps. ValueError for a bad name."""
    if not is_name(name):
        raise ValueError(f"run name {name!r}: use up to 100 of A-Z a-z 0-9 _ . -, not led by . or -")
    wanted = by_name(targets)
    others = {step: record for step, record in by_name(jobs).items() if step not in wanted}
    run = RunRecord(
        name,
        start_date,
        targets={step: record.unique_id for step, record in wanted.items()},
        jobs={step: record.unique_id for step, record in others.items()},
        facts=dict(facts or {}),
    )
    return run, [*others.values(), *wanted.values()]


def check_id(record: StepRecord) -> None:
    """Raise ConfigurationError where a record's unique id could not be the name of a file."""
    if not is_unique_id(record.unique_id):
        raise ConfigurationError(f"step {record.unique_id!r}: cannot be a unique id")


def info(record: StepRecord, standing: Standing) -> StepInfo:
    """Say what is known of a step, from where it stands."""
    attempt = _attempt(standing)
    location = str(standing.directory / "result") if standing.directory else None
    state = state_of(record, standing.manifest is not None, standing.lease is not None, attempt)
    return StepInfo(record, state, attempt, location)


def state_of(record: StepRecord, has_result: bool, running: bool, attempt: AttemptFacts | None) -> StepState:
    """Say in which state a step is: a result outweighs who works at it, and that the end of an attempt."""
    if has_result:
        return StepState.COMPLETED if record.cacheable else StepState.UNCACHEABLE
    if running:
        return StepState.RUNNING
    if attempt is not None and attempt.state is not StepState.COMPLETED:
        return attempt.state
    # Never tried, cut off without an end, or completed once and its result removed since.
    return StepState.INCOMPLETE if record.cacheable else StepState.UNCACHEABLE


def _attempt(standing: Standing) -> AttemptFacts | None:
    if standing.facts:
        return AttemptFacts.from_json(standing.facts)
    if standing.lease is not None and standing.lease.since:
        holder = standing.lease.holder
        return AttemptFacts(
            StepState.RUNNING,
            started=datetime.fromisoformat(standing.lease.since),
            platform={} if holder is None else {"host": holder.host},
            environment={} if holder is None else {"pid": holder.pid, "run": holder.run},
        )
    return None


def record_in(standing: Standing) -> StepRecord | None:
    """Return the record that a result brings along, or None without a result."""
    return None if standing.manifest is None else StepRecord.from_json(standing.manifest.record)


def to_bytes(record: StepRecord) -> bytes:
    """Return a record's bytes, equal for equal records."""
    # On one line: only so does Python's encoder run in C, and there is one for each step of a run.
    return (json.dumps(record.to_json(), sort_keys=True) + "\n").encode("ascii")


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
    machine, process = surroundings.machine(), surroundings.process()
    facts = AttemptFacts(
        StepState.COMPLETED, started, ended, phase="run", platform=machine, environment=process
    )
    if error is None:
        return facts
    import traceback

    exception = {
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "message": str(error),
        "traceback": "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    }
    line = f"{type(error).__name__}: {error}".split("\n")[0]
    return replace(facts, state=StepState.FAILED, error=line, exception=exception)
