"""From a claimed attempt to a committed result: the only module that changes the state of steps.

A step's state is derived: a manifest in the cache is a result, an ``attempt.json`` of the latest attempt is
its end, a living holder of the latest lease is at work, and anything else is work to be done. A crash between
any two changes leaves one of these; nothing has to be repaired.

A holder that was taken for lost may still be alive and go on where it was stopped, at any point. So an
attempt is barred before the next number is taken: its draft is moved away and a file put in its place, after
which no rename of its can reach the cache.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.errors import StepStateError
from dispatch.workspace import manifest as manifests
from dispatch.workspace.claims import (
    Adopts,
    Attempt,
    Orphan,
    StepCompletedError,
    StepHeldError,
    StepSupersededError,
    Superseded,
)
from dispatch.workspace.disk import Disk
from dispatch.workspace.host import Host
from dispatch.workspace.layout import ATTEMPT_FOLDERS, Layout
from dispatch.workspace.leases import Lease, Leases
from dispatch.workspace.manifest import Manifest
from dispatch.workspace.shelf import Shelf

if TYPE_CHECKING:
    from dispatch.info import StepRecord

END = "attempt.json"
DRAFT = "commit"
ASIDE = "superseded"
# The reason of an attempt whose end nobody saw.
LOST = "lost"


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _below(limit: int) -> int:
    return int.from_bytes(os.urandom(8), "big") % limit


@dataclass(frozen=True)
class Ports:
    """What a workspace uses of the world: disk, processes, wall and monotonic clock, chance, and who we are.

    ``below(n)`` draws an integer from 0 to n-1; ``uid`` gives the account we run as.
    """

    disk: Disk = field(default_factory=Disk)
    host: Host = field(default_factory=Host)
    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic
    below: Callable[[int], int] = _below
    uid: Callable[[], int] = os.getuid


@dataclass(frozen=True)
class Standing:
    """Where a step stands: its result, else the end of its latest attempt, else who works at it.

    ``directory`` is where the result is; ``facts`` are those of the ended attempt, as JSON.
    """

    number: int = 0
    manifest: Manifest | None = None
    directory: Path | None = None
    facts: Mapping[str, Any] | None = None
    lease: Lease | None = None


class Attempts:
    """Attempts at the steps of one workspace. Its methods may be called from several threads."""

    def __init__(self, layout: Layout, ports: Ports) -> None:
        self._layout = layout
        self._disk = ports.disk
        self._now = ports.now
        self._shelf = Shelf(layout, ports.disk)
        self._leases = Leases(layout.leases, ports.disk, ports.host, ports.monotonic)

    def has_result(self, unique_id: str) -> bool:
        """Say whether the cache holds a result of the step."""
        return self._shelf.has_result(unique_id)

    def claim(
        self, record: StepRecord, run: str, replace: bool = False, adopts: Adopts | None = None
    ) -> Attempt:
        """Begin an attempt; see :meth:`dispatch.workspace.base.Workspace.claim`."""
        unique_id = record.unique_id
        once = record.cacheable and not replace
        while True:
            if once and self.has_result(unique_id):
                raise StepCompletedError(unique_id)
            number = self._leases.highest(unique_id)
            lease = self._leases.read(unique_id, number) if number else None
            ended = self._ended(unique_id, number) if number else True
            if not ended and lease is not None and not self._leases.stale(lease):
                raise StepHeldError(unique_id, str(lease.holder or "another process"))
            orphan = self._orphan(unique_id, number, lease) if adopts is not None else None
            adopted = orphan.number if adopts is not None and orphan is not None and adopts(orphan) else 0
            if not ended:
                self._bar(self._layout.attempt(unique_id, number))
            attempt = self._take(unique_id, number + 1, run, adopted)
            if attempt is not None:
                break
        # Whoever held the step before may have committed between our look at the cache and our lease.
        if once and self.has_result(unique_id):
            self._end(attempt, {})
            raise StepCompletedError(unique_id)
        self._bring_back(attempt)
        return dataclasses.replace(attempt, replaces=replace and record.cacheable)

    def commit(
        self, attempt: Attempt, record: StepRecord, facts: Mapping[str, Any], format: dict[str, Any] | None
    ) -> None:
        """Make the attempt's result the step's; see :meth:`dispatch.workspace.base.Workspace.commit`."""
        if record.cacheable and self._is_done(attempt):
            self._end(attempt, facts)
            return
        try:
            draft = self._draft(attempt, record, facts, format)
            if record.cacheable:
                self._shelf.adopt(draft, attempt)
        except OSError as error:
            if self._is_superseded(attempt):
                raise StepSupersededError(attempt.unique_id, attempt.number) from error
            raise
        self._end(attempt, facts)

    def end(self, attempt: Attempt, facts: Mapping[str, Any]) -> None:
        """Record the end of an attempt that has no result."""
        self._end(attempt, facts)

    def renew(self) -> tuple[Superseded, ...]:
        """Renew our leases, and return the attempts that others took for lost."""
        return tuple(self._superseded(*key) for key in self._leases.renew())

    def _superseded(self, unique_id: str, number: int) -> Superseded:
        ours = self._leases.read(unique_id, number)
        theirs = self._leases.read(unique_id, number + 1)
        attempt = Attempt(
            unique_id, number, self._layout.attempt(unique_id, number), adopts=ours.adopts if ours else 0
        )
        # A lease that cannot be read yet may be an adoption: then the job is not ours to stop.
        return Superseded(attempt, theirs is None or theirs.holder is None or bool(theirs.adopts))

    def standing(self, unique_id: str) -> Standing:
        """Find out where a step stands."""
        directory = self._layout.cache(unique_id)
        manifest = Manifest.read(directory / manifests.NAME)
        if manifest is not None:
            return Standing(manifest.attempt, manifest, directory, manifest.facts)
        number = self._leases.highest(unique_id)
        if number == 0:
            return Standing()
        facts = self._facts(unique_id, number)
        if facts is None:
            return Standing(number, lease=self._holder(unique_id, number))
        draft = self._layout.attempt(unique_id, number) / DRAFT
        manifest = Manifest.read(draft / manifests.NAME)
        # Only a step that is not to be cached keeps its result with its attempt.
        if manifest is None or manifest.record["cacheable"] or facts.get("state") != "completed":
            return Standing(number, facts=facts)
        return Standing(number, manifest, draft, facts)

    def holder(self, unique_id: str, number: int | None = None) -> Lease | None:
        """Return the lease under which somebody works at a step who is, for all we know, alive.

        Without ``number`` it is the latest lease that counts.
        """
        return self._holder(unique_id, self._leases.highest(unique_id) if number is None else number)

    def abandoned(self, unique_id: str) -> int | None:
        """Return the step's latest attempt if it has no end, and its holder is known to be gone."""
        number = self._leases.highest(unique_id)
        lost = number and not self._ended(unique_id, number) and self._holder(unique_id, number) is None
        return number if lost else None

    def abandon(self, unique_id: str, number: int) -> None:
        """Write the end of an abandoned attempt, so that nobody elsewhere waits for its holder."""
        attempt = Attempt(unique_id, number, self._layout.attempt(unique_id, number))
        self._bar(attempt.directory)
        self._end(attempt, {})

    def log(self, unique_id: str) -> Path | None:
        """Return the log of the attempt with the result, else the latest log there is."""
        manifest = Manifest.read(self._layout.cache(unique_id) / manifests.NAME)
        first = manifest.attempt if manifest else self._leases.highest(unique_id)
        for number in range(first, 0, -1):
            path = self._layout.attempt(unique_id, number) / "out.log"
            if path.exists():
                return path
        return None

    def _holder(self, unique_id: str, number: int) -> Lease | None:
        """Return the lease of this number if its attempt has no end and its holder is not gone."""
        if number == 0 or self._ended(unique_id, number):
            return None
        lease = self._leases.read(unique_id, number)
        return None if lease is None or self._leases.stale(lease) else lease

    def _ended(self, unique_id: str, number: int) -> bool:
        return (self._layout.attempt(unique_id, number) / END).exists()

    def _orphan(self, unique_id: str, number: int, lease: Lease | None) -> Orphan | None:
        """Return the job of the latest attempt if nobody looks after it and its end is not known."""
        if lease is None:
            return None
        facts = self._facts(unique_id, number) if self._ended(unique_id, number) else None
        # An end that says nothing was written for a holder that was gone.
        if facts and facts.get("reason") != LOST:
            return None
        place = self._layout.attempt(unique_id, lease.adopts or number)
        if not (place / "output").is_dir():
            return None
        return Orphan(unique_id, lease.adopts or number, place, lease.holder.run if lease.holder else "")

    def _bring_back(self, attempt: Attempt) -> None:
        """Put a result that a former holder was about to commit back to where the job left it."""
        if not attempt.adopts or attempt.result.is_dir():
            return
        for number in range(attempt.adopts, attempt.number):
            former = self._layout.attempt(attempt.unique_id, number)
            for aside in sorted(former.glob(f"{ASIDE}.*")):
                if (aside / "result").is_dir():
                    self._disk.rename(aside / "result", attempt.result)
                    return

    def orphan(self, unique_id: str) -> Orphan | None:
        """Return the job of the latest attempt if nobody looks after it; see :class:`Orphan`."""
        number = self._leases.highest(unique_id)
        if number == 0 or self._holder(unique_id, number) is not None:
            return None
        return self._orphan(unique_id, number, self._leases.read(unique_id, number))

    def settled(self, unique_id: str, number: int) -> bool:
        """Say whether an attempt's job is of no use to anybody: its end is recorded, or there is a result."""
        latest = self._leases.highest(unique_id)
        if self._holder(unique_id, latest) is not None:
            return False
        return self.has_result(unique_id) or any(
            self._tells_end(unique_id, each, number) for each in range(number, latest + 1)
        )

    def _tells_end(self, unique_id: str, number: int, job: int) -> bool:
        """Say whether an attempt was about this job, and saw its end."""
        lease = self._leases.read(unique_id, number)
        facts = self._facts(unique_id, number)
        about = number == job or (lease is not None and lease.adopts == job)
        return about and bool(facts and facts.get("reason") != LOST)

    def looks_after(self, unique_id: str, number: int) -> bool:
        """Say whether somebody alive works at an attempt's job, under its number or a later one."""
        latest = self._leases.highest(unique_id)
        lease = self._holder(unique_id, latest)
        return lease is not None and number in (latest, lease.adopts)

    def _take(self, unique_id: str, number: int, run: str, adopts: int) -> Attempt | None:
        """Take the lowest free number from ``number`` on, or None where somebody else did.

        An attempt without a lease is what a power cut left: its number is passed over.
        """
        since = self._now().isoformat()
        while self._leases.take(unique_id, number, run, since, adopts):
            attempt = Attempt(unique_id, number, self._layout.attempt(unique_id, number), adopts=adopts)
            try:
                self._disk.make_new_dir(attempt.directory)
            except FileExistsError:
                self._leases.drop(unique_id, number)
                number += 1
                continue
            for folder in ATTEMPT_FOLDERS:
                self._disk.make_new_dir(attempt.directory / folder)
            return attempt
        return None

    def _bar(self, directory: Path) -> None:
        """Make sure that this attempt never commits anything, whatever its holder does and at whatever point.

        Its directory is made where it is missing, so that a holder that has only its lease gets no further.
        """
        self._disk.make_dir(directory)
        draft = directory / DRAFT
        while not draft.is_file():
            try:
                self._disk.create(draft, b"")
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    if draft.is_dir():
                        self._disk.rename(draft, directory / f"{ASIDE}.{os.urandom(6).hex()}")

    def _is_superseded(self, attempt: Attempt) -> bool:
        barred = (attempt.directory / DRAFT).is_file()
        return barred or self._leases.highest(attempt.unique_id) != attempt.number

    def _is_done(self, attempt: Attempt) -> bool:
        """Say whether the cache holds what this attempt would commit, or would have to leave there."""
        if not attempt.replaces:
            return self.has_result(attempt.unique_id)
        if self._shelf.number(attempt.unique_id) != attempt.number:
            return False
        left = any(path.is_dir() for path in (attempt.directory / DRAFT, attempt.result))
        return not left or self._ended(attempt.unique_id, attempt.number)

    def _draft(
        self, attempt: Attempt, record: StepRecord, facts: Mapping[str, Any], format: dict[str, Any] | None
    ) -> Path:
        """Bring the result and its manifest to the disk in a directory that only has to be renamed."""
        if self._is_superseded(attempt):
            raise StepSupersededError(attempt.unique_id, attempt.number)
        draft = attempt.directory / DRAFT
        moved = draft / "result"
        source = moved if moved.is_dir() else attempt.result
        if source.is_symlink() or not source.is_dir():
            raise StepStateError(
                f"step {attempt.unique_id}: attempt {attempt.number} left no result",
                f"look at the files in {attempt.directory}",
            )
        content = manifests.survey(source)
        manifest = Manifest(attempt.unique_id, attempt.number, record.to_json(), dict(facts), content, format)
        self._disk.make_dir(draft)
        self._disk.write(draft / manifests.NAME, manifest.to_bytes())
        if source != moved:
            self._disk.rename(source, moved)
        # All at last and together: the system then brings what belongs together to the disk at once.
        manifests.settle(moved, content, self._disk.flush)
        self._disk.sync(draft / manifests.NAME)
        self._disk.sync(draft)
        return draft

    def _facts(self, unique_id: str, number: int) -> Mapping[str, Any] | None:
        try:
            data = json.loads((self._layout.attempt(unique_id, number) / END).read_bytes())
            return dict(data["facts"])
        except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, ValueError):
            # A power cut may have left an end that says nothing.
            return None

    def _end(self, attempt: Attempt, facts: Mapping[str, Any]) -> None:
        data = {"attempt": attempt.number, "facts": dict(facts)}
        self._disk.write(attempt.directory / END, json.dumps(data).encode() + b"\n")
        self._leases.drop(attempt.unique_id, attempt.number)
