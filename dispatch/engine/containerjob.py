"""A job as a container: what the threads of an engine know of it."""

from __future__ import annotations

from dispatch.engine.base import Handle, JobSpec
from dispatch.engine.joblog import JobLog
from dispatch.engine.sandbox import Sandbox


class ContainerJob:
    """A job of ours, guarded by the engine's lock.

    ``started`` says that its container may run, ``claimed`` that somebody concludes its end, ``begun`` when
    the engine said that it runs (0: not yet). ``grace`` is set once it is cancelled, and ``outage`` once the
    engine was away while it ran.
    """

    def __init__(self, spec: JobSpec, name: str, sandbox: Sandbox) -> None:
        self.spec = spec
        self.name = name
        self.sandbox = sandbox
        self.log = JobLog(spec.attempt_dir, spec.secrets.values())
        self.started = False
        self.claimed = False
        self.grace: float | None = None
        self.begun = 0.0
        self.outage = False

    @property
    def handle(self) -> Handle:
        """What its client holds."""
        return Handle(self.spec.key, self.name, self.spec.attempt_dir)
