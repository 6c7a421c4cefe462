"""The log of a local Beaker's server, from its end, and on as it grows.

Owns the reading; the server may put the file aside for a new one at any time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

LOOK_EVERY = 0.2


def last_lines(log: Path, number: int) -> list[str]:
    """Return the last lines, of the file that was put aside, too, where the newer one has fewer."""
    lines: deque[str] = deque(maxlen=number)
    for path in (log.with_name(f"{log.name}.1"), log):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                lines.extend(line.rstrip("\n") for line in file)
        except FileNotFoundError:
            continue
    return list(lines)


def follow(log: Path, sleep: Callable[[float], None]) -> Iterator[str]:
    """Yield each line that is written from now on; for ever."""
    file = _open(log)
    if file is not None:
        file.seek(0, os.SEEK_END)
    rest = b""
    while True:
        piece = file.read() if file is not None else b""
        if piece:
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)
            continue
        if file is None or _moved(file, log):
            newer = _open(log)
            if newer is not None:
                if file is not None:
                    file.close()
                file = newer
                continue
        sleep(LOOK_EVERY)


def _open(log: Path) -> BinaryIO | None:
    try:
        return log.open("rb")
    except FileNotFoundError:
        return None


def _moved(file: BinaryIO, log: Path) -> bool:
    try:
        return os.fstat(file.fileno()).st_ino != log.stat().st_ino
    except FileNotFoundError:
        return False
