"""Clusters and their nodes: what they have, and what is free of it now."""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch._beaker.account import Account
from dispatch._beaker.model import Cluster, Node
from dispatch._beaker.values import cluster_of, node_of


class Clusters:
    """The clusters that the account may see."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def get(self, name: str, *, occupancy: bool = False) -> Cluster:
        """Return a cluster by id or ``org/name``. BeakerNotFoundError."""
        return cluster_of(self._raw(name, occupancy=occupancy))

    def nodes(self, name: str) -> list[Node]:
        """Return a cluster's nodes, with their free slots."""
        raw = self._raw(name, occupancy=True)
        counts = raw.cluster_occupancy.node_occupancies
        free = {each.node_id: each.slot_counts.available for each in counts}
        account = self._account
        options = pb2.ListNodesRequest.Opts
        request = pb2.ListNodesRequest(
            options=options(organization_id=account.organization_id, cluster_id=raw.id, page_size=50)
        )
        found: list[Node] = []
        while True:
            page = account.rpc(f"nodes of {name}", "ListNodes", request)
            found += [node_of(each, free) for each in page.nodes]
            if not page.next_page_token:
                return found
            request.next_page_token = page.next_page_token

    def hostname(self, node_id: str) -> str:
        """Return the name of a node. BeakerNotFoundError."""
        request = pb2.GetNodeRequest(node_id=node_id)
        return str(self._account.rpc(f"node {node_id}", "GetNode", request).node.hostname)

    def _raw(self, name: str, *, occupancy: bool) -> Any:
        account = self._account
        cluster_id = account.call(f"cluster {name}", lambda: account.client.cluster.resolve_cluster_id(name))
        request = pb2.GetClusterRequest(cluster_id=cluster_id, include_cluster_occupancy=occupancy)
        return account.rpc(f"cluster {name}", "GetCluster", request).cluster
