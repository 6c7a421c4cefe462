"""A job calls the server itself: the real client in a container, with what the server gave it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.beakerd.config import Config
from dispatch.beakerd.spec import DataMount, EnvVar
from dispatch.beakerd.store.lifecycle import Status
from dispatch.testing.beaker_runs import Rig

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]

# This machine's Python and its libraries, shown to a container that has nothing but busybox.
SHOWN = {"/usr": "/usr", "/usr/lib": "/lib", "/usr/lib64": "/lib64"}
PROGRAM = """
import os
from beaker import Beaker
with Beaker.from_env(check_for_upgrades=False) as beaker:
    print(beaker.user_name, beaker.workspace.get().name)
    workload = beaker.workload.get(os.environ["BEAKER_WORKLOAD_ID"])
    beaker.workload.update(workload, description="from inside")
    (task,) = workload.experiment.tasks
    (job,) = beaker.job.list(task=task)
    print(job.id == os.environ["BEAKER_JOB_ID"], flush=True)
"""


def python_mounts() -> tuple[DataMount, ...]:
    """What this interpreter needs, at the same places."""
    own = {str(Path(path).resolve()) for path in (sys.prefix, sys.base_prefix)}
    places = {**SHOWN, **{path: path for path in own if not path.startswith("/usr")}}
    return tuple(DataMount(target, host_path=source) for source, target in places.items())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_client_in_a_job(rig_of: Callable[..., Rig], tls: bool) -> None:
    """It needs no configuration of its own, sees its workspace, and may change its own workload."""
    rig = rig_of(Config(host_paths=(Path("/"),), rest_tls=tls))
    job = rig.run(None, command=(sys.executable, "-c", PROGRAM), mounts=python_mounts())
    row = rig.jobs.end(job)
    assert (row["status"], rig.jobs.log(job)) == (
        Status.SUCCEEDED,
        [b"me ai2/my-workspace", b"True"],
    ), rig.jobs.events(job)
    with rig.backend.database.read() as tx:
        told = tx.execute(
            "SELECT description FROM experiments WHERE id = ?", (row["experiment_id"],)
        ).fetchone()
    assert told[0] == "from inside"


def test_a_token_ends_with_its_job(rig: Rig) -> None:
    """Nothing knows the token any more when the job is finalized."""
    job = rig.run('echo "$BEAKER_TOKEN"')
    rig.jobs.end(job)
    (token,) = rig.jobs.log(job)
    assert len(token) == 64
    with rig.backend.database.read() as tx:
        assert tx.execute("SELECT 1 FROM tokens WHERE job_id = ?", (job,)).fetchone() is None


def test_the_user_s_own_settings_win(rig: Rig) -> None:
    """Whoever sets a token of his own means it."""
    job = rig.run('echo "$BEAKER_TOKEN"', env=(EnvVar("BEAKER_TOKEN", "mine"),))
    rig.jobs.end(job)
    assert rig.jobs.log(job) == [b"mine"]
