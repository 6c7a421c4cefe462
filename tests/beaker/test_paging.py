"""Lists in pages: past fifty, with rows that come and go between pages, and with tokens that are none."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import grpc
import pytest
from beaker import beaker_pb2 as pb2
from beaker.exceptions import BeakerClientError
from beaker.types import BeakerSortOrder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch.beakerd.config import Assumptions, ClusterConfig, NameScope, NodeConfig, WorkspaceConfig
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rows import BY_HAND, HandJobs

COUNT = 120


@pytest.fixture
def beaker(beakers: Beakers) -> LocalBeaker:
    """A server with more workspaces than a page holds."""
    named = tuple(WorkspaceConfig(f"ai2/w{n:03}", "ai2/default") for n in range(COUNT))
    return beakers.start(replace(BY_HAND, workspaces=named))


def names(answer: Any) -> list[str]:
    """The names of what is listed, without the organization."""
    return [each.name.rpartition("/")[2] for each in answer]


def ask(client: Any, request: Any, method: str = "ListWorkspaces") -> Any:
    """One page."""
    metadata = [("authorization", f"bearer {client.config.user_token}")]
    return getattr(client.service, method)(request, metadata=metadata)


def first_page(size: int | None = None, **clause: Any) -> Any:
    """A request for the first page."""
    sort = pb2.ListWorkspacesRequest.Opts.SortClause(**clause)
    return pb2.ListWorkspacesRequest(options=pb2.ListWorkspacesRequest.Opts(page_size=size, sort_clause=sort))


def rest(client: Any, answer: Any) -> list[str]:
    """The names on all pages behind one."""
    found = []
    while answer.next_page_token:
        answer = ask(client, pb2.ListWorkspacesRequest(next_page_token=answer.next_page_token))
        found += names(answer.workspaces)
    return found


@pytest.mark.parametrize(
    "field", ["name", "created", "recent_workload_activity", "maximum_workload_priority"]
)
@pytest.mark.parametrize("order", list(BeakerSortOrder))
def test_every_row_once(beaker: LocalBeaker, field: Any, order: BeakerSortOrder) -> None:
    """The client sees every row once, in order, also where the sorted values are all the same."""
    with beaker.client() as client:
        found = names(client.workspace.list(sort_field=field, sort_order=order))
        assert sorted(found) == [f"w{n:03}" for n in range(COUNT)]
        if field != "maximum_workload_priority":
            assert found == sorted(found, reverse=order is BeakerSortOrder.descending)
        assert names(client.workspace.list(sort_field=field, sort_order=order, limit=70)) == found[:70]


@pytest.mark.parametrize("size", [1, 7, 60, COUNT, 1000])
def test_sizes_of_pages(beaker: LocalBeaker, size: int) -> None:
    """Pages are as large as they are asked for; the last one has no token."""
    with beaker.client() as client:
        answer = ask(client, first_page(size, name={}))
        assert len(answer.workspaces) == min(size, COUNT)
        assert answer.HasField("next_page_token") is (size < COUNT)
        if size > 1:
            assert names(answer.workspaces) + rest(client, answer) == [f"w{n:03}" for n in range(COUNT)]


def test_rows_that_come_and_go(beaker: LocalBeaker) -> None:
    """Rows made, archived and renamed between two pages: none is shown twice, none that stays is left out."""
    with beaker.client() as client:
        answer = ask(client, first_page(50, name={}))
        for name in ("a-before", "w049-behind", "z-behind"):
            client.workspace.create(f"ai2/{name}")
        client.workspace.update(client.workspace.get("ai2/w010"), archived=True)
        client.workspace.update(client.workspace.get("ai2/w049"), archived=True)
        client.workspace.update(client.workspace.get("ai2/w070"), archived=True)
        behind = rest(client, answer)
        kept = [f"w{n:03}" for n in range(50, COUNT) if n != 70]
        assert behind == ["w049-behind", *kept, "z-behind"]
        by_age = ask(client, first_page(50, created={}))
        client.workspace.create("ai2/newest")
        assert "newest" not in rest(client, by_age)


def test_nodes_and_clusters_in_pages(beakers: Beakers) -> None:
    """Lists that are sorted here are cut in the same way."""
    clusters = tuple(ClusterConfig(f"ai2/c{n:02}", (NodeConfig(f"n{n:02}", 1 + n % 3),)) for n in range(55))
    with beakers.start(replace(BY_HAND, clusters=clusters)).client() as client:
        assert names(client.cluster.list()) == [f"c{n:02}" for n in range(55)]
        for order in BeakerSortOrder:
            by_size = list(client.cluster.list(sort_field="total_nodes", sort_order=order))
            assert len({each.id for each in by_size}) == len(by_size) == 55
        hosts = [each.hostname for each in client.node.list(sort_order=BeakerSortOrder.descending)]
        assert hosts == [f"n{n:02}" for n in reversed(range(55))]
        options = pb2.ListNodesRequest.Opts(page_size=10)
        token = ask(client, pb2.ListNodesRequest(options=options), "ListNodes").next_page_token
        forged = json.loads(base64.urlsafe_b64decode(token))
        forged["after"][0] = 7
        token = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode()
        with pytest.raises(grpc.RpcError) as caught:
            ask(client, pb2.ListNodesRequest(next_page_token=token), "ListNodes")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def refused(client: Any, request: Any) -> str:
    """What an INVALID_ARGUMENT says."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(client, request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value.details())


