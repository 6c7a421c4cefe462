"""Whose helper containers are: a label tells the process that waits for one, so that none is left for long.

A process that is killed can remove nothing. Who next makes a helper removes those whose process is gone: of
this machine's boot and process namespace only, since of others nobody here can tell.
"""

from __future__ import annotations

from dispatch._docker.containers import Containers
from dispatch.errors import EngineError

HELPER_LABEL = "dispatch.helper"


def helper_labels() -> dict[str, str]:
    """Return the labels of a helper container of this process."""
    from dispatch.workspace.host import Host

    me = Host().me("")
    return {HELPER_LABEL: f"{_place(me.boot, me.namespace)}/{me.pid}/{me.start}"}


def remove_abandoned(containers: Containers) -> int:
    """Remove the helpers of processes that are gone, and return how many; one that is busy is left."""
    from dispatch.workspace.host import Host

    host = Host()
    me = host.me("")
    removed = 0
    for listed in containers.labelled(HELPER_LABEL):
        place, _, process = listed.labels.get(HELPER_LABEL, "").partition("/")
        pid, _, start = process.partition("/")
        here = bool(place) and place == _place(me.boot, me.namespace)
        if not here or not pid.isdecimal() or host.start_of(int(pid)) == start:
            continue
        try:
            containers.remove(listed.name)
            removed += 1
        except EngineError:
            continue
    return removed


def _place(boot: str, namespace: str) -> str:
    """Return what tells one system's processes from another's, without a slash; empty where nothing does."""
    return f"{boot}+{namespace}" if boot and namespace else ""
