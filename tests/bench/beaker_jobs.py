"""What the local Beaker adds to a container: one no-op job beside the engine's own calls, and a queue."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import CHECKOUT, ENVIRON, INSIDE, MIB, Row, milliseconds, times

QUEUED = int(os.environ.get("DISPATCH_BENCH_QUEUED", "500"))


def rows() -> list[Row]:
    """A server of its own process, asked by the real client."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "beaker"
        environ = {
            **ENVIRON,
            "PYTHONPATH": str(CHECKOUT),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(root / "tls" / "ca.pem"),
        }
        command = [sys.executable, str(INSIDE / "beaker_jobs.py"), str(root), str(QUEUED)]
        done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)
    return [
        Row("no-op container: create, start, wait, remove", milliseconds(found["floor"])),
        Row(
            "no-op job, submitted → finalized",
            f"{milliseconds(found['job'])} ({times(found['job'], found['floor'])})",
            "≤ 1.6 ×",
        ),
        Row("submitted → started", milliseconds(found["started"]), "≤ 0.8 s"),
        Row(f"{QUEUED} queued no-op jobs on 2 slots: all", f"{found['queue']:.1f} s"),
        Row("longest that a slot was idle", f"{found['idle']:.2f} s", "≤ 0.3 s"),
        Row("server's memory then", f"{found['peak'] / MIB:.0f} MiB", "≤ 200 MiB"),
    ]
