"""Where the results of steps and the records of runs live. Its names are imported when first used."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dispatch.info import Run, RunInfo, StepInfo, StepState
    from dispatch.workspace.base import Attempt, RunSort, StepCache, StepInfoSort, Workspace
    from dispatch.workspace.local import LocalWorkspace
    from dispatch.workspace.memory import MemoryWorkspace
    from dispatch.workspace.memory_cache import MemoryStepCache

__all__ = [
    "Attempt",
    "LocalWorkspace",
    "MemoryStepCache",
    "MemoryWorkspace",
    "Run",
    "RunInfo",
    "RunSort",
    "StepCache",
    "StepInfo",
    "StepInfoSort",
    "StepState",
    "Workspace",
]

_PLACES = {
    "Attempt": "dispatch.workspace.base",
    "LocalWorkspace": "dispatch.workspace.local",
    "MemoryStepCache": "dispatch.workspace.memory_cache",
    "MemoryWorkspace": "dispatch.workspace.memory",
    "Run": "dispatch.info",
    "RunInfo": "dispatch.info",
    "RunSort": "dispatch.workspace.search",
    "StepCache": "dispatch.workspace.base",
    "StepInfo": "dispatch.info",
    "StepInfoSort": "dispatch.workspace.search",
    "StepState": "dispatch.info",
    "Workspace": "dispatch.workspace.base",
}


def __getattr__(name: str) -> object:
    """Import one of the names above."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
