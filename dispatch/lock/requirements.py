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
    requires_python: str = ""

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
        """SHA-256 (hex) of all that decides which packages are right; comments and layout do not enter.

        ``requires_python`` does not enter either: it allows the target or not, and chooses no package.
        """
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
class Collected:
    """Requirements while they are gathered from lines."""

    lines: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)
    index_url: str | None = None
    extra_index_urls: list[str] = field(default_factory=list)
    prereleases: bool = False
    requires_python: str = ""

    def of(self, path: Path) -> Requirements:
        """Return what was gathered from the file ``path``."""
        return Requirements(
            path=path,
            lines=tuple(self.lines),
            constraints=tuple(self.constraints),
            index_url=self.index_url,
            extra_index_urls=tuple(dict.fromkeys(self.extra_index_urls)),
            prereleases=self.prereleases,
            requires_python=self.requires_python,
        )


@dataclass(frozen=True)
class Place:
    """Where a line stands: its file, and ``where`` in it for messages (``", line 3"``)."""

    path: Path
    where: str = ""
    as_constraints: bool = False
    stack: tuple[Path, ...] = ()

    def error(self, fact: str, remedy: str) -> ConfigurationError:
        """Return the error that says what is wrong at this place."""
        return ConfigurationError(f"{self.path}{self.where}: {fact}", remedy=remedy)


def read_requirements(path: Path) -> Requirements:
    """Read a requirements file and everything it includes; ConfigurationError names file and line."""
    into = Collected()
    _read(path, into, Place(path))
    return into.of(path)


def take_line(line: str, into: Collected, place: Place) -> None:
    """Take one logical line of a requirements file, an option or a requirement, without its comment."""
    if line.startswith("-"):
        _option(line, into, place)
    else:
        take_requirement(line, into, place)


def _read(path: Path, into: Collected, origin: Place) -> None:
    if path.resolve() in origin.stack:
        raise origin.error(f"{path} includes itself", remedy="remove one of the includes")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fact = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        where = f"{origin.path}{origin.where}: " if origin.where else ""
        raise ConfigurationError(
            f"{where}requirements {path} cannot be read: {fact}",
            remedy="correct the path, or write the file: one package a line",
        ) from error
    for number, line in _logical_lines(text):
        stack = (*origin.stack, path.resolve())
        take_line(line, into, Place(path, f", line {number}", origin.as_constraints, stack))


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


def take_requirement(line: str, into: Collected, place: Place) -> None:
    """Take one requirement: a named package, or ConfigurationError that says which it is and why not."""
    if "${" in line:
        raise place.error("a variable in a requirement cannot be locked", remedy="write its value")
    specifier = line.split(";", 1)[0].strip()
    if " --" in line:
        raise place.error(
            f"options of a single requirement are not supported: {line[line.index(' --') + 1 :]}",
            remedy="remove them; hashes are the business of the lock",
        )
    if re.match(r"(git|hg|svn|bzr)\+", specifier) or "://" in specifier or "@" in specifier:
        named = re.match(rf"({_NAME})[^@/]*@", specifier)
        raise place.error(
            f"{named[1] + ': ' if named else ''}a package from a repository or an address has no hash in an "
            "index to lock",
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


def _option(line: str, into: Collected, place: Place) -> None:
    match = _OPTION.fullmatch(line)
    if match is None and line[:2] in _SHORT:
        match = _OPTION.fullmatch(f"{line[:2]} {line[2:]}")
    name = _SHORT.get(match["name"], match["name"]) if match else line.split()[0]
    value = match["value"].strip("\"' ") if match else ""
    if name in ("--requirement", "--constraint"):
        if not value or "://" in value:
            raise place.error(f"{name} needs the path of a file", remedy="give a path beside this file")
        nested = Place(place.path, place.where, place.as_constraints or name == "--constraint", place.stack)
        _read(place.path.parent / value, into, nested)
    elif name in ("--index-url", "--extra-index-url"):
        take_index(value, into, place, default=name == "--index-url")
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


def take_index(address: str, into: Collected, place: Place, *, default: bool) -> None:
    """Take the address of an index, in place of the default one or beside it; it holds no secret."""
    if default:
        into.index_url = _address(address, place)
    else:
        into.extra_index_urls.append(_address(address, place))


def _address(value: str, place: Place) -> str:
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
