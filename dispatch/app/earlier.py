"""How long steps took before: by their names, in the newest runs of a workspace.

Owns how far back is looked, which bounds what it costs. A step's name is what stays the same when its
arguments, and so its unique id, change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dispatch.errors import WorkspaceError
from dispatch.info import StepState
from dispatch.workspace.search import RunSort

if TYPE_CHECKING:
    from dispatch.workspace.base import Workspace

RUNS = 8
LOOKS = 5000


@dataclass(frozen=True)
class Earlier:
    """Seconds of the newest completed attempt by step name, and of all that were found by step type."""

    names: Mapping[str, float] = field(default_factory=dict)
    types: Mapping[str, Sequence[float]] = field(default_factory=dict)


def earlier(workspace: Workspace, names: Iterable[str]) -> Earlier:
    """Look up what is known of these steps. A record that cannot be read is passed over."""
    wanted, looks = set(names), LOOKS
    found: dict[str, float] = {}
    types: dict[str, list[float]] = {}
    for run in workspace.search_registered_runs(sort_by=RunSort.START_DATE, stop=RUNS):
        try:
            record = workspace.run_record(run.name)
        except (KeyError, WorkspaceError):
            continue
        for name, unique_id in {**record.jobs, **record.targets}.items():
            if name not in wanted or name in found or looks <= 0:
                continue
            looks -= 1
            try:
                info = workspace.step_info(unique_id)
            except (KeyError, WorkspaceError):
                continue
            if info.state is StepState.COMPLETED and info.duration is not None:
                found[name] = info.duration.total_seconds()
                types.setdefault(info.record.type, []).append(found[name])
    return Earlier(found, types)
