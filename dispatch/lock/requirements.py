"""A ``requirements.in`` with everything it includes, as normalised lines.

Owns which lines may be asked for: named packages with version specifiers and markers, includes,
constraints, and the addresses of indexes. Refuses what has no hash to lock (editable, VCS, direct
addresses, local paths), what is a secret (credentials, variables), and options that mean another
build than from wheels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dispatch.errors import ConfigurationError
from dispatch.lock.model import Target, content_digest

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_CLAUSE = r"(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+"
_CLAUSES = rf"{_CLAUSE}(?:\s*,\s*{_CLAUSE})*\s*,?"
_REQUIREMENT = re.compile(
    rf"(?P<name>{_NAME})\s*(?:\[\s*(?:{_NAME}(?:\s*,\s*{_NAME})*)?\s*\])?"
    rf"\s*(?:{_CLAUSES}|\(\s*{_CLAUSES}\s*\))?\s*(?:;.*)?"
)
_OPTION = re.compile(r"(?P<name>--[a-z-]+|-[a-z])(?:\s*=\s*|\s+|$)(?P<value>.*)")
_SHORT = {"-r": "--requirement", "-c": "--constraint", "-i": "--index-url", "-e": "--editable"}
_ARCHIVES = (".whl", ".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz")
_NOTHING_TO_DO = frozenset({"--prefer-binary", "--only-binary", "--require-hashes"})


def normalise(name: str) -> str:
    """Return a package name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Requirements:
    """What a requirements file and its includes ask for, in order, without comments."""

    path: Path
    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    prereleases: bool = False

    @property
    def indexes(self) -> tuple[str, ...]:
        """The index addresses that the files themselves name, the default one first."""
        return ((self.index_url,) if self.index_url else ()) + self.extra_index_urls

    @property
    def names(self) -> frozenset[str]:
        """Normalised names of the packages asked for directly."""
        matches = (_REQUIREMENT.fullmatch(line) for line in self.lines)
        return frozenset(normalise(match["name"]) for match in matches if match)

    def digest(self, target: Target) -> str:
        """SHA-256 (hex) of all that decides which packages are right; comments and layout do not enter."""
        return content_digest(
            [
                "pip-inputs",
                1,
                list(self.lines),
                list(self.constraints),
                [self.index_url, *self.extra_index_urls],
                self.prereleases,
                [target.python, target.glibc, target.architecture],
            ]
        )


@dataclass
class _Collector:
    lines: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    index_url: str | None = None
    extra_index_urls: list[str] = field(default_factory=list)
    prereleases: bool = False


