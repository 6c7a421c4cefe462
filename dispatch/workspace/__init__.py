"""Where the results of steps and the records of runs live. Its names are imported when first used."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dispatch.workspace.base import Attempt, StepCache, Workspace
    from dispatch.workspace.local import LocalWorkspace

__all__ = ["Attempt", "LocalWorkspace", "StepCache", "Workspace"]

_PLACES = {
    "Attempt": "dispatch.workspace.base",
    "LocalWorkspace": "dispatch.workspace.local",
    "StepCache": "dispatch.workspace.base",
    "Workspace": "dispatch.workspace.base",
}


def __getattr__(name: str) -> object:
    """Import one of the names above."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PLACES[name]), name)