def test_tokens_and_sizes_that_are_none(beaker: LocalBeaker) -> None:
    """What was never given out is refused as a bad request, however it looks."""
    after = {"options": "", "after": [1, "x"]}
    texts = [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"[" * 100_000,
        json.dumps({**after, "after": [1]}).encode(),
        json.dumps({**after, "after": [[], "x"]}).encode(),
        json.dumps({**after, "after": [1, 2]}).encode(),
        json.dumps({**after, "options": "!"}).encode(),
        json.dumps({**after, "options": base64.b64encode(b"\xff\xff").decode()}).encode(),
        b"\xff\xfe",
    ]
    with beaker.client() as client:
        for text in [
            *(base64.urlsafe_b64encode(each).decode() for each in texts),
            "x",
            "?",
            "\u00e4",
            "A" * 9,
        ]:
            assert "next_page_token" in refused(client, pb2.ListWorkspacesRequest(next_page_token=text))
        huge = base64.urlsafe_b64encode(json.dumps({**after, "after": [1 << 80, "x"]}).encode()).decode()
        assert refused(client, pb2.ListWorkspacesRequest(next_page_token=huge))
        for size in (0, 1001, (1 << 32) - 1):
            assert "page_size" in refused(client, first_page(size))
    assert not [line for line in beaker.lines if "Traceback" in line]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60))
def test_bytes_that_are_no_request(beaker: LocalBeaker, data: bytes) -> None:
    """Whatever is sent, the answer is a page or a refusal, never the server's fault."""
    with beaker.client() as client:
        client.service  # noqa: B018
        send = client._channel.unary_unary("/allenai.beaker.Beaker/ListWorkspaces")
        try:
            send(data, metadata=[("authorization", f"bearer {client.config.user_token}")], timeout=60)
        except grpc.RpcError as error:
            fine = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
            assert error.code() in fine, (error.code(), error.details())


def test_unknown_fields_pass(beaker: LocalBeaker) -> None:
    """A field of a newer client changes nothing, also in the token of the next page."""
    with beaker.client() as client:
        client.service  # noqa: B018
        send = client._channel.unary_unary("/allenai.beaker.Beaker/ListWorkspaces")
        data = first_page(10, name={}).SerializeToString() + b"\xfa\x7f\x03new"
        metadata = [("authorization", f"bearer {client.config.user_token}")]
        answer = pb2.ListWorkspacesResponse.FromString(send(data, metadata=metadata))
        assert names(answer.workspaces) == [f"w{n:03}" for n in range(10)]
        assert len(rest(client, answer)) == COUNT - 10


@pytest.mark.parametrize("scope", list(NameScope))
def test_names_and_moves(beakers: Beakers, scope: NameScope) -> None:
    """A name that is unique within its workspace may stand in the way of a move; its author's never does."""
    two = (WorkspaceConfig("ai2/one", "ai2/b"), WorkspaceConfig("ai2/two", "ai2/b"))
    beaker = beakers.start(replace(BY_HAND, workspaces=two, assume=Assumptions(names=scope)))
    jobs, backend = HandJobs(beaker), beaker.server.backend
    assert backend is not None
    made: list[str] = []
    for workspace, name in (("ai2/one", "a"), ("ai2/two", "a" if scope is NameScope.WORKSPACE else "b")):
        job = jobs.queue(workspace)
        jobs.end(job)
        with backend.database.write() as tx:
            row = tx.execute("SELECT * FROM jobs WHERE id = ?", (job,)).fetchone()
            owner = row["author_id"] if scope is NameScope.AUTHOR else row["workspace_id"]
            change = "UPDATE experiments SET name = ?, name_key = ? WHERE id = ?"
            tx.execute(change, (name, f"{owner}/{name}", row["experiment_id"]))
        made.append(row["experiment_id"])
    with beaker.client() as client:
        target = client.workspace.get("ai2/two")
        if scope is NameScope.WORKSPACE:
            with pytest.raises(BeakerClientError, match="already in use"):
                client.workspace.transfer_into(entity_ids=made[:1], workspace=target)
            with backend.database.write() as tx:
                tx.execute("UPDATE experiments SET name_key = NULL WHERE id = ?", (made[1],))
        assert client.workspace.transfer_into(entity_ids=made[:1], workspace=target).size.experiments == 2
    with backend.database.read() as tx:
        (key,) = tx.execute("SELECT name_key FROM experiments WHERE id = ?", (made[0],)).fetchone()
    assert key.startswith(target.id) is (scope is NameScope.WORKSPACE)
