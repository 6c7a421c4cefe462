"""Who drives a run, as values and protocols: the right to do it, what is asked of its holder, and refusals.

A run is driven by one process at a time: it alone dispatches the run's steps, writes the journal and the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dispatch.errors import WorkspaceError
from dispatch.workspace.journal import Entry


class RunHeldError(WorkspaceError):
    """Somebody who is alive drives the run. ``holder`` says who, in words."""

    def __init__(self, run: str, holder: str) -> None:
        super().__init__(f"run {run!r}: {holder} drives it", f"see `dispatch follow {run}`")
        self.holder = holder


class RunCompletedError(WorkspaceError):
    """The run has all its results; there is nothing to drive."""

    def __init__(self, run: str) -> None:
        super().__init__(f"run {run!r}: is completed", f"see `dispatch show {run}`")


@dataclass(frozen=True)
class Driving:
    """The latest driver of a run: its number, counted from 1, its process, since when, and whether it lives.

    One on another machine counts as alive until nothing was heard of it for minutes.
    """

    number: int
    host: str
    pid: int
    since: str
    alive: bool

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Request:
    """Somebody wants the run to end, or, with ``steps``, these steps of it.

    ``grace`` is what jobs are given to stop, in seconds; None leaves that to the driver. ``sender`` says who
    asks, in words.
    """

    steps: tuple[str, ...] | None
    grace: float | None
    sender: str

    def to_json(self) -> dict[str, Any]:
        """Return the request in JSON types."""
        steps = None if self.steps is None else list(self.steps)
        return {"request": "cancel", "steps": steps, "grace": self.grace, "sender": self.sender}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Request:
        """Read :meth:`to_json`'s; KeyError, TypeError or ValueError for anything else."""
        if raw["request"] != "cancel":
            raise ValueError(f"unknown request {raw['request']!r}")
        steps = None if raw["steps"] is None else tuple(str(step) for step in raw["steps"])
        grace = None if raw["grace"] is None else float(raw["grace"])
        return cls(steps, grace, str(raw["sender"]))


class Journal(Protocol):
    """Tells what happened in a run, from the beginning of its journal."""

    def read(self) -> list[Entry]:
        """Return the entries that came since the last call. Waits for nothing."""


class Driver(ABC):
    """This process's right to drive a run, from the moment it is got until it is released or lost."""

    run: str
    number: int

    @abstractmethod
    def write(self, entry: Entry) -> None:
        """Add an entry to the run's journal; nothing where the right was lost. OSError as the disk has it."""

    @abstractmethod
    def requests(self) -> list[Request]:
        """Take what was asked of the driver since the last call; asking costs next to nothing."""

    @property
    @abstractmethod
    def is_lost(self) -> bool:
        """Whether somebody took this driver for gone, and drives the run now."""

    @abstractmethod
    def finish(self, state: str, facts: Mapping[str, Any] | None = None) -> None:
        """Record the run's end, and close its journal; a driver that was superseded records nothing."""

    @abstractmethod
    def release(self) -> None:
        """Drive no more. Without :meth:`finish` before, the run is one that nobody drives."""
