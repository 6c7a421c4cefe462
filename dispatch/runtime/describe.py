"""Says what steps are: imports the user's packages and answers for each step. The container's half.

The request and the answer are JSON; the client's half is ``dispatch.describe``. A package that does not
import is no error here: what it would have registered may not be asked for, or may import in another image.
"""

# pathlib takes longer to import than all of the runtime.
# ruff: noqa: PTH123

from __future__ import annotations

import json
import os
import pkgutil
import sys
from difflib import get_close_matches as _loaded_before_the_users_files  # noqa: F401

from dispatch.errors import ConfigurationError
from dispatch.params import ArgumentError
from dispatch.registrable import UnknownNameError
from dispatch.runtime import failure, outcome
from dispatch.runtime.imports import open_source
from dispatch.step import Step, describe_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

CONTRACT = 1


def main(request_file: str, answer_file: str) -> NoReturn:
    """Answer the request in ``request_file`` in ``answer_file``, complete or not at all, and end the process.

    The process ends at once: threads and exit handlers of the imported packages have nothing to finish.
    """
    with open(request_file, encoding="utf-8") as file:
        request = json.load(file)
    open_source(request["paths"])
    outcome.write_whole(answer_file, json.dumps(answer(request)))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Import what the request names and return the answer."""
    if request["contract"] != CONTRACT:
        raise ConfigurationError(f"describe: contract {request['contract']!r} is not known")
    packages: dict[str, Any] = {}
    for package in request["packages"]:
        _import_all(package, packages)
    return {
        "contract": CONTRACT,
        "interpreter": outcome.interpreter(),
        "packages": packages,
        "types": Step.list_available(),
        "steps": {name: _step(name, declared) for name, declared in request["steps"].items()},
    }


def _import_all(name: str, found: dict[str, Any]) -> None:
    """Import a module and, of a package, everything below it; note each failure under the module's own name.

    ``__main__`` is left out: importing it would run the program.
    """
    if name in found:
        return
    try:
        # Not importlib.import_module: its frames would stand in the traceback.
        __import__(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A script without a guard may even call sys.exit.
        found[name] = _failure(error)
        return
    found[name] = None
    below = pkgutil.iter_modules(getattr(sys.modules[name], "__path__", ()), f"{name}.")
    for child in sorted(info.name for info in below):
        if not child.endswith(".__main__"):
            _import_all(child, found)


def _failure(error: BaseException) -> dict[str, Any]:
    recorded = failure.record(error)
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    return {
        "error": f"{recorded['type']}: {recorded['message']}",
        "missing": missing,
        "traceback": recorded["traceback"],
    }


def _step(name: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    try:
        cls = Step.by_name(declared["type"])
    except UnknownNameError as error:
        return _error("unknown_type", error)
    try:
        described = _described(name, cls, declared)
        return {"ok": described}
    except ArgumentError as error:
        return _error("argument", error, error.argument)
    except ConfigurationError as error:
        return _error("step", error)
    except Exception as error:
        # The user's massage_kwargs and resources run in here.
        recorded = failure.record(error)
        fault = ConfigurationError(
            f"step {name!r}: {recorded['type']}: {recorded['message']}", "mend the step's class"
        )
        return _error("step", fault)


def _described(name: str, cls: Any, declared: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(cls, type):
        raise ConfigurationError(
            f"step {name!r}: {declared['type']!r} is registered with a constructor, and steps have none",
            "register the class without `constructor=`",
        )
    return describe_step(cls, declared["type"], declared["arguments"], declared["format"], name=name)


def _error(kind: str, error: ConfigurationError, argument: str | None = None) -> dict[str, Any]:
    return {"error": {"kind": kind, "argument": argument, "message": error.message, "remedy": error.remedy}}
