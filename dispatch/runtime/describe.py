"""Says what steps are: imports what declares them and answers for each step. The container's half.

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
from dispatch.place import PlaceError, PlaceImportError, find, is_place
from dispatch.registrable import UnknownNameError
from dispatch.runtime import failure, outcome
from dispatch.runtime.imports import open_source
from dispatch.step import Step, describe_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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
    asked = _Asked(request["packages"])
    if not request["steps"]:
        asked.import_packages()
    steps = {name: asked.describe(name, declared) for name, declared in request["steps"].items()}
    return {
        "contract": CONTRACT,
        "interpreter": outcome.interpreter(),
        "packages": asked.imported,
        "types": Step.list_available(),
        "steps": steps,
    }


class _Asked:
    """What one request has imported so far: ``imported`` has each module, and its failure if it failed.

    A type that is a place, ``package.module.Class``, needs its own module and nothing else. The packages are
    imported once something is asked for that only they can know.
    """

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages
        self._complete = False
        self.imported: dict[str, Any] = {}

    def describe(self, name: str, declared: Mapping[str, Any]) -> dict[str, Any]:
        """Answer for one step."""
        if not is_place(declared["type"]):
            self.import_packages()
        answer, fault = _attempt(name, declared)
        if isinstance(fault, UnknownNameError) and not self._complete:
            self.import_packages()
            answer, fault = _attempt(name, declared)
        missing = fault if isinstance(fault, PlaceImportError) else fault and fault.__cause__
        if isinstance(missing, PlaceImportError) and missing.__cause__ is not None:
            self.imported[missing.absent or missing.module] = _failure(missing.__cause__)
        return answer

    def import_packages(self) -> None:
        """Import all packages, once."""
        if not self._complete:
            self._complete = True
            for package in self._packages:
                _import_all(package, self.imported)


def _attempt(name: str, declared: Mapping[str, Any]) -> tuple[dict[str, Any], BaseException | None]:
    """Answer for one step with what is imported so far; with the fault where it is a name that is not known.

    ``absent`` says that of an error: with more imported, the name might be known.
    """
    kind, raw, format = "unknown_type", declared["arguments"], declared["format"]
    try:
        cls = _class(name, declared["type"])
        kind = "step"
        return {"ok": describe_step(cls, declared["type"], raw, format, name=name)}, None
    except ConfigurationError as error:
        argument = error.argument if isinstance(error, ArgumentError) else None
        fault = error.__cause__ if argument is not None else error
        if isinstance(fault, PlaceImportError):
            kind = "import"
        elif not isinstance(fault, UnknownNameError):
            kind, fault = "step", None
        return _error(kind if argument is None or kind == "import" else "argument", error, fault), fault
    except Exception as error:
        # The user's massage_kwargs and resources run in here.
        recorded = failure.record(error)
        told = ConfigurationError(
            f"step {name!r}: {recorded['type']}: {recorded['message']}", "mend the step's class"
        )
        return _error("step", told, None), None


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


def _class(name: str, type_name: str) -> type[Step]:
    """Return the class of a step: that at the place, else that registered under the name."""
    cls: Any = None
    if is_place(type_name):
        try:
            cls = find(type_name)
        except PlaceError:
            # It may be a registered name with dots in it; if it is not, this is said again.
            cls = None
    if not (isinstance(cls, type) and issubclass(cls, Step)):
        cls = Step.by_name(type_name)
    if not (isinstance(cls, type) and issubclass(cls, Step)):
        raise ConfigurationError(
            f"step {name!r}: {type_name!r} is registered with a class that is no Step, or a constructor",
            "register a class derived from Step, and without `constructor=`",
        )
    return cls


def _error(kind: str, error: ConfigurationError, fault: BaseException | None) -> dict[str, Any]:
    return {
        "error": {
            "kind": kind,
            "argument": error.argument if isinstance(error, ArgumentError) else None,
            "absent": fault is not None,
            "message": error.message,
            "remedy": error.remedy,
        }
    }
