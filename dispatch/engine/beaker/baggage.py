"""What a job needs on Beaker before it can begin: its mounts as Beaker's, its files, its secrets.

Owns what becomes of each mount of a job: datasets stay where they are, shared drives are mounted by the
machine that runs the job, and what is on this machine is sent: as a bundle where others may read it, too,
else in a dataset that goes with the job. Nothing that a job writes to can be on this machine, but for its
output and its work, which come back.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

from dispatch._beaker import (
    BeakerConflictError,
    BeakerDoor,
    CreatedDataset,
    DatasetMount,
    HostMount,
    SecretMount,
    TaskMount,
    TaskSpec,
)
from dispatch.engine.base import JobSpec, Mount, Placement
from dispatch.engine.beaker.bundles import Bundles
from dispatch.engine.beaker.extras import Extras
from dispatch.engine.beaker.job import OUTPUT, WORK, BeakerJob
from dispatch.engine.beaker.names import VERSION, Names, Story, fitting, lasting
from dispatch.environment import BeakerId, ImageRef, LocalId, RegistryDigest
from dispatch.errors import EngineError
from dispatch.location import BeakerDataset, HostPath, SharedPath

JOB = "/dispatch/job"
SOURCE = "/dispatch/source.tar"
SCRATCH = "/dispatch/scratch"
SECRETS = "/dispatch/secrets"
WORK_BEFORE = "/dispatch/before/work"
# What the job itself unpacks where it belongs; everything else has to lie there as it is.
_INPUTS, _PACKED = "/dispatch/inputs/", "/dispatch/packed/"
_PLACES = {JOB: "job", WORK_BEFORE: "work"}
# What clusters may give each job; it is hidden from steps, unless the user gives one of that name.
TOKEN, KEEPS_TOKEN = "BEAKER_TOKEN", "DISPATCH_KEEPS_TOKEN"
NO_PLACEMENT = Placement()


class Baggage:
    """Brings what jobs need, and makes their specifications."""

    def __init__(self, door: BeakerDoor, bundles: Bundles, names: Names, extras: Extras) -> None:
        self._door = door
        self._bundles = bundles
        self._names = names
        self._extras = extras
        self._lock = threading.Lock()
        self._sources: dict[Path, BeakerDataset] = {}
        self._written: dict[str, str] = {}

    def bring(self, job: BeakerJob) -> TaskSpec:
        """Have everything on Beaker that a job needs, and return what to run.

        What was made for it alone is noted in the job, also where this fails half-way.

        :raises EngineError: something of it cannot be brought
        """
        spec = job.spec
        image = _image(spec.image)
        job.brought = True
        mounts = [*self._own(job), *self._others(spec), *self._secrets(job), *self._extras.mounts]
        resources, placement = spec.resources, spec.placement or NO_PLACEMENT
        variables = {name: self._secret(spec, name) for name in spec.secret_variables}
        env = {**self._extras.env, **spec.env}
        secret_env = {**self._extras.secret_env, **variables}
        if TOKEN in env or TOKEN in secret_env:
            env[KEEPS_TOKEN] = "1"
        return TaskSpec(
            image=image,
            command=spec.command,
            name=fitting(spec.step),
            description=self._story(job).to_text(),
            env=env,
            secret_env=secret_env,
            mounts=tuple(mounts),
            result_path="" if job.is_shared else OUTPUT,
            cpus=resources.cpus,
            memory=resources.memory,
            shared_memory=resources.shared_memory,
            gpus=resources.gpu_count or len(resources.gpus),
            clusters=placement.clusters,
            priority=placement.priority,
            preemptible=placement.preemptible,
            min_runtime=placement.min_runtime,
            auto_resume=job.resumes,
            time_limit=spec.time_limit,
            budget=placement.budget,
        )

    def remove(self, job: BeakerJob) -> None:
        """Remove what was made for a job alone."""
        self._door.datasets.delete(job.datasets)
        job.datasets = []
        for name in job.secrets:
            self._door.secrets.delete(name)
        job.secrets = ()

    def remove_left(self, key: str, story: Story) -> None:
        """Remove what another client made for a job alone."""
        plain = self._names.data(key)
        left = self._door.datasets.search(plain, own=True)
        self._door.datasets.delete(
            [each.id for each in left if each.name == plain or each.name.startswith(f"{plain}.")]
        )
        for name in story.secrets:
            if name.startswith(self._names.secret(key, "")):
                self._door.secrets.delete(name)

    def _story(self, job: BeakerJob) -> Story:
        return Story(
            job.spec.run, job.spec.step, job.key, job.spec.collects and not job.is_shared, secrets=job.secrets
        )

    def _own(self, job: BeakerJob) -> Iterator[TaskMount]:
        """What only this job reads: one dataset for all of it."""
        parts: dict[str, Path] = {}
        for mount in job.spec.mounts:
            if isinstance(mount.source, HostPath):
                target = WORK_BEFORE if mount.target == WORK else mount.target
                if target in _PLACES and (target == JOB or _has_files(mount.source.path)):
                    parts[target] = mount.source.path
        if not parts:
            return
        created = self._create(job.key)
        job.datasets.append(created.dataset.id)
        for target, directory in parts.items():
            self._send(created, directory, _PLACES[target])
        self._door.datasets.commit(created.dataset.id)
        for target in parts:
            yield DatasetMount(created.dataset.id, target, _PLACES[target])

    def _create(self, key: str) -> CreatedDataset:
        """Make the job's dataset. One of its name was left by a client that was killed, or is another's."""
        plain, nonce = self._names.data(key), self._bundles.nonce()
        told = json.dumps({"dispatch": VERSION, "key": key, "by": nonce})
        try:
            return self._door.datasets.create(plain, told)
        except BeakerConflictError:
            return self._door.datasets.create(f"{plain}.{nonce}", told)

    def _send(self, created: CreatedDataset, directory: Path, place: str) -> None:
        """Send the files of a directory. Of what the last attempt left, links and rights do not matter."""
        try:
            for path in sorted(directory.rglob("*")):
                if path.is_file() and not path.is_symlink():
                    source = path if path.stat().st_size else b""
                    self._door.datasets.write(
                        created, f"{place}/{path.relative_to(directory).as_posix()}", source
                    )
        except OSError as error:
            raise EngineError(f"{directory}: cannot be sent to Beaker: {error.strerror}") from error

    def _others(self, spec: JobSpec) -> Iterator[TaskMount]:
        if spec.source is not None:
            found = self._source(spec.source.path)
            yield DatasetMount(found.id, SOURCE, found.subpath)
        for mount in spec.mounts:
            made = self._mount(mount)
            if made is not None:
                yield made

    def _source(self, tree: Path) -> BeakerDataset:
        """An exported tree is never written: it is looked at once."""
        with self._lock:
            found = self._sources.get(tree)
            if found is None:
                found = self._sources[tree] = self._bundles.provide(tree, "source", packed=True)
            return found

    def _mount(self, mount: Mount) -> TaskMount | None:
        source, target = mount.source, mount.target
        if isinstance(source, SharedPath):
            return None if target == SCRATCH else HostMount(str(source.path), target)
        if isinstance(source, HostPath):
            if target in (JOB, OUTPUT, WORK, WORK_BEFORE, SCRATCH):
                return None
            if not mount.read_only:
                raise EngineError(
                    f"mount {target}: {source.path} is on this machine, which jobs on Beaker cannot write to",
                    "mount it read-only, or name the shared drive on which it is under `shared_dirs`",
                )
            unpacks = target.startswith(_INPUTS)
            source = self._bundles.provide(
                source.path,
                "content" if source.path.is_dir() else source.path.name,
                packed=None if unpacks else False,
                content=mount.content,
            )
        if not isinstance(source, BeakerDataset):
            raise EngineError(f"mount {target}: what is only in memory cannot be mounted on Beaker")
        if source.packed and target.startswith(_INPUTS):
            target = f"{_PACKED}{target.removeprefix(_INPUTS)}.tar"
        return DatasetMount(source.id, target, source.subpath)

    def _secrets(self, job: BeakerJob) -> Iterator[TaskMount]:
        """Noted before they are written: whatever happens, they are removed, but for those that last."""
        spec = job.spec
        names = {name: self._secret(spec, name) for name in spec.secrets}
        job.secrets = tuple(names[name] for name in names if name not in spec.lasting_secrets)
        for name, secret in names.items():
            self._write(secret, spec.secrets[name], lasts=name in spec.lasting_secrets)
            yield SecretMount(secret, f"{SECRETS}/{name}")

    def _secret(self, spec: JobSpec, name: str) -> str:
        if name in spec.lasting_secrets:
            return lasting(self._door.account.user_name, name)
        return self._names.secret(spec.key, name)

    def _write(self, secret: str, value: str, *, lasts: bool) -> None:
        """One that lasts is looked at once, and written where it is another."""
        if not lasts:
            self._door.secrets.write(secret, value)
            return
        with self._lock:
            if self._written.get(secret) != value:
                self._door.secrets.write(secret, value)
                self._written[secret] = value


def _has_files(directory: Path) -> bool:
    return any(path.is_file() for path in directory.rglob("*"))


def _image(image: ImageRef | None) -> BeakerId | RegistryDigest:
    if image is None or isinstance(image, LocalId):
        raise EngineError(
            f"image {image.id if image else 'none'}: is only on this machine",
            "name an image of a registry or of Beaker, or let dispatch publish it",
        )
    return image
