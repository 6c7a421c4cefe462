"""The lines of a pip lock: written so that pip and uv read them, and read strictly.

Owns their form. Knows no tool, so that reading a lock loads none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from dispatch.lock.model import PipPin
from dispatch.lock.requirements import normalise

_PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+_-]+)")
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_VIA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._,-]+\])?")


def render_pins(pins: Sequence[PipPin], comments: bool = True) -> list[str]:
    """Return the lines of a requirements file that allows exactly these files."""
    lines: list[str] = []
    for pin in pins:
        last = len(pin.hashes) - 1
        lines.append(f"{pin.name}=={pin.version} \\")
        lines += [f"    --hash={h}{'' if i == last else ' ' + chr(92)}" for i, h in enumerate(pin.hashes)]
        if comments and pin.via:
            lines.append(f"    # via {', '.join(pin.via)}")
    return lines


def parse_pins(
    lines: Sequence[tuple[int, str]], error: Callable[[str, int], Exception]
) -> tuple[PipPin, ...]:
    """Read numbered lines as written by :func:`render_pins` or by uv; ``error`` makes what is raised."""
    pins: list[PipPin] = []
    open_line = False
    for number, line in lines:
        words = line.strip().removesuffix("\\").split()
        if line.lstrip().startswith("#"):
            _comment(line, pins)
            continue
        hashes = [match[1] for word in words if (match := _HASH.fullmatch(word))]
        head = [word for word in words if not word.startswith("--hash=")]
        if len(hashes) + len(head) != len(words) or len(head) > 1 or (head and open_line):
            raise error(f"not a pinned package with sha256 hashes: {line.strip()}", number)
        if head:
            match = _PIN.fullmatch(head[0])
            if match is None or any(pin.name == normalise(match["name"]) for pin in pins):
                raise error(f"not a package pinned once with `==`: {line.strip()}", number)
            pins.append(PipPin(normalise(match["name"]), match["version"], ()))
        elif words and not open_line:
            raise error(f"a hash that belongs to no package: {line.strip()}", number)
        if hashes:
            pins[-1] = PipPin(
                pins[-1].name, pins[-1].version, tuple(sorted({*pins[-1].hashes, *hashes})), pins[-1].via
            )
        open_line = line.rstrip().endswith("\\")
        if pins and not open_line and not pins[-1].hashes:
            raise error(f"package {pins[-1].name} has no sha256 hash", number)
    if open_line:
        raise error("the file breaks off", lines[-1][0])
    return tuple(pins)


def _comment(line: str, pins: list[PipPin]) -> None:
    """Keep who asked for the last package; a path that only this machine knows is no such name."""
    if not pins:
        return
    text = line.strip().lstrip("# ").removeprefix("via").strip()
    words = [word.removeprefix("-r ").strip() for word in text.split(",")]
    via = tuple(word for word in words if _VIA.fullmatch(word))
    last = pins[-1]
    pins[-1] = PipPin(last.name, last.version, last.hashes, tuple(sorted({*last.via, *via})))
