"""What every request and every thread of the server works with.

Owns nothing: it is the server's parts, put together once by ``server``, and handed to all who need them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from dispatch._docker import Door
from dispatch.beakerd.access import Access
from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import Config
from dispatch.beakerd.faults import Faults
from dispatch.beakerd.layout import Layout
from dispatch.beakerd.store.database import Database
from dispatch.beakerd.store.lifecycle import Lifecycle
from dispatch.beakerd.transfers import Transfers


class Jobs(Protocol):
    """Whoever carries out what is written down of jobs. All three return at once and may be repeated."""

    def changed(self) -> None:
        """The queue or the nodes have changed: schedule."""

    def start(self, job: str) -> None:
        """A job was assigned: run it to its end."""

    def stop(self, job: str) -> None:
        """A wish to stop a running job was written down: carry it out."""


class NoJobs:
    """Carries out nothing."""

    def changed(self) -> None:
        """See :class:`Jobs`."""

    def start(self, job: str) -> None:
        """See :class:`Jobs`."""

    def stop(self, job: str) -> None:
        """See :class:`Jobs`."""


@dataclass(frozen=True)
class Addresses:
    """Where the server listens: ``host:port``, as loopback sees it; ``bridge`` is the address that containers
    reach this machine by, None where there is no such thing."""

    rpc: str
    rest: str
    bridge: str | None = None


@dataclass
class Backend:
    """The parts. ``say`` writes a line to the server's log; ``closing`` is set when the server goes;
    ``faults`` are those that were asked for."""

    config: Config
    layout: Layout
    database: Database
    clock: Clock
    ids: Ids
    access: Access
    lifecycle: Lifecycle
    door: Door
    addresses: Addresses
    say: Callable[[str], None]
    jobs: Jobs = field(default_factory=NoJobs)
    closing: threading.Event = field(default_factory=threading.Event)
    faults: Faults = field(default_factory=Faults)
    transfers: Transfers = field(default_factory=Transfers)
