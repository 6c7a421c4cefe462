"""Wheels of packages that come as source: built in a stage of their own upon the base that they are for.

Owns that stage, and the cache of what came of it. What is built from is fetched and checked on the host, and
comes by the context; the build has no network. What builds it is locked as everything else, and is in no
image. Refuses to install a wheel (``lock`` does). Two machines may come to different wheels: it is compilers
that make them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dispatch._docker import ImageRecord
from dispatch.errors import ImageError
from dispatch.image import build_wheel
from dispatch.image.context import Context, ContextEntry, digested
from dispatch.image.ports import Installer
from dispatch.image.scripts import with_interpreter
from dispatch.image.spec import EPOCH, canonical_digest
from dispatch.image.staging import staging
from dispatch.image.tar import Entry, with_parents
from dispatch.lock.model import PipLock, PipPin
from dispatch.lock.requirements import normalise
from dispatch.lock.sdists import BuildSystem, build_system
from dispatch.reporting import Reporter

if TYPE_CHECKING:
    from dispatch._docker.building import BuildRequest

Cancelled = Callable[[], bool]

_ROOT = "dispatch-build"
_TEMPLATE = "sdists.dockerfile.j2"
_VERSION = 1


class FileBuilder(Protocol):
    """An engine that builds files (``_docker.Door``). All methods may raise EngineError."""

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a name, taking it from whichever image has it."""

    def remove_image(self, reference: str) -> None:
        """Take a name from its image, and remove the image with its last name."""

    def build_files(
        self, request: BuildRequest, path: str, target: Path, report: Reporter, cancelled: Cancelled
    ) -> None:
        """Build, and lay down a directory of the image as ``target``; ImageError where that fails."""


class SourceFetcher(Protocol):
    """Fetches source distributions, checking their hashes (``lock.sdists.Sdists``)."""

    def fetch(self, lock: PipLock, pin: PipPin) -> Path:
        """Return the source distribution of a locked package; LockError or ImageError."""


@dataclass(frozen=True)
class _Source:
    """A package to be built: its source, and how."""

    pin: PipPin
    sdist: Path
    system: BuildSystem


@dataclass(frozen=True)
class WheelMaker:
    """Builds wheels on ``engine``; they are kept under ``cache``."""

    engine: FileBuilder
    fetcher: SourceFetcher
    installer: Installer
    cache: Path

    def __call__(
        self,
        name: str,
        lock: PipLock,
        base: ImageRecord,
        interpreter: str,
        report: Reporter,
        cancelled: Cancelled,
    ) -> dict[str, Path]:
        """Return the wheel of every package of a lock that comes from source; LockError or ImageError."""
        pins = [pin for pin in lock.pins if pin.name in lock.sdists]
        places = {pin.name: self._place(lock, pin, base, interpreter) for pin in pins}
        missing = [pin for pin in pins if _kept(places[pin.name]) is None]
        if missing:
            sources = []
            for pin in missing:
                sdist = self.fetcher.fetch(lock, pin)
                sources.append(_Source(pin, sdist, build_system(sdist)))
            with staging(self.cache / "staging") as work:
                report(f"{name}: building {', '.join(source.pin.name for source in sources)} from source")
                built = self._build(name, lock, sources, _Ground(base, interpreter, work), report, cancelled)
                for pin in missing:
                    _keep(built / pin.name, places[pin.name], pin)
        found = {pin.name: _kept(places[pin.name]) for pin in pins}
        return {name: path for name, path in found.items() if path is not None}

    def _place(self, lock: PipLock, pin: PipPin, base: ImageRecord, interpreter: str) -> Path:
        builders = [[each.name, each.version, sorted(each.hashes)] for each in lock.builders]
        what = ["wheel", _VERSION, pin.name, pin.version, sorted(pin.hashes), builders, base.id, interpreter]
        return self.cache / "wheels" / canonical_digest(what)

    def _build(
        self,
        name: str,
        lock: PipLock,
        sources: Sequence[_Source],
        ground: _Ground,
        report: Reporter,
        cancelled: Cancelled,
    ) -> Path:
        """Build all that is missing in one go; return the directory with one of each package in it."""
        from dispatch._docker.building import BuildRequest

        prefix = ground.work / "builders"
        builders = PipLock(lock.base, lock.target, lock.inputs, lock.builders, lock.indexes, lock.own_default)
        self.installer.install(builders, prefix, lock.target.python)
        archive = _archive(sources, prefix, lock.target.python, ground.interpreter)
        target = ground.work / "wheels"
        tag = f"{ground.base.id.rpartition(':')[2][:16]}-{archive.digest[:16]}"
        self.engine.tag(ground.base.id, "dispatch-base", tag)
        try:
            request = BuildRequest(
                name=name,
                declared=f"the source of {', '.join(source.pin.name for source in sources)}",
                size=archive.size,
                chunks=archive.chunks,
                dockerfile=archive.dockerfile,
                args={"BASE": f"dispatch-base:{tag}"},
                network=False,
            )
            self.engine.build_files(request, "/wheels", target, report, cancelled)
        finally:
            self.engine.remove_image(f"dispatch-base:{tag}")
        return target