@dataclass(frozen=True)
class _Place:
    path: Path
    line: int
    as_constraints: bool
    stack: tuple[Path, ...]

    def error(self, fact: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(f"{self.path}, line {self.line}: {fact}", remedy=remedy)


def read_requirements(path: Path) -> Requirements:
    """Read a requirements file and everything it includes; ConfigurationError names file and line."""
    if path.suffix == ".toml":
        raise ConfigurationError(
            f"{path}: requirements are read from a requirements file only, not from a project's metadata",
            remedy="list the packages in a `requirements.in`",
        )
    into = _Collector()
    _read(path, into, _Place(path, 0, False, ()))
    return Requirements(
        path=path,
        lines=tuple(into.lines),
        constraints=tuple(into.constraints),
        index_url=into.index_url,
        extra_index_urls=tuple(dict.fromkeys(into.extra_index_urls)),
        prereleases=into.prereleases,
    )


def _read(path: Path, into: _Collector, origin: _Place) -> None:
    if path.resolve() in origin.stack:
        raise origin.error(f"{path} includes itself", remedy="remove one of the includes")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fact = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        where = f"{origin.path}, line {origin.line}: " if origin.line else ""
        raise ConfigurationError(
            f"{where}requirements {path} cannot be read: {fact}",
            remedy="correct the path, or write the file: one package a line",
        ) from error
    for number, line in _logical_lines(text):
        place = _Place(path, number, origin.as_constraints, (*origin.stack, path.resolve()))
        if line.startswith("-"):
            _option(line, into, place)
        else:
            _requirement(line, into, place)


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines as pip sees them: continued lines joined, comments cut, white space as one blank."""
    start, parts = 0, ""
    for number, raw in enumerate(text.splitlines(), start=1):
        start = start or number
        if raw.endswith("\\") and not raw.lstrip().startswith("#"):
            parts += raw[:-1] + " "
            continue
        line = " ".join(re.sub(r"(^|\s+)#.*$", "", parts + raw).split())
        if line:
            yield start, line
        start, parts = 0, ""
    if parts.strip():
        yield start, " ".join(parts.split())


def _requirement(line: str, into: _Collector, place: _Place) -> None:
    if "${" in line:
        raise place.error("a variable in a requirement cannot be locked", remedy="write its value")
    specifier = line.split(";", 1)[0].strip()
    if " --" in line:
        raise place.error(
            f"options of a single requirement are not supported: {line[line.index(' --') + 1 :]}",
            remedy="remove them; hashes are the business of the lock",
        )
    if re.match(r"(git|hg|svn|bzr)\+", specifier) or "://" in specifier or "@" in specifier:
        raise place.error(
            "a package from a repository or an address has no hash in an index to lock",
            remedy="name a released version, or build the image with a `dockerfile`",
        )
    if specifier.startswith((".", "/", "~")) or specifier.lower().endswith(_ARCHIVES):
        raise place.error(
            f"a local path cannot be part of a lock: {specifier}",
            remedy="remove it; the project's own code reaches its steps without being installed",
        )
    if not _REQUIREMENT.fullmatch(line):
        raise place.error(f"not a requirement: {line}", remedy="write `name` or `name>=1.2,<2`")
    (into.constraints if place.as_constraints else into.lines).append(line)


def _option(line: str, into: _Collector, place: _Place) -> None:
    match = _OPTION.fullmatch(line)
    if match is None and line[:2] in _SHORT:
        match = _OPTION.fullmatch(f"{line[:2]} {line[2:]}")
    name = _SHORT.get(match["name"], match["name"]) if match else line.split()[0]
    value = match["value"].strip("\"' ") if match else ""
    if name in ("--requirement", "--constraint"):
        if not value or "://" in value:
            raise place.error(f"{name} needs the path of a file", remedy="give a path beside this file")
        nested = _Place(place.path, place.line, place.as_constraints or name == "--constraint", place.stack)
        _read(place.path.parent / value, into, nested)
    elif name == "--index-url":
        into.index_url = _address(value, place)
    elif name == "--extra-index-url":
        into.extra_index_urls.append(_address(value, place))
    elif name == "--pre":
        into.prereleases = True
    elif name == "--editable":
        raise place.error(
            "an editable package cannot be part of a lock",
            remedy="remove it; the project's own code reaches its steps without being installed",
        )
    elif name not in _NOTHING_TO_DO:
        raise place.error(
            f"option {name} is not supported",
            remedy="remove it; what concerns this machine alone belongs in PIP_* variables or pip.conf",
        )


def _address(value: str, place: _Place) -> str:
    remedy = "give credentials to pip by its variables, pip.conf, netrc or a keyring, not in this file"
    if "${" in value:
        raise place.error("an index address with a variable cannot be locked", remedy=remedy)
    try:
        parts = urlsplit(value)
        credentials = parts.username is not None or parts.password is not None
    except ValueError:
        raise place.error("the index address is malformed", remedy="write https://host/path") from None
    if credentials or parts.query:
        raise place.error("the index address carries credentials or a query", remedy=remedy)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(c.isspace() for c in value):
        raise place.error(
            "an index must be given by its http or https address", remedy="write https://host/path"
        )
    return value
