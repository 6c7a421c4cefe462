"""An engine's image store, its helper containers and an installer, without an engine or an index.

The store takes the same archives as Docker and checks them as Docker does: layers by their digests, those
that it holds may be left out. Refuses to run anything but our own compiling and probing.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dispatch._docker import ImageRecord
from dispatch._docker.helper import Finished, OneShot
from dispatch._docker.images import Right, any_image, preference
from dispatch.errors import DispatchError, ImageError
from dispatch.image import compile_wheel
from dispatch.image.packing import unpacked
from dispatch.image.ports import SharedImage
from dispatch.image.spec import ImageSpec
from dispatch.lock.model import DebianLock, PipLock
from dispatch.reporting import Reporter


class FakeImageStore:
    """Images in memory. ``registry`` holds what can be pulled; ``loads`` counts the archives taken in.

    ``refusal`` is what every load ends with, after the archive was read, until it is None again.
    """

    def __init__(self, registry: Mapping[str, ImageRecord] | None = None) -> None:
        self.images: dict[str, ImageRecord] = {}
        self.registry = dict(registry or {})
        self.loads = 0
        self.refusal: str | None = None
        self._lock = threading.Lock()

    def add(self, record: ImageRecord) -> ImageRecord:
        """Hold an image, as if it had always been there."""
        self.images[record.id] = record
        return record

    def inspect_image(self, reference: str) -> ImageRecord | None:
        """Return the image of an ID or a tag."""
        with self._lock:
            if reference in self.images:
                return self.images[reference]
            return next((image for image in self.images.values() if reference in image.tags), None)

    def find_image(self, label: str, value: str, right: Right = any_image) -> ImageRecord | None:
        """Return a right image by label, in the order of ``_docker.images.find_image``."""
        with self._lock:
            held = [image for image in self.images.values() if image.labels.get(label) == value]
        found = [image for image in held if right(image)]
        return min(found, key=lambda image: (*preference(image.tags, value), image.id), default=None)

    def prepare_load(self) -> None:
        """Nothing to get ready."""

    def load(self, chunks: Iterable[bytes]) -> None:
        """Take in an archive."""
        pieces = list(chunks)
        if not all(pieces):
            raise AssertionError("an empty chunk would end a chunked request")
        if self.refusal is not None:
            raise ImageError(self.refusal)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
            members = {member.name: archive.extractfile(member) for member in archive}
            parts = {name: file.read() for name, file in members.items() if file is not None}
        with self._lock:
            self._take(parts)

    def _take(self, parts: Mapping[str, bytes]) -> None:
        (entry,) = json.loads(parts["manifest.json"])
        text = parts[entry["Config"]]
        config = json.loads(text)
        diff_ids = tuple(config["rootfs"]["diff_ids"])
        known = {
            image.diff_ids[: n + 1] for image in self.images.values() for n in range(len(image.diff_ids))
        }
        for number, (diff_id, name) in enumerate(zip(diff_ids, entry["Layers"], strict=True)):
            if diff_ids[: number + 1] in known:
                continue
            if name not in parts:
                raise ImageError(f"open {name}: no such file or directory")
            tar = b"".join(unpacked([parts[name]]))
            if f"sha256:{hashlib.sha256(tar).hexdigest()}" != diff_id:
                raise ImageError(f"invalid diffID for layer {number}")
        self.loads += 1
        image_id = f"sha256:{hashlib.sha256(text).hexdigest()}"
        container: dict[str, Any] = config["config"]
        self.images[image_id] = ImageRecord(
            id=image_id,
            labels=container["Labels"],
            diff_ids=diff_ids,
            config=container,
            tags=(),
            architecture=config["architecture"],
            os=config["os"],
        )

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a name, taking it from another."""
        name = f"{repository}:{tag}"
        with self._lock:
            if image_id not in self.images:
                raise ImageError(f"image {image_id}: it cannot be tagged {name}: no such image")
            for record in list(self.images.values()):
                kept = tuple(each for each in record.tags if each != name)
                self.images[record.id] = with_tags(record, (*kept, name) if record.id == image_id else kept)

    def pull(self, reference: str, report: Reporter) -> ImageRecord:
        """Fetch an image from the registry."""
        if reference not in self.registry:
            raise ImageError(f"image {reference}: it cannot be pulled: no registry answers")
        report("pulled")
        return self.add(with_tags(self.registry[reference], (reference,)))


class ContentStore(FakeImageStore):
    """The same as an engine with the containerd image store: archives must be whole, IDs are of manifests."""

    def add(self, record: ImageRecord) -> ImageRecord:
        """Hold an image under the digest of its manifest."""
        return super().add(replace(record, id=_by_manifest(record.id), by_manifest=True))

    def _take(self, parts: Mapping[str, bytes]) -> None:
        (entry,) = json.loads(parts["manifest.json"])
        if absent := [name for name in entry["Layers"] if name not in parts]:
            raise ImageError(f"content digest of {absent[0]}: not found")
        before = set(self.images)
        super()._take(parts)
        for image in set(self.images) - before:
            self.add(self.images.pop(image))


def _by_manifest(image: str) -> str:
    return f"sha256:{hashlib.sha256(f'manifest of {image}'.encode()).hexdigest()}"


