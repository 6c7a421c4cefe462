"""Where a job's image comes from: the engine's own copy, a registry, or our own registry.

Owns the order of places, one pull for all jobs that need the same image, and what a job's events say of it.
An image of Beaker's is the one whose digest was fixed when it was committed: anything else is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dispatch._docker import Credentials, ImageRecord
from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.blobs import DIGEST
from dispatch.beakerd.repositories import TAG
from dispatch.beakerd.spec import ImageSource
from dispatch.beakerd.store import images, registry
from dispatch.errors import DispatchError, ImageError

REGISTRY_USER = "beaker"
# Between two events that say how far a pull is, and between two looks at whether it is still wanted.
SAY_EVERY = 10.0
LOOK_EVERY = 0.5
MB = 1_000_000


class ImageTrouble(DispatchError):
    """A job cannot have its image; the message says why."""


@dataclass
class _Pull:
    """One pull, which others may wait for. ``outcome`` is an image ID, what went wrong, or None where the
    pull was given up and is another's to do."""

    ended: threading.Event = field(default_factory=threading.Event)
    outcome: str | ImageTrouble | None = None


def repository(backend: Backend, image: str) -> str:
    """The place of an image in our registry, as this machine's engine reaches it."""
    return f"127.0.0.1:{backend.addresses.rest.rpartition(':')[2]}/{image.lower()}"


class ImageProvider:
    """Gets images into the engine. Safe to share between threads."""

    def __init__(self, backend: Backend, monotonic: Callable[[], float] = time.monotonic):
        self._backend = backend
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._pulls: dict[str, _Pull] = {}

    def provide(self, image: ImageSource, job_id: str) -> str:
        """Return the engine's ID of an image that is ready to run. It may take as long as a pull.

        :raises ImageTrouble: when it cannot be had, or the job is to stop, or the server goes
        :raises EngineError: when the engine does not answer, or breaks off
        """
        try:
            if image.beaker is not None:
                return self._from_beaker(image.beaker, job_id)
            reference = image.docker or ""
            # A reference of a registry may be one of the names that the configuration has images for.
            return self._from_reference(self._backend.config.images.get(reference, reference), job_id)
        except ImageError as error:
            raise ImageTrouble(error.message) from error

    def _from_reference(self, reference: str, job: str) -> str:
        def held() -> str | None:
            record = self._backend.door.inspect_image(reference)
            return None if record is None else record.id

        if (found := held()) is not None:
            return found
        if DIGEST.fullmatch(reference):
            raise ImageTrouble(f"image {reference}: the engine holds no image of this ID")
        return self._once(reference, job, held, lambda: self._pull(reference, job, None).id)

    def _from_beaker(self, image_id: str, job: str) -> str:
        with self._backend.database.read() as tx:
            image = images.get(tx, image_id)
        if image is None:
            raise ImageTrouble(f"image {image_id}: it was deleted")
        what = f"image {image.full_name or image.id}"
        if image.committed is None:
            raise ImageTrouble(f"{what}: it is not committed")
        if image.source == images.ENGINE:
            return self._from_reference(image.docker_tag, job)

        def held() -> str | None:
            record = self._backend.door.inspect_image(image.docker_id)
            return None if record is None else record.id

        def pull() -> str:
            record = self._pull_own(image.id, job)
            with self._backend.database.read() as tx:
                named = registry.manifest(tx, image.id, TAG)
            if record.id not in (image.docker_id, named and named.digest):
                raise ImageTrouble(
                    f"{what}: the engine got {record.id}, but it was committed as {image.docker_id}"
                )
            return record.id

        return held() or self._once(image.id, job, held, pull)

    def _once(self, key: str, job: str, held: Callable[[], str | None], pull: Callable[[], str]) -> str:
        """Pull, or wait for the pull of another job. What went wrong for one went wrong for all that waited,
        but a pull that is given up with its job is taken over by the next."""
        while True:
            with self._lock:
                current = self._pulls.get(key)
                if mine := current is None:
                    current = self._pulls[key] = _Pull()
            assert current is not None
            if mine:
                return self._lead(key, job, current, lambda: held() or pull())
            while not current.ended.wait(LOOK_EVERY):
                if not self._wanted(job):
                    raise ImageTrouble(f"image {key}: the job waits no longer for its pull")
            if isinstance(current.outcome, ImageTrouble):
                raise ImageTrouble(current.outcome.message)
            if current.outcome is not None:
                return current.outcome

    def _lead(self, key: str, job: str, current: _Pull, get: Callable[[], str]) -> str:
        try:
            current.outcome = get()
            return current.outcome
        except (ImageError, ImageTrouble) as error:
            if self._wanted(job):
                current.outcome = ImageTrouble(error.message)
            raise
        finally:
            with self._lock:
                del self._pulls[key]
            current.ended.set()

    def _pull_own(self, image: str, job: str) -> ImageRecord:
        """Pull from our own registry, with a token that is good for this one pull."""
        with self._backend.database.write() as tx:
            author = tx.execute("SELECT author_id FROM images WHERE id = ?", (image,)).fetchone()[0]
            who = Principal(author, Purpose.REGISTRY, subject=image)
            token = self._backend.access.issue(tx, who, self._backend.config.limits.storage_token)
        try:
            reference = f"{repository(self._backend, image)}:{TAG}"
            return self._pull(reference, job, Credentials(REGISTRY_USER, token))
        finally:
            with self._backend.database.write() as tx:
                images.forget_token(tx, token)

    def _pull(self, reference: str, job: str, credentials: Credentials | None) -> ImageRecord:
        progress = _Progress(lambda text: self._say(job, f"{reference}: {text}"), self._monotonic)
        self._say(job, f"{reference}: pulling")
        record = self._backend.door.pull(reference, progress, credentials, lambda: self._wanted(job))
        self._say(job, f"{reference}: pulled")
        return record

    def _say(self, job: str, text: str) -> None:
        with self._backend.database.write() as tx:
            self._backend.lifecycle.event(tx, job, "pulling", text)

    def _wanted(self, job: str) -> bool:
        if self._backend.closing.is_set():
            return False
        with self._backend.database.read() as tx:
            row = tx.execute("SELECT canceled, finalized FROM jobs WHERE id = ?", (job,)).fetchone()
        return row is None or (row["canceled"] is None and row["finalized"] is None)


class _Progress:
    """A reporter, and its one task, that now and then says how many bytes of a pull have come."""

    def __init__(self, say: Callable[[str], None], monotonic: Callable[[], float]):
        self._say = say
        self._monotonic = monotonic
        self._said = monotonic()
        self._come = self._total = 0

    def __call__(self, line: str, /) -> None:
        """See :class:`dispatch.reporting.Reporter`."""

    def task(self, _name: str, _total: int | None = None) -> _Progress:
        """See :class:`dispatch.reporting.Reporter`."""
        return self

    def advance(self, amount: int) -> None:
        """See :class:`dispatch.reporting.Task`."""
        self._come += amount
        if self._monotonic() - self._said >= SAY_EVERY:
            self._said = self._monotonic()
            self._say(f"{self._come // MB} of {self._total // MB} MB")

    def expect(self, total: int) -> None:
        """See :class:`dispatch.reporting.Task`."""
        self._total = total

    def done(self, *, broken: bool = False) -> None:
        """See :class:`dispatch.reporting.Task`."""
