"""Servers of the local Beaker's benches, each a process of its own, and clients of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import CHECKOUT, ENVIRON, INSIDE

# A channel that reads a stream in the thread that wants it; beaker-py's own does so in another.
ONE_THREAD = {"GRPC_SINGLE_THREADED_UNARY_STREAM": "1"}
NOTHING: Mapping[str, str] = {}
PINNED = ("taskset", "-c", "0") if shutil.which("taskset") else ()


@contextmanager
def serving(program: str, root: Path, lines: int) -> Iterator[dict[str, Any]]:
    """Run a program of ``inside/`` that serves, and say where."""
    root.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(INSIDE / f"{program}.py"), str(root), str(lines)],
        env={**ENVIRON, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield {**json.loads(process.stdout.readline()), "pid": process.pid}
    finally:
        process.kill()
        process.wait()


def client(
    program: str,
    server: Mapping[str, Any],
    *arguments: object,
    env: Mapping[str, str] = NOTHING,
    before=(),
) -> subprocess.Popen[bytes]:
    """Start a program of ``inside/`` that is a client of a server, and prints one object."""
    places = {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": server["ca"], "BEAKER_CONFIG": server["config"]}
    return subprocess.Popen(
        [*before, sys.executable, str(INSIDE / f"{program}.py"), *map(str, arguments)],
        env={**ENVIRON, **env, **places},
        stdout=subprocess.PIPE,
    )


def told(process: subprocess.Popen[bytes]) -> Any:
    """What a client printed."""
    # A client waits for ever for a server that it cannot reach or does not trust.
    out, _ = process.communicate(timeout=300)
    if process.returncode != 0:
        raise SystemExit(f"{process.args}: exit code {process.returncode}")
    return json.loads(out)
