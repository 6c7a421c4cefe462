"""The engine that runs jobs as Beaker's experiments."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dispatch._beaker import BeakerDoor, TaskMount
from dispatch.engine.beaker.bundles import Bundles


@dataclass(frozen=True)
class Extras:
    """What every job gets beside its own: mounts, variables, and variables from secrets of the workspace."""

    mounts: tuple[TaskMount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: Mapping[str, str] = field(default_factory=dict)


NOTHING = Extras()


class BeakerEngine:
    """Beaker, as one account sees it in one workspace; see :class:`~dispatch.engine.base.Engine`.

    ``origin`` is whatever tells the workspace whose steps are run from all others: its URL, with its
    directory where it is on this machine. ``attempts`` is where it keeps attempts (``<attempts>/<key>``),
    ``cache`` a directory of ours. Every ``tick`` seconds Beaker is asked what changed. ``extras`` is what the
    user wants in every job. ``clock`` is the time since the epoch.
    """

    def __init__(
        self,
        door: BeakerDoor,
        *,
        origin: str,
        attempts: Path,
        cache: Path,
        tick: float = 1.0,
        extras: Extras = NOTHING,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.bundles = Bundles(door)