class FakeShared:
    """A registry of a team in memory, beside an engine. Satisfies ``image.ports.SharedImages``.

    ``failure`` is what every call ends with, while there is one; ``fetches`` those that are to bring an
    image, only. What is brought is ``gives``, if that is set. ``asked`` are the tags that were looked for,
    ``pushed`` those that were sent.
    """

    repository = "registry.test/team/dispatch"

    def __init__(self, engine: FakeImageStore, held: Mapping[str, ImageRecord] | None = None) -> None:
        self.engine = engine
        self.held = dict(held or {})
        self.failure: DispatchError | None = None
        self.fetches: DispatchError | None = None
        self.gives: ImageRecord | None = None
        self.asked: list[str] = []
        self.pushed: list[str] = []

    def find(self, tag: str, platform: str) -> SharedImage | None:
        """Return the image of a tag."""
        self.asked.append(tag)
        if self.failure is not None:
            raise self.failure
        record = self.held.get(tag)
        if record is None or platform != f"{record.os}/{record.architecture}":
            return None
        return self._shared(record)

    def fetch(self, image: SharedImage, report: Reporter) -> None:
        """Bring an image into the engine."""
        failure = self.failure or self.fetches
        if failure is not None:
            raise failure
        report("fetched")
        self.engine.add(with_tags(self.gives or image.record, ()))

    def push(self, name: str, spec: ImageSpec, image_id: str, report: Reporter) -> SharedImage:
        """Take an image of the engine."""
        if self.failure is not None:
            raise self.failure
        record = self.engine.inspect_image(image_id)
        assert record is not None, "who pushes an image has it"
        report("sent")
        self.pushed.append(spec.tag(name))
        self.held[spec.tag(name)] = record
        return self._shared(record)

    def _shared(self, record: ImageRecord) -> SharedImage:
        return SharedImage(f"{self.repository}@{record.id}", record)


def with_tags(record: ImageRecord, tags: tuple[str, ...]) -> ImageRecord:
    """Return an image under other names."""
    return replace(record, tags=tags)


def base_image(name: str, architecture: str = "amd64") -> ImageRecord:
    """Return an image that nobody made: two names give two images."""
    mark = hashlib.sha256(name.encode()).hexdigest()
    return ImageRecord(
        id=f"sha256:{mark}",
        labels={"maintainer": name, "org.opencontainers.image.title": name},
        diff_ids=(f"sha256:{mark[::-1]}",),
        config={"Env": ["PATH=/usr/bin:/bin", "BASE=1"], "Cmd": ["bash"], "Entrypoint": ["/enter"]},
        tags=(name,),
        architecture=architecture,
        os="linux",
    )


@dataclass
class FakeHelper:
    """Runs what our helper containers run, in this process. ``answer`` is what a probed image prints."""

    answer: tuple[str | None, str, str | None] = ("3.11", "/usr/bin/python3.11", "glibc 2.36")
    python: bool = True
    compiled: list[str] = field(default_factory=list)
    probes: int = 0

    def run_once(self, shot: OneShot) -> Finished:
        """Compile or probe."""
        if "-c" in shot.command:
            self.probes += 1
            if not self.python:
                raise ImageError(f"image {shot.image}: it cannot run {shot.command[0]}")
            return Finished(0, json.dumps(self.answer).encode(), b"")
        places = {bind.target: Path(bind.source) for bind in shot.binds}
        jobs = json.loads((places["/dispatch/job"] / "jobs.json").read_text("ascii"))
        jobs["site"], jobs["output"] = str(places[jobs["site"]]), str(places[jobs["output"]])
        for key in jobs["wheels"]:
            compile_wheel.compile_wheel(jobs, key)
            self.compiled.append(key)
        return Finished(0, b"", b"")


@dataclass
class FakeInstaller:
    """Installs packages that are given as ``name-version`` → path (below the prefix) → content.

    ``files`` in site-packages are written with the RECORD, INSTALLER and traces that installers
    leave. ``failure`` is raised instead, where there is one.
    """

    packages: Mapping[str, Mapping[str, str]]
    failure: Exception | None = None
    installs: int = 0
    built: dict[str, Path] = field(default_factory=dict)

    def install(
        self, lock: PipLock, prefix: Path, python: str, built: Mapping[str, Path] | None = None
    ) -> None:
        """Fill the prefix with the packages that the lock names."""
        self.installs += 1
        self.built = dict(built or {})
        if self.failure is not None:
            raise self.failure
        for pin in lock.pins:
            write_package(prefix, python, f"{pin.name}-{pin.version}", self.packages[pin.name])


def write_package(prefix: Path, python: str, name: str, files: Mapping[str, str]) -> None:
    """Write a package as an installer does; paths are relative to site-packages, as in a RECORD."""
    site = prefix / "lib" / f"python{python}" / "site-packages"
    info = f"{name}.dist-info"
    traces = {f"{info}/INSTALLER": "somebody", f"{info}/REQUESTED": "", f"{info}/uv_cache.json": "{}"}
    rows = []
    for path, text in sorted({**files, **traces}.items(), reverse=True):
        place = site / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append((path, f"sha256={digest}", str(len(text.encode()))))
    record = io.StringIO(newline="")
    csv.writer(record).writerows([*rows, (f"{info}/RECORD", "", "")])
    (site / info / "RECORD").write_text(record.getvalue())
    (prefix / ".lock").touch()


@dataclass
class FakeRootfs:
    """Makes a root file system that says from which lock it was made."""

    made: list[str] = field(default_factory=list)
    failure: Exception | None = None

    def __call__(self, name: str, lock: DebianLock, target: Path, report: Reporter) -> None:
        """Write a small tar."""
        if self.failure is not None:
            raise self.failure
        report(f"{name}: assembling")
        self.made.append(lock.digest)
        with tarfile.open(target, "w") as archive:
            text = lock.digest.encode()
            member = tarfile.TarInfo("etc/lock")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
