"""The public face of Beaker, under the names that users know. Each is imported when it is first used."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dispatch.beaker.executor import BeakerExecutor
    from dispatch.errors import ResourceAssignmentError, UnrecoverableResourceAssignmentError
    from dispatch.schedule.beaker import BeakerScheduler, ResourceAssignment, SimpleBeakerScheduler
    from dispatch.settings.beaker import DEFAULT_BEAKER_IMAGE
    from dispatch.workspace.beaker.step_cache import BeakerStepCache
    from dispatch.workspace.beaker.workspace import BeakerWorkspace

__all__ = [
    "BeakerWorkspace",
    "BeakerStepCache",
    "BeakerExecutor",
    "BeakerScheduler",
    "SimpleBeakerScheduler",
    "ResourceAssignment",
    "ResourceAssignmentError",
    "UnrecoverableResourceAssignmentError",
    "DEFAULT_BEAKER_IMAGE",
]

_MODULES = {
    "BeakerWorkspace": "dispatch.workspace.beaker.workspace",
    "BeakerStepCache": "dispatch.workspace.beaker.step_cache",
    "BeakerExecutor": "dispatch.beaker.executor",
    "BeakerScheduler": "dispatch.schedule.beaker",
    "SimpleBeakerScheduler": "dispatch.schedule.beaker",
    "ResourceAssignment": "dispatch.schedule.beaker",
    "ResourceAssignmentError": "dispatch.errors",
    "UnrecoverableResourceAssignmentError": "dispatch.errors",
    "DEFAULT_BEAKER_IMAGE": "dispatch.settings.beaker",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
