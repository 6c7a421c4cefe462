"""Clusters and their nodes: shown, cordoned, given aliases and tags.

Which there are, and what they have, the configuration says; see ``store.clusters`` for slots.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import in_use, invalid, not_found
from dispatch.beakerd.rpc.pages import Page
from dispatch.beakerd.rpc.server import Method
from dispatch.beakerd.store import clusters
from dispatch.beakerd.store.accounts import check_name
from dispatch.beakerd.store.clusters import Cluster, Node, Slots
from dispatch.beakerd.store.database import Transaction

_CLUSTER_ORDER: dict[str, Callable[[Cluster], Any]] = {
    "name": lambda each: each.row["name"],
    "created": lambda each: each.row["created"],
    "running_jobs": lambda each: sum(node.jobs for node in each.nodes),
    "total_nodes": lambda each: len(each.nodes),
    "free_gpus": lambda each: sum(node.free_gpus for node in each.nodes),
    "total_gpus": lambda each: sum(node.row["gpus"] for node in each.nodes),
}
_NODE_ORDER: dict[str, Callable[[Node], Any]] = {
    "name": lambda each: each.row["hostname"],
    "created": lambda each: each.row["created"],
    "recent_activity_for_user_id": lambda each: each.activity,
    # In thousandths: tokens of pages hold whole numbers.
    "utilization": lambda each: 1000 * each.slots.assigned // (each.slots.total or 1),
}
_CORDONED = pb2.CordonNodeRequest.DesiredState.DESIRED_STATE_CORDONED
_OPEN = pb2.CordonNodeRequest.DesiredState.DESIRED_STATE_NOT_CORDONED


def resolve_cluster_name(backend: Backend, _who: Principal, request: Any) -> Any:
    """The id of a name or an alias."""
    with backend.database.read() as tx:
        found = clusters.resolve(tx, request.owner_name, request.cluster_name)
    return pb2.ResolveClusterNameResponse(cluster_id=found)


def get_cluster(backend: Backend, _who: Principal, request: Any) -> Any:
    """A cluster by id."""
    with backend.database.read() as tx:
        found = clusters.cluster(tx, request.cluster_id)
        queues = clusters.waiting(tx) if request.include_cluster_occupancy else None
    return pb2.GetClusterResponse(cluster=_cluster(found, queues))


def list_clusters(backend: Backend, _who: Principal, request: Any) -> Any:
    """A page of the clusters that the configuration names."""
    page = Page.of(request, backend, {name: name for name in _CLUSTER_ORDER})
    with backend.database.read() as tx:
        organization = _organization(tx, page.options)
        found = page.take(clusters.clusters(tx, organization), _CLUSTER_ORDER[page.column])
        queues = clusters.waiting(tx) if page.options.include_cluster_occupancy else None
    return pb2.ListClustersResponse(
        clusters=[_cluster(each, queues) for each in found], next_page_token=page.next
    )


def get_node(backend: Backend, _who: Principal, request: Any) -> Any:
    """A node by id."""
    with backend.database.read() as tx:
        return pb2.GetNodeResponse(node=_node(backend, clusters.node(tx, request.node_id)))


def list_nodes(backend: Backend, who: Principal, request: Any) -> Any:
    """A page of the nodes that the configuration names, of a cluster, an organization, or all."""
    page = Page.of(request, backend, {name: name for name in _NODE_ORDER})
    conditions, values = ["NOT n.retired"], []
    with backend.database.read() as tx:
        organization = _organization(tx, page.options)
        if organization is not None:
            conditions.append("n.cluster_id IN (SELECT id FROM clusters WHERE organization_id = ?)")
            values.append(organization)
        if page.options.HasField("cluster_id"):
            conditions.append("n.cluster_id = ?")
            values.append(clusters.cluster(tx, page.options.cluster_id).id)
        user = page.options.sort_clause.recent_activity_for_user_id or who.user_id
        every = clusters.nodes(tx, " AND ".join(conditions), values, user)
    found = page.take(every, _NODE_ORDER[page.column])
    return pb2.ListNodesResponse(nodes=[_node(backend, each) for each in found], next_page_token=page.next)


def cordon_node(backend: Backend, who: Principal, request: Any) -> Any:
    """Let a node take no more jobs, or take them again; those that run there go on."""
    if request.desired_state not in (_CORDONED, _OPEN):
        raise invalid(f"desired_state: {request.desired_state} is none")
    with backend.database.write() as tx:
        node = clusters.node(tx, request.node_id)
        clusters.may_change(tx, who, node.row["cluster_id"], "CordonNode")
        when = backend.clock.now() if request.desired_state == _CORDONED else None
        clusters.cordon(tx, node.id, when, request.cordon_reason, who.user_id)
        found = _node(backend, clusters.node(tx, node.id))
    backend.jobs.changed()
    return pb2.CordonNodeResponse(node=found)


def create_cluster_alias(backend: Backend, who: Principal, request: Any) -> Any:
    """Another name for a cluster, unique among the names and aliases of its organization."""
    with backend.database.write() as tx:
        row = clusters.may_change(tx, who, request.cluster_id, "CreateClusterAlias")
        alias, aliases = check_name(request.alias), clusters.words(row, "aliases")
        taken = [each for each in clusters.clusters(tx, row["organization_id"]) if alias in _names(each)]
        if taken and taken[0].id != row["id"]:
            raise in_use("cluster", alias)
        if not taken:
            clusters.set_words(tx, row, "aliases", [*aliases, alias])
        found = clusters.cluster(tx, row["id"])
    return pb2.CreateClusterAliasResponse(cluster=_cluster(found))


def create_cluster_tag(backend: Backend, who: Principal, request: Any) -> Any:
    """A tag, ``key:value`` or a value alone; again, it changes nothing."""
    with backend.database.write() as tx:
        row = clusters.may_change(tx, who, request.cluster_id, "CreateClusterTag")
        tag, tags = _tag(request), clusters.words(row, "tags")
        if tag not in tags:
            clusters.set_words(tx, row, "tags", [*tags, tag])
    return pb2.CreateClusterTagResponse()


def delete_cluster_tag(backend: Backend, who: Principal, request: Any) -> Any:
    """Take a tag away."""
    with backend.database.write() as tx:
        row = clusters.may_change(tx, who, request.cluster_id, "DeleteClusterTag")
        tag, tags = _tag(request), clusters.words(row, "tags")
        if tag not in tags:
            raise not_found("tag", tag)
        clusters.set_words(tx, row, "tags", [each for each in tags if each != tag])
    return pb2.DeleteClusterTagResponse()


def _organization(tx: Transaction, options: Any) -> str | None:
    wanted = options.organization_id
    if not wanted:
        return None
    if tx.execute("SELECT 1 FROM organizations WHERE id = ?", (wanted,)).fetchone() is None:
        raise not_found("organization", wanted)
    return str(wanted)


def _names(cluster: Cluster) -> list[str]:
    return [cluster.row["name"], *clusters.words(cluster.row, "aliases")]


def _tag(request: Any) -> str:
    parts = [check_name(part) for part in (request.tag_key, request.tag_value) if part]
    if not parts:
        raise invalid("tag_value: is missing")
    return ":".join(parts)


def _cluster(cluster: Cluster, queues: Mapping[str, int] | None = None) -> Any:
    """A cluster as it is shown; what is occupied only with ``queues``, how many jobs wait by cluster."""
    row = cluster.row
    found = pb2.Cluster(
        id=row["id"],
        name=row["name"],
        organization_id=row["organization_id"],
        organization_name=row["organization"],
        on_premise_details={},
        node_count=len(cluster.nodes),
        expected_node_count=len(cluster.nodes),
        aliases=clusters.words(row, "aliases"),
        tags=clusters.words(row, "tags"),
    )
    found.created.FromNanoseconds(row["created"])
    if row["max_task_timeout"] is not None:
        found.max_task_timeout.FromNanoseconds(row["max_task_timeout"])
    if cluster.nodes:
        largest = max((node.row for node in cluster.nodes), key=lambda each: (each["gpus"], each["cpus"]))
        found.node_shape.cpu_count = largest["cpus"] // 1000
        found.node_shape.memory_bytes = largest["memory"]
        found.node_shape.gpu_count = largest["gpus"]
        if largest["gpu_type"] is not None:
            found.node_shape.gpu_type = largest["gpu_type"]
    if queues is not None:
        found.cluster_job_queue_size = queues.get(cluster.id, 0)
        _occupy(found.cluster_occupancy, cluster)
    return found


def _occupy(occupancy: Any, cluster: Cluster) -> None:
    occupancy.running_jobs_count = sum(node.jobs for node in cluster.nodes)
    occupancy.slot_counts.CopyFrom(_counts(cluster.slots))
    for node in cluster.nodes:
        occupancy.node_occupancies.add(
            node_id=node.id, running_jobs_count=node.jobs, slot_counts=_counts(node.slots)
        )


def _counts(slots: Slots) -> Any:
    return pb2.SlotCounts(
        total=slots.total,
        available=slots.available,
        occupied=slots.assigned,
        assigned=slots.assigned,
        cordoned=slots.cordoned,
    )


def _node(backend: Backend, node: Node) -> Any:
    row = node.row
    resources = pb2.NodeResources(
        cpu_count=row["cpus"] // 1000,
        memory_bytes=row["memory"],
        gpu_ids=[str(number) for number in range(row["gpus"])],
        gpu_type=row["gpu_type"],
    )
    total = node.slots.total or 1
    resources.slot_details.slot_count = node.slots.total
    resources.slot_details.gpu_count = 1 if row["gpus"] else 0
    resources.slot_details.cpu_count = row["cpus"] / 1000 / total
    resources.slot_details.memory_bytes = row["memory"] // total
    found = pb2.Node(
        id=row["id"], cluster_id=row["cluster_id"], hostname=row["hostname"], node_resources=resources
    )
    found.created.FromNanoseconds(row["created"])
    found.heartbeat.FromNanoseconds(backend.clock.now() if row["lost"] is None else row["lost"])
    if row["cordoned"] is not None:
        found.cordon_details.cordoned.FromNanoseconds(row["cordoned"])
        found.cordon_details.cordon_reason = row["cordon_reason"]
        found.cordon_details.cordon_agent_id = row["cordon_agent"]
    return found


METHODS: dict[str, Method] = {
    "ResolveClusterName": resolve_cluster_name,
    "GetCluster": get_cluster,
    "ListClusters": list_clusters,
    "GetNode": get_node,
    "ListNodes": list_nodes,
    "CordonNode": cordon_node,
    "CreateClusterAlias": create_cluster_alias,
    "CreateClusterTag": create_cluster_tag,
    "DeleteClusterTag": delete_cluster_tag,
}
