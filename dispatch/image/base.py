"""What an image offers to what is put on top of it: its Python, its glibc, its architecture.

Owns how that is found out: for a base made of locked packages from the lock alone, for any other image by
asking its interpreter once in a helper container, remembered by image ID. Refuses to judge: whether a lock
fits is said by :func:`refuse_misfit` to those who are about to combine the two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch._docker import ImageRecord
from dispatch.environment import (
    BeakerImage,
    CondaImage,
    DebianImage,
    DockerfileImage,
    DockerImage,
    Environment,
    PipImage,
)
from dispatch.errors import ConfigurationError, ImageError, LockError, did_you_mean
from dispatch.image.atomic import write_atomically
from dispatch.image.ports import HelperRunner, ImageStore, Locks
from dispatch.lock import debian
from dispatch.lock.model import BaseFacts, CondaLock, DebianLock, PipLock
from dispatch.reporting import Reporter

CONDA_PREFIX = "/opt/conda"
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
_CONDA_MACHINES = {"linux-64": "x86_64", "linux-aarch64": "aarch64", "linux-ppc64le": "ppc64le"}
_PROBE_TIMEOUT = 60.0
# How engines tell that a registry answers, and has no such image.
_GONE = ("manifest unknown", "not found: manifest", "name unknown", "manifest does not exist")
_PROBE = """\
import json, os, sys
base = getattr(sys, "_base_executable", None) or sys.executable
minor = "%d.%d" % sys.version_info[:2]
named = os.path.join(os.path.dirname(base), "python" + minor)
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except (AttributeError, ValueError, OSError):
    libc = None
print(json.dumps([minor, named if os.path.exists(named) else base, libc]))
"""
# For an image without Python. The library says its version when it is run, so that nothing else is needed.
_LIBC_PROBE = """\
getconf GNU_LIBC_VERSION && exit
for library in /lib/*/libc.so.6 /lib64/libc.so.6 /usr/lib*/libc.so.6 /lib/libc.so.6; do
    if [ -x "$library" ]; then exec "$library"; fi
done
for loader in /lib64/ld-linux-* /lib/ld-linux-*; do
    if [ -x "$loader" ]; then exec "$loader" --version; fi
done
"""
_LIBC = re.compile(r"(?:^glibc |\brelease version )(?P<version>\d+\.\d+)")


@dataclass(frozen=True)
class Ground:
    """A base's facts, and the absolute path of its interpreter (``""`` if it has no Python)."""

    facts: BaseFacts
    interpreter: str


def machine(architecture: str) -> str:
    """Return the kernel's name (``x86_64``) of an architecture that Debian or Docker names (``amd64``)."""
    return _MACHINES.get(architecture, architecture)


def debian_ground(name: str, lock: DebianLock) -> Ground:
    """Read a base's facts off its lock; nothing is run."""
    facts = debian.base_facts(name, lock)
    return Ground(facts, f"/usr/bin/python{facts.python}" if facts.python else "")


def conda_machine(platform: str) -> str:
    """Return the kernel's name (``x86_64``) of a conda platform (``linux-64``)."""
    return _CONDA_MACHINES.get(platform, platform.partition("-")[2])


def conda_ground(name: str, lock: CondaLock) -> Ground:
    """Read what a conda environment offers off its lock; nothing is run."""
    glibc = dict(lock.virtual).get("__glibc")
    facts = BaseFacts(name, lock.python, glibc, conda_machine(lock.platform))
    return Ground(facts, f"{CONDA_PREFIX}/bin/python{lock.python}" if lock.python else "")


class Prober:
    """Asks images about themselves; ``cache`` is a directory of answers, one file for each image ID."""

    def __init__(self, store: ImageStore, runner: HelperRunner, cache: Path) -> None:
        self._store = store
        self._runner = runner
        self._cache = cache

    def ground(self, reference: str, report: Reporter, name: str = "") -> Ground:
        """Return the facts of the image ``reference``, which is pulled if the engine does not hold it.

        They are called by ``name``, else by the reference.
        """
        record = self._store.inspect_image(reference) or pulled(self._store, reference, report)
        return self.of_image(name or reference, record)

    def of_image(self, name: str, record: ImageRecord) -> Ground:
        """Return the facts of an image that is in the engine; ``name`` is what they are called by."""
        return self.known(name, record) or self._ask(name, record)

    def known(self, name: str, record: ImageRecord) -> Ground | None:
        """Return the facts if they were asked for before; runs nothing."""
        try:
            minor, interpreter, libc = json.loads(self._file(record).read_text("ascii"))
        except (OSError, ValueError):
            return None
        return Ground(BaseFacts(name, minor, libc, machine(record.architecture)), str(interpreter))

    def _file(self, record: ImageRecord) -> Path:
        return self._cache / f"{record.id.rpartition(':')[2]}.json"

    def _ask(self, name: str, record: ImageRecord) -> Ground:
        answer = self._python(record) or (None, "", self._libc(record))
        # Only an answer is remembered: its absence may have had another reason.
        if answer[2] is None and answer[0] is None:
            return Ground(BaseFacts(name, None, None, machine(record.architecture)), "")
        write_atomically(self._file(record), json.dumps(answer))
        ground = self.known(name, record)
        assert ground is not None, "it has just been written"
        return ground

    def _python(self, record: ImageRecord) -> tuple[str | None, str, str | None] | None:
        """Return what an image's Python says: minor version, interpreter, glibc; None without one."""
        said = self._said(record, "python3", "-I", "-c", _PROBE)
        if said is None:
            return None
        minor, interpreter, libc = json.loads(said.splitlines()[-1])
        return minor, interpreter, libc.partition(" ")[2] if libc else None

    def _libc(self, record: ImageRecord) -> str | None:
        """Return the version of an image's glibc, as its shell finds it."""
        found = _LIBC.search(
            (self._said(record, "/bin/sh", "-c", _LIBC_PROBE) or b"").decode("utf-8", "replace")
        )
        return found["version"] if found else None

    def _said(self, record: ImageRecord, *command: str) -> bytes | None:
        """Return what a command prints in an image; None where it cannot be run there, or fails."""
        from dispatch._docker.helper import OneShot

        try:
            finished = self._runner.run_once(OneShot(record.id, command, timeout=_PROBE_TIMEOUT))
        except ImageError:
            return None  # there is no such program to start
        return finished.stdout if finished.exit_code == 0 else None


