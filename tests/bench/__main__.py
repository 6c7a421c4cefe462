"""`make bench`: measures what the design promises and prints one table."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from harness import Row, table

SUITES = (
    "startup",
    "quickstart",
    "steps",
    "logs",
    "beaker_logs",
    "beaker_images",
    "beaker_data",
    "beaker_bytes",
    "beaker_steps",
    "beaker_rpc",
    "beaker_jobs",
    "images",
    "image_push",
    "image_lock",
    "image_noop",
    "image_build",
    "image_parts",
    "identity",
    "results",
    "listing",
    "graphs",
    "runs",
    "source",
)


def main(names: list[str]) -> None:
    """Run the named suites, or all."""
    print(
        f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores", file=sys.stderr
    )
    rows: list[Row] = []
    for name in names or list(SUITES):
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        rows += importlib.import_module(name).rows()
    print(table(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
