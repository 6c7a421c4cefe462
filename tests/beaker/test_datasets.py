"""Datasets with the real client: names, lists, files, the commit that the server holds, deletion, links."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from beaker import BeakerSortOrder
from beaker import beaker_pb2 as pb2
from beaker._service_client import RpcMethod
from beaker.exceptions import (
    BeakerClientError,
    BeakerDatasetConflict,
    BeakerDatasetNotFound,
    BeakerDatasetWriteError,
    BeakerError,
    BeakerPermissionsError,
)

from dispatch.beakerd import datasets
from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig, WorkspaceConfig
from dispatch.beakerd.spec import DataMount, ImageSource, TaskSpec, dump_task
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beakerjobs import BY_HAND, HandJobs

TWO = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)), UserConfig("they", ("other",)))
SHARED = Config(
    organizations=("ai2", "other"),
    users=TWO,
    workspaces=(
        WorkspaceConfig("ai2/my-workspace", "ai2/default"),
        WorkspaceConfig("ai2/second", "ai2/default"),
    ),
)


def uncommitted(dataset: Any) -> Any:
    """The dataset as a caller knows it who has not heard of the commit."""
    copy = pb2.Dataset()
    copy.CopyFrom(dataset)
    copy.ClearField("committed")
    return copy


def read(client: Any, dataset: Any, path: str, **options: Any) -> bytes:
    """A file, checked against its digest by the client."""
    return b"".join(client.dataset.stream_file(dataset, path, **options))


def leftovers(beaker: LocalBeaker) -> list[Path]:
    """What lies in the directory of uploads."""
    return list(beaker.layout.uploads.iterdir())


def test_a_directory_and_back(beaker: LocalBeaker, tmp_path: Path) -> None:
    """Files come back as they were, by names of any script, with sizes, digests and totals."""
    source = tmp_path / "source"
    content = {
        "a.txt": b"one",
        "deep/er/b.bin": os.urandom(300_000),
        "naïve – Ω/雪 100%.txt": b"two",
        "question?.txt": b"three",
        "with space+plus&amp=.txt": b"four",
    }
    for name, data in content.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    with beaker.client() as client:
        dataset = client.dataset.create("whole", str(source), description="all of it")
        assert dataset.HasField("committed")
        assert (dataset.full_name, dataset.description) == ("me/whole", "all of it")
        found = {file.path: file for file in client.dataset.list_files(dataset)}
        assert set(found) == set(content)
        for name, data in content.items():
            assert found[name].size == len(data)
            assert found[name].digest.value == hashlib.sha256(data).digest()
            assert read(client, dataset, name) == data
        told = client.service.GetDataset(
            pb2.GetDatasetRequest(dataset_id=dataset.id), metadata=client.dataset._rpc_call_metadata
        )
    assert told.datasetStorage.file_count == len(content)
    assert told.datasetStorage.total_size == sum(map(len, content.values()))
    tree = beaker.layout.files(dataset.id)
    assert {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()} == set(content)
    assert {path.stat().st_mode & 0o777 for path in tree.rglob("*") if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in tree.rglob("*") if path.is_dir()} == {0o755}
    assert leftovers(beaker) == []


def test_ranges(beaker: LocalBeaker) -> None:
    """The client reads from an offset, and a length from there."""
    data = os.urandom(100_000)
    with beaker.client() as client:
        dataset = client.dataset.create("ranges", commit=False)
        client.dataset.upload(dataset, data, "f")
        assert read(client, dataset, "f", offset=99_000) == data[99_000:]
        assert read(client, dataset, "f", offset=5, length=10) == data[5:15]


RANGES: list[tuple[str, int, bytes, str | None]] = [
    ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
    ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
    ("bytes=7-", 206, b"789", "bytes 7-9/10"),
    ("bytes=-3", 206, b"789", "bytes 7-9/10"),
    ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
    ("bytes=10-", 416, b"", "bytes */10"),
    ("bytes=4-2", 416, b"", "bytes */10"),
]


@pytest.mark.parametrize(("asked", "status", "body", "said"), RANGES, ids=[row[0] for row in RANGES])
def test_range_requests(beaker: LocalBeaker, asked: str, status: int, body: bytes, said: str | None) -> None:
    """A range is answered with just that, or refused with the size."""
    with beaker.client() as client:
        dataset = client.dataset.create("ten", commit=False)
        client.dataset.upload(dataset, b"0123456789", "f")
    url = f"http://{beaker.endpoint.rest}/api/v3/datasets/{dataset.id}/files/f"
    headers = {"Authorization": f"Bearer {beaker.token()}"}
    answer = requests.get(url, headers={**headers, "Range": asked}, timeout=30)
    assert (answer.status_code, answer.headers["Content-Range"]) == (status, said)
    assert status == 416 or answer.content == body
    whole = requests.get(url, headers=headers, timeout=30)
    head = requests.head(url, headers=headers, timeout=30)
    for name in ("Content-Length", "ETag", "Digest", "Last-Modified", "Accept-Ranges"):
        assert whole.headers[name] == head.headers[name]
    assert (whole.content, head.content) == (b"0123456789", b"")
    unchanged = requests.get(url, headers={**headers, "If-None-Match": whole.headers["ETag"]}, timeout=30)
    assert (unchanged.status_code, unchanged.content) == (304, b"")


def test_a_committed_dataset_does_not_change(beaker: LocalBeaker) -> None:
    """The server holds it, also for clients that have not heard of the commit; the commit may be repeated."""
    with beaker.client() as client:
        dataset = client.dataset.create("done", commit=False)
        client.dataset.upload(dataset, b"first", "f")
        done = client.dataset.commit(dataset)
        assert client.dataset.commit(uncommitted(done)).committed == done.committed
        for path in ("f", "g"):
            with pytest.raises(BeakerDatasetWriteError):
                client.dataset.upload(uncommitted(done), b"second", path)
        assert read(client, done, "f") == b"first"
        assert client.dataset.update(done, description="still may").description == "still may"
        assert client.dataset.get(done.id).committed == done.committed


def test_what_was_kept_is_committed(beaker: LocalBeaker) -> None:
    """In a race of uploads with the commit, exactly the uploads that succeeded are in the dataset."""
    with beaker.client() as client:
        for number in range(5):
            dataset = client.dataset.create(f"race-{number}", commit=False)
            barrier = threading.Barrier(9)

            def upload(path: str, dataset: Any = dataset, barrier: threading.Barrier = barrier) -> str | None:
                barrier.wait()
                try:
                    for _ in range(3):
                        client.dataset.upload(dataset, path.encode(), path)
                except BeakerDatasetWriteError:
                    return None
                return path

            def commit(dataset: Any = dataset, barrier: threading.Barrier = barrier) -> Any:
                barrier.wait()
                return client.dataset.commit(dataset)

            with ThreadPoolExecutor(9) as pool:
                last = pool.submit(commit)
                kept = {path for path in pool.map(upload, map(str, range(8))) if path}
            listed = {file.path for file in client.dataset.list_files(last.result())}
            tree = beaker.layout.files(dataset.id)
            on_disk = {path.name for path in tree.iterdir()} if tree.exists() else set()
            assert kept <= listed == on_disk


def test_one_name_for_64_clients(beakers: Beakers) -> None:
    """A name has one winner for each author; all others hear of the conflict."""
    beaker = beakers.start(SHARED)
    outcomes = race(beaker, 64)
    for user in ("me", "you"):
        mine = [won for who, won in outcomes if who == user]
        assert (len(mine), sum(mine)) == (32, 1)


def test_one_name_in_a_workspace(beakers: Beakers) -> None:
    """Where names are a workspace's, two users' clients have one winner; another workspace has its own."""
    beaker = beakers.start(replace(SHARED, assume=Assumptions(names=NameScope.WORKSPACE)))
    assert sum(won for _, won in race(beaker, 64)) == 1
    with beaker.client(default_workspace="ai2/second") as client:
        client.dataset.create("contested")


def race(beaker: LocalBeaker, clients: int) -> list[tuple[str, bool]]:
    """Let so many clients of two users create one dataset at once: who, and whether it won."""
    barrier = threading.Barrier(clients)

    def create(number: int) -> tuple[str, bool]:
        user = ("me", "you")[number % 2]
        with beaker.client(user) as client:
            client.user.get()
            barrier.wait(120)
            try:
                client.dataset.create("contested", commit=False)
            except BeakerDatasetConflict:
                return user, False
            return user, True

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(create, range(clients)))


def test_a_deleted_name_is_free(beaker: LocalBeaker) -> None:
    """After a deletion the name can be taken again, also by force; nothing of the old is on the disk."""
    with beaker.client() as client:
        first = client.dataset.create("again", commit=False)
        client.dataset.upload(first, b"x", "f")
        client.dataset.delete(first)
        with pytest.raises(BeakerDatasetNotFound):
            client.dataset.get("me/again")
        assert not beaker.layout.dataset(first.id).exists()
        second = client.dataset.create("again")
        with pytest.raises(BeakerDatasetConflict):
            client.dataset.create("again")
        third = client.dataset.create("again", force=True)
        assert third.id != second.id
        assert client.dataset.get("me/again").id == third.id
        with pytest.raises((BeakerDatasetNotFound, BeakerError)):
            client.dataset.delete(third, second)
        assert client.dataset.get(third.id).id == third.id


def test_others_datasets(beakers: Beakers) -> None:
    """Members of an organization share its workspaces; others may not even look."""
    beaker = beakers.start(SHARED)
    with beaker.client() as me, beaker.client("you") as you, beaker.client("they") as they:
        dataset = me.dataset.create("shared", commit=False)
        me.dataset.upload(dataset, b"data", "f")
        assert read(you, you.dataset.get("me/shared"), "f") == b"data"
        you.dataset.upload(dataset, b"yours", "g")
        with pytest.raises(BeakerPermissionsError):
            they.dataset.get(dataset.id)
        with pytest.raises(BeakerDatasetNotFound):
            they.dataset.get("me/shared")
        with pytest.raises(BeakerPermissionsError):
            they.dataset.upload(dataset, b"theirs", "h")
        with pytest.raises(BeakerPermissionsError):
            they.dataset.delete(dataset)
        assert list(they.dataset.list(org=me.organization.get("ai2"))) == []


def test_lists(beakers: Beakers) -> None:
    """Every filter, both orders, and pages beyond the first; rows that go meanwhile hide no others."""
    beaker = beakers.start(SHARED)
    with beaker.client() as me, beaker.client("you") as you:
        names = [f"d{number:03}" for number in range(120)]
        for name in names:
            me.dataset.create(
                name, commit=name < "d050", description="of 50%_off" if name == "d007" else None
            )
        second = me.workspace.get("ai2/second")
        you.dataset.create("theirs", workspace=second)

        def listed(**options: Any) -> list[str]:
            return [dataset.name for dataset in me.dataset.list(**options)]

        assert listed() == [*names, "theirs"]
        assert listed(sort_order=BeakerSortOrder.descending) == ["theirs", *reversed(names)]
        assert listed(sort_field="created", sort_order=BeakerSortOrder.ascending) == [*names, "theirs"]
        assert listed(sort_field="created") == ["theirs", *reversed(names)]
        assert listed(committed=True, author=me.user.get()) == names[:50]
        assert listed(committed=False) == names[50:]
        assert listed(workspace=second) == ["theirs"]
        assert listed(author=me.user.get("you")) == ["theirs"]
        assert listed(name_or_description="D01") == names[10:20]
        assert listed(name_or_description="50%_off") == ["d007"]
        assert listed(name_or_description="%") == ["d007"]
        assert listed(results=True) == []
        assert listed(results=False, limit=3) == names[:3]
        middle = me.dataset.get("me/d060").created.ToDatetime(timezone.utc)
        assert listed(created_before=middle) == names[:60]
        assert listed(created_after=middle + timedelta(milliseconds=1))[-1] == "theirs"
        assert listed(created_after=datetime.now(timezone.utc) + timedelta(days=1)) == []
        rows = me.dataset.list()
        seen = [next(rows).name for _ in range(50)]
        me.dataset.delete(me.dataset.get("me/d049"), me.dataset.get("me/d050"))
        assert seen + [dataset.name for dataset in rows] == [*names[:50], *names[51:], "theirs"]


def test_files_beyond_a_page(beaker: LocalBeaker) -> None:
    """More files than a page holds are all listed; a prefix gives what begins with it."""
    assert beaker.server.backend is not None
    with beaker.client() as client:
        dataset = client.dataset.create("many", commit=False)
        paths = sorted(
            [f"d/{number:05}" for number in range(2100)] + ["d-x", "da", "e/\U0010ffff/x", "e/\ud7ff"]
        )
        with beaker.server.backend.database.write() as tx:
            datasets.store.add_files(tx, dataset.id, [(path, 2, bytes(32), 1) for path in paths])
        assert [file.path for file in client.dataset.list_files(dataset)] == paths
        for prefix in ("d", "d/", "d/00", "da", "e/\U0010ffff", "e/\ud7ff", "none"):
            listed = [file.path for file in client.dataset.list_files(dataset, prefix=prefix)]
            assert listed == [path for path in paths if path.startswith(prefix)]
        assert client.dataset.get_file_info(dataset, "d/02099").size == 2
        options = pb2.ListDatasetFilesRequest.Opts(dataset_id=dataset.id, prefix="d/")
        told = client.service.ListDatasetFiles(
            pb2.ListDatasetFilesRequest(options=options), metadata=client.dataset._rpc_call_metadata
        )
        assert (told.total_size, told.file_count) == (4200, 2100)


def test_links(beakers: Beakers) -> None:
    """A link gives its file to anybody for a while: not another file, not once the dataset is gone."""
    beaker = beakers.start()
    with beaker.client() as client:
        dataset = client.dataset.create("linked", commit=False)
        client.dataset.upload(dataset, b"open", "d/naïve ?.txt")
        client.dataset.upload(dataset, b"closed", "other")
        link = client.dataset.get_file_link(dataset, "d/naïve ?.txt")
        with urllib.request.urlopen(link, timeout=30) as answer:
            assert answer.read() == b"open"
        token = link.split("/links/")[1].split("/")[0]
        storage = f"http://{beaker.endpoint.rest}/datasets/{dataset.id}/files/other"
        refused = requests.get(storage, headers={"Authorization": f"Bearer {token}"}, timeout=30)
        assert refused.status_code == 403
        refused = requests.put(storage, b"", headers={"Authorization": f"Bearer {token}"}, timeout=30)
        assert refused.status_code == 403
        with pytest.raises(BeakerError):
            client.dataset.get_file_link(dataset, "nothing")
        kept = client.dataset.get_file_link(dataset, "other")
        client.dataset.delete(dataset)
        for gone in (link, kept):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(gone, timeout=30)
            assert caught.value.code == 401


def test_links_end(beakers: Beakers) -> None:
    """A link ends by itself."""
    ahead = [0]
    beaker = beakers.start(wall=lambda: time.time_ns() + ahead[0])
    with beaker.client() as client:
        dataset = client.dataset.create("linked", commit=False)
        client.dataset.upload(dataset, b"open", "f")
        link = client.dataset.get_file_link(dataset, "f")
        ahead[0] = 3_601 * 10**9
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(link, timeout=30)
        assert caught.value.code == 401


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


BAD_NAMES = ["-x", "a b", "a/b", "..", "_", "x" * 256, "a\n"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
def test_names_are_checked(beaker: LocalBeaker, name: str) -> None:
    """What the client refuses as a name, the server does, too."""
    with beaker.client() as client:
        place = client.workspace.get().id
    answer = requests.post(
        f"http://{beaker.endpoint.rest}/api/v3/datasets",
        params={"name": name},
        json={"workspace": place},
        headers={"Authorization": f"Bearer {beaker.token()}"},
        timeout=30,
    )
    assert answer.status_code == 400
    assert "name" in answer.json()["message"]


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
        datasets.sweep(backend, always=True)
        assert (beaker.layout.files(dataset.id) / "f").read_bytes() == b"data"
        jobs.end(job)
        datasets.sweep(backend, always=True)
        assert not beaker.layout.dataset(dataset.id).exists()
        client.dataset.delete(client.dataset.get(result))


def test_what_a_killed_server_left(beaker: LocalBeaker) -> None:
    """Files in the tree that were never recorded are not committed; one that another replaced is recorded."""
    with beaker.client() as client:
        dataset = client.dataset.create("torn", commit=False)
        client.dataset.upload(dataset, b"kept", "d/f")
        client.dataset.upload(dataset, b"before", "g")
        tree = beaker.layout.files(dataset.id)
        (tree / "d" / "stray").write_bytes(b"never told")
        (tree / "g").write_bytes(b"after")
        done = client.dataset.commit(dataset)
        assert {file.path for file in client.dataset.list_files(done)} == {"d/f", "g"}
        assert not (tree / "d" / "stray").exists()
        assert read(client, done, "g") == b"after"


def test_a_lost_file_is_said(beaker: LocalBeaker) -> None:
    """A dataset whose file is gone from the disk is not committed as if all were well."""
    with beaker.client() as client:
        client.MAX_RETRIES = 0
        dataset = client.dataset.create("lost", commit=False)
        client.dataset.upload(dataset, b"x", "f")
        (beaker.layout.files(dataset.id) / "f").unlink()
        with pytest.raises(requests.HTTPError, match="no longer on the server's disk"):
            client.dataset.commit(dataset)
        with pytest.raises(FileNotFoundError):
            read(client, dataset, "f")


def test_restart(beaker_of: Callable[..., LocalBeaker]) -> None:
    """Datasets are there after a restart."""
    first = beaker_of(Config())
    with first.client() as client:
        dataset = client.dataset.create("kept", commit=False)
        client.dataset.upload(dataset, b"data", "f")
    first.stop()
    with beaker_of(Config()).client() as client:
        assert read(client, client.dataset.get("me/kept"), "f") == b"data"
