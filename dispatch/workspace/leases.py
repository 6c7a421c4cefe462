"""Who works at which step: leases ``<unique id>.<n>``, numbered from 1 without gaps and never removed.

The highest number holds; a lower one is superseded and may commit nothing. A lease is over when its attempt
has an end (which is not looked at here) or when its holder is stale:

- same machine and boot: at once when its process is gone or its number belongs to another process;
- same machine, another boot: at once;
- otherwise: when nobody renewed it for three minutes, on our own clock, of our own watching. No clock of
  another machine is ever trusted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dispatch.workspace.disk import Disk
from dispatch.workspace.host import Holder, Host

RENEW_EVERY = 30.0
STALE_AFTER = 180.0


@dataclass(frozen=True)
class Lease:
    """A lease as it was read; ``mark`` changes whenever its holder renews it. No holder: not readable yet.

    ``since`` is what its holder said the time was when it was taken. ``adopts`` is the number of the earlier
    attempt whose job it is about, 0 for one with a job of its own.
    """

    unique_id: str
    number: int
    holder: Holder | None
    since: str
    mark: tuple[int, int]
    adopts: int = 0


class Leases:
    """The leases in one directory. ``clock`` is monotonic, in seconds."""

    def __init__(self, directory: Path, disk: Disk, host: Host, clock: Callable[[], float]) -> None:
        self._directory = directory
        self._disk = disk
        self._host = host
        self._clock = clock
        self._watched: dict[tuple[str, int], tuple[tuple[int, int], float]] = {}
        self._renewed: dict[tuple[str, int], float] = {}

    def path(self, unique_id: str, number: int) -> Path:
        """Return the lease's file."""
        return self._directory / f"{unique_id}.{number}"

    def highest(self, unique_id: str) -> int:
        """Return the highest number taken, 0 for none.

        Numbers have no gaps, so this takes a look at a few files, however many leases there are.
        """
        known, beyond = 0, 1
        while self.path(unique_id, beyond).exists():
            known, beyond = beyond, beyond * 2
        while beyond - known > 1:
            middle = (known + beyond) // 2
            if self.path(unique_id, middle).exists():
                known = middle
            else:
                beyond = middle
        return known

    def read(self, unique_id: str, number: int) -> Lease | None:
        """Read a lease, or None where it is not there."""
        path = self.path(unique_id, number)
        try:
            facts = path.stat()
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        mark = (facts.st_mtime_ns, facts.st_size)
        try:
            stored = json.loads(data)
            holder = Holder.from_json(stored["holder"])
            return Lease(unique_id, number, holder, str(stored["since"]), mark, int(stored.get("adopts", 0)))
        except (KeyError, TypeError, ValueError):
            return Lease(unique_id, number, None, "", mark)

    def take(self, unique_id: str, number: int, run: str, since: str, adopts: int = 0) -> bool:
        """Take a number for ourselves; False where somebody was faster."""
        data: dict[str, object] = {"lease": 1, "holder": self._host.me(run).to_json(), "since": since}
        if adopts:
            data["adopts"] = adopts
        try:
            self._disk.create(self.path(unique_id, number), json.dumps(data).encode())
        except FileExistsError:
            return False
        self._renewed[unique_id, number] = self._clock()
        return True

    def stale(self, lease: Lease) -> bool:
        """Say whether the holder of a lease is gone, by the rules above. Asking is watching."""
        holder = lease.holder
        if holder is not None:
            me = self._host.me("")
            if _same(me.boot, holder.boot) and _same(me.namespace, holder.namespace):
                return self._host.start_of(holder.pid) != holder.start
            if me.host == holder.host and _same(me.machine, holder.machine) and _differ(me.boot, holder.boot):
                return True
        key = (lease.unique_id, lease.number)
        mark, since = self._watched.get(key, (None, 0.0))
        now = self._clock()
        if mark != lease.mark:
            self._watched[key] = (lease.mark, now)
            return False
        return now - since >= STALE_AFTER

    def renew(self) -> list[tuple[str, int]]:
        """Renew those of our leases that are due, and return the ones that a higher number superseded."""
        now = self._clock()
        lost = []
        for key, renewed in list(self._renewed.items()):
            if now - renewed < RENEW_EVERY:
                continue
            unique_id, number = key
            self._disk.touch(self.path(unique_id, number))
            self._renewed[key] = now
            if self.path(unique_id, number + 1).exists():
                lost.append(key)
        return lost

    def drop(self, unique_id: str, number: int) -> None:
        """Renew this lease no longer; its file stays, so that the number is never used again."""
        self._renewed.pop((unique_id, number), None)


def _same(ours: str, theirs: str) -> bool:
    return bool(ours) and ours == theirs


def _differ(ours: str, theirs: str) -> bool:
    return bool(ours) and bool(theirs) and ours != theirs
