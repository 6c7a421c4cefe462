"""Datasets as the public client knows them: made, filled, listed, committed, renamed, deleted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from beaker import BeakerSortOrder
from beaker import beaker_pb2 as pb2
from beaker.exceptions import (
    BeakerClientError,
    BeakerDatasetConflict,
    BeakerDatasetNotFound,
    BeakerNotFoundError,
    BeakerPermissionsError,
)

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.config import Assumptions, Config, NameScope, UserConfig, WorkspaceConfig
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rest import Rest, new_dataset, rest_of, storage_of

SHARED = Config(
    organizations=("ai2", "elsewhere"),
    users=(
        UserConfig("me", ("ai2",), admin=True),
        UserConfig("you", ("ai2",)),
        UserConfig("stranger", ("elsewhere",)),
    ),
    workspaces=(
        WorkspaceConfig("ai2/my-workspace", "ai2/default"),
        WorkspaceConfig("ai2/second", "ai2/default"),
        WorkspaceConfig("elsewhere/theirs", "elsewhere/default"),
    ),
)


@pytest.fixture(scope="module")
def listed(authority: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBeaker]:
    """A server with 120 datasets of two users in two workspaces; every third is committed."""
    beakers = Beakers(tmp_path_factory.mktemp("listed"), tls=authority / "tls")
    beaker = beakers.start(SHARED)
    with beaker.client() as me, beaker.client("you") as you:
        for number in range(120):
            client = (me, you)[number % 2]
            client.dataset.create(
                f"d{(number * 7) % 120:03}_x",
                workspace=client.workspace.get(("ai2/my-workspace", "ai2/second")[number % 4 // 2]),
                description=f"100% of ÄB {number % 5}",
                commit=number % 3 == 0,
            )
    make_result(beaker)
    yield beaker
    beakers.close()


def make_result(beaker: LocalBeaker) -> None:
    """One dataset that is a job's result."""
    backend = beaker.server.backend
    assert backend is not None
    with backend.database.write() as tx:
        tx.execute(
            "INSERT INTO datasets (id, author_id, workspace_id, created, source_job_id)"
            " SELECT ?, u.id, w.id, ?, 'job' FROM users u, workspaces w"
            " WHERE u.name = 'me' AND w.name = 'my-workspace'",
            (backend.ids.new(), backend.clock.now()),
        )


def test_every_dataset_once_in_each_order(listed: LocalBeaker) -> None:
    """Past the first page, by name and by time, up and down: all of them, once, in their order."""
    with listed.client() as client:
        for field, key in (
            ("name", lambda d: (d.name, d.id)),
            ("created", lambda d: d.created.ToNanoseconds()),
        ):
            for order, down in ((BeakerSortOrder.ascending, False), (BeakerSortOrder.descending, True)):
                found = list(client.dataset.list(sort_field=field, sort_order=order))
                assert len({dataset.id for dataset in found}) == len(found) == 121
                assert found == sorted(found, key=key, reverse=down)
        assert len(list(client.dataset.list(limit=7))) == 7


FILTERS: list[tuple[Callable[[Any], dict[str, Any]], int]] = [
    (lambda _: {"results": True}, 1),
    (lambda _: {"results": False}, 120),
    (lambda _: {"committed": True}, 40),
    (lambda _: {"committed": False}, 81),
    (lambda c: {"author": c.user.get("me")}, 61),
    (lambda c: {"author": c.user.get("you")}, 60),
    (lambda c: {"workspace": c.workspace.get("ai2/second")}, 60),
    (lambda c: {"org": c.organization.get("ai2")}, 121),
    (lambda _: {"name_or_description": "d00"}, 10),
    (lambda _: {"name_or_description": "D00"}, 10),
    (lambda _: {"name_or_description": "100% of"}, 120),
    (lambda _: {"name_or_description": "0%0"}, 0),
    (lambda _: {"name_or_description": "ÄB 3"}, 24),
    (lambda _: {"name_or_description": "0_x"}, 12),
    (lambda _: {"name_or_description": "\\"}, 0),
    (lambda _: {"created_after": datetime.now(timezone.utc) + timedelta(hours=1)}, 0),
    (lambda _: {"created_before": datetime.now(timezone.utc) + timedelta(hours=1)}, 121),
    (lambda _: {"created_before": datetime(1, 1, 1, tzinfo=timezone.utc)}, -1),
    (lambda c: {"committed": True, "author": c.user.get("you"), "name_or_description": "_x"}, 20),
]