def pulled(store: ImageStore, reference: str, report: Reporter) -> ImageRecord:
    """Pull an image; the error says what else can be done."""
    report(f"{reference}: pulling")
    try:
        return store.pull(reference, report)
    except ImageError as error:
        if any(mark in error.message for mark in _GONE):
            raise ImageError(
                f"image {reference}: it is not in the engine, and its registry has none of this name (now)",
                remedy="correct the name; where it was deleted there, name another image, or load a copy"
                f" (`docker load`) and tag it {reference}",
            ) from error
        raise ImageError(
            f"image {reference}: it is not in the engine, and no registry gave it ({error.message})",
            remedy=f"load it (`docker load`), log in to its registry, or name another image than {reference}",
        ) from error


def is_reference(name: str) -> bool:
    """Tell a Docker reference from the name of an environment: it has a tag, a registry or a digest."""
    return any(mark in name for mark in ":/@")


def base_environment(
    environment: Environment, base: str, catalogue: Mapping[str, Environment]
) -> Environment:
    """Return the environment that ``base`` names for ``environment``: another one, or a Docker reference."""
    if base in catalogue:
        found = catalogue[base]
    elif is_reference(base):
        found = Environment(base, DockerImage(base), environment.origin)
    else:
        raise ConfigurationError(
            f"image {environment.name!r}: its base {base!r} is neither an image of the catalogue"
            f" nor a reference like NAME:TAG{did_you_mean(base, list(catalogue))}",
            remedy=f"correct `base:` in {environment.origin}",
        )
    if isinstance(found.declaration, BeakerImage) or (
        isinstance(found.declaration, PipImage) and not isinstance(environment.declaration, DockerfileImage)
    ):
        remedy = "name what that one stands on, and ask for the packages of both"
        if isinstance(found.declaration, BeakerImage):
            remedy = "name an image of kind docker or debian: what is built on an image of Beaker has no lock"
        raise ConfigurationError(
            f"image {environment.name!r}: its base {base!r} is a {found.declaration.kind.value} environment",
            remedy=remedy,
        )
    return found


def base_facts(base: Environment, locks: Locks, prober: Prober | None, report: Reporter) -> BaseFacts:
    """Return the facts of a base (see :func:`base_environment`): from its lock, or by a probe.

    A prober, and so an engine, is needed only for an image that is not made from a lock.
    """
    if isinstance(base.declaration, DebianImage):
        return debian_ground(base.name, locks.debian(base)).facts
    if isinstance(base.declaration, CondaImage):
        return conda_ground(base.name, locks.conda(base)).facts
    if isinstance(base.declaration, DockerImage) and prober is not None:
        return prober.ground(base.declaration.reference, report).facts
    raise ConfigurationError(f"image {base.name!r}: a {base.declaration.kind.value} image cannot be a base")


def refuse_misfit(name: str, lock: PipLock, facts: BaseFacts) -> None:
    """Raise LockError if the lock of the environment ``name`` was made for another base than this."""
    target = lock.target
    if facts.python is None:
        problem = f"base {facts.name!r} has no Python"
    elif target.python != facts.python:
        problem = f"locked for Python {target.python}, its base {facts.name!r} has {facts.python}"
    elif target.architecture != facts.architecture:
        problem = f"locked for {target.architecture}, its base {facts.name!r} is {facts.architecture}"
    elif facts.glibc is None or _parts(target.glibc) > _parts(facts.glibc):
        has = f"has {facts.glibc}" if facts.glibc else "has none"
        problem = f"locked for glibc {target.glibc}, its base {facts.name!r} {has}"
    else:
        return
    remedy = "name a base with Python" if facts.python is None else "renew the lock with `dispatch lock`"
    raise LockError(f"image {name!r}: {problem}", remedy=remedy)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
