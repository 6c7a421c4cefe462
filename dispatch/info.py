"""What is recorded of steps, attempts and runs, as values with an exact JSON form.

Owns the meaning of the fields. Where records are kept, and which state a step is in, the workspace decides.
All times are aware; JSON holds them in ISO 8601 with all their digits.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dispatch.errors import WorkspaceError

_SURROUNDINGS = ("platform", "environment")


class StepState(enum.Enum):
    """Where a step stands in a workspace."""

    INCOMPLETE = "incomplete"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    UNCACHEABLE = "uncacheable"


@dataclass(frozen=True)
class StepRecord:
    """What the client knows of a step: what it is, not what became of it.

    ``dependencies`` are unique ids. ``config`` is the step as config says it, in JSON types. ``identity`` is
    what the unique id is the digest of (``type``, ``version``, and the canonical trees ``format`` and
    ``arguments``, references resolved; see ``fingerprint``), so that two ids can be compared by what went
    into them. ``metadata`` is the user's own. Both are empty where they are not known.
    """

    name: str
    unique_id: str
    class_name: str
    type: str
    version: str | None
    cacheable: bool
    deterministic: bool
    dependencies: tuple[str, ...]
    config: Mapping[str, Any]
    identity: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record in JSON types."""
        mappings = {name: dict(getattr(self, name)) for name in ("config", "identity", "metadata")}
        return {**_fields_of(self), **mappings, "dependencies": list(self.dependencies)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> StepRecord:
        """Return what ``to_json`` was given. Unknown keys are left out. WorkspaceError for anything else."""
        try:
            known = _known(cls, {"identity": {}, "metadata": {}, **raw})
            _expect(known, str, "name", "unique_id", "class_name", "type")
            _expect(known, bool, "cacheable", "deterministic")
            _expect(known, (str, type(None)), "version")
            known["dependencies"] = tuple(known["dependencies"])
            for item in known["dependencies"]:
                _expect({"": item}, str, "")
            for name in ("config", "identity", "metadata"):
                known[name] = dict(known[name])
            return cls(**known)
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed("step", error) from error


@dataclass(frozen=True)
class AttemptFacts:
    """What one attempt at a step was, and how it ended.

    ``phase`` is that of the entrypoint in which it ended, ``reason`` the engine's word for the end,
    ``error`` one line for people, empty on success. ``exception`` has the texts ``type``, ``message`` and
    ``traceback``. ``image`` is the image's name in the config, ``image_digest`` what it was. ``commit`` and
    ``tree`` are those of the source, ``code`` is the digest of all its ``*.py`` (empty: not known).
    ``phases`` maps each phase to its seconds. ``platform`` is the machine (``os``, ``cpu_count``, ``user``,
    ``host``), ``environment`` the process (``python``, ``executable``, ``command``, ``root``, ``dispatch``,
    and ``git`` with ``commit`` and ``remote``); each holds what is known, in JSON types. ``peak_memory`` is
    the most memory (bytes) that it was seen to use.
    """

    state: StepState
    started: datetime | None = None
    ended: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    phase: str = ""
    error: str = ""
    exception: Mapping[str, str] | None = None
    image: str = ""
    image_digest: str = ""
    commit: str = ""
    tree: str = ""
    engine: str = ""
    interpreter: str | None = None
    phases: Mapping[str, float] = field(default_factory=dict)
    code: str = ""
    platform: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    peak_memory: int | None = None

    @classmethod
    def refused(cls, error: str) -> AttemptFacts:
        """The facts of an attempt that never started, or whose end could not be recorded as it was."""
        return cls(StepState.FAILED, error=error)

    @property
    def duration(self) -> timedelta | None:
        """From start to end, where both are known."""
        return None if self.started is None or self.ended is None else self.ended - self.started

    def to_json(self) -> dict[str, Any]:
        """Return the facts in JSON types. ValueError for a time that is not aware."""
        return {
            **_fields_of(self),
            "state": self.state.value,
            "started": _time_to_json(self.started),
            "ended": _time_to_json(self.ended),
            "exception": None if self.exception is None else dict(self.exception),
            **{name: dict(getattr(self, name)) for name in ("phases", *_SURROUNDINGS)},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> AttemptFacts:
        """Return what ``to_json`` was given. Unknown keys are left out. WorkspaceError for anything else.

        ``code``, ``platform``, ``environment`` and ``peak_memory`` may be missing: earlier records do not
        have them.
        """
        try:
            known = _known(cls, {"code": "", "platform": {}, "environment": {}, "peak_memory": None, **raw})
            texts = ("reason", "phase", "error", "image", "image_digest", "commit", "tree", "engine", "code")
            _expect(known, str, *texts)
            _expect(known, (int, type(None)), "exit_code", "peak_memory")
            _expect(known, (str, type(None)), "interpreter")
            known["state"] = StepState(known["state"])
            known["started"] = _time_from_json(known["started"])
            known["ended"] = _time_from_json(known["ended"])
            known["exception"] = None if known["exception"] is None else dict(known["exception"])
            for name in ("phases", *_SURROUNDINGS):
                known[name] = dict(known[name])
            return cls(**known)
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed("attempt", error) from error


@dataclass(frozen=True)
class StepInfo:
    """A step in a workspace: what it is, its state, and its latest attempt, if there was one.

    ``result_location`` says where the result is, as the workspace names it, or is None.
    """

    record: StepRecord
    state: StepState
    attempt: AttemptFacts | None = None
    result_location: str | None = None

    @property
    def unique_id(self) -> str:
        """The step's unique id."""
        return self.record.unique_id

    @property
    def step_name(self) -> str:
        """The name that the step was last given."""
        return self.record.name

    @property
    def step_class_name(self) -> str:
        """The name of the step's class."""
        return self.record.class_name

    @property
    def version(self) -> str | None:
        """The VERSION of the step's class."""
        return self.record.version

    @property
    def dependencies(self) -> frozenset[str]:
        """The unique ids of the steps whose results it takes."""
        return frozenset(self.record.dependencies)

    @property
    def cacheable(self) -> bool:
        """Whether its result is kept to be used again."""
        return self.record.cacheable

    @property
    def config(self) -> Mapping[str, Any]:
        """The step as config says it."""
        return self.record.config

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the user attached to the step."""
        return self.record.metadata

    @property
    def platform(self) -> Mapping[str, Any]:
        """The machine of the latest attempt; empty where that is not known."""
        return {} if self.attempt is None else self.attempt.platform

    @property
    def environment(self) -> Mapping[str, Any]:
        """The interpreter, command and source of the latest attempt; empty where they are not known."""
        return {} if self.attempt is None else self.attempt.environment

    @property
    def start_time(self) -> datetime | None:
        """When the latest attempt started."""
        return None if self.attempt is None else self.attempt.started

    @property
    def end_time(self) -> datetime | None:
        """When the latest attempt ended."""
        return None if self.attempt is None else self.attempt.ended

    @property
    def start_time_local(self) -> datetime | None:
        """:attr:`start_time` in the zone of this machine."""
        return None if self.start_time is None else self.start_time.astimezone()

    @property
    def end_time_local(self) -> datetime | None:
        """:attr:`end_time` in the zone of this machine."""
        return None if self.end_time is None else self.end_time.astimezone()

    @property
    def duration(self) -> timedelta | None:
        """How long the latest attempt took."""
        return None if self.attempt is None else self.attempt.duration

    @property
    def error(self) -> str | None:
        """Why the latest attempt failed, in one line."""
        return (self.attempt.error or None) if self.attempt is not None else None

    def to_json(self) -> dict[str, Any]:
        """Return the information in JSON types."""
        return {
            "record": self.record.to_json(),
            "state": self.state.value,
            "attempt": None if self.attempt is None else self.attempt.to_json(),
            "result_location": self.result_location,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> StepInfo:
        """Return what ``to_json`` was given. WorkspaceError for anything else."""
        try:
            attempt = None if raw["attempt"] is None else AttemptFacts.from_json(raw["attempt"])
            location = _expect(dict(raw), (str, type(None)), "result_location")["result_location"]
            return cls(StepRecord.from_json(raw["record"]), StepState(raw["state"]), attempt, location)
        except (KeyError, TypeError, ValueError) as error:
            raise _malformed("step", error) from error


@dataclass(frozen=True)
class Run:
    """A run: its name, its targets by name, and when it was registered."""

    name: str
    steps: Mapping[str, StepInfo]
    start_date: datetime


@dataclass(frozen=True)
class RunInfo:
    """A run as a listing shows it; ``steps`` are its targets where the workspace tells them at no cost."""

    name: str
    start_date: datetime
    steps: Mapping[str, StepInfo] | None = None


def _fields_of(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def _known(cls: Any, raw: Mapping[str, Any]) -> dict[str, Any]:
    # Not dataclasses.fields, which takes longer than all the rest: there is one record for each step.
    return {name: raw[name] for name in cls.__dataclass_fields__}


def _expect(raw: dict[str, Any], kind: Any, *names: str) -> dict[str, Any]:
    for name in names:
        if not isinstance(raw[name], kind):
            raise TypeError(f"{name or 'an item'} is a {type(raw[name]).__name__}")
    return raw


def _time_to_json(time: datetime | None) -> str | None:
    if time is not None and time.utcoffset() is None:
        raise ValueError(f"{time.isoformat()} is in no time zone")
    return None if time is None else time.isoformat()


def _time_from_json(text: str | None) -> datetime | None:
    time = None if text is None else datetime.fromisoformat(text)
    if time is not None and time.utcoffset() is None:
        raise ValueError(f"{text} is in no time zone")
    return time


def _malformed(what: str, error: Exception) -> WorkspaceError:
    fact = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return WorkspaceError(
        f"a record of a {what} cannot be read: {fact}", "it was changed or cut off: remove it"
    )
