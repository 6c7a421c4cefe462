"""The Engine protocol: what runs jobs, and the values that go in and come out.

Nothing here is only Docker's or only Beaker's. The engine never retries: the dispatcher does.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dispatch.environment import ImageRef
from dispatch.location import HostPath, Location

RUN_LABEL = "dispatch.run"
STEP_LABEL = "dispatch.step"
ATTEMPT_LABEL = "dispatch.attempt"


class Network(enum.Enum):
    """What a job sees of the network."""

    BRIDGE = "bridge"
    NONE = "none"


@dataclass(frozen=True)
class Resources:
    """What a job is given: CPUs (fractions allowed), bytes of memory and of shared memory, GPU device ids.

    None means no limit of ours (shared memory: the engine's default). ``gpu_count`` is how many GPUs it gets
    of an engine that chooses them itself.
    """

    cpus: float | None = None
    memory: int | None = None
    shared_memory: int | None = None
    gpus: tuple[str, ...] = ()
    gpu_count: int = 0


@dataclass(frozen=True)
class Placement:
    """Where an engine of many machines may run a job, and how the job stands in its queue.

    ``clusters`` are names of the engine's own, of which one is enough. ``priority`` is ``low``, ``normal``,
    ``high``, ``urgent`` or ``immediate``. A job that is ``preemptible`` may be ended for another one, though
    not in its first ``min_runtime`` seconds. ``budget`` is who pays. None and empty leave it to the engine.
    """

    clusters: tuple[str, ...] = ()
    priority: str = ""
    preemptible: bool | None = None
    min_runtime: float | None = None
    budget: str = ""


@dataclass(frozen=True)
class Mount:
    """A location shown inside the container at the absolute path ``target``.

    ``content`` names what is there where that never changes, whoever looks: an engine that does not see the
    location may keep a copy under this name. It is empty for everything else.
    """

    source: Location
    target: str
    read_only: bool = True
    content: str = ""


@dataclass(frozen=True)
class JobSpec:
    """One run of a command, engine-neutral: in a container of ``image``, or without one in a process here.

    ``key`` is unique for ever (``<unique id>.<attempt>``): submitting it twice attaches to the first.
    ``source`` is an exported tree that is never written; the engine's side shows a private writable copy
    of it at ``/src``. ``attempt_dir`` is the job's own place on the client's disk, where the engine's side
    may put that copy and the log. ``command`` replaces the image's entrypoint. A process is given ``env`` on
    top of the client's own; mounts it needs none. ``secrets`` are values by name, which the engine brings to
    the job as files that never touch a disk, and keeps out of everything it says or stores; those of
    ``secret_variables`` are in the job's environment, too. With ``attach`` the job is one that an earlier
    client started: where the engine has it no more, it is not started but told to be lost.

    ``placement`` is for engines of many machines, as is ``time_limit`` (seconds), after which the engine ends
    the job though no client is there. With ``collects`` false the result stays where the engine keeps it, as
    ``output`` tells: only what else is in the output comes to ``attempt_dir``. ``brings`` are steps whose
    results have to be on this machine's disk before the job starts. ``lasting_secrets`` are those of the
    secrets that are the account's and the same for every job: an engine that has to store them may keep them.
    """

    key: str
    run: str
    step: str
    attempt: int
    image: ImageRef | None
    command: tuple[str, ...]
    attempt_dir: Path
    mounts: tuple[Mount, ...] = ()
    source: HostPath | None = None
    working_dir: str = "/src"
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()
    network: Network = Network.BRIDGE
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret_variables: tuple[str, ...] = ()
    attach: bool = False
    placement: Placement | None = None
    time_limit: float | None = None
    collects: bool = True
    brings: tuple[str, ...] = ()
    lasting_secrets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Usage:
    """What a running job uses now: CPUs, bytes of memory, and the most memory it was seen to use."""

    cpus: float
    memory: int
    peak_memory: int


@dataclass(frozen=True)
class Holding:
    """What a running job of another client holds. ``directory`` is its attempt's; both names may be empty."""

    key: str
    directory: str
    resources: Resources


@dataclass(frozen=True)
class Handle:
    """A submitted job: our key and the engine's own id for it.

    ``directory`` is where its client keeps the attempt; None where the engine does not tell.
    """

    key: str
    engine_id: str
    directory: Path | None = field(default=None, compare=False)

    def is_of(self, attempt: Path | None) -> bool:
        """Say whether its attempt is kept there, by whatever path its client came: keys alone may collide."""
        return attempt is not None and self.directory is not None and _same(self.directory, attempt)


def _same(one: Path, other: Path) -> bool:
    return one == other or one.resolve() == other.resolve()


class JobState(enum.Enum):
    """What an event says about a job. One that is ``WAITING`` stands in the engine's own queue."""

    WAITING = "waiting"
    RUNNING = "running"
    EXITED = "exited"


class Reason(enum.Enum):
    """Why a job ended, as far as the engine knows; the job's own outcome decides about success."""

    STEP = "step"
    OOM = "oom"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    CANCELLED = "cancelled"
    LOST = "lost"
    IMAGE = "image"
    INFRA = "infra"


@dataclass(frozen=True)
class Event:
    """A change of one job. ``time`` is the engine's clock, in seconds since the epoch.

    ``message`` says why a job waits or ended, and of one that runs where a person can look at it.
    ``peak_memory`` is the most memory (bytes) that an ended job was seen to use, None where nobody looked.
    Of a job that runs, ``message`` is where a person can look at it, empty where there is no such place.
    ``output`` is where the result stays of an ended job that does not collect it.
    """

    key: str
    state: JobState
    time: float
    engine_id: str = ""
    node: str = ""
    reason: Reason = Reason.STEP
    exit_code: int | None = None
    message: str = ""
    cursor: str = ""
    peak_memory: int | None = None
    output: Location | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a probe found out about an engine.

    ``accepts`` are the kinds of location that it can mount, and ``obstacle`` says why others that are on this
    machine have to be copied. ``uid``/``gid`` is whom jobs run as so that the caller owns what they write.
    ``cpus`` and ``memory`` are those of the engine's host. ``gpus`` are device ids, and ``gpu_types`` the
    models of the same GPUs, empty where they are not known.
    """

    name: str
    accepts: tuple[type, ...]
    uid: int
    gid: int
    cpus: int
    memory: int
    gpus: tuple[str, ...] = ()
    gpu_types: tuple[str, ...] = ()
    obstacle: str = ""


class Engine(Protocol):
    """Runs jobs. All methods may raise :class:`~dispatch.errors.EngineError`."""

    def capabilities(self) -> Capabilities:
        """Probe once and remember; raise EngineError (with the remedy) where we cannot work."""

    def submit(self, jobs: Sequence[JobSpec]) -> list[Handle]:
        """Start jobs without waiting for them; a start that fails comes back as an EXITED event."""

    def next_event(self, timeout: float | None) -> Event | None:
        """Return the next event of any submitted or attached job, or None after ``timeout`` seconds.

        Of a job that waits long for a place it may tell so, and why, as often as that changes.
        For every job there is exactly one EXITED event; when it arrives the job's log is complete in
        ``<attempt_dir>/out.log`` and nothing of the job is running.
        """

    def logs(self, handle: Handle) -> Iterator[bytes]:
        """Yield the job's log so far (stdout and stderr interleaved as the engine kept them)."""

    def cancel(self, handles: Sequence[Handle], grace: float) -> None:
        """Ask jobs to stop, and kill those that are still there after ``grace`` seconds."""

    def find(self, run: str) -> list[Handle]:
        """Return the jobs of a run that the engine still knows, whichever client started them."""

    def usage(self, handles: Sequence[Handle]) -> Mapping[str, Usage]:
        """Return what jobs use now, by key; those that do not run, or cannot be told, are left out.

        May take a second. Not to be called from the dispatching thread.
        """

    def others(self) -> tuple[Holding, ...]:
        """Return what jobs of other clients hold of the engine's host now.

        The first call may ask the engine, later ones do not. As long as nothing changed it is the same tuple.
        """

    def output(self, handle: Handle) -> Location:
        """Return where the job's output directory is."""

    def release(self, handle: Handle) -> None:
        """Forget a job whose end has been recorded; unknown handles are ignored."""

    def settle(self) -> None:
        """Wait until what was released is forgotten: whoever ends after that leaves nothing behind."""

    def close(self) -> None:
        """Stop our own threads and connections. Running containers are left alone, processes are ended."""
