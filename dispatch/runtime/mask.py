"""Takes the values of secrets out of what a job says, as a stream.

Owns which forms of a value are recognised: the value itself (without the blank space around it), each line of
several that has :data:`SHORTEST_LINE` characters, and its Base64 (whole, in either alphabet, in lines, and
inside of something longer). Refuses to guess other forms: a step that prints a value backwards prints it.

What comes out depends on what went in alone, not on the pieces in which it came: a log that is read again
from its beginning gives the same bytes again.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

MASK = b"***"
# A shorter value would be found all over a log, and give itself away by what is missing.
SHORTEST = 4
SHORTEST_LINE = 8
_HEAD = 4
_WRAPPED = 76
_URL_ALPHABET = bytes.maketrans(b"+/", b"-_")


class Masker:
    """Replaces values in a stream of bytes. Keeps back only an end that may be the beginning of a value."""

    def __init__(self, values: Iterable[str]) -> None:
        self._words = sorted({word for value in values for word in forms(value)}, key=len, reverse=True)
        self._beginnings = {word[:size] for word in self._words for size in range(1, _HEAD)}
        self._any = re.compile(_expression(self._words)) if self._words else None
        self._kept = b""

    def feed(self, data: bytes) -> bytes:
        """Return what can be said after ``data`` has come."""
        if self._any is None:
            return data
        text = self._kept + data
        said, holds = self._scan(text, self._holds(text))
        self._kept = text[holds:]
        return said

    def end(self) -> bytes:
        """Return what was kept back: nothing more will come."""
        text, self._kept = self._kept, b""
        return self._any.sub(MASK, text) if self._any is not None else text

    def reset(self) -> None:
        """Begin a stream anew."""
        self._kept = b""

    def _scan(self, text: bytes, holds: list[int]) -> tuple[bytes, int]:
        """Mask up to the first place from which on more has to be known; return that, too."""
        assert self._any is not None
        pieces: list[bytes] = []
        done = 0
        for match in self._any.finditer(text):
            # A value that begins before that place cannot become a longer one.
            if match.start() >= _next(holds, done, len(text)):
                break
            pieces += (text[done : match.start()], MASK)
            done = match.end()
        until = _next(holds, done, len(text))
        pieces.append(text[done:until])
        return b"".join(pieces), until

    def _holds(self, text: bytes) -> list[int]:
        """All places from which on the text is the beginning of a value, but not the whole."""
        found = {len(text) - size for size in range(1, _HEAD) if text[-size:] in self._beginnings}
        for word in self._words:
            head = word[:_HEAD]
            at = text.find(head, max(0, len(text) - len(word) + 1))
            while at >= 0:
                if word.startswith(text[at:]):
                    found.add(at)
                at = text.find(head, at + 1)
        return sorted(place for place in found if place >= 0)


def mask_text(values: Iterable[str], text: str) -> str:
    """Replace values in a text."""
    masker = Masker(values)
    data = text.encode("utf-8", "surrogateescape")
    return (masker.feed(data) + masker.end()).decode("utf-8", "surrogateescape")


def mask_texts(values: Iterable[str], texts: Mapping[str, str]) -> dict[str, str]:
    """Replace values in each of the texts."""
    known = list(values)
    return {name: mask_text(known, text) for name, text in texts.items()} if known else dict(texts)


def forms(value: str) -> set[bytes]:
    """Return what is recognised as a value."""
    bare = value.strip()
    found = {bare}
    if "\n" in bare:
        found |= {line.strip() for line in bare.split("\n") if len(line.strip()) >= SHORTEST_LINE}
    words = {text.encode("utf-8", "surrogateescape") for text in found}
    for whole in (value, bare, bare + "\n"):
        words |= _base64(whole.encode("utf-8", "surrogateescape"))
    return {word for word in words if len(word) >= SHORTEST}


def _base64(data: bytes) -> set[bytes]:
    whole = base64.b64encode(data)
    found = {whole, whole.rstrip(b"=")}
    if len(whole) > _WRAPPED:
        found |= {whole[at : at + _WRAPPED] for at in range(0, len(whole), _WRAPPED)}
    for before in range(3):
        # Behind so many other bytes; the first and the last character hold bits of what is around it.
        inside = base64.b64encode(b"\0" * before + data)
        found.add(inside[(0, 2, 3)[before] : (len(inside), -3, -2)[(before + len(data)) % 3]])
    found = {word for word in found if len(word) >= SHORTEST_LINE or word.rstrip(b"=") == whole.rstrip(b"=")}
    return found | {word.translate(_URL_ALPHABET) for word in found}


def _expression(words: list[bytes]) -> bytes:
    """One expression for all words, the longest first, told apart by their first two bytes."""
    tree: dict[bytes, dict[bytes, list[bytes]]] = {}
    for word in words:
        tree.setdefault(word[:1], {}).setdefault(word[1:2], []).append(word[2:])

    def either(branches: Iterable[Any]) -> bytes:
        return b"(?:" + b"|".join(branches) + b")"

    return either(
        re.escape(first)
        + either(re.escape(second) + either(map(re.escape, rests)) for second, rests in seconds.items())
        for first, seconds in tree.items()
    )


def _next(holds: list[int], since: int, end: int) -> int:
    at = bisect_left(holds, since)
    return holds[at] if at < len(holds) else end