@pytest.mark.parametrize(("wanted", "count"), FILTERS)
def test_filters(listed: LocalBeaker, wanted: Callable[[Any], dict[str, Any]], count: int) -> None:
    """Each filter, over all pages and in both orders; -1: no time that a dataset can have."""
    with listed.client() as client:
        options = wanted(client)
        for field in ("name", "created"):
            if count < 0:
                with pytest.raises(BeakerClientError):
                    list(client.dataset.list(sort_field=field, **options))
            else:
                assert len(list(client.dataset.list(sort_field=field, **options))) == count


def test_created_is_a_bound_that_is_left_out(listed: LocalBeaker) -> None:
    """Datasets made before and after one, with that one in neither."""
    options = pb2.ListDatasetsRequest.Opts
    with listed.client() as client:
        all_of_them = list(client.dataset.list(sort_field="created"))
        one = all_of_them[40]
        for name, count in (("created_before", 80), ("created_after", 40)):
            asked = options(page_size=200, **{name: one.created})
            answer = client.service.ListDatasets(
                pb2.ListDatasetsRequest(options=asked),
                metadata=[("authorization", f"bearer {listed.token()}")],
            )
            assert len(answer.datasets) == count
            assert one not in answer.datasets


def test_from_nothing_to_nothing(beaker: LocalBeaker, tmp_path: Path) -> None:
    """A dataset is made, described, found by name and id, committed twice, deleted, and its name is free."""
    (tmp_path / "file").write_text("x")
    with beaker.client() as client:
        made = client.dataset.create("one", tmp_path / "file", description="first", commit=False)
        assert not made.HasField("committed")
        assert (made.name, made.full_name, made.description) == ("one", "me/one", "first")
        assert client.dataset.update(made, description="sécond").description == "sécond"
        for reference in ("me/one", made.id):
            assert client.dataset.get(reference).id == made.id
        committed = client.dataset.commit(made)
        assert committed.HasField("committed")
        assert client.dataset.commit(made).committed == committed.committed
        assert client.dataset.update(committed, description="after").description == "after"
        with pytest.raises(BeakerDatasetConflict):
            client.dataset.create("one")
        client.dataset.delete(committed)
        with pytest.raises(BeakerDatasetNotFound):
            client.dataset.get(made.id)
        again = client.dataset.create("one")
        assert again.id != made.id
    assert not beaker.layout.dataset(made.id).exists()


def test_force_takes_the_place(beaker: LocalBeaker, tmp_path: Path) -> None:
    """With force a dataset of one's own with the name is replaced, committed or not."""
    with beaker.client() as client:
        for content in ("a", "b", "c"):
            (tmp_path / "file").write_text(content)
            made = client.dataset.create("one", tmp_path / "file", force=True)
            assert b"".join(client.dataset.stream_file(made, "file")) == content.encode()
        assert len(list(client.dataset.list())) == 1


