"""Classes by their place, ``package.module.Class``: imports exactly the module that the place names.

Refuses to search: a module is imported because it is named, and for no other reason. Only what the import
path of the process holds can be found: the user's source and what is installed.
"""

from __future__ import annotations

import re
import sys

from dispatch.errors import ConfigurationError, did_you_mean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+")


class PlaceError(ConfigurationError):
    """There is nothing at the place."""


class PlaceImportError(PlaceError):
    """``module`` could not be imported; ``__cause__`` says why. In another environment it might be.

    ``absent`` is the name of the top-level module where the import path has none such, else empty.
    """

    def __init__(self, place: str, module: str, cause: BaseException) -> None:
        # The last line alone: some libraries print a page.
        said = (str(cause).strip().splitlines() or [""])[-1]
        super().__init__(
            f"{place!r}: {module} cannot be imported: {type(cause).__name__}: {said}",
            "mend the name, or install what the module needs",
        )
        self.module = module
        top = module.partition(".")[0]
        self.absent = top if isinstance(cause, ModuleNotFoundError) and cause.name == top else ""


def is_place(name: str) -> bool:
    """Whether a name could be a place: identifiers joined by dots."""
    # A program that is imported would run.
    return _PLACE.fullmatch(name) is not None and "__main__" not in name.split(".")


def find(place: str) -> Any:
    """Return what is at a place, importing its module. PlaceError, or PlaceImportError if that fails."""
    module, _, attribute = place.rpartition(".")
    while True:
        try:
            # Not importlib.import_module: its frames would stand in the traceback.
            __import__(module)
            break
        except ModuleNotFoundError as error:
            absent, parent = error.name or "", module.rpartition(".")[0]
            if not parent or absent == module.partition(".")[0] or not f"{module}.".startswith(f"{absent}."):
                raise PlaceImportError(place, module, error) from error
            # The last name is no module, so it may be a class that holds the wanted one.
            module, attribute = parent, f"{module[len(parent) + 1 :]}.{attribute}"
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # A script without a guard may even call sys.exit.
            raise PlaceImportError(place, module, error) from error
    found: Any = sys.modules[module]
    for name in attribute.split("."):
        owner, found = found, getattr(found, name, None)
        if found is None:
            raise _nothing(place, module, owner, name)
    return found


def _nothing(place: str, module: str, owner: Any, name: str) -> PlaceError:
    """Say what was tried, and what is there by a similar name: a class or a module."""
    known = [each for each, value in vars(owner).items() if isinstance(value, type)]
    if hasattr(owner, "__path__"):
        import pkgutil

        modules = [info.name for info in pkgutil.iter_modules(owner.__path__)]
        if name in modules:
            return PlaceError(f"{place!r}: is a module", "add the class's name to it")
        known += modules
    where = f"module {module}" if owner is sys.modules[module] else f"class {owner.__qualname__} of {module}"
    return PlaceError(
        f"{place!r}: {where} has no {name!r}{did_you_mean(name, known)}",
        "write the module and the class as an import would: package.module.Class",
    )
