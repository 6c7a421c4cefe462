"""What the parts of a workspace on Beaker share: the door, who we are, and a place on this machine.

Owns where on this machine that is. Nothing in it is the truth: it holds the directories of attempts while
their jobs run, what steps keep between attempts, and copies.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

from dispatch._beaker import BeakerDoor
from dispatch.workspace.beaker.session import Session
from dispatch.workspace.beaker.smallfiles import SmallFiles
from dispatch.workspace.host import Host


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _below(limit: int) -> int:
    return int.from_bytes(os.urandom(8), "big") % limit


@dataclass(frozen=True)
class BeakerPorts:
    """What a workspace uses of the world: processes, wall and monotonic clock, and chance.

    ``below(n)`` draws an integer from 0 to n-1.
    """

    host: Host = field(default_factory=Host)
    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic
    below: Callable[[int], int] = _below


class Site:
    """One Beaker workspace as one client of it sees it. Making one sends nothing.

    ``cache`` is the directory for what all workspaces on Beaker keep on this machine.
    """

    def __init__(self, door: BeakerDoor, cache: Path | None = None, ports: BeakerPorts | None = None) -> None:
        self.door = door
        self.ports = ports or BeakerPorts()
        self.session = Session(door, self.ports.host, self.ports.monotonic)
        self._cache = cache

    @cached_property
    def cache(self) -> Path:
        """The directory for all workspaces on Beaker."""
        return self._cache if self._cache is not None else _default_cache()

    @cached_property
    def directory(self) -> Path:
        """This workspace's own directory; another server's of the same name has another."""
        account = self.door.account
        whole = f"{self.door.address}\n{account.workspace_id}\n{account.user_id}"
        digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
        return self.cache / f"{account.workspace_name.replace('/', '_')}-{digest}"

    @cached_property
    def small(self) -> SmallFiles:
        """Small files of datasets, and copies of them on this machine."""
        return SmallFiles(self.door, self.directory / "small")

    def attempt(self, unique_id: str, number: int) -> Path:
        """The directory of an attempt's own files on this machine."""
        return self.directory / "attempts" / f"{unique_id}.{number}"

    def work(self, unique_id: str) -> Path:
        """What a step keeps between attempts on this machine."""
        return self.directory / "work" / unique_id


def _default_cache() -> Path:
    # Only a user's own program comes here: the commands say where. Who knows lies above, and is asked late.
    from dispatch.settings.surroundings import read_environment

    return read_environment().cache / "beaker"
