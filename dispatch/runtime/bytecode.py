"""Compiles the runtime with an image's interpreter, for images whose minor version is not the client's."""

# pathlib takes longer to import than all of the runtime.
# ruff: noqa: PTH118

from __future__ import annotations

import os
import sys
from py_compile import PycInvalidationMode, compile


def main(directory: str) -> int:
    """Write ``<directory>/dispatch/.../__pycache__/*.pyc`` for every module of the runtime; return 0.

    The files are of the unchecked kind: they are valid whatever the time of the sources, which no one edits.
    """
    library = sys.path[0]
    for folder, _, names in os.walk(library):
        for name in sorted(names):
            if not name.endswith(".py"):
                continue
            source = os.path.join(folder, name)
            inside = os.path.relpath(source, library)
            target = os.path.join(directory, compiled_name(inside))
            compile(
                source,
                target,
                dfile=inside,
                doraise=True,
                invalidation_mode=PycInvalidationMode.UNCHECKED_HASH,
            )
    return 0


def compiled_name(source: str) -> str:
    """Return where this interpreter looks for the bytecode of the module file ``source``."""
    folder, name = os.path.split(source)
    stem = name[: -len(".py")]
    return os.path.join(folder, "__pycache__", f"{stem}.{sys.implementation.cache_tag}.pyc")
