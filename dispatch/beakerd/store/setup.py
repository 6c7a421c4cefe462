"""From the configuration to the tables: accounts, workspaces, clusters, nodes and budgets that it names.

Owns what happens to what is there already: ids stay, declared facts are renewed, clusters and nodes that are
no longer named are retired. Nothing of a user is ever removed here, and what clients have added (aliases,
tags, a cordon) stays beside what is declared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import ClusterConfig, Config, NodeConfig, UserConfig, WorkspaceConfig
from dispatch.beakerd.store.database import Transaction

ROLE_SCIENTIST, ROLE_ADMIN = 2, 4
PRIORITIES = {"low": 1, "normal": 2, "high": 3, "urgent": 4, "immediate": 5}
GIB = 1 << 30


@dataclass(frozen=True)
class Host:
    """What this machine has: cpus, bytes of memory, GPUs."""

    cpus: float
    memory: int
    gpus: int = 0


def after_all(tx: Transaction) -> int:
    """A time after everything that is recorded: ids made from it are later, though the clock was set back."""
    tables = ("datasets", "experiments", "images", "jobs", "job_events", "tokens", "users", "workspaces")
    newest = " UNION ALL ".join(f"SELECT max(created) FROM {table}" for table in tables)
    return max(row[0] or 0 for row in tx.execute(newest)) + 1_000_000


class Setup:
    """Writes a configuration into an open transaction. ``gpu_types`` are the API's numbers by name."""

    def __init__(self, clock: Clock, ids: Ids, host: Host, gpu_types: dict[str, int]):
        self._clock = clock
        self._ids = ids
        self._host = host
        self._gpu_types = gpu_types

    def apply(self, tx: Transaction, config: Config) -> None:
        """Make the tables say what the configuration says."""
        for name in config.organizations:
            self._organization(tx, name)
        tx.execute("UPDATE users SET origin = 'gone' WHERE origin = 'config'")
        for user in config.users:
            self._user(tx, user)
        tx.execute("UPDATE workspaces SET declared = 0")
        for workspace in config.workspaces:
            self._workspace(tx, workspace, config.users[0].name)
        tx.execute("UPDATE clusters SET retired = 1")
        tx.execute("UPDATE nodes SET retired = 1")
        for cluster in config.clusters:
            self._cluster(tx, cluster)

    def _user(self, tx: Transaction, user: UserConfig) -> None:
        """Make or renew a user, and its memberships; those that are no longer declared end."""
        role = ROLE_ADMIN if user.admin else ROLE_SCIENTIST
        tx.execute(
            "INSERT INTO users (id, name, created, email, role, origin) VALUES (?, ?, ?, ?, ?, 'config')"
            " ON CONFLICT (name) DO UPDATE SET role = excluded.role, origin = 'config'",
            (self._ids.new(), user.name, self._clock.now(), user.email, role),
        )
        (owner,) = tx.execute("SELECT id FROM users WHERE name = ?", (user.name,)).fetchone()
        tx.execute("DELETE FROM members WHERE user_id = ?", (owner,))
        for organization in user.organizations:
            tx.execute(
                "INSERT OR IGNORE INTO members (organization_id, user_id) VALUES (?, ?)",
                (self._organization(tx, organization), owner),
            )

    def _workspace(self, tx: Transaction, workspace: WorkspaceConfig, author: str) -> None:
        organization, _, name = workspace.name.partition("/")
        now = self._clock.now()
        tx.execute(
            "INSERT INTO workspaces (id, organization_id, author_id, name, description, budget_id,"
            " maximum_priority, created, modified, declared)"
            " SELECT ?, ?, u.id, ?, ?, ?, ?, ?, ?, 1 FROM users u WHERE u.name = ?"
            " ON CONFLICT (organization_id, name) DO UPDATE SET declared = 1,"
            " budget_id = excluded.budget_id, maximum_priority = excluded.maximum_priority,"
            " description = coalesce(nullif(excluded.description, ''), description)",
            (
                self._ids.new(),
                self._organization(tx, organization),
                name,
                workspace.description,
                self._budget(tx, workspace.budget),
                PRIORITIES[workspace.maximum_priority],
                now,
                now,
                author,
            ),
        )

    def _organization(self, tx: Transaction, name: str) -> str:
        tx.execute(
            "INSERT OR IGNORE INTO organizations (id, name, created) VALUES (?, ?, ?)",
            (self._ids.new(), name, self._clock.now()),
        )
        found: str = tx.execute("SELECT id FROM organizations WHERE name = ?", (name,)).fetchone()[0]
        return found

    def _budget(self, tx: Transaction, full_name: str) -> str:
        organization, _, name = full_name.partition("/")
        owner = self._organization(tx, organization)
        tx.execute(
            "INSERT OR IGNORE INTO budgets (id, organization_id, name, created) VALUES (?, ?, ?, ?)",
            (self._ids.new(), owner, name, self._clock.now()),
        )
        row = tx.execute(
            "SELECT id FROM budgets WHERE organization_id = ? AND name = ?", (owner, name)
        ).fetchone()
        return str(row[0])

    def _cluster(self, tx: Transaction, cluster: ClusterConfig) -> None:
        organization, _, name = cluster.name.partition("/")
        owner = self._organization(tx, organization)
        timeout = None if cluster.max_task_timeout is None else round(cluster.max_task_timeout * 1e9)
        tx.execute(
            "INSERT OR IGNORE INTO clusters (id, organization_id, name, created) VALUES (?, ?, ?, ?)",
            (self._ids.new(), owner, name, self._clock.now()),
        )
        row = tx.execute(
            "SELECT * FROM clusters WHERE organization_id = ? AND name = ?", (owner, name)
        ).fetchone()
        tx.execute(
            "UPDATE clusters SET retired = 0, max_task_timeout = ?, aliases = ?, declared_aliases = ?,"
            " tags = ?, declared_tags = ? WHERE id = ?",
            (
                timeout,
                _renewed(row["aliases"], row["declared_aliases"], cluster.aliases),
                json.dumps(cluster.aliases),
                _renewed(row["tags"], row["declared_tags"], cluster.tags),
                json.dumps(cluster.tags),
                row["id"],
            ),
        )
        for node in cluster.nodes:
            self._node(tx, row["id"], node)

    def _node(self, tx: Transaction, cluster_id: str, node: NodeConfig) -> None:
        cpus = self._host.cpus if node.cpus is None else node.cpus
        memory = self._host.memory if node.memory is None else node.memory
        now = self._clock.now()
        tx.execute(
            "INSERT INTO nodes (id, cluster_id, hostname, created, cpus, memory, gpus, gpu_type, slots,"
            " simulated, cordoned, cordon_reason) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (cluster_id, hostname) DO UPDATE SET retired = 0, cpus = excluded.cpus,"
            " memory = excluded.memory, gpus = excluded.gpus, gpu_type = excluded.gpu_type,"
            " slots = excluded.slots, simulated = excluded.simulated,"
            " cordoned = CASE WHEN cordon_agent = '' THEN"
            " CASE WHEN excluded.cordoned IS NULL THEN NULL ELSE coalesce(cordoned, excluded.cordoned) END"
            " ELSE cordoned END,"
            " cordon_reason = CASE WHEN cordon_agent = '' THEN excluded.cordon_reason ELSE cordon_reason END",
            (
                self._ids.new(),
                cluster_id,
                node.hostname,
                now,
                round(cpus * 1000),
                memory,
                node.gpus,
                self._gpu_types[node.gpu_type] if node.gpu_type else None,
                node.slots,
                self._simulated(cpus, memory, node.gpus),
                None if node.cordoned is None else now,
                node.cordoned or "",
            ),
        )

    def _simulated(self, cpus: float, memory: int, gpus: int) -> str:
        parts = []
        if cpus > self._host.cpus:
            parts.append(f"{cpus:g} cpus (this machine has {self._host.cpus:g})")
        if memory > self._host.memory:
            parts.append(f"{memory / GIB:.0f} GiB of memory (this machine has {self._host.memory / GIB:.0f})")
        if gpus > self._host.gpus:
            parts.append(f"{gpus} GPUs (this machine has {self._host.gpus})")
        return ", ".join(parts)


def _renewed(now: str, declared: str, given: Sequence[str]) -> str:
    """A JSON list: what is given, and what clients have added to what was declared before."""
    before = json.loads(declared)
    return json.dumps(
        [*given, *(word for word in json.loads(now) if word not in before and word not in given)]
    )