@dataclass(frozen=True)
class _Ground:
    """What wheels are built upon, and a directory for the work."""

    base: ImageRecord
    interpreter: str
    work: Path


def rendered_stage(names: Sequence[str], interpreter: str) -> str:
    """Return the Dockerfile that builds the packages of these names."""
    from dispatch import render

    words = [
        "env",
        f"SOURCE_DATE_EPOCH={EPOCH}",
        "PYTHONHASHSEED=0",
        "LC_ALL=C.UTF-8",
        interpreter,
        "-E",
        "-s",
    ]
    commands = [[*words, f"/{_ROOT}/build_wheel.py", f"/{_ROOT}/{name}.json"] for name in names]
    return render.render_dockerfile(_TEMPLATE, {"commands": commands})


def _archive(sources: Sequence[_Source], prefix: Path, python: str, interpreter: str) -> Context:
    """Return the context: what is built, what builds it, and the text that says so."""
    site = f"/{_ROOT}/builders/lib/python{python}/site-packages"
    entries = list(_builders(prefix, interpreter))
    for source in sources:
        name = source.pin.name
        place = f"/{_ROOT}/sdists/{name}/{source.sdist.name}"
        job = {
            "sdist": place,
            "backend": source.system.backend,
            "path": list(source.system.path),
            "site": site,
            "bin": f"/{_ROOT}/builders/bin",
            "output": f"/{_ROOT}/wheels/{name}",
        }
        entries.append(digested(place[1:], source.sdist))
        entries.append(_text(f"{_ROOT}/{name}.json", json.dumps(job, sort_keys=True)))
    script = Path(build_wheel.__file__).read_text("utf-8")
    entries.append(_text(f"{_ROOT}/build_wheel.py", script))
    entries.append(_text("Dockerfile", rendered_stage([source.pin.name for source in sources], interpreter)))
    known = {each.entry.path for each in entries}
    entries += [ContextEntry(Entry.directory(path)) for path in with_parents(known) - known]
    return Context("Dockerfile", tuple(sorted(entries, key=lambda each: each.entry.path.encode())))


def _builders(prefix: Path, interpreter: str) -> Iterator[ContextEntry]:
    """Yield what builds, with scripts that name the base's interpreter."""
    for path in sorted(prefix.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        place = f"{_ROOT}/builders/{path.relative_to(prefix).as_posix()}"
        if path.parent == prefix / "bin":
            text = with_interpreter(path.read_bytes(), interpreter)
            yield ContextEntry(Entry.file(place, text, 0o755), hashlib.sha256(text).hexdigest())
        else:
            yield digested(place, path)


def _text(path: str, text: str) -> ContextEntry:
    data = text.encode()
    return ContextEntry(Entry.file(path, data), hashlib.sha256(data).hexdigest())


def _keep(built: Path, place: Path, pin: PipPin) -> None:
    """Move the one wheel of a package into the cache, its digest beside it."""
    wheels = list(built.glob("*.whl")) if built.is_dir() else []
    if len(wheels) != 1 or normalise(wheels[0].name.partition("-")[0]) != pin.name:
        raise ImageError(f"the source of {pin.name} {pin.version} was built, and no wheel of it came out")
    version = wheels[0].name.split("-")[1]
    if version != pin.version:
        raise ImageError(
            f"the source of {pin.name} {pin.version} came to a wheel of version {version}",
            f"report it to who makes {pin.name}, or ask for another version",
        )
    place.mkdir(parents=True, exist_ok=True)
    (place / "sha256").write_text(_digest(wheels[0]), "ascii")
    wheels[0].replace(place / wheels[0].name)


def _kept(place: Path) -> Path | None:
    """Return a wheel of the cache that is as it was put there."""
    try:
        wanted = (place / "sha256").read_text("ascii")
        return next((path for path in place.glob("*.whl") if _digest(path) == wanted), None)
    except OSError:
        return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
