"""Why a container ended or was not begun, read from what the engine says of it.

Owns the meaning of exit codes and of the engine's error sentences. Decides, and does nothing.
"""

from __future__ import annotations

from dispatch._docker import ApiError
from dispatch._docker.containers import ContainerState
from dispatch.engine.base import Reason

KILLED = 137
# What an engine or a machine that goes down makes of its containers; a crash of the step's own is another.
ENGINE_STOPPED = (KILLED, 143, 255)
NOT_EXECUTED = (126, 127)


def reason(state: ContainerState, unexecuted: str, cancelled: bool, outage: bool) -> tuple[Reason, str]:
    """Return the reason and a sentence (empty where the exit code says all).

    ``unexecuted`` is the init process' own word that the command could not be executed; ``outage`` says that
    the container ended while the engine was away.
    """
    # The flag alone may mean a child that was killed while the step went on.
    if state.oom_killed and state.exit_code == KILLED:
        return Reason.OOM, "it needed more memory than it was given"
    if cancelled and state.exit_code != 0:
        return Reason.CANCELLED, "cancelled"
    if state.exit_code in NOT_EXECUTED and unexecuted:
        return Reason.IMAGE, f"the image cannot run the command: {unexecuted}"
    if state.error:
        return Reason.INFRA, state.error
    if outage and state.exit_code in ENGINE_STOPPED:
        return Reason.LOST, "the engine went down while it ran"
    if state.oom_killed:
        return Reason.STEP, "one of its processes was killed for want of memory"
    return Reason.STEP, ""


def refused(error: ApiError) -> tuple[Reason, str]:
    """Return what it means that the engine refuses to create or start a container."""
    detail = error.detail
    if error.status == 404 and "image" in detail.lower():
        return Reason.IMAGE, f"the engine does not hold the image: {detail}"
    if "bind source path does not exist" in detail:
        return Reason.INFRA, f"on the engine's machine there is no such path to mount ({detail})"
    if "exec: " in detail or "executable file not found" in detail:
        return Reason.IMAGE, f"the image cannot run the command: {detail}"
    return Reason.INFRA, detail
