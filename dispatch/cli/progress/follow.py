"""The logs of running steps, read while they grow: all new lines of one, or only the last.

Owns the reading alone. A log that is not there yet, or is replaced, is no error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_PIECE = 1 << 18
_END = 4096
# A line may be that long before it is shown in parts: a step that never ends one must not fill our memory.
_LONGEST = 1 << 20


class LogStream:
    """All lines of one attempt's log, each once."""

    def __init__(self, key: str, path: Path) -> None:
        self.key = key
        self._path = path
        self._offset = 0
        self._rest = b""

    def read(self) -> tuple[list[str], bool]:
        """Return lines that came since, and whether there may be more of them now."""
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._offset)
                piece = file.read(_PIECE)
        except OSError:
            return [], False
        self._offset += len(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _LONGEST:
            lines, self._rest = [*lines, self._rest], b""
        return [line.decode("utf-8", "replace") for line in lines], len(piece) == _PIECE

    def finish(self) -> Iterator[list[str]]:
        """Yield what is left of a log that has ended, in pieces; its last line may have no end."""
        more = True
        while more:
            lines, more = self.read()
            if lines:
                yield lines
        if self._rest:
            yield [self._rest.decode("utf-8", "replace")]
            self._rest = b""


class LastLines:
    """The last line of each of many logs; a log that has not grown is not read again."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, str]] = {}

    def of(self, path: Path | None) -> str:
        """Return the last line with something in it; empty where there is none, or no log."""
        if path is None:
            return ""
        try:
            size = path.stat().st_size
            known = self._known.get(path)
            if known is not None and known[0] == size:
                return known[1]
            with path.open("rb", buffering=0) as file:
                file.seek(max(0, size - _END))
                end = file.read(_END)
        except OSError:
            return ""
        lines = end.decode("utf-8", "replace").split("\n")
        line = next((line for line in reversed(lines) if line.strip()), "")
        self._known[path] = size, line
        return line

    def keep(self, paths: set[Path]) -> None:
        """Forget all other logs."""
        self._known = {path: known for path, known in self._known.items() if path in paths}
