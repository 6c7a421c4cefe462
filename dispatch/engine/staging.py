"""How a job's files get to the engine's side, and what it wrote gets back.

Owns the choice between two ways, made for each job by what the engine sees: its directories are mounted, or
they are copied. Copied are what is the job's alone into the container's own layer, between its creation and
its start; what never changes into volumes (``volumes``); and after the end, out of the container, the output
and the work directory. What comes back is laid down beside its place and renamed into it, so half a copy is
never taken for a result, and one that was cut off can be made again as long as the container is there.

Mounts beside ``/dispatch`` and ``/src`` are the user's own, and name paths of the engine's machine: they are
never copied.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from dispatch._docker import ApiError, Door
from dispatch._docker.archive import ArchiveError, CutError, Item, pack, unpack, with_parents
from dispatch._docker.containers import ContainerSpec, VolumeMount
from dispatch.engine.base import JobSpec, Mount
from dispatch.engine.container import DIRECTORY_LABEL, container_of
from dispatch.engine.sandbox import SCRATCH_PARTS, SCRATCH_TARGET, SOURCE_TARGET, Sandbox, accounts
from dispatch.engine.volumes import Content, Volumes
from dispatch.errors import EngineError
from dispatch.location import HostPath, SharedPath

TOP = "dispatch"
OUTPUT_TARGET = f"/{TOP}/output"
# On a container whose files were copied: where each of its directories goes after the end.
BACK_LABELS = {OUTPUT_TARGET: "dispatch.output", f"/{TOP}/work": "dispatch.work"}
_TRIES = 5
_BESIDE = ".back-"


class Way(Protocol):
    """One job's way. Everything raises EngineError when the engine breaks off, OSError when the disk does."""

    def container(self, job: JobSpec, name: str) -> ContainerSpec:
        """Say what to create, once everything that must be there before is."""

    def fill(self, job: JobSpec, name: str) -> None:
        """Bring what goes into the container once it is created."""


class Staging:
    """The ways to one engine, for jobs of the caller ``uid:gid``."""

    def __init__(self, door: Door, uid: int, gid: int) -> None:
        self._door = door
        self.caller = uid, gid
        self._volumes = Volumes(door.containers, door.files)

    def of(self, job: JobSpec) -> Way:
        """Return the way of one job.

        :raises EngineError: for one on a shared drive that the engine does not see
        """
        sight = self._door.sight
        user = sight.user(*self.caller)
        if _is_shared(job) and (obstacle := sight.obstacle([job.attempt_dir.parent])):
            raise EngineError(
                f"{job.attempt_dir}: the settings name it a shared drive (`shared_dirs`), but {obstacle}",
                "take it out of `shared_dirs`: files are copied then",
            )
        obstacle = sight.obstacle(_roots(job))
        if obstacle:
            return Copied(self._door, self._volumes, user)
        if user == self.caller:
            return Mounted(Sandbox.of(job.attempt_dir, *user))
        # Root over there is the caller here: nothing has to change hands.
        return Mounted(Sandbox(job.attempt_dir, *user))

    def fetch(self, name: str, labels: Mapping[str, str]) -> str:
        """Bring back what an ended container wrote; nothing to do where it wrote into our own files.

        May be repeated. Returns what keeps it from being laid down here, empty if nothing does.
        """
        back = {place: label for place, label in BACK_LABELS.items() if label in labels}
        if back:
            for half in Path(labels[DIRECTORY_LABEL]).glob(f"{_BESIDE}*"):
                _remove(half)
        for place, label in back.items():
            target = Path(labels[label])
            try:
                self._fetch(name, place, target, Path(labels[DIRECTORY_LABEL]))
            except ArchiveError as error:
                return error.message
            except OSError as error:
                return f"{target}: it could not be copied back: {error.strerror}"
        return ""

    def _fetch(self, name: str, place: str, target: Path, attempt: Path) -> None:
        for left in reversed(range(_TRIES)):
            beside = Path(tempfile.mkdtemp(prefix=_BESIDE, dir=attempt))
            try:
                with self._door.files.get(name, place) as stream:
                    unpack(stream, beside / "new")
                if target.exists():
                    target.rename(beside / "old")
                (beside / "new").rename(target)
                return
            except CutError as error:
                if not left:
                    raise ArchiveError(
                        f"{target}: the engine breaks off whenever it is copied back"
                    ) from error
            except ApiError as error:
                if error.status == 404:
                    return
                raise
            finally:
                _remove(beside)


