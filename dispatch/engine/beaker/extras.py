"""What the user wants in every job on Beaker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dispatch._beaker import TaskMount


@dataclass(frozen=True)
class Extras:
    """What every job gets beside its own: mounts, variables, and variables from secrets of the workspace.

    A job's own variables win.
    """

    mounts: tuple[TaskMount, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secret_env: Mapping[str, str] = field(default_factory=dict)


NOTHING = Extras()
