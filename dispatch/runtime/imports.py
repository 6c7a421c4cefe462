"""The import path of a step's process: the runtime, then the user's source, then what the image brings.

Owns ``sys.path`` and ``PYTHONPATH`` inside a container. Refuses what does not travel: a name of ``dispatch`` that
only the client has is an ImportError that says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any


class NotHere:
    """The last finder of all: reached for ``dispatch.x`` only when no such module travels."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:  # noqa: ARG004 -- the protocol's
        """Raise ImportError for our own names; know nothing about others."""
        if name.startswith("dispatch."):
            raise ImportError(
                f"{name} is not available inside a step: only what a step is made of travels into its container; "
                "import it in the code that runs on the client",
                name=name,
            )


def open_source(paths: Sequence[str]) -> None:
    """Put ``paths`` right behind the runtime, in this process and in the Python processes it starts."""
    runtime = sys.path[0]
    sys.path[1:1] = paths
    inherited = os.environ.get("PYTHONPATH", "")
    entries = [runtime, *paths, *([inherited] if inherited else [])]
    os.environ["PYTHONPATH"] = os.pathsep.join(entries)
    sys.meta_path.append(NotHere)  # type: ignore[arg-type]  # a finder by its method, as the import system asks
