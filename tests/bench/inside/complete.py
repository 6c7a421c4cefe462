"""Gives every step of the configuration here a result, as a run would, but in seconds for ten thousand.

The plan is made by dispatch itself, so the unique ids are those that the next run looks for.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from filling import fill, hasty

from dispatch.app import App
from dispatch.app.running import Running, RunRequest
from dispatch.reporting import Lines


def main(config: Path) -> None:
    """Plan, and fill the workspace."""
    app = App.open(Path.cwd(), None, Lines(lambda line: print(line, file=sys.stderr)))
    running = Running(app, RunRequest(config))
    try:
        plan = running.prepare(may_build=True)
    finally:
        running.close()
    records = [step.record for step in plan.steps if step.record is not None]
    fill(hasty(Path(app.workspace.dir)), records, "")
    print(json.dumps({"steps": len(records)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
