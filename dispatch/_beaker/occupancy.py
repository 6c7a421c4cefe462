"""All clusters of an organisation at a look: what their nodes have, and what is free of it.

Owns the two questions that placement asks, each as one request for fifty answers. Refuses to wait for long:
who asks is placing steps, and may well ask again.
"""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from beaker import beaker_pb2 as pb2

from dispatch._beaker.model import Cluster, Node
from dispatch._beaker.values import cluster_of, node_of

if TYPE_CHECKING:
    from dispatch._beaker.account import Account

PATIENCE = 5.0


@dataclass(frozen=True)
class NodeSlots:
    """How many slots a node has, how many of them jobs can have now, and how many are closed to jobs."""

    total: int
    free: int
    cordoned: int


@dataclass(frozen=True)
class Look:
    """A cluster as it was seen, and the slots of its nodes by the nodes' ids."""

    cluster: Cluster
    slots: Mapping[str, NodeSlots]


class Occupancy:
    """Looks at clusters as one account sees them. ``patience`` is in seconds."""

    def __init__(self, account: Account, patience: float = PATIENCE) -> None:
        self._account = account
        self._patience = patience
        self._organizations: dict[str, str] = {}

    @property
    def organization(self) -> str:
        """The name of the organisation whose clusters are meant where a name tells none."""
        default: str | None = self._account.client.config.default_org
        return default or self._account.workspace_name.partition("/")[0]

    def clusters(self, organization: str) -> list[Look]:
        """Return the clusters of an organisation. BeakerNotFoundError."""
        client, call = self._account.client, self._account.call
        if organization not in self._organizations:
            found = call(
                f"organisation {organization}",
                lambda: client.organization.get(organization),
                self._patience,
            )
            self._organizations[organization] = found.id
        whole = pb2.Organization(id=self._organizations[organization])
        listed = call(
            f"clusters of {organization}",
            lambda: list(client.cluster.list(org=whole, include_cluster_occupancy=True)),
            self._patience,
        )
        return [
            Look(
                cluster_of(raw),
                {
                    each.node_id: NodeSlots(
                        each.slot_counts.total, each.slot_counts.available, each.slot_counts.cordoned
                    )
                    for each in raw.cluster_occupancy.node_occupancies
                },
            )
            for raw in listed
        ]

    def nodes(self, cluster: Cluster) -> list[Node]:
        """Return the nodes of a cluster that was looked at."""
        client = self._account.client
        whole = pb2.Organization(id=self._organizations[cluster.name.partition("/")[0]])
        listed = self._account.call(
            f"nodes of {cluster.name}",
            lambda: list(client.node.list(org=whole, cluster=pb2.Cluster(id=cluster.id))),
            self._patience,
        )
        return [node_of(raw, {}) for raw in listed]
