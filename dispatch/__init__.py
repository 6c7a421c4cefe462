"""Reproducible images for every step, on any engine, and nothing computed twice.

Names are loaded when they are first used, so ``import dispatch`` costs nothing. Inside a step's container
only the part of the package is there that steps need.
"""

from __future__ import annotations

__version__ = "0.1.0.dev0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dispatch.errors import StepStateError
    from dispatch.executor import Executor
    from dispatch.formats import (
        BytesFormat,
        DillFormat,
        Format,
        JsonFormat,
        PickleFormat,
        TextFormat,
    )
    from dispatch.graph import StepGraph
    from dispatch.info import Run, RunInfo, StepInfo, StepState
    from dispatch.params import Lazy, Params
    from dispatch.registrable import FromParams, Registrable
    from dispatch.step import Step, StepResources, step
    from dispatch.workspace import StepCache, Workspace

__all__ = [
    "Step",
    "step",
    "StepGraph",
    "StepResources",
    "StepInfo",
    "StepState",
    "StepCache",
    "StepStateError",
    "Workspace",
    "Run",
    "RunInfo",
    "Executor",
    "Registrable",
    "FromParams",
    "Params",
    "Lazy",
    "Format",
    "JsonFormat",
    "TextFormat",
    "BytesFormat",
    "PickleFormat",
    "DillFormat",
]

_MODULES = {
    "Step": "step",
    "step": "step",
    "StepGraph": "graph",
    "StepResources": "step",
    "StepInfo": "info",
    "StepState": "info",
    "StepCache": "workspace",
    "StepStateError": "errors",
    "Workspace": "workspace",
    "Run": "info",
    "RunInfo": "info",
    "Executor": "executor",
    "Registrable": "registrable",
    "FromParams": "registrable",
    "Params": "params",
    "Lazy": "params",
    "Format": "formats",
    "JsonFormat": "formats",
    "TextFormat": "formats",
    "BytesFormat": "formats",
    "PickleFormat": "formats",
    "DillFormat": "formats",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'dispatch' has no attribute {name!r}")
    import importlib

    module = f"dispatch.{_MODULES[name]}"
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ImportError(
            f"dispatch.{name} is not there inside a step's container: only what steps need is. "
            f"Import it inside the function that uses it on the client."
        ) from None
    # ``step`` is a module, too, and the import system binds it here whenever it likes: that module can be
    # called.
    found: object = loaded if name == "step" else getattr(loaded, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
