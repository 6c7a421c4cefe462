"""The variables of a job, and the files by which it calls the server itself.

Owns Beaker's own variables, the user's, and ``/run/beaker``: a configuration for the public clients with the
job's token, and the certificates to trust. What the user sets wins over how the server is reached, for he may
mean another one; never over what the job is. Values of secrets go into the container's environment, which
whoever may use the engine can see, and nowhere else.
"""

from __future__ import annotations

from pathlib import Path

from dispatch._docker.containers import Bind
from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.intercept import mirror_mount
from dispatch.beakerd.runner.failure import JobFailure
from dispatch.beakerd.store import running
from dispatch.beakerd.store.running import Job

HOST = "host.docker.internal"
HOST_GATEWAY = f"{HOST}:host-gateway"
PLACE = "/run/beaker"


def place_of(backend: Backend, job: str) -> Path:
    """What is shown at :data:`PLACE`."""
    return backend.layout.job(job) / "client"


def variables(backend: Backend, job: Job, simulated: bool) -> dict[str, str]:
    """The job's variables, but for those of :func:`connection`. ``simulated``: it has no real GPUs.

    :raises JobFailure: when a secret is missing, or is no text
    """
    named = {each.name: _value(backend, job, each.name, each.value, each.secret) for each in job.task.env}
    cpus = job.task.resources.cpus or job.node.cpus / 1000
    known = {
        "BEAKER_ASSIGNED_CPU_COUNT": f"{cpus:g}",
        "BEAKER_ASSIGNED_GPU_COUNT": str(job.task.resources.gpus),
        "BEAKER_AUTHOR": job.author,
        "BEAKER_EXPERIMENT_ID": job.experiment_id,
        "BEAKER_JOB_ID": job.id,
        "BEAKER_JOB_KIND": "batch",
        "BEAKER_NODE_HOSTNAME": job.node.hostname,
        "BEAKER_NODE_ID": job.node.id,
        "BEAKER_RESULT_DATASET_ID": job.result_dataset_id,
        "BEAKER_TASK_ID": job.task_id,
        "BEAKER_USER_ID": job.author_id,
        "BEAKER_WORKLOAD_ID": job.experiment_id,
        "BEAKER_WORKSPACE_ID": job.workspace_id,
    }
    if simulated:
        known["BEAKER_SIMULATED_GPU_COUNT"] = str(job.task.resources.gpus)
    return {**named, **known}


def connection(backend: Backend, job: Job) -> tuple[dict[str, str], tuple[Bind, ...]]:
    """Make the job's token and its files; return variables (the user's own win) and mounts.

    Empty where containers cannot reach this machine.
    """
    host = "localhost" if job.task.host_networking else HOST
    if backend.addresses.bridge is None and not job.task.host_networking:
        return {}, ()
    who = Principal(job.author_id, Purpose.JOB, workspace_id=job.workspace_id, job_id=job.id)
    with backend.database.write() as tx:
        token = backend.access.issue(tx, who)
    rpc, rest = (
        f"{host}:{each.rpartition(':')[2]}" for each in (backend.addresses.rpc, backend.addresses.rest)
    )
    tls = backend.config.rest_tls
    address = f"{'https' if tls else 'http'}://{rest}"
    text = (
        f"user_token: {token}\nagent_address: {address}\nrpc_address: {rpc}\n"
        f"default_org: {job.workspace.partition('/')[0]}\ndefault_workspace: {job.workspace}\n"
    )
    place = place_of(backend, job.id)
    place.mkdir(parents=True, exist_ok=True)
    authority = (backend.layout.authority / "ca.pem").read_text()
    (place / "config.yml").write_text(text)
    (place / "ca.pem").write_text(authority)
    found = {
        "BEAKER_ADDR": address,
        "BEAKER_CONFIG": f"{PLACE}/config.yml",
        "BEAKER_TOKEN": token,
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": f"{PLACE}/ca.pem",
    }
    if tls:
        (place / "roots.pem").write_bytes(backend.layout.roots.read_bytes())
        found["REQUESTS_CA_BUNDLE"] = f"{PLACE}/roots.pem"
    # For whatever user the image has; the state's own directory is closed to all others of this machine.
    for path in (place, *place.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return found, (Bind(str(place), PLACE),)


def mirror(backend: Backend) -> tuple[dict[str, str], tuple[Bind, ...]]:
    """What git in a job needs where the server answers for another host: variables and mounts."""
    if backend.config.intercept is None:
        return {}, ()
    found = mirror_mount(backend.config.intercept)
    return dict(found.env), (Bind(str(found.source), found.target),)


def _value(backend: Backend, job: Job, name: str, value: str | None, secret: str | None) -> str:
    if secret is None:
        return value or ""
    with backend.database.read() as tx:
        found = running.secret(tx, job.workspace_id, secret)
    if found is None:
        raise JobFailure(f"secret {secret!r} (variable {name}) is not in the workspace {job.workspace}")
    try:
        text = found.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise JobFailure(f"secret {secret!r} is no text, so it cannot be the variable {name}: mount it")
    return text
