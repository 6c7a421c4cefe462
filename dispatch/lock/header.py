"""The head of a lock file: ``# key: value`` lines that say what the lock was made from and for.

Owns their spelling and the check that the rest of the file is what was written under them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch.errors import LockError
from dispatch.lock.model import FORMAT_VERSION, HEADER

_FIELD = re.compile(r"# ([a-z]+): (.*)")


@dataclass(frozen=True)
class LockFile:
    """A lock file cut into header fields (in order, a key may repeat) and numbered lines of content."""

    path: Path
    command: str
    fields: tuple[tuple[str, str], ...]
    lines: tuple[tuple[int, str], ...]

    def error(self, fact: str, line: int | None = None) -> LockError:
        """Return the error that says what is wrong with this file and how to renew it."""
        place = f"{self.path}, line {line}" if line else str(self.path)
        return LockError(f"{place}: {fact}", remedy=f"renew it with `{self.command}`")

    def values(self, key: str) -> tuple[str, ...]:
        """Return every value of a header field, in the file's order."""
        return tuple(value for name, value in self.fields if name == key)

    def matching(self, key: str, pattern: str) -> tuple[str, ...]:
        """Return every value of a header field; each must match ``pattern`` wholly."""
        for value in self.values(key):
            if not re.fullmatch(pattern, value):
                raise self.error(f"the header's {key} {value!r} is malformed")
        return self.values(key)

    def value(self, key: str, pattern: str) -> str:
        """Return the one value of a header field; it must match ``pattern`` wholly."""
        found = self.values(key)
        if len(found) != 1:
            raise self.error(f"the header has {len(found)} lines `# {key}: …`, not one")
        if not re.fullmatch(pattern, found[0]):
            raise self.error(f"the header's {key} {found[0]!r} is malformed")
        return found[0]


def read_lock_file(path: Path, image: str, command: str) -> LockFile:
    """Read a lock file; LockError if it is missing, unreadable or of another format version."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LockError(
            f"image {image!r} has no lock: {path} does not exist", remedy=f"make it with `{command}`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise LockError(
            f"image {image!r}: the lock {path} cannot be read: {error}", remedy=f"renew it with `{command}`"
        ) from error
    fields: list[tuple[str, str]] = []
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        match = _FIELD.fullmatch(line)
        if match and not lines:
            fields.append((match[1], match[2]))
        elif line.strip() and line != HEADER:
            lines.append((number, line))
    found = LockFile(path, command, tuple(fields), tuple(lines))
    version = found.value("format", r"[0-9]{1,9}")
    if version != FORMAT_VERSION:
        raise found.error(f"lock format {version} is not the one this version reads ({FORMAT_VERSION})")
    return found


def render_lock_file(fields: Sequence[tuple[str, str]], lines: Iterable[str]) -> str:
    """Return the text of a lock file."""
    head = [HEADER, f"# format: {FORMAT_VERSION}", *(f"# {key}: {value}" for key, value in fields), ""]
    return "\n".join([*head, *lines]) + "\n"


def check_digest(found: LockFile, digest: str) -> None:
    """Hold that the content is the one the header was written for."""
    if found.value("digest", r"[0-9a-f]{64}") != digest:
        raise found.error("the lock was changed after it was made: its content is not what its header says")
