"""What a client that was killed could not tell the engine to forget: jobs whose ends are recorded."""

from __future__ import annotations

from dispatch.engine.base import Engine
from dispatch.workspace.base import Workspace


def sweep(engine: Engine, workspace: Workspace, run: str) -> None:
    """Have the engine forget those jobs of a run, begun by an earlier client, that are of no use any more.

    Those of other workspaces are let alone, though they may bear the same names. Those that still matter are
    found again when their steps are claimed. EngineError if the engine does not answer.
    """
    for handle in engine.find(run):
        unique_id, _, number = handle.key.rpartition(".")
        if not number.isdecimal() or not handle.is_of(workspace.attempt_directory(unique_id, int(number))):
            continue
        if workspace.settled(unique_id, int(number)):
            engine.release(handle)
