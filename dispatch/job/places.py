"""Where a job finds its things: in a container, and on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


class Layout(Protocol):
    """The places that every job has, as absolute paths.

    ``runtime`` and ``job`` are read-only; ``result`` is the step's alone, and below ``output``, where the
    outcome goes; ``work`` is what the step keeps between attempts.
    """

    @property
    def runtime(self) -> str:
        """The runtime."""

    @property
    def job(self) -> str:
        """The job's files."""

    @property
    def output(self) -> str:
        """The outcome, and the result below it."""

    @property
    def result(self) -> str:
        """The result."""

    @property
    def work(self) -> str:
        """The step's work directory."""


@dataclass(frozen=True)
class HostPlaces:
    """Where things are for a process of this machine: each where the client has it."""

    runtime: str
    job: str
    output: str
    work: str

    @property
    def result(self) -> str:
        """The result, the step's alone."""
        return f"{self.output}/result"


@dataclass(frozen=True)
class Places:
    """Where things are inside a container. Engines that cannot mount at ``/dispatch`` name another root."""

    root: str = "/dispatch"
    source: str = "/src"

    @property
    def runtime(self) -> str:
        """The runtime, read-only."""
        return f"{self.root}/runtime"

    @property
    def job(self) -> str:
        """The job's files, read-only."""
        return f"{self.root}/job"

    @property
    def output(self) -> str:
        """The outcome, and the result below it."""
        return f"{self.root}/output"

    @property
    def result(self) -> str:
        """The result, the step's alone."""
        return f"{self.output}/result"

    @property
    def work(self) -> str:
        """The step's work directory."""
        return f"{self.root}/work"

    @property
    def scratch(self) -> str:
        """Home, temporary files and caches; thrown away with the container."""
        return f"{self.root}/scratch"

    @property
    def secrets(self) -> str:
        """The values of secrets, in memory."""
        return f"{self.root}/secrets"

    def inputs(self, names: Iterable[str]) -> dict[str, str]:
        """Give each dependency, by name in order, the place of its result."""
        return {name: f"{self.root}/inputs/{number}" for number, name in enumerate(names)}

    def command(self) -> tuple[str, ...]:
        """The command of every container. By path through sh: the file need not be executable there."""
        return ("/bin/sh", f"{self.job}/entrypoint.sh")


@dataclass(frozen=True)
class BootedPlaces(Places):
    """Where things are in a container that makes its own places, from what an engine can mount.

    What may be an archive there is unpacked to where all jobs have it. The outcome, the result and the work
    directory are below the one directory that the engine captures.
    """

    @property
    def boot(self) -> str:
        """The script that begins, and the runtime: the same for all jobs."""
        return f"{self.root}/boot"

    @property
    def runtime(self) -> str:
        """The runtime, read-only."""
        return f"{self.boot}/runtime"

    @property
    def source_archive(self) -> str:
        """The exported tree, as an archive."""
        return f"{self.root}/source.tar"

    @property
    def before(self) -> str:
        """The output of the attempt before, whose work goes on: its ``work/``, or ``work.tar``."""
        return f"{self.root}/before"

    def packed(self, place: str) -> str:
        """Return where the archive is of what is to be at the place of an input."""
        return f"{self.root}/packed/{place.rpartition('/')[2]}.tar"

    def command(self) -> tuple[str, ...]:
        """The command of every container."""
        return ("/bin/sh", f"{self.boot}/start.sh")


CONTAINER = Places()
BOOTED = BootedPlaces()
