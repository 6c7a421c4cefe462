"""From a claimed attempt to a committed result: the only module that changes the state of steps.

A step's state is derived: a manifest in the cache is a result, an ``attempt.json`` of the latest attempt is
its end, a living holder of the latest lease is at work, and anything else is work to be done. A crash between
any two changes leaves one of these; nothing has to be repaired.
"""

from __future__ import annotations

import contextlib
import errno
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
from dispatch.workspace.base import Attempt, StepCompletedError, StepHeldError, StepSupersededError
from dispatch.workspace.disk import Disk
from dispatch.workspace.host import Host
from dispatch.workspace.layout import ATTEMPT_FOLDERS, Layout
from dispatch.workspace.leases import Lease, Leases
from dispatch.workspace.manifest import Manifest

if TYPE_CHECKING:
    from dispatch.info import StepRecord

_END = "attempt.json"
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


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
        self._leases = Leases(layout.leases, ports.disk, ports.host, ports.monotonic)

    def has_result(self, unique_id: str) -> bool:
        """Say whether the cache holds a result of the step."""
        return os.path.exists(f"{self._layout.results}/{unique_id}/{manifests.NAME}")  # noqa: PTH110

    def claim(self, record: StepRecord, run: str) -> Attempt:
        """Begin an attempt; see :meth:`dispatch.workspace.base.Workspace.claim`."""
        unique_id = record.unique_id
        while True:
            if record.cacheable and self.has_result(unique_id):
                raise StepCompletedError(unique_id)
            number = self._leases.highest(unique_id)
            holder = self._holder(unique_id, number)
            if holder is not None:
                raise StepHeldError(unique_id, str(holder.holder or "another process"))
            attempt = self._take(unique_id, number + 1, run)
            if attempt is not None:
                break
        # Whoever held the step before may have committed between our look at the cache and our lease.
        if record.cacheable and self.has_result(unique_id):
            self._end(attempt, {})
            raise StepCompletedError(unique_id)
        return attempt

    def commit(
        self, attempt: Attempt, record: StepRecord, facts: Mapping[str, Any], format: dict[str, Any] | None
    ) -> None:
        """Make the attempt's result the step's; see :meth:`dispatch.workspace.base.Workspace.commit`."""
        if record.cacheable and self.has_result(attempt.unique_id):
            self._end(attempt, facts)
            return
        if self._leases.highest(attempt.unique_id) != attempt.number:
            raise StepSupersededError(attempt.unique_id, attempt.number)
        draft = attempt.directory / "commit"
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
        self._disk.write(draft / manifests.NAME, manifest.to_bytes(), durable=True)
        if source != moved:
            self._disk.rename(source, moved)
        self._disk.sync(draft)
        if record.cacheable:
            self._adopt(draft, attempt)
        self._end(attempt, facts)

    def end(self, attempt: Attempt, facts: Mapping[str, Any]) -> None:
        """Record the end of an attempt that has no result."""
        self._end(attempt, facts)

    def renew(self) -> tuple[Attempt, ...]:
        """Renew our leases, and return the attempts that others took for lost."""
        lost = self._leases.renew()
        return tuple(Attempt(*key, self._layout.attempt(*key)) for key in lost)

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
        draft = self._layout.attempt(unique_id, number) / "commit"
        manifest = Manifest.read(draft / manifests.NAME)
        # Only a step that is not to be cached keeps its result with its attempt.
        if manifest is None or manifest.record["cacheable"] or facts.get("state") != "completed":
            return Standing(number, facts=facts)
        return Standing(number, manifest, draft, facts)

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
        if number == 0 or (self._layout.attempt(unique_id, number) / _END).exists():
            return None
        lease = self._leases.read(unique_id, number)
        return None if lease is None or self._leases.stale(lease) else lease

    def _take(self, unique_id: str, number: int, run: str) -> Attempt | None:
        """Take the lowest free number from ``number`` on, or None where somebody else did.

        An attempt without a lease is what a power cut left: its number is passed over.
        """
        since = self._now().isoformat()
        while self._leases.take(unique_id, number, run, since):
            attempt = Attempt(unique_id, number, self._layout.attempt(unique_id, number))
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

    def _adopt(self, draft: Path, attempt: Attempt) -> None:
        """Rename a prepared result into the cache, unless there is one.

        A directory without a manifest is no result and is moved out of the way; if somebody else put a result
        there at that very moment, it is put back.
        """
        target = self._layout.cache(attempt.unique_id)
        while not self.has_result(attempt.unique_id):
            try:
                self._disk.rename(draft, target)
            except OSError as error:
                if error.errno not in _OCCUPIED:
                    raise
                self._displace(target, attempt)
            else:
                self._disk.sync(self._layout.results)
                return
        self._disk.remove(draft)

    def _displace(self, target: Path, attempt: Attempt) -> None:
        aside = attempt.directory / f"displaced.{os.urandom(6).hex()}"
        if self.has_result(attempt.unique_id):
            return
        try:
            self._disk.rename(target, aside)
        except FileNotFoundError:
            return
        if (aside / manifests.NAME).exists():
            with contextlib.suppress(OSError):
                self._disk.rename(aside, target)

    def _facts(self, unique_id: str, number: int) -> Mapping[str, Any] | None:
        try:
            data = json.loads((self._layout.attempt(unique_id, number) / _END).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        facts: Mapping[str, Any] = data["facts"]
        return facts

    def _end(self, attempt: Attempt, facts: Mapping[str, Any]) -> None:
        data = {"attempt": attempt.number, "facts": dict(facts)}
        self._disk.write(attempt.directory / _END, json.dumps(data, indent=1).encode() + b"\n")
        self._leases.drop(attempt.unique_id, attempt.number)