@pytest.mark.parametrize("scope", list(NameScope))
def test_whose_name_it_is(beakers: Beakers, scope: NameScope) -> None:
    """A name is one author's, or one workspace's, as the configuration has it; renaming keeps to that."""
    beaker = beakers.start(replace(SHARED, assume=Assumptions(names=scope)))
    with beaker.client() as me, beaker.client("you") as you:
        first, second = (me.workspace.get(f"ai2/{name}") for name in ("my-workspace", "second"))
        mine = me.dataset.create("one", workspace=first)
        other = (you, first) if scope is NameScope.WORKSPACE else (me, second)
        free = (me, second) if scope is NameScope.WORKSPACE else (you, first)
        with pytest.raises(BeakerDatasetConflict):
            other[0].dataset.create("one", workspace=other[1])
        theirs = free[0].dataset.create("one", workspace=free[1])
        assert theirs.id != mine.id
        spare = other[0].dataset.create("two", workspace=other[1])
        answer = rest_of(beaker).ask("PATCH", f"/api/v3/datasets/{spare.id}", b'{"name": "one"}')
        assert (answer.status, answer.message) == (409, "dataset name 'one' is already in use")
        me.dataset.delete(mine)
        assert rest_of(beaker).ask("PATCH", f"/api/v3/datasets/{spare.id}", b'{"name": "one"}').status == 200


