"""The import path of a step's process: the runtime, then the user's source, then what the image brings.

Owns ``sys.path``, ``sys.meta_path`` and ``PYTHONPATH`` inside a container. A user's file may have the name of
a module of the library (``queue.py``, ``pickle.py``). It comes first, as at home, save for the names that the
runtime itself needs: these are the library's for the whole process. A name of ``dispatch`` that only the
client has is an ImportError that says so.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib_external import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

# What the runtime and the formats import only when it is needed, and what these modules import in their turn.
# Everything else is loaded before the user's source joins the path.
LATE = frozenset(
    (
        *("__future__", "_colorize", "_compression", "_weakrefset", "ast", "base64", "binascii", "bz2"),
        *("codeop", "compression", "contextlib", "datetime", "decimal", "difflib", "errno", "fnmatch"),
        *("fractions", "glob", "grp", "gzip", "hashlib", "heapq", "importlib", "ipaddress", "itertools"),
        *("linecache", "logging", "lzma", "math", "ntpath", "numbers", "pathlib", "pickle", "pwd", "shutil"),
        *("string", "struct", "sysconfig", "textwrap", "threading", "token", "tokenize", "traceback"),
        *("unicodedata", "urllib", "uuid", "warnings", "weakref", "zipfile", "zlib", "zoneinfo"),
    )
)


class LateFinder:
    """Finds the modules of :data:`LATE` on the path as it was before the user's source joined it."""

    def __init__(self, path: Sequence[str]) -> None:
        self._path = list(path)

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        """Return the library's own module, or None for what is not ours to find."""
        if path is None and name in LATE:
            return PathFinder.find_spec(name, self._path, target)
        return None


class NotHereFinder:
    """The last finder of all: reached for ``dispatch.x`` only when no such module travels."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:  # noqa: ARG002
        """Raise ImportError for our own names; know nothing about others."""
        if name.startswith("dispatch."):
            raise ImportError(
                f"{name} is not available inside a step: only what steps are made of travels there; "
                "import it in the code that runs on the client",
                name=name,
            )
        return None


def open_source(paths: Sequence[str]) -> None:
    """Put ``paths`` right behind the runtime, in this process and in the Python processes that it starts.

    Does nothing the second time: a process that forks steps has done it for them.
    """
    if any(isinstance(finder, NotHereFinder) for finder in sys.meta_path):
        return
    runtime = sys.path[0]
    sys.meta_path.insert(0, LateFinder(sys.path))
    sys.meta_path.append(NotHereFinder())
    sys.path[1:1] = paths
    inherited = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([runtime, *paths, *([inherited] if inherited else [])])
