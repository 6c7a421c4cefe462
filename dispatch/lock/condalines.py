"""The lines of a conda lock: one package a paragraph, written for a diff, and read strictly.

Owns their form. Knows no tool, so that reading a lock loads none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from dispatch.lock.model import CondaPackage

_HEAD = re.compile(
    r"(?P<name>[a-z0-9_][a-z0-9_.-]*) (?P<version>[A-Za-z0-9_.!+]+) (?P<build>[A-Za-z0-9_.+]+)"
)
_FIELD = re.compile(r"    (?P<key>[a-z0-9]+) (?P<value>\S.*)")
_ONCE = {
    "channel": r"\S{1,300}",
    "file": r"[a-z0-9-]{1,30}/[A-Za-z0-9_.+!~=-]+\.(?:conda|tar\.bz2)",
    "sha256": r"[0-9a-f]{64}",
    "size": r"[0-9]{1,15}",
    "noarch": r"python|generic",
}
_NEEDS = r"[^\s].{0,300}"

_Error = Callable[[str, int], Exception]


def render_packages(packages: Iterable[CondaPackage]) -> list[str]:
    """Return the lines of packages."""
    lines: list[str] = []
    for each in packages:
        lines += [f"{each.name} {each.version} {each.build}", f"    channel {each.channel}"]
        lines += [f"    file {each.subdir}/{each.file}", f"    sha256 {each.sha256}", f"    size {each.size}"]
        lines += [f"    noarch {each.noarch}"] if each.noarch else []
        lines += [f"    needs {spec}" for spec in each.depends]
    return lines


def parse_packages(lines: Sequence[tuple[int, str]], error: _Error) -> tuple[CondaPackage, ...]:
    """Read numbered lines as written by :func:`render_packages`; ``error`` makes what is raised."""
    packages: list[CondaPackage] = []
    seen: set[str] = set()
    rest = list(lines)
    while rest:
        number, line = rest.pop(0)
        head = _HEAD.fullmatch(line)
        if head is None or head["name"] in seen:
            raise error(f"not a package with its version and build, each once: {line.strip()}", number)
        seen.add(head["name"])
        body = []
        while rest and rest[0][1].startswith(" "):
            body.append(rest.pop(0))
        packages.append(_package(head, number, body, error))
    return tuple(packages)


def _package(
    head: re.Match[str], number: int, body: Sequence[tuple[int, str]], error: _Error
) -> CondaPackage:
    found: dict[str, str] = {}
    needs: list[str] = []
    for place, line in body:
        match = _FIELD.fullmatch(line)
        key, value = (match["key"], match["value"]) if match else ("", "")
        if key == "needs" and re.fullmatch(_NEEDS, value):
            needs.append(value)
        elif key in _ONCE and key not in found and re.fullmatch(_ONCE[key], value):
            found[key] = value
        else:
            raise error(f"not what a package has: {line.strip()}", place)
    missing = [key for key in _ONCE if key not in found and key != "noarch"]
    if missing:
        raise error(f"package {head['name']} has no {missing[0]}", number)
    subdir, _, file = found["file"].partition("/")
    return CondaPackage(
        name=head["name"],
        version=head["version"],
        build=head["build"],
        channel=found["channel"],
        subdir=subdir,
        file=file,
        sha256=found["sha256"],
        size=int(found["size"]),
        noarch=found.get("noarch", ""),
        depends=tuple(needs),
    )