@pytest.mark.parametrize("scope", list(NameScope))
def test_many_clients_want_one_name(beakers: Beakers, scope: NameScope) -> None:
    """Of 64 clients of two users one wins for each author, or one at all; the others have a conflict."""
    beaker = beakers.start(replace(SHARED, assume=Assumptions(names=scope)))
    start, outcomes = threading.Barrier(64), []

    def race(user: str) -> None:
        with beaker.client(user) as client:
            workspace = client.workspace.get("ai2/my-workspace")
            start.wait(120)
            try:
                outcomes.append((user, client.dataset.create("one", workspace=workspace).id))
            except BeakerDatasetConflict:
                outcomes.append((user, None))

    threads = [threading.Thread(target=race, args=(("me", "you")[n % 2],)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    winners = [user for user, made in outcomes if made is not None]
    assert len(outcomes) == 64
    assert sorted(winners) == (["me", "you"] if scope is NameScope.AUTHOR else winners[:1])
    with beaker.client() as client:
        assert {made for _, made in outcomes if made} == {dataset.id for dataset in client.dataset.list()}


def refused(call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Hold that a caller may not, or is not told that there is something."""
    with pytest.raises((BeakerPermissionsError, BeakerDatasetNotFound)):
        call(*arguments, **options)


def test_strangers_see_nothing(beakers: Beakers) -> None:
    """Who is not in the organization lists, reads, changes and deletes none of its datasets."""
    beaker = beakers.start(SHARED)
    with beaker.client() as me, beaker.client("stranger") as stranger:
        mine = me.dataset.create("one", workspace=me.workspace.get("ai2/my-workspace"), commit=False)
        me.dataset.upload(mine, b"x", "file")
        assert [d.id for d in stranger.dataset.list(org=me.organization.get("ai2"))] == []
        for call in (stranger.dataset.get, stranger.dataset.delete, stranger.dataset.commit):
            refused(call, mine if call is not stranger.dataset.get else mine.id)
        refused(stranger.dataset.get, "me/one")
        refused(stranger.dataset.update, mine, description="theirs")
        refused(stranger.dataset.get_file_link, mine, "file")
        refused(lambda: list(stranger.dataset.list_files(mine)))
        refused(stranger.dataset.create, "two", workspace=me.workspace.get("ai2/my-workspace"))
        web = rest_of(beaker, "stranger")
        for method, path in (("GET", ""), ("PATCH", ""), ("GET", "/files/file")):
            assert web.ask(method, f"/api/v3/datasets/{mine.id}{path}").status == 403
        assert me.dataset.get("me/one") == mine


def test_members_share(beakers: Beakers) -> None:
    """Who is in the organization reads, fills, commits and deletes what others of it made."""
    beaker = beakers.start(SHARED)
    with beaker.client() as me, beaker.client("you") as you:
        mine = me.dataset.create("one", workspace=me.workspace.get("ai2/my-workspace"), commit=False)
        you.dataset.upload(mine, b"x", "file")
        you.dataset.commit(mine)
        assert b"".join(me.dataset.stream_file(mine, "file")) == b"x"
        you.dataset.delete(you.dataset.get("me/one"))
        refused(me.dataset.get, "me/one")


def test_a_job_sees_its_own_workspace(beakers: Beakers) -> None:
    """A job's token opens the datasets of its workspace alone, and so does the storage's that comes of it."""
    beaker = beakers.start(SHARED)
    backend = beaker.server.backend
    assert backend is not None
    with beaker.client() as me:
        first, second = (me.workspace.get(f"ai2/{name}") for name in ("my-workspace", "second"))
        inside = me.dataset.create("in", workspace=first, commit=False)
        outside = me.dataset.create("out", workspace=second, commit=False)
        who = Principal(me.user.get().id, Purpose.JOB, first.id, job_id="job")
    with backend.database.write() as tx:
        token = backend.access.issue(tx, who)
    with beaker.client(user_token=token) as job:
        assert [dataset.id for dataset in job.dataset.list()] == [inside.id]
        job.dataset.upload(inside, b"x", "file")
        refused(job.dataset.get, outside.id)
        refused(job.dataset.get, "me/out")
        refused(job.dataset.delete, outside)
        refused(job.dataset.create, "new", workspace=second)
    web = Rest(beaker.endpoint.rest, token)
    storage = storage_of(web, inside.id)
    assert storage.put("other", b"y").status == 200
    with backend.database.write() as tx:
        tx.execute("DELETE FROM tokens WHERE job_id = 'job'")
    assert storage.put("other", b"z").status == 401
    assert web.ask("GET", f"/api/v3/datasets/{inside.id}").status == 401


def test_all_are_deleted_or_none(beaker: LocalBeaker) -> None:
    """Where one of several cannot be deleted, the others stay."""
    with beaker.client() as client:
        kept = client.dataset.create("one")
        with pytest.raises(BeakerNotFoundError, match="not found"):
            client.dataset.delete(kept, pb2.Dataset(id="01" + "0" * 24))
        assert client.dataset.get("me/one").id == kept.id
        client.dataset.delete(kept, kept)
        assert list(client.dataset.list()) == []


BAD = [
    b"",
    b"{}",
    b"[]",
    b"nothing",
    b'{"workspace": 5}',
    b'{"workspace": "01H00000000000000000000000"}',
    b'{"workspace": null}',
    b'{"workspace": "WS", "description": []}',
    b'{"workspace": "WS", "budget": "none"}',
]


@pytest.mark.parametrize("body", BAD)
def test_requests_that_make_none(beaker: LocalBeaker, body: bytes) -> None:
    """A dataset that is asked for wrongly is refused with a message, and there is none."""
    with beaker.client() as client:
        workspace = client.workspace.get("ai2/my-workspace").id.encode()
        answer = rest_of(beaker).ask("POST", "/api/v3/datasets?name=x", body.replace(b"WS", workspace))
        assert answer.status in (400, 404)
        assert answer.message
        assert list(client.dataset.list()) == []


@pytest.mark.parametrize("name", ["-x", "a%2Fb", "%00", "a%20b", "...", "x" * 256, "%C3%A4%0A", "%FF"])
def test_names_that_are_none(beaker: LocalBeaker, name: str) -> None:
    """What the public client would not send is refused by the server, too."""
    with beaker.client() as client:
        workspace = client.workspace.get("ai2/my-workspace").id
    body = b'{"workspace": "%s"}' % workspace.encode()
    answer = rest_of(beaker).ask("POST", f"/api/v3/datasets?name={name}", body)
    assert (answer.status, bool(answer.message)) == (400, True)


def test_names_are_not_asked_for(beaker: LocalBeaker) -> None:
    """Datasets without a name are as many as one likes; their id stands for it."""
    with beaker.client() as client:
        workspace = client.workspace.get("ai2/my-workspace").id
        stores = [new_dataset(rest_of(beaker), workspace) for _ in range(3)]
        for store in stores:
            assert client.dataset.get(store.dataset).full_name == store.dataset
