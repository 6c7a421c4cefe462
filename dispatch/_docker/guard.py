"""A process beside one client that takes away what the client leaves, however that ends.

Started as ``python -m dispatch._docker.guard ADDRESS CONTAINER DIRECTORY`` in a session of its own, it waits
for the end of its stdin, whose other end only the client holds: a kill -9 and a closed terminal end it, too.
Then it removes the container and the directory. Owns nothing else.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from dispatch._docker.address import Address
from dispatch._docker.containers import Containers
from dispatch._docker.socket import EngineSocket
from dispatch.errors import EngineError


class Guard:
    """The guard of one container, as its client sees it. A context: leaving it has everything removed."""

    def __init__(self, address: Address, container: str, directory: Path) -> None:
        self._command = [sys.executable, "-m", "dispatch._docker.guard"]
        self._command += [address.url, container, str(directory)]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Guard:
        """Start it. It gets no terminal, and the client's signals do not reach it."""
        self._process = subprocess.Popen(
            self._command,
            # Python looks for modules where it is started with -m, and the user's own are not meant.
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        """Have it do its work, and wait for it."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main(address: str, container: str, directory: str) -> None:
    """Wait for the client's end, and clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    with contextlib.suppress(EngineError):
        Containers(EngineSocket(Address(address))).remove(container)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
