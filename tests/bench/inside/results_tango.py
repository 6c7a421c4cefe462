"""Prints how long Tango takes to store and to load 200 MiB, with gzip (its default) and bare."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tango import Format, Step
from tango.format import DillFormat
from tango.workspaces import LocalWorkspace

SIZE = 200 * 2**20


@Step.register("gives")
class Gives(Step):
    """Stands for a step that gives the value."""

    def run(self, n: int) -> Any:
        """Is not called: the value is made once."""


def _through(place: Path, format: Format[Any] | None, value: Any) -> dict[str, float]:
    step = Gives(step_name="gives", n=1, step_format=format)
    os.sync()
    began = time.perf_counter()
    workspace = LocalWorkspace(place)
    workspace.step_starting(step)
    workspace.step_finished(step, value)
    stored = time.perf_counter()
    # Another object, which has nothing in its memory.
    found = LocalWorkspace(place).step_cache[step]
    loaded = time.perf_counter()
    assert len(found) == len(value)
    return {"store": stored - began, "load": loaded - stored}


def main(place: Path) -> None:
    """Measure each once: the differences looked for are large."""
    value = os.urandom(SIZE)
    gz, bare = _through(place / "gz", None, value), _through(place / "bare", DillFormat(), value)
    print(json.dumps({"gz": gz, "bare": bare}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
