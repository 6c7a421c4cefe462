"""Datasets that are deleted while jobs have them mounted: the job reads on, then nothing of them is left."""

from __future__ import annotations

import pytest

from dispatch.beakerd import datasets
from dispatch.beakerd.spec import DataMount
from dispatch.testing.beaker_rest import new_dataset, rest_of, tree_of
from dispatch.testing.beaker_runs import Rig
from dispatch.testing.processes import until

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]


def test_a_job_reads_on(rig: Rig) -> None:
    """A deleted dataset's name is free and its API is gone at once; its files when the job has ended."""
    beaker = rig.beaker
    with beaker.client() as client:
        workspace = client.workspace.get("ai2/my-workspace").id
        store = new_dataset(rest_of(beaker), workspace, "one")
        store.put("a/file", b"still here")
        store.put("go", b"")
        made = client.dataset.commit(client.dataset.get(store.dataset))
        mounts = (DataMount("/in", beaker=made.id),)
        job = rig.run("echo began; while [ -e /in/go ]; do sleep 0.1; done; cat /in/a/file", mounts=mounts)
        until(lambda: b"began" in rig.jobs.log(job), "the job begins")
        client.dataset.delete(made)
        assert store.get("a/file").status in (401, 404)
        assert client.dataset.create("one").id != made.id
    datasets.sweep(rig.backend, starting=True)
    assert tree_of(beaker, made.id) == {"a/file": b"still here", "go": b""}
    (beaker.layout.files(made.id) / "go").unlink()
    assert rig.jobs.end(job)["exit_code"] == 0
    assert b"still here" in b"\n".join(rig.jobs.log(job))
    datasets.sweep(rig.backend, starting=True)
    assert not beaker.layout.dataset(made.id).exists()
