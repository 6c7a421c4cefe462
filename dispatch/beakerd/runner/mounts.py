"""What a job's container is shown: datasets, results of other tasks, secrets, paths of this machine.

Owns where each comes from on this machine. Nothing outside of a dataset can be reached through a sub path,
and nothing of this machine that the configuration does not name. Datasets, results and secrets are read-only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from dispatch._docker.containers import Bind
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.runner.failure import JobFailure
from dispatch.beakerd.spec import DataMount
from dispatch.beakerd.store import running
from dispatch.beakerd.store.running import Job

# For whatever user the image has; the state's own directory is closed to all others of this machine.
SECRET_MODE = 0o444


def binds(backend: Backend, job: Job) -> tuple[Bind, ...]:
    """Return the mounts of a job, with what they need laid down.

    :raises JobFailure: when something is not there, or may not be mounted
    """
    return tuple(_binds(backend, job))


def _binds(backend: Backend, job: Job) -> Iterator[Bind]:
    for number, mount in enumerate(job.task.mounts):
        read_only = True
        if mount.secret is not None:
            source = _secret(backend, job, mount.secret, number)
        elif mount.beaker is not None:
            source = _dataset(backend, mount.beaker, mount)
        elif mount.result is not None:
            source = _result(backend, job, mount)
        elif mount.host_path is not None:
            source = _host_path(backend, mount)
            read_only = mount.read_only
        elif mount.weka is not None:
            raise JobFailure(
                f"weka bucket {mount.weka!r}: a local Beaker has none; mount a host path or a dataset instead"
            )
        else:
            raise JobFailure(f"{mount.mount_path}: this kind of data source is not known here")
        yield Bind(str(source), mount.mount_path, read_only)


def _secret(backend: Backend, job: Job, name: str, number: int) -> Path:
    with backend.database.read() as tx:
        value = running.secret(tx, job.workspace_id, name)
    if value is None:
        raise JobFailure(f"secret {name!r} is not in the workspace {job.workspace}")
    path = secrets_of(backend, job.id) / str(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SECRET_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
    path.chmod(SECRET_MODE)
    return path


def secrets_of(backend: Backend, job: str) -> Path:
    """Where a job's secrets lie while it may need them."""
    return backend.layout.job(job) / "secrets"


def _dataset(backend: Backend, dataset: str, mount: DataMount) -> Path:
    with backend.database.read() as tx:
        committed = running.is_committed(tx, dataset)
    if committed is None:
        raise JobFailure(f"dataset {dataset!r} is gone")
    if not committed and not backend.config.assume.mount_uncommitted:
        raise JobFailure(f"dataset {dataset!r} is not committed")
    return _inside(backend, dataset, mount, f"dataset {dataset!r}")


def _result(backend: Backend, job: Job, mount: DataMount) -> Path:
    with backend.database.read() as tx:
        dataset = running.result_of(tx, job.experiment_id, mount.result or "")
    if dataset is None:
        raise JobFailure(f"the task {mount.result!r} has no result to mount")
    return _inside(backend, dataset, mount, f"the result of the task {mount.result!r}")


def _inside(backend: Backend, dataset: str, mount: DataMount, what: str) -> Path:
    root = backend.layout.files(dataset)
    root.mkdir(parents=True, exist_ok=True)
    return _below(root, mount.sub_path, what)


def _below(root: Path, sub_path: str | None, what: str) -> Path:
    """The path ``sub_path`` below ``root``, through no link that leads out of it."""
    parts = PurePosixPath((sub_path or "").lstrip("/")).parts
    if ".." in parts:
        raise JobFailure(f"{what}: the sub path {sub_path!r} leads out of it")
    real = root.resolve()
    path = real.joinpath(*parts).resolve()
    if not path.is_relative_to(real):
        raise JobFailure(f"{what}: the sub path {sub_path!r} leads out of it")
    if not path.exists():
        raise JobFailure(f"{what} has nothing at {sub_path!r}")
    return path


def _host_path(backend: Backend, mount: DataMount) -> Path:
    asked = Path(mount.host_path or "")
    what = f"host path {str(asked)!r}"
    if not asked.is_absolute():
        raise JobFailure(f"{what}: it is not absolute")
    path = asked.resolve()
    if not any(path.is_relative_to(allowed.resolve()) for allowed in backend.config.host_paths):
        raise JobFailure(f"{what}: the server's configuration does not allow it (host_paths)")
    if not path.exists():
        raise JobFailure(f"{what}: there is no such path on this machine")
    return _below(path, mount.sub_path, what)
