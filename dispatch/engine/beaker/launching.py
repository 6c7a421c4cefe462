"""From a job to an experiment that Beaker has, or to the reason why it has none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from dispatch._beaker import BeakerDoor, BeakerError, BeakerNotFoundError
from dispatch.engine.base import Reason
from dispatch.engine.beaker.baggage import Baggage
from dispatch.engine.beaker.ending import Finisher
from dispatch.engine.beaker.experiments import Experiments
from dispatch.engine.beaker.job import BeakerJob
from dispatch.errors import DispatchError

_log = logging.getLogger(__name__)


class Launcher:
    """Starts jobs, and attaches to them. ``wake`` is called when there is one more to wait for.

    Its methods may be called from several threads.
    """

    def __init__(
        self,
        door: BeakerDoor,
        experiments: Experiments,
        baggage: Baggage,
        finisher: Finisher,
        wake: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._door = door
        self._experiments = experiments
        self._baggage = baggage
        self._finisher = finisher
        self._wake = wake
        self._monotonic = monotonic

    def start(self, job: BeakerJob) -> None:
        """Bring a job to Beaker. Whatever happens, it has an end that will be told."""
        try:
            if job.spec.attach:
                self._attach(job)
            else:
                self._submit(job)
        except Exception as error:
            _log.debug("%s", job.key, exc_info=True)
            words = error.message if isinstance(error, DispatchError) else f"{type(error).__name__}: {error}"
            self._finisher.refuse(job, _reason(error), words)

    def _submit(self, job: BeakerJob) -> None:
        if job.cancelled:
            self._finisher.refuse(job, Reason.CANCELLED, "it was cancelled before it was submitted")
            return

        def asked() -> None:
            job.asked = True

        experiment_id = self._experiments.make(job.key, lambda: self._baggage.bring(job), asked)
        self._has(job, experiment_id)

    def _attach(self, job: BeakerJob) -> None:
        """Find what an earlier client left. What ended badly meanwhile is as good as lost."""
        found = self._experiments.of_key(job.key)
        held = [each for each in found if each.is_good] or [each for each in found if each.story.held]
        if not held:
            self._finisher.refuse(job, Reason.LOST, "Beaker has no experiment of it")
            return
        job.missed = not held[0].is_good
        job.experiment = held[0].experiment
        self._has(job, held[0].experiment.id)

    def _has(self, job: BeakerJob, experiment_id: str) -> None:
        with job.lock:
            job.asked = True
            job.experiment_id = experiment_id
            job.known_at = self._monotonic()
            cancelled = job.cancelled
        self._wake()
        if cancelled:
            self._door.experiments.cancel([experiment_id])


def _reason(error: Exception) -> Reason:
    if isinstance(error, BeakerNotFoundError) and "image" in error.message:
        return Reason.IMAGE
    if isinstance(error, BeakerError) and "image" in error.message.partition(":")[2]:
        return Reason.IMAGE
    return Reason.INFRA
