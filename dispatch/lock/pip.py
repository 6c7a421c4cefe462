"""Pip locks: requirements of any file → exact packages with hashes for one target.

Owns the file (it stays readable for pip and uv), what makes it stale, and its renewal by uv or pip-tools.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dispatch.environment import Environment, PipImage
from dispatch.errors import ConfigurationError, LockError
from dispatch.lock import cuda
from dispatch.lock.header import LockFile, check_digest, read_lock_file, render_lock_file
from dispatch.lock.inputs import PipInputs, is_section, name_of, read_inputs
from dispatch.lock.model import (
    NO_UPGRADE,
    BaseFacts,
    PipLock,
    PipPin,
    Renewal,
    Target,
    Upgrade,
    summarise,
    write_lock,
)
from dispatch.lock.pins import parse_pins, render_pins
from dispatch.lock.resolving import Question, Resolving

_MINOR = r"[0-9]{1,3}\.[0-9]{1,3}"
_PROVIDED = r"[a-z0-9][a-z0-9.-]*==[A-Za-z0-9.!+_-]+"
_BUILDER = _PROVIDED + r"( sha256:[0-9a-f]{64})+"
_MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}


def target_of(environment: Environment, facts: BaseFacts) -> Target:
    """Return what wheels of the environment must fit.

    ConfigurationError where the base has no Python or glibc, or is another one than the declaration says:
    its Python, its machine, a glibc older than the target's.
    """
    declaration = _declaration(environment)
    if facts.python is None or facts.glibc is None:
        lacking = "Python" if facts.python is None else "glibc"
        raise ConfigurationError(
            f"image {environment.name!r}: its base {facts.name} has no {lacking}, so no wheels fit it",
            remedy="choose a base that has Python and glibc, such as debian-python",
        )
    asked = declaration.more.target
    if declaration.python and declaration.python != facts.python:
        what, wanted, has = "Python", declaration.python, facts.python
        remedy = f'write `python: "{has}"`, or name a base with Python {wanted}'
    elif asked.glibc and _parts(asked.glibc) > _parts(facts.glibc):
        what, wanted, has = "glibc", asked.glibc, facts.glibc
        remedy = f'write `target: {{glibc: "{has}"}}` or less, or name a base with glibc {wanted}'
    elif (_machine(declaration) or facts.architecture) != facts.architecture:
        what, wanted, has = "the machine", str(_machine(declaration)), facts.architecture
        remedy = f"name a base for {declaration.more.platform}"
    else:
        return Target(facts.python, asked.glibc or facts.glibc, facts.architecture, asked.cuda)
    raise ConfigurationError(
        f"image {environment.name!r} asks for {what} {wanted}, its base {facts.name} has {has}", remedy=remedy
    )


def read_pip(
    environment: Environment,
    facts: BaseFacts | None = None,
    command: str = "dispatch lock",
    provided: Sequence[str] | None = None,
) -> PipLock:
    """Read the committed lock of a pip environment and hold that it still fits.

    With ``facts`` of the base it must be for that base's Python, glibc and machine; with ``provided``, the
    packages of that base as ``name==version``, it must have been made with those of them that it needs.
    LockError where it is missing, malformed, changed by hand, or made from other inputs; ``command`` is what
    the remedy names.
    """
    declaration = _declaration(environment)
    found = read_lock_file(declaration.lock, environment.name, command)
    lock = _parse(found)
    check_digest(found, lock.digest)
    inputs = read_inputs(declaration, lock.target.architecture, provided or ())
    stale = _other_target(lock, declaration, facts) or _other_inputs(lock, inputs, provided is not None)
    if stale:
        raise LockError(
            f"image {environment.name!r}: the lock {declaration.lock} is stale: {stale}",
            remedy=f"renew it with `{command}`",
        )
    return lock


def renew_pip(
    environment: Environment,
    facts: BaseFacts,
    resolver: Resolving,
    upgrade: Upgrade = NO_UPGRADE,
    provided: Sequence[str] = (),
    requires: Callable[[PipLock], Sequence[str]] | None = None,
) -> Renewal:
    """Resolve anew and write the lock, keeping the present lock's versions where they fit.

    What ``upgrade`` names is taken in its newest version that fits. ``provided`` are the packages that the
    base has installed, as ``name==version``: what asks for one of them gets that one, and it is not
    installed again. ``requires`` says what builds the packages that come from source.
    """
    declaration = _declaration(environment)
    target = target_of(environment, facts)
    inputs = read_inputs(declaration, target.architecture, provided)
    _refuse_other_python(inputs, target, environment.name)
    known = known_pins(declaration.lock)
    named = upgrade.everything or {pin.name for pin in known}.intersection(upgrade.packages)
    if is_section(declaration.requirements) and not named:
        # What stands in a file beside conda's packages is resolved again only for a reason of its own.
        with contextlib.suppress(LockError):
            lock = read_pip(environment, facts, provided=provided)
            return Renewal(declaration.lock, False, f"{len(lock.pins)} packages, for the same inputs")
    limits = inputs.provided + cuda.limits(target.cuda)
    question = Question(inputs.requirements, target, known, upgrade, limits, inputs.sdists)
    resolved = resolver.compile(question)
    needed = inputs.needed(resolved)
    own = tuple(pin for pin in resolved if pin.name not in {name_of(each) for each in needed})
    pins = _with_known_hashes(own, known)
    lock = PipLock(
        base=facts.name,
        target=target,
        inputs=inputs.digest(target, needed),
        pins=pins,
        indexes=inputs.requirements.indexes,
        own_default=inputs.requirements.index_url is not None,
        sdists=tuple(pin.name for pin in pins if pin.name in inputs.sdists),
        provided=needed,
    )
    if lock.sdists and requires is not None:
        before = _known_builders(declaration.lock)
        lock = replace(lock, builders=_builders(lock, requires(lock), question, resolver, before))
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
    fields += [("cuda", lock.target.cuda)] if lock.target.cuda else []
    fields += [("source", name) for name in lock.sdists]
    fields += [("builder", f"{pin.name}=={pin.version} {' '.join(pin.hashes)}") for pin in lock.builders]
    fields += [("provided", each) for each in lock.provided]
    keys = ("index" if lock.own_default else "extraindex", *("extraindex" for _ in lock.indexes[1:]))
    fields += list(zip(keys, lock.indexes, strict=False))
    return render_lock_file([*fields, ("digest", lock.digest)], render_pins(lock.pins))


def _builders(
    lock: PipLock, requires: Sequence[str], question: Question, resolver: Resolving, known: tuple[PipPin, ...]
) -> tuple[PipPin, ...]:
    """Resolve what builds the packages that come from source: wheels all, so that there is an end to it."""
    if not requires:
        return ()
    wanted = replace(question.requirements, lines=tuple(requires), constraints=(), prereleases=False)
    asked = Question(wanted, lock.target, known, question.upgrade)
    return _with_known_hashes(resolver.compile(asked), known)


def _known_builders(path: Path) -> tuple[PipPin, ...]:
    with contextlib.suppress(LockError):
        return _parse(read_lock_file(path, "", "")).builders
    return ()


def _builder(text: str) -> PipPin:
    pinned, *hashes = text.split(" ")
    name, _, version = pinned.partition("==")
    return PipPin(name, version, tuple(hashes))


def known_pins(path: Path) -> tuple[PipPin, ...]:
    """Return the pins of a lock to start from; a lock that cannot be read is no reason not to renew it."""
    with contextlib.suppress(LockError):
        return _parse(read_lock_file(path, "", "")).pins
    return ()


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
        cuda=found.value("cuda", _MINOR) if found.values("cuda") else None,
    )
    return PipLock(
        base=found.value("base", r"\S{1,300}"),
        target=target,
        inputs=found.value("inputs", r"[0-9a-f]{64}"),
        pins=parse_pins(found.lines, found.error),
        indexes=own + found.values("extraindex"),
        own_default=bool(own),
        sdists=found.matching("source", r"[a-z0-9][a-z0-9.-]*"),
        provided=found.matching("provided", _PROVIDED),
        builders=tuple(map(_builder, found.matching("builder", _BUILDER))),
    )


def _other_target(lock: PipLock, declaration: PipImage, facts: BaseFacts | None) -> str:
    """Say in a few words what of the target is another one now; empty if the lock still fits it."""
    locked, asked = lock.target, declaration.more.target
    glibc = asked.glibc
    if glibc is None and facts and facts.glibc and _parts(facts.glibc) < _parts(locked.glibc):
        glibc = facts.glibc
    pairs = (
        ("Python", locked.python, declaration.python),
        ("Python", locked.python, facts and facts.python),
        ("glibc", locked.glibc, glibc),
        ("the machine", locked.architecture, _machine(declaration)),
        ("the machine", locked.architecture, facts and facts.architecture),
        ("CUDA", locked.cuda or "not given", asked.cuda or "not given"),
    )
    for what, was, now in pairs:
        if now is not None and now != was:
            return f"{what} was {was}, now it is {now}"
    return ""


def _other_inputs(lock: PipLock, inputs: PipInputs, provided_known: bool) -> str:
    """Say in a few words which input is another one now; empty if all are the same."""
    provided = inputs.needed(lock.pins, lock.provided) if provided_known else lock.provided
    if inputs.digest(lock.target, provided) == lock.inputs:
        return ""
    requirements = inputs.requirements
    if requirements.indexes != lock.indexes:
        return f"the indexes that {requirements.path} names changed"
    if provided != lock.provided:
        changed = sorted({name_of(each) for each in {*provided} ^ {*lock.provided}})
        return f"{', '.join(changed)} of its base {lock.base} changed"
    locked = {pin.name for pin in lock.pins} | {name_of(each) for each in lock.provided}
    missing = sorted(requirements.names - locked)
    if missing:
        return f"{requirements.path} asks for {', '.join(missing)}, which it does not hold"
    return f"{requirements.path} (or a file it includes) changed"


def _refuse_other_python(inputs: PipInputs, target: Target, name: str) -> None:
    if inputs.requirements.requires_python:
        from dispatch.lock.pyproject import refuse_other_python

        refuse_other_python(inputs.requirements, target.python, f"image {name!r}")


def _machine(declaration: PipImage) -> str | None:
    """Return the machine that the declaration's platform means; None for the base's own."""
    platform = declaration.more.platform
    return None if platform is None else _MACHINES.get(platform, platform.partition("/")[2])


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


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
