"""The process: ``python -m dispatch.beakerd --state DIRECTORY``; ends with SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from dispatch._docker.address import Address
from dispatch.beakerd.config import Config
from dispatch.beakerd.layout import Layout
from dispatch.beakerd.server import Server
from dispatch.errors import DispatchError


def main() -> int:
    """Serve until told to end; 3 with a sentence where that cannot be."""
    parser = argparse.ArgumentParser(prog="dispatch.beakerd")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--engine", default="unix:///var/run/docker.sock")
    options = parser.parse_args()
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    server = Server(
        Config(), Layout(options.state.absolute()), Address(options.engine), time.time_ns, os.urandom, _say
    )
    try:
        server.start()
    except DispatchError as error:
        _say(f"error: {error.message}; {error.remedy}")
        return 3
    ending.wait()
    server.stop()
    return 0


def _say(line: str) -> None:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(f"{stamp} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
