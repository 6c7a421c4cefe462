"""Datasets beside what else goes on: jobs that have them mounted, tokens that end, names that change."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import requests
from beaker import beaker_pb2 as pb2
from beaker._service_client import RpcMethod
from beaker.exceptions import (
    BeakerClientError,
    BeakerDatasetNotFound,
    BeakerDatasetWriteError,
    BeakerPermissionsError,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch.beakerd import datasets
from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.objects import Tree, checked
from dispatch.beakerd.problems import Problem
from dispatch.beakerd.spec import DataMount, ImageSource, TaskSpec, dump_task
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rows import BY_HAND, HandJobs

HOUR = 3600 * 10**9


def test_files_of_a_running_job_stay(beakers: Beakers) -> None:
    """A dataset that a job has mounted is gone at once, its files when the job has ended; a job's own result
    cannot be deleted, nor written to, before that.
    """
    beaker = beakers.start(BY_HAND)
    backend = beaker.server.backend
    assert backend is not None
    jobs = HandJobs(beaker)
    with beaker.client() as client:
        dataset = client.dataset.create("mounted", commit=False)
        client.dataset.upload(dataset, b"data", "f")
        client.dataset.commit(dataset)
        with backend.database.read() as tx:
            node = tx.execute("SELECT id FROM nodes").fetchone()[0]
        job = jobs.run(node)
        spec = dump_task(TaskSpec(ImageSource(docker="x"), mounts=(DataMount("/data", beaker=dataset.id),)))
        with backend.database.write() as tx:
            tx.execute(
                "UPDATE tasks SET spec = ? WHERE id = (SELECT task_id FROM jobs WHERE id = ?)", (spec, job)
            )
            result = tx.execute("SELECT result_dataset_id FROM jobs WHERE id = ?", (job,)).fetchone()[0]
        with pytest.raises(BeakerPermissionsError, match="has not ended"):
            client.dataset.delete(client.dataset.get(result))
        with pytest.raises(BeakerDatasetWriteError):
            client.dataset.upload(client.dataset.get(result), b"x", "x")
        client.dataset.delete(dataset)
        client.dataset.create("mounted")
        datasets.sweep(backend, starting=True)
        assert (beaker.layout.files(dataset.id) / "f").read_bytes() == b"data"
        jobs.end(job)
        datasets.sweep(backend, starting=True)
        assert not beaker.layout.dataset(dataset.id).exists()
        client.dataset.delete(client.dataset.get(result))


def test_a_jobs_link_goes_by_the_bridge(beakers: Beakers) -> None:
    """A link that a job asks for leads where containers reach the server; that of a user to loopback."""
    beaker = beakers.start(BY_HAND)
    backend = beaker.server.backend
    assert backend is not None
    assert backend.addresses.bridge is not None
    with beaker.client() as client:
        dataset = client.dataset.create("linked", commit=False)
        client.dataset.upload(dataset, b"data", "f")
        assert client.dataset.get_file_link(dataset, "f").startswith(f"http://{beaker.endpoint.rest}/links/")
    with backend.database.write() as tx:
        user, node = (tx.execute(f"SELECT id FROM {table}").fetchone()[0] for table in ("users", "nodes"))
    job = HandJobs(beaker).run(node)
    who = Principal(user, Purpose.JOB, dataset.workspace_id, job_id=job)
    with backend.database.write() as tx:
        token = backend.access.issue(tx, who)
    with beaker.client(user_token=token) as client:
        link = client.dataset.get_file_link(dataset, "f")
        port = beaker.endpoint.rest.rpartition(":")[2]
        assert link.startswith(f"http://{backend.addresses.bridge}:{port}/links/")
        assert requests.get(link, timeout=30).content == b"data"
        HandJobs(beaker).end(job)
        assert requests.get(link, timeout=30).status_code == 401


def test_tokens_end(beakers: Beakers) -> None:
    """A storage token ends by itself, and who asks again is given a new one in time."""
    ahead = [0]
    beaker = beakers.start(wall=lambda: time.time_ns() + ahead[0])
    with beaker.client() as client:
        dataset = client.dataset.create("d", commit=False)

        def put(token: str) -> int:
            url = f"http://{beaker.endpoint.rest}/datasets/{dataset.id}/files/f"
            headers = {"Authorization": f"Bearer {token}"}
            return requests.put(url, b"x", headers=headers, timeout=30).status_code

        first = client.dataset._get_storage(dataset).token
        assert client.dataset._get_storage(dataset).token == first
        ahead[0] = 13 * HOUR
        assert client.dataset._get_storage(dataset).token != first
        assert put(first) == 200
        ahead[0] = 25 * HOUR
        assert put(first) == 401
        client.dataset.upload(dataset, b"y", "f")


def test_renamed_over_rpc(beaker: LocalBeaker) -> None:
    """A dataset's name can be changed to one that is free, and committed with it."""
    with beaker.client() as client:
        dataset = client.dataset.create("old", commit=False)
        client.dataset.create("taken")
        metadata = client.dataset._rpc_call_metadata
        request = pb2.UpdateDatasetRequest(dataset_id=dataset.id, name="new", committed={})
        told = client.service.UpdateDataset(request, metadata=metadata).dataset
        assert (told.name, told.HasField("committed")) == ("new", True)
        assert client.dataset.get("me/new").id == dataset.id
        with pytest.raises(BeakerDatasetNotFound):
            client.dataset.get("me/old")
        for name in ("taken", "-x", "a/b", ""):
            with pytest.raises(BeakerClientError):
                client.dataset.rpc_request(
                    RpcMethod(client.service.UpdateDataset),
                    pb2.UpdateDatasetRequest(dataset_id=dataset.id, name=name),
                )


NAMES = st.text(st.sampled_from("ab./\\ \x00é\ud800\U0010ffff~-%?#"), max_size=12) | st.text(max_size=20)


@given(path=NAMES, other=NAMES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_path_is_inside_or_refused(tmp_path: Path, path: str, other: str) -> None:
    """Whatever the paths, files are inside the tree, at just these paths, or refused."""
    root = tmp_path / os.urandom(8).hex()
    tree, written = Tree(root / "tree" / "files"), {}
    for number, name in enumerate((path, other)):
        staged = root / f"staged-{number}"
        root.mkdir(exist_ok=True)
        staged.write_bytes(b"%d" % number)
        try:
            tree.move_in(staged, checked(name))
        except Problem:
            continue
        written[name] = b"%d" % number
        assert not staged.exists()
    found = {name: tree.open(name).read() for name, _ in tree.files()}
    assert found == written
    staged_left = {each.name for each in root.iterdir()} if root.exists() else set()
    assert staged_left <= {"tree", "staged-0", "staged-1"}
