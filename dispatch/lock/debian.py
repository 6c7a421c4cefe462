"""Debian locks: the packages of a base image → every .deb with version, SHA-256 and place in the archive.

Owns the file, what makes it stale, its renewal by apt, and what a base tells the environments above it.
No mirror, host or date is in a lock: the archive is signed, and the mirror is each machine's own.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from dispatch.environment import DebianImage, Environment
from dispatch.errors import ConfigurationError, LockError
from dispatch.lock.header import LockFile, check_digest, read_lock_file, render_lock_file
from dispatch.lock.model import (
    BaseFacts,
    DebianLock,
    DebianPackage,
    Renewal,
    content_digest,
    summarise,
    write_lock,
)

if TYPE_CHECKING:
    from dispatch.lock.apt import Apt, Say

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_SUITE = r"[a-z0-9][a-z0-9.+-]{0,60}(?:/[a-z0-9.+-]{1,60})?"
_NAME = r"[a-z0-9][a-z0-9+.-]{0,100}"
_LINE = re.compile(
    rf"(?P<name>{_NAME}) (?P<version>[A-Za-z0-9.+~:-]{{1,100}}) (?P<architecture>[a-z0-9-]{{1,20}}) "
    rf"sha256:(?P<sha256>[0-9a-f]{{64}}) (?P<size>[0-9]{{1,12}}) (?P<suite>{_SUITE}) "
    r"(?P<path>(?:[A-Za-z0-9+~_][A-Za-z0-9.+~_:-]*/)*[A-Za-z0-9+~_][A-Za-z0-9.+~_:-]*\.deb)"
)


def read_debian(environment: Environment, command: str = "dispatch lock") -> DebianLock:
    """Read the committed lock of a Debian base and hold that it fits the declaration.

    LockError where it is missing, malformed, changed by hand, or made from another declaration.
    """
    declaration = _declaration(environment)
    found = read_lock_file(declaration.lock, environment.name, command)
    lock = _parse(found)
    check_digest(found, lock.digest)
    if lock.inputs != _inputs(declaration):
        changed = "its declaration changed"
        if lock.suites != declaration.suites:
            changed = f"its suites were {' '.join(lock.suites)}, now they are {' '.join(declaration.suites)}"
        elif missing := sorted(set(declaration.packages) - {package.name for package in lock.packages}):
            changed = f"it does not hold {', '.join(missing)}"
        raise LockError(
            f"image {environment.name!r}: the lock {declaration.lock} is stale: {changed}",
            remedy=f"renew it with `{command}`",
        )
    return lock


def renew_debian(environment: Environment, apt: Apt, say: Say) -> Renewal:
    """Resolve the declaration with the archive as it is today, and write the lock."""
    declaration = _declaration(environment)
    if declaration.architecture not in _MACHINES:
        raise ConfigurationError(
            f"image {environment.name!r}: architecture {declaration.architecture!r} is not supported",
            remedy=f"write one of: {', '.join(sorted(_MACHINES))}",
        )
    packages = apt.resolve(declaration.suites, declaration.packages, declaration.architecture, say)
    lock = DebianLock(
        suites=declaration.suites,
        architecture=declaration.architecture,
        epoch=declaration.epoch,
        inputs=_inputs(declaration),
        packages=packages,
    )
    facts = base_facts(environment.name, lock)
    if declaration.python and declaration.python != facts.python:
        raise ConfigurationError(
            f"image {environment.name!r} declares Python {declaration.python}, its packages bring "
            f"{facts.python or 'none'}",
            remedy="correct `python:` or `packages:` of the image",
        )
    before: dict[str, str] = {}
    with contextlib.suppress(LockError):
        old = _parse(read_lock_file(declaration.lock, "", ""))
        before = {package.name: package.version for package in old.packages}
    changed = write_lock(declaration.lock, render(lock))
    summary = summarise(before, {package.name: package.version for package in packages})
    return Renewal(declaration.lock, changed, summary)


def render(lock: DebianLock) -> str:
    """Return the text of a Debian lock."""
    fields = [
        ("inputs", lock.inputs),
        ("suites", " ".join(lock.suites)),
        ("architecture", lock.architecture),
        ("epoch", str(lock.epoch)),
        ("digest", lock.digest),
    ]
    return render_lock_file(
        fields,
        (
            f"{p.name} {p.version} {p.architecture} sha256:{p.sha256} {p.size} {p.suite} {p.path}"
            for p in lock.packages
        ),
    )


def base_facts(name: str, lock: DebianLock) -> BaseFacts:
    """Return what a pip environment must know of this base: Python's and glibc's ``major.minor``."""
    versions = {package.name: package.version for package in lock.packages}
    return BaseFacts(
        name=name,
        python=_minor(versions.get("python3", "")),
        glibc=_minor(versions.get("libc6", "")),
        architecture=_MACHINES.get(lock.architecture, lock.architecture),
    )


def _minor(version: str) -> str | None:
    match = re.match(r"(?:[0-9]+:)?([0-9]+\.[0-9]+)", version)
    return match[1] if match else None


def _declaration(environment: Environment) -> DebianImage:
    declaration = environment.declaration
    if not isinstance(declaration, DebianImage):
        raise ConfigurationError(
            f"image {environment.name!r} is not made from Debian packages", remedy="declare it with `debian:`"
        )
    for what, values, pattern in (
        ("suite", declaration.suites, _SUITE),
        ("package", declaration.packages, _NAME),
        ("architecture", (declaration.architecture,), r"[a-z0-9-]{1,20}"),
    ):
        for value in values:
            if not re.fullmatch(pattern, value):
                raise ConfigurationError(
                    f"image {environment.name!r}: {value!r} is no name of a {what}",
                    remedy=f"correct {environment.origin}",
                )
    if not declaration.suites:
        raise ConfigurationError(
            f"image {environment.name!r} names no suite", remedy=f"correct {environment.origin}"
        )
    return declaration


def _inputs(declaration: DebianImage) -> str:
    return content_digest(
        [
            "debian-inputs",
            1,
            list(declaration.suites),
            sorted(declaration.packages),
            declaration.architecture,
            declaration.epoch,
        ]
    )


def _parse(found: LockFile) -> DebianLock:
    packages = []
    for number, line in found.lines:
        if line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise found.error(f"not a locked package: {line}", number)
        packages.append(
            DebianPackage(
                name=match["name"],
                version=match["version"],
                architecture=match["architecture"],
                sha256=match["sha256"],
                size=int(match["size"]),
                suite=match["suite"],
                path=match["path"],
            )
        )
    names = [(package.name, package.architecture) for package in packages]
    if not names or len(set(names)) != len(names):
        raise found.error("a package is named twice" if names else "it names no package")
    return DebianLock(
        suites=tuple(found.value("suites", rf"{_SUITE}(?: {_SUITE})*").split()),
        architecture=found.value("architecture", r"[a-z0-9-]{1,20}"),
        epoch=int(found.value("epoch", r"[0-9]{1,12}")),
        inputs=found.value("inputs", r"[0-9a-f]{64}"),
        packages=tuple(packages),
    )
