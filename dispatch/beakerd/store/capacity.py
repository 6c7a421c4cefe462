"""Whether a task can ever have a place: said when it is submitted, since it would wait for ever.

Owns the sentence. What is taken at the moment is the scheduler's matter.
"""

from __future__ import annotations

import json

from dispatch.beakerd.spec import TaskSpec
from dispatch.beakerd.store.database import Transaction
from dispatch.units import format_size


def shortfall(tx: Transaction, task: TaskSpec) -> str | None:
    """Say why no node, even an empty one, has room for a task; None where one has."""
    nodes = tx.execute(
        "SELECT n.cpus, n.memory, n.gpus FROM nodes n JOIN clusters c ON c.id = n.cluster_id"
        " WHERE NOT n.retired AND NOT c.retired"
        " AND (?1 = '[]' OR c.id IN (SELECT value FROM json_each(?1)))"
        " AND (?2 = '[]' OR n.hostname IN (SELECT value FROM json_each(?2)))",
        (json.dumps(task.clusters), json.dumps(task.hostnames)),
    ).fetchall()
    if not nodes:
        return "no node meets the constraints on clusters and hostnames"
    wanted = task.resources
    if any(
        node["cpus"] >= wanted.cpus * 1000 and node["memory"] >= wanted.memory and node["gpus"] >= wanted.gpus
        for node in nodes
    ):
        return None
    return (
        f"no node has {wanted.cpus:g} cpus, {format_size(wanted.memory)} of memory and {wanted.gpus} GPUs:"
        f" the largest have {max(node['cpus'] for node in nodes) / 1000:g},"
        f" {format_size(max(node['memory'] for node in nodes))} and {max(node['gpus'] for node in nodes)}"
    )
