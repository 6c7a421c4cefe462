"""A job as an experiment: what the engine's threads know of it."""

from __future__ import annotations

import threading
from pathlib import Path

from dispatch._beaker import Experiment
from dispatch.engine.base import Handle, JobSpec
from dispatch.engine.beaker.joblog import BeakerLog
from dispatch.location import SharedPath

OUTPUT = "/dispatch/output"
WORK = "/dispatch/work"


class BeakerJob:
    """A job of ours. What several threads change is guarded by ``lock``.

    ``name`` is the experiment's, but for a suffix where the plain one was taken. ``known_at`` is when (by our
    monotonic clock) Beaker had it for sure, and ``experiment`` what it said of it since. ``asked`` is set
    before Beaker may have it, and ``brought`` where we brought what it needs. ``missed``: it ended, and not
    well, before anybody looked after it. ``claimed`` says that somebody sees to its end, ``told`` that this
    was told. ``datasets`` (ids) and ``secrets`` (names) are those to be removed with it.
    """

    def __init__(self, spec: JobSpec, name: str) -> None:
        self.spec = spec
        self.name = name
        self.lock = threading.Lock()
        self.log = BeakerLog(spec.attempt_dir, spec.secrets.values())
        self.experiment_id = ""
        self.experiment: Experiment | None = None
        self.known_at = 0.0
        self.asked = False
        self.brought = False
        self.missed = False
        self.cancelled = False
        self.claimed = False
        self.told = False
        self.begun = False
        self.queued_since: float | None = None
        self.last_try = ""
        self.waiting_try = ""
        self.waits_for = ""
        self.over_since: float | None = None
        self.refusals = 0
        self.datasets: list[str] = []
        self.secrets: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its key."""
        return self.spec.key

    @property
    def handle(self) -> Handle:
        """What its client holds."""
        return Handle(self.spec.key, self.name, self.spec.attempt_dir)

    @property
    def resumes(self) -> bool:
        """Whether Beaker starts it again by itself: only where what it has done by then is not lost."""
        return isinstance(source_of(self.spec, WORK), SharedPath)

    @property
    def is_shared(self) -> bool:
        """Whether it writes where the client reads."""
        return isinstance(source_of(self.spec, OUTPUT), SharedPath)


def source_of(spec: JobSpec, target: str) -> object:
    """What a job has mounted at a place, None for nothing."""
    return next((mount.source for mount in spec.mounts if mount.target == target), None)


def output_of(spec: JobSpec) -> Path:
    """Where what comes of a job's output is kept on this machine."""
    return spec.attempt_dir / "output"
