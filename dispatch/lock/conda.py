"""Conda locks: ``environment.yml`` → exact packages with hashes for one platform.

Owns the file, what makes it stale, and its renewal by conda-lock. A lock says of a channel what the
declaration says; where that is, is the machine's business (``lock.channels``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.environment import CondaImage, Environment
from dispatch.errors import ConfigurationError, LockError
from dispatch.lock.channels import channel_names, is_path
from dispatch.lock.condainputs import Inputs, inputs_for, inputs_of
from dispatch.lock.condalines import parse_packages, render_packages
from dispatch.lock.header import LockFile, check_digest, read_lock_file, render_lock_file
from dispatch.lock.model import BaseFacts, CondaLock, CondaPackage, Renewal, summarise, write_lock
from dispatch.lock.requirements import normalise

if TYPE_CHECKING:
    from dispatch.lock.condalock import CondaLockTool

_PLATFORM = r"[a-z]{2,10}-[a-z0-9]{2,10}"


def read_conda(environment: Environment, command: str = "dispatch lock") -> CondaLock:
    """Read the committed lock of a conda environment and hold that it still fits.

    LockError where it is missing, malformed, changed by hand, or made from other inputs; ``command`` is what
    the remedy names. Channels that are declared as relative paths are absolute in what is returned.
    """
    declaration = _declaration(environment)
    found = read_lock_file(declaration.lock, environment.name, command)
    lock = _parse(found)
    check_digest(found, lock.digest)
    stale = _what_changed(found, lock, declaration)
    if stale:
        raise LockError(
            f"image {environment.name!r}: the lock {declaration.lock} is stale: {stale}",
            remedy=f"renew it with `{command}`",
        )
    directory = declaration.file.parent
    return replace(lock, packages=tuple(_placed(package, directory) for package in lock.packages))


def renew_conda(
    environment: Environment,
    facts: BaseFacts,
    tool: CondaLockTool,
    upgrade: bool = False,
    packages: Collection[str] = (),
) -> Renewal:
    """Resolve anew and write the lock, if its inputs are others than those of the present one.

    Versions of the present lock are kept where they fit; with ``upgrade`` none are, and those of ``packages``
    (normalised names) are not: then it resolves anew in any case.
    """
    declaration = _declaration(environment)
    wanted = inputs_for(environment.name, declaration, facts)
    known = _known(declaration.lock, wanted.platform)
    before = known.packages if known is not None else ()
    keep = () if upgrade else tuple(each for each in before if normalise(each.name) not in packages)
    if known is not None and known.inputs == wanted.digest and keep == before:
        return Renewal(declaration.lock, False, f"{len(before)} packages, for the same inputs")
    lock = CondaLock(wanted.platform, wanted.virtual, wanted.digest, tool.lock(wanted, keep))
    _check_python(environment.name, declaration, lock)
    changed = write_lock(declaration.lock, render(lock, wanted))
    summary = summarise({p.name: p.version for p in before}, {p.name: p.version for p in lock.packages})
    return Renewal(declaration.lock, changed, summary)


def render(lock: CondaLock, inputs: Inputs) -> str:
    """Return the text of a conda lock that was made for ``inputs``."""
    fields = [("inputs", lock.inputs), ("platform", lock.platform)]
    fields += [("virtual", f"{name}={version}") for name, version in lock.virtual]
    fields += [("channel", channel) for channel in inputs.channels]
    fields += [("spec", spec) for spec in sorted(inputs.specs)]
    return render_lock_file([*fields, ("digest", lock.digest)], render_packages(lock.packages))


def known_packages(path: Path) -> tuple[CondaPackage, ...]:
    """Return the packages of a lock, whatever it was made for; none of one that cannot be read."""
    with contextlib.suppress(LockError):
        return _parse(read_lock_file(path, "", "")).packages
    return ()


def _declaration(environment: Environment) -> CondaImage:
    declaration = environment.declaration
    if not isinstance(declaration, CondaImage):
        raise ConfigurationError(
            f"image {environment.name!r} is not made from an environment.yml",
            remedy="declare it with `conda:`",
        )
    return declaration


def _parse(found: LockFile) -> CondaLock:
    virtual = [each.partition("=") for each in found.values("virtual")]
    packages = parse_packages(found.lines, found.error)
    named = {name for channel in found.values("channel") for name in channel_names(channel)}
    # The digest knows nothing of places.
    foreign = sorted({each.channel for each in packages} - named)
    if foreign:
        raise found.error(f"channel {foreign[0]} is not among those that it was made from")
    return CondaLock(
        platform=found.value("platform", _PLATFORM),
        virtual=tuple((name, version) for name, _, version in virtual),
        inputs=found.value("inputs", r"[0-9a-f]{64}"),
        packages=packages,
    )


def _what_changed(found: LockFile, lock: CondaLock, declaration: CondaImage) -> str:
    """Say in a few words which input is another one now; empty if all are the same."""
    now = inputs_of(declaration, lock)
    if now.platform != lock.platform:
        return f"it is for {lock.platform}, the image is for {now.platform}"
    if now.digest == lock.inputs:
        return ""
    before, after = dict(lock.virtual), dict(now.virtual)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            shown = [each.get(name) or "none" for each in (before, after)]
            return f"{name.strip('_')} of the target was {shown[0]}, now it is {shown[1]}"
    if now.channels != found.values("channel"):
        return f"the channels that {declaration.file} names changed"
    asked, locked = set(now.specs), set(found.values("spec"))
    changes = [f"asks for {', '.join(sorted(asked - locked))}"] if asked - locked else []
    changes += [f"no longer asks for {', '.join(sorted(locked - asked))}"] if locked - asked else []
    return f"{declaration.file} " + (" and ".join(changes) or "changed")


def _known(path: Path, platform: str) -> CondaLock | None:
    """Return the present lock to start from; one that cannot be read is no reason not to renew it."""
    with contextlib.suppress(LockError):
        found = read_lock_file(path, "", "")
        lock = _parse(found)
        # What was changed by hand is not what was resolved.
        check_digest(found, lock.digest)
        return lock if lock.platform == platform else None
    return None


def _check_python(name: str, declaration: CondaImage, lock: CondaLock) -> None:
    if declaration.python and lock.python != declaration.python:
        raise ConfigurationError(
            f"image {name!r} asks for Python {declaration.python}, {declaration.file} brings "
            f"{lock.python or 'none'}",
            remedy=f"write `- python={declaration.python}` in {declaration.file.name}, or another `python:`",
        )


def _placed(package: CondaPackage, directory: Path) -> CondaPackage:
    """Return a package with its channel's path, where it is a relative one, made absolute."""
    if is_path(package.channel):
        path = (directory / Path(package.channel).expanduser()).resolve()
        return replace(package, channel=str(path))
    return package
