"""A workspace on Beaker: datasets for the attempts at steps, for runs, and for who is at work.

Owns what the datasets are called and what is in them. It does not travel into containers: there the runtime
is enough. Refuses to run anything.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dispatch.workspace.beaker.step_cache import BeakerStepCache
    from dispatch.workspace.beaker.workspace import BeakerWorkspace

__all__ = ["BeakerStepCache", "BeakerWorkspace"]


def __getattr__(name: str) -> object:
    """Import one of the names above."""
    modules = {"BeakerStepCache": "step_cache", "BeakerWorkspace": "workspace"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{modules[name]}"), name)