class Mounted:
    """The engine sees what we see: everything is mounted, and the source copied for the job on this disk."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def container(self, job: JobSpec, name: str) -> ContainerSpec:
        """See :class:`Way`."""
        user = f"{self._sandbox.uid}:{self._sandbox.gid}"
        return container_of(job, name, user, self._sandbox.prepare(job))

    def fill(self, job: JobSpec, name: str) -> None:  # noqa: ARG002
        """Copy the source: the container's name is taken, so it belongs to none that runs already."""
        self._sandbox.fill_source(job)


class Copied:
    """The engine does not see what we see: everything is sent, as the files of ``user``."""

    def __init__(self, door: Door, volumes: Volumes, user: tuple[int, int]) -> None:
        self._door = door
        self._volumes = volumes
        self._user = user
        self._mounts: tuple[VolumeMount, ...] = ()

    def container(self, job: JobSpec, name: str) -> ContainerSpec:
        """See :class:`Way`."""
        ours = [mount for mount, _ in _ours(job)]
        plain = tuple(mount for mount in job.mounts if mount not in ours)
        spec = container_of(replace(job, mounts=plain), name, f"{self._user[0]}:{self._user[1]}", ())
        self._mounts = tuple(
            self._volumes.mount(Content(mount.content, path, *self._user), mount.target, spec.image)
            for mount, path in _ours(job)
            if mount.content
        )
        back = {
            BACK_LABELS[mount.target]: str(path) for mount, path in _ours(job) if mount.target in BACK_LABELS
        }
        return replace(spec, volumes=self._mounts, labels={**spec.labels, **back})

    def fill(self, job: JobSpec, name: str) -> None:
        """See :class:`Way`. May be repeated: every file is replaced by the same."""
        if not self._volumes.whole(name, self._mounts):
            # Somebody tidied up between the look and the creation. The container is made anew with others.
            self._again(job, name)
        self._door.files.put(name, "/", pack(with_parents(self._items(job), TOP), *self._user))

    def _again(self, job: JobSpec, name: str) -> None:
        for _ in range(_TRIES):
            self._door.containers.remove(name)
            self._door.containers.create(self.container(job, name))
            if self._volumes.whole(name, self._mounts):
                return
        raise EngineError(f"job {job.key}: somebody removes the engine's volumes all the time")

    def _items(self, job: JobSpec) -> Iterator[Item]:
        for mount, path in _ours(job):
            if not mount.content:
                yield Item(_inside(mount.target), path)
        if job.source is not None:
            yield Item(_inside(SOURCE_TARGET), job.source.path, writable=True)
        if SCRATCH_TARGET not in {mount.target for mount in job.mounts}:
            for part in ("", *(f"/{part}" for part in SCRATCH_PARTS)):
                yield Item(_inside(SCRATCH_TARGET) + part)
        if self._user[0] != 0:
            for name, text in accounts(*self._user).items():
                yield Item(f"etc/{name}", content=text.encode("ascii"), mode=0o644)


def _ours(job: JobSpec) -> list[tuple[Mount, Path]]:
    """The mounts of this machine's files that the user knows nothing of, and where they are."""
    return [
        (mount, mount.source.path)
        for mount in job.mounts
        if isinstance(mount.source, HostPath)
        and (mount.target.startswith(f"/{TOP}/") or mount.target == SOURCE_TARGET)
    ]


def _inside(target: str) -> str:
    return target.strip("/")


def _is_shared(job: JobSpec) -> bool:
    return any(mount.target == OUTPUT_TARGET and isinstance(mount.source, SharedPath) for mount in job.mounts)


def _roots(job: JobSpec) -> list[Path]:
    """The directories whose sight decides for all of a job: its workspace, and what lies elsewhere."""
    attempts = job.attempt_dir.parent
    sources = [path for _, path in _ours(job)]
    sources += [job.source.path] if job.source is not None else []
    elsewhere = (path.parent for path in sources if not path.is_relative_to(attempts.parent))
    return [*([] if _is_shared(job) else [attempts]), *dict.fromkeys(elsewhere)]


def _remove(directory: Path) -> None:
    """Remove what a step may have closed to its owner."""
    for path, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            Path(path).chmod(0o700)
    shutil.rmtree(directory, ignore_errors=True)
