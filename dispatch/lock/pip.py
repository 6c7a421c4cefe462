"""Pip locks: ``requirements.in`` → exact packages with hashes for one target.

Owns the file (it stays readable for pip and uv), what makes it stale, and its renewal by uv.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.environment import Environment, PipImage
from dispatch.errors import ConfigurationError, LockError
from dispatch.lock.header import LockFile, check_digest, read_lock_file, render_lock_file
from dispatch.lock.model import BaseFacts, PipLock, PipPin, Renewal, Target, summarise, write_lock
from dispatch.lock.pins import parse_pins, render_pins
from dispatch.lock.requirements import Requirements, read_requirements

if TYPE_CHECKING:
    from dispatch.lock.uv import Uv

_MINOR = r"[0-9]{1,3}\.[0-9]{1,3}"


def target_of(environment: Environment, facts: BaseFacts) -> Target:
    """Return what wheels of the environment must fit.

    ConfigurationError where the base has no Python or glibc, or another minor version than the
    declaration's ``python:``.
    """
    declared = _declaration(environment).python
    if facts.python is None or facts.glibc is None:
        lacking = "Python" if facts.python is None else "glibc"
        raise ConfigurationError(
            f"image {environment.name!r}: its base {facts.name} has no {lacking}, so no wheels fit it",
            remedy="choose a base that has Python and glibc, such as debian-python",
        )
    if declared and declared != facts.python:
        raise ConfigurationError(
            f"image {environment.name!r} asks for Python {declared}, its base {facts.name} has "
            f"{facts.python}",
            remedy=f'write `python: "{facts.python}"`, or name a base with Python {declared}',
        )
    return Target(facts.python, facts.glibc, facts.architecture)


def read_pip(
    environment: Environment, facts: BaseFacts | None = None, command: str = "dispatch lock"
) -> PipLock:
    """Read the committed lock of a pip environment and hold that it still fits.

    With ``facts`` of the base it must be for that base's Python, glibc and machine. LockError where it is
    missing, malformed, changed by hand, or made from other inputs; ``command`` is what the remedy names.
    """
    declaration = _declaration(environment)
    found = read_lock_file(declaration.lock, environment.name, command)
    lock = _parse(found)
    check_digest(found, lock.digest)
    requirements = read_requirements(declaration.requirements)
    stale = _what_changed(lock, requirements, declaration, facts)
    if stale:
        raise LockError(
            f"image {environment.name!r}: the lock {declaration.lock} is stale: {stale}",
            remedy=f"renew it with `{command}`",
        )
    return lock


def renew_pip(environment: Environment, facts: BaseFacts, uv: Uv, upgrade: bool = False) -> Renewal:
    """Resolve anew and write the lock, keeping the present lock's versions where they fit.

    With ``upgrade`` each package is taken in its newest version that fits.
    """
    declaration = _declaration(environment)
    requirements = read_requirements(declaration.requirements)
    target = target_of(environment, facts)
    known = _known(declaration.lock)
    pins = _with_known_hashes(uv.compile(requirements, target, known, upgrade), known)
    lock = PipLock(
        base=facts.name,
        target=target,
        inputs=requirements.digest(target),
        pins=pins,
        indexes=requirements.indexes,
        own_default=requirements.index_url is not None,
    )
    changed = write_lock(declaration.lock, render(lock))
    summary = summarise({pin.name: pin.version for pin in known}, {pin.name: pin.version for pin in pins})
    return Renewal(declaration.lock, changed, summary)


def render(lock: PipLock) -> str:
    """Return the text of a pip lock."""
    fields = [
        ("inputs", lock.inputs),
        ("base", lock.base),
        ("python", lock.target.python),
        ("glibc", lock.target.glibc),
        ("architecture", lock.target.architecture),
    ]
    keys = ("index" if lock.own_default else "extraindex", *("extraindex" for _ in lock.indexes[1:]))
    fields += list(zip(keys, lock.indexes, strict=False))
    return render_lock_file([*fields, ("digest", lock.digest)], render_pins(lock.pins))


def _declaration(environment: Environment) -> PipImage:
    declaration = environment.declaration
    if not isinstance(declaration, PipImage):
        raise ConfigurationError(
            f"image {environment.name!r} is not made from requirements", remedy="declare it with `pip:`"
        )
    return declaration


def _parse(found: LockFile) -> PipLock:
    own = found.values("index")
    target = Target(
        python=found.value("python", _MINOR),
        glibc=found.value("glibc", _MINOR),
        architecture=found.value("architecture", r"[a-z0-9_]{1,20}"),
    )
    return PipLock(
        base=found.value("base", r"\S{1,300}"),
        target=target,
        inputs=found.value("inputs", r"[0-9a-f]{64}"),
        pins=parse_pins(found.lines, found.error),
        indexes=own + found.values("extraindex"),
        own_default=bool(own),
    )


def _what_changed(
    lock: PipLock, requirements: Requirements, declaration: PipImage, facts: BaseFacts | None
) -> str:
    """Say in a few words which input is another one now; empty if all are the same."""
    python = facts.python if facts else declaration.python
    glibc = facts.glibc if facts else None
    architecture = facts.architecture if facts else None
    pairs = (
        ("Python", lock.target.python, declaration.python or python),
        ("Python", lock.target.python, python),
        ("glibc", lock.target.glibc, glibc),
        ("the machine", lock.target.architecture, architecture),
    )
    for what, locked, now in pairs:
        if now is not None and now != locked:
            return f"{what} was {locked}, now it is {now}"
    if requirements.digest(lock.target) == lock.inputs:
        return ""
    if requirements.indexes != lock.indexes:
        return f"the indexes that {requirements.path} names changed"
    missing = sorted(requirements.names - {pin.name for pin in lock.pins})
    if missing:
        return f"{requirements.path} asks for {', '.join(missing)}, which it does not hold"
    return f"{requirements.path} (or a file it includes) changed"


def _known(path: Path) -> tuple[PipPin, ...]:
    """Return the pins of a lock to start from; a lock that cannot be read is no reason not to renew it."""
    with contextlib.suppress(LockError):
        return _parse(read_lock_file(path, "", "")).pins
    return ()


def _with_known_hashes(pins: tuple[PipPin, ...], known: tuple[PipPin, ...]) -> tuple[PipPin, ...]:
    """Keep the hashes that were locked for the same release.

    An index of this machine may hold fewer files of a release than the one that the lock was made with;
    without this, two machines would rewrite each other's locks. A release without any file in common is
    another one under the same number: its hashes are not mixed.
    """
    before = {(pin.name, pin.version): frozenset(pin.hashes) for pin in known}
    merged: list[PipPin] = []
    for pin in pins:
        old = before.get((pin.name, pin.version), frozenset())
        hashes = old.union(pin.hashes) if old.intersection(pin.hashes) else frozenset(pin.hashes)
        merged.append(PipPin(pin.name, pin.version, tuple(sorted(hashes)), pin.via))
    return tuple(merged)
