"""Clusters and nodes, asked for with the real client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest
from beaker import beaker_pb2 as pb2
from beaker.exceptions import (
    BeakerClientError,
    BeakerClusterNotFound,
    BeakerNodeNotFound,
    BeakerNotFoundError,
    BeakerPermissionsError,
)
from beaker.types import BeakerGpuType, BeakerSortOrder

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.config import ClusterConfig, Config, NodeConfig, UserConfig, WorkspaceConfig
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rows import HandJobs

GIB = 1 << 30
OPEN = pb2.CordonNodeRequest.DesiredState.DESIRED_STATE_NOT_CORDONED
UNKNOWN = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
CONFIG = Config(
    organizations=("ai2", "other"),
    users=(
        UserConfig("me", ("ai2",), admin=True),
        UserConfig("ann", ("ai2",)),
        UserConfig("stranger", ("other",)),
    ),
    workspaces=(WorkspaceConfig("ai2/my-workspace", "ai2/default"),),
    clusters=(
        ClusterConfig(
            "ai2/gpus",
            (
                NodeConfig("g1", 32, 256 * GIB, 8, "NVIDIA_A100_80GB"),
                NodeConfig("g2", 16, 64 * GIB, 4, "NVIDIA_L4", cordoned="being mended"),
            ),
            ("jupiter",),
            ("interconnect:ib",),
            7 * 86400.0,
        ),
        ClusterConfig("ai2/cpus", (NodeConfig("c1", 4.5, 8 * GIB), NodeConfig("c2", 8, 8 * GIB, slots=2))),
        ClusterConfig("other/theirs", (NodeConfig("t1", 1, GIB),)),
    ),
)


@pytest.fixture
def beaker(beakers: Beakers) -> LocalBeaker:
    """A server with several clusters."""
    return beakers.start(CONFIG)


def call(client: Any, name: str, request: Any) -> Any:
    """A method that the client does not wrap."""
    metadata = [("authorization", f"bearer {client.config.user_token}")]
    return getattr(client.service, name)(request, metadata=metadata)


def names(answer: Any) -> list[str]:
    """The names of clusters, or the host names of nodes."""
    return [getattr(each, "name", None) or each.hostname for each in answer]


def counts(slots: Any) -> tuple[int, int, int, int]:
    """What is shown of slots; they add up."""
    assert slots.total == slots.available + slots.assigned + slots.cordoned
    assert slots.occupied == slots.assigned
    return slots.total, slots.available, slots.assigned, slots.cordoned


def nodes(client: Any) -> dict[str, str]:
    """Ids by host name."""
    return {each.hostname: each.id for each in client.node.list()}


def test_a_cluster(beaker: LocalBeaker) -> None:
    """A cluster is found by its name, an alias or its id, and shows what the configuration says."""
    with beaker.client() as client:
        found = client.cluster.get("ai2/gpus")
        assert (found.name, found.organization_name, found.node_count) == ("gpus", "ai2", 2)
        assert (list(found.aliases), list(found.tags)) == (["jupiter"], ["interconnect:ib"])
        assert found.max_task_timeout.ToSeconds() == 7 * 86400
        assert not found.HasField("cluster_occupancy")
        assert not client.cluster.get("ai2/cpus").HasField("max_task_timeout")
        assert client.cluster.get("ai2/jupiter").id == client.cluster.get(found.id).id == found.id
        for name in ("ai2/nothing", "other/gpus", "nowhere/gpus", "gpus", UNKNOWN):
            with pytest.raises(BeakerClusterNotFound):
                client.cluster.get(name)


def test_nodes(beaker: LocalBeaker) -> None:
    """Nodes show what they have, in every order, and whether they are cordoned."""
    with beaker.client() as client:
        gpus = client.cluster.get("ai2/gpus")
        first, second = client.node.list(cluster=gpus)
        assert (first.hostname, first.node_resources.cpu_count) == ("g1", 32)
        assert first.node_resources.memory_bytes == 256 * GIB
        assert list(first.node_resources.gpu_ids) == [str(n) for n in range(8)]
        assert BeakerGpuType(first.node_resources.gpu_type).name == "NVIDIA_A100_80GB"
        assert first.node_resources.slot_details.slot_count == 8
        assert not first.HasField("cordon_details")
        assert second.cordon_details.cordon_reason == "being mended"
        assert client.node.get(second.id).hostname == "g2"
        assert not client.node.get(nodes(client)["c1"]).node_resources.HasField("gpu_type")
        assert names(client.node.list()) == ["c1", "c2", "g1", "g2"]
        descending = BeakerSortOrder.descending
        assert names(client.node.list(sort_order=descending)) == ["g2", "g1", "c2", "c1"]
        assert names(client.node.list(sort_field="created")) == ["c2", "c1", "g2", "g1"]
        jobs = HandJobs(beaker)
        jobs.run(nodes(client)["c2"], author="ann")
        jobs.run(nodes(client)["g1"], ("0", "1"))
        assert names(client.node.list(sort_field="utilization"))[:2] == ["c2", "g1"]
        assert names(client.node.list(sort_field="recent_activity_for_user"))[0] == "g1"
        ann = client.user.get("ann")
        assert names(client.node.list(sort_field="recent_activity_for_user", user=ann))[0] == "c2"
        with pytest.raises(BeakerNodeNotFound):
            client.node.get(UNKNOWN)
        with pytest.raises(BeakerNotFoundError):
            list(client.node.list(cluster=pb2.Cluster(id=UNKNOWN)))


def test_occupancy(beaker: LocalBeaker) -> None:
    """Slots are GPUs where there are any, else jobs at once; those of a cordoned node are none to be had."""
    jobs = HandJobs(beaker)
    with beaker.client() as client:

        def shown(name: str) -> tuple[int, tuple[int, int, int, int]]:
            found = client.cluster.get(name, include_cluster_occupancy=True).cluster_occupancy
            assert sum(each.slot_counts.total for each in found.node_occupancies) == found.slot_counts.total
            return found.running_jobs_count, counts(found.slot_counts)

        assert shown("ai2/gpus") == (0, (12, 8, 0, 4))
        assert shown("ai2/cpus") == (0, (6, 6, 0, 0))
        ids = nodes(client)
        first = jobs.run(ids["g1"], ("0", "3", "7"))
        jobs.run(ids["g2"], ("1",))
        jobs.run(ids["c1"])
        assert shown("ai2/gpus") == (2, (12, 5, 4, 3))
        assert shown("ai2/cpus") == (1, (6, 5, 1, 0))
        jobs.end(first)
        assert shown("ai2/gpus") == (1, (12, 8, 1, 3))


def test_clusters_are_listed(beaker: LocalBeaker) -> None:
    """Every order, as tools that look for GPUs need it."""
    jobs = HandJobs(beaker)
    with beaker.client() as client:
        jobs.run(nodes(client)["c1"])
        ascending, descending = BeakerSortOrder.ascending, BeakerSortOrder.descending
        orders = {
            "name": ["cpus", "gpus"],
            "created": ["gpus", "cpus"],
            "running_jobs": ["gpus", "cpus"],
            "total_gpus": ["cpus", "gpus"],
            "free_gpus": ["cpus", "gpus"],
        }
        for field, expected in orders.items():
            assert names(client.cluster.list(sort_field=field, sort_order=ascending)) == expected
            assert names(client.cluster.list(sort_field=field, sort_order=descending)) == expected[::-1]
        assert len(list(client.cluster.list(sort_field="total_nodes"))) == 2
        assert names(client.cluster.list(limit=1)) == ["cpus"]
        theirs = call(client, "ListClusters", pb2.ListClustersRequest())
        assert names(theirs.clusters) == ["cpus", "gpus", "theirs"]
        occupied = client.cluster.list(include_cluster_occupancy=True)
        assert [each.cluster_occupancy.slot_counts.total for each in occupied] == [6, 12]
        options = pb2.ListClustersRequest.Opts(organization_id=UNKNOWN)
        with pytest.raises(grpc.RpcError) as caught:
            call(client, "ListClusters", pb2.ListClustersRequest(options=options))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_node_is_cordoned(beaker: LocalBeaker, beakers: Beakers) -> None:
    """Members cordon nodes and open them; that outlives a restart, as the configuration does."""
    with beaker.client("ann") as client:
        ids = nodes(client)
        node = client.node.get(ids["c1"])
        client.node.cordon(node, reason="first")
        details = client.node.cordon(node, reason="again").cordon_details
        assert (details.cordon_reason, details.cordon_agent_id) == ("again", client.user.get().id)
        opened = pb2.CordonNodeRequest(node_id=ids["g2"], desired_state=OPEN)
        assert not call(client, "CordonNode", opened).node.HasField("cordon_details")
        with pytest.raises(grpc.RpcError) as caught:
            call(client, "CordonNode", pb2.CordonNodeRequest(node_id=ids["g2"]))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert call(client, "CordonNode", opened).node.id == ids["g2"]
    with beaker.client("stranger") as client, pytest.raises(BeakerPermissionsError):
        client.node.cordon(node, reason="x")
    beaker.stop()
    again = beakers.start(CONFIG)
    with again.client() as client:
        assert client.node.get(ids["c1"]).cordon_details.cordon_reason == "again"
        assert client.node.get(ids["g2"]).cordon_details.cordon_reason == "being mended"
        call(client, "CordonNode", pb2.CordonNodeRequest(node_id=ids["c1"], desired_state=OPEN))
    again.stop()
    gpus = replace(CONFIG.clusters[0], nodes=(NodeConfig("g1"), NodeConfig("g2")))
    third = beakers.start(replace(CONFIG, clusters=(gpus, *CONFIG.clusters[1:])))
    with third.client() as client:
        assert not any(each.HasField("cordon_details") for each in client.node.list())


def test_aliases_and_tags(beaker: LocalBeaker, beakers: Beakers) -> None:
    """What members add stays beside what the configuration says; names are unique in the organization."""
    with beaker.client("ann") as client:
        cpus, gpus = client.cluster.get("ai2/cpus"), client.cluster.get("ai2/gpus")
        for _ in range(2):
            request = pb2.CreateClusterAliasRequest(cluster_id=cpus.id, alias="saturn")
            assert list(call(client, "CreateClusterAlias", request).cluster.aliases) == ["saturn"]
            call(
                client, "CreateClusterTag", pb2.CreateClusterTagRequest(cluster_id=gpus.id, tag_value="fast")
            )
        call(
            client,
            "CreateClusterTag",
            pb2.CreateClusterTagRequest(cluster_id=gpus.id, tag_key="storage", tag_value="weka"),
        )
        for alias in ("jupiter", "gpus", "a b", ""):
            with pytest.raises(grpc.RpcError) as caught:
                call(
                    client,
                    "CreateClusterAlias",
                    pb2.CreateClusterAliasRequest(cluster_id=cpus.id, alias=alias),
                )
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(client.cluster.get(gpus.id).tags) == ["interconnect:ib", "fast", "storage:weka"]
        gone = pb2.DeleteClusterTagRequest(cluster_id=gpus.id, tag_value="fast")
        call(client, "DeleteClusterTag", gone)
        with pytest.raises(grpc.RpcError) as caught:
            call(client, "DeleteClusterTag", gone)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    beaker.stop()
    second = replace(CONFIG.clusters[0], tags=("new",), aliases=())
    again = beakers.start(replace(CONFIG, clusters=(second, *CONFIG.clusters[1:])))
    with again.client() as client:
        assert client.cluster.get("ai2/saturn").id == cpus.id
        found = client.cluster.get(gpus.id)
        assert (list(found.tags), list(found.aliases)) == (["new", "storage:weka"], [])


def test_what_is_no_longer_named_is_retired(beakers: Beakers) -> None:
    """Clusters and nodes that the configuration drops are listed no more; their records and ids stay."""
    first = beakers.start(CONFIG)
    with first.client() as client:
        ids, cluster = nodes(client), client.cluster.get("ai2/cpus").id
    first.stop()
    second = beakers.start(replace(CONFIG, clusters=CONFIG.clusters[:1]))
    with second.client() as client:
        assert names(client.cluster.list()) == ["gpus"]
        assert names(client.node.list()) == ["g1", "g2"]
        assert client.node.get(ids["c1"]).hostname == "c1"
        assert client.cluster.get(cluster).name == "cpus"
        with pytest.raises(BeakerClusterNotFound):
            client.cluster.get("ai2/cpus")
    second.stop()
    third = beakers.start(CONFIG)
    with third.client() as client:
        assert (nodes(client), client.cluster.get("ai2/cpus").id) == (ids, cluster)


def test_a_job_sees_clusters_and_changes_none(beaker: LocalBeaker) -> None:
    """A job's token may look, as gantry inside a job does, and nothing else."""
    backend = beaker.server.backend
    assert backend is not None
    with beaker.client() as client:
        job = HandJobs(beaker).run(nodes(client)["c1"])
    with backend.database.write() as tx:
        row = tx.execute("SELECT author_id, workspace_id FROM jobs WHERE id = ?", (job,)).fetchone()
        token = backend.access.issue(tx, Principal(row[0], Purpose.JOB, row[1], job))
    with beaker.client(user_token=token) as client:
        found = client.cluster.get("ai2/cpus")
        (node, *_) = client.node.list(cluster=found)
        changes: list[Callable[[], Any]] = [
            lambda: client.node.cordon(node, reason="x"),
            lambda: call(
                client, "CreateClusterAlias", pb2.CreateClusterAliasRequest(cluster_id=found.id, alias="x")
            ),
            lambda: call(
                client, "CreateClusterTag", pb2.CreateClusterTagRequest(cluster_id=found.id, tag_value="x")
            ),
        ]
        for change in changes:
            with pytest.raises((BeakerPermissionsError, BeakerClientError, grpc.RpcError)) as caught:
                change()
            assert "job's token" in str(caught.value)


def test_waiting_jobs(beakers: Beakers) -> None:
    """A cluster that shows what is occupied tells how many jobs wait that it may be given."""
    closed = replace(
        CONFIG,
        clusters=(
            ClusterConfig("ai2/one", (NodeConfig("n1", cordoned="mended"),)),
            ClusterConfig("ai2/two", (NodeConfig("n2", cordoned="mended"),)),
        ),
    )
    beaker = beakers.start(closed, "waiting")
    jobs = HandJobs(beaker)
    with beaker.client() as client:
        for _ in range(3):
            jobs.queue()
        for name in ("one", "two"):
            assert (
                client.cluster.get(f"ai2/{name}", include_cluster_occupancy=True).cluster_job_queue_size == 3
            )
            assert client.cluster.get(f"ai2/{name}").cluster_job_queue_size == 0
        listed = client.cluster.list(include_cluster_occupancy=True)
        assert [each.cluster_job_queue_size for each in listed] == [3, 3]
