"""Experiments and their tasks: made whole, given up, begun again, renamed, removed, found.

Owns names and what happens to all jobs of an experiment together; a single job's state is
:mod:`dispatch.beakerd.store.lifecycle`'s. An experiment without a name goes by its id.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dispatch.beakerd.access import Principal, may_use, require
from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import NameScope
from dispatch.beakerd.problems import in_use, invalid, not_found
from dispatch.beakerd.spec import ExperimentSpec, dump_task, load_task
from dispatch.beakerd.store import dependencies
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.lifecycle import Lifecycle, NewJob
from dispatch.beakerd.store.states import COMBINED, Code, Status

NAME = re.compile(r"(?!-)(?=.*[^\W_])[\w.-]{1,255}")
# Rows of experiments with the number of their workload's status in COMBINED. The ranks are ours, no values.
_RANK = " ".join(f"WHEN {status.value} THEN {rank}" for rank, status in enumerate(COMBINED))
SELECT = (
    f"SELECT e.*, (SELECT min(CASE t.status {_RANK} END) FROM tasks t WHERE t.experiment_id = e.id) AS rank"
    " FROM experiments e"
)


@dataclass(frozen=True)
class NewExperiment:
    """What an experiment is made of; ``text`` is the spec as it was sent, ``spec`` has ids for names."""

    name: str
    author_id: str
    workspace_id: str
    text: str
    spec: ExperimentSpec


@dataclass(frozen=True)
class Workloads:
    """The changes; each takes an open write transaction."""

    clock: Clock
    ids: Ids
    lifecycle: Lifecycle
    scope: NameScope

    def create(self, tx: Transaction, new: NewExperiment) -> str:
        """Make an experiment, its tasks and their first jobs, and return its id.

        :raises Problem: CONFLICT, when the name is taken; INVALID, when it is none
        """
        experiment, now = self.ids.new(), self.clock.now()
        key = self._name_key(tx, new.name, new.author_id, new.workspace_id)
        tx.execute(
            "INSERT INTO experiments (id, name, name_key, author_id, workspace_id, budget_id, description,"
            " spec, created, allowed_retries) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                experiment,
                new.name,
                key,
                new.author_id,
                new.workspace_id,
                new.spec.budget,
                new.spec.description,
                new.text,
                now,
                new.spec.allowed_retries,
            ),
        )
        for position, task in enumerate(new.spec.tasks):
            row = (self.ids.new(), experiment, position, task.name, dump_task(task), Status.SUBMITTED, now)
            tx.execute(
                "INSERT INTO tasks (id, experiment_id, position, name, spec, status, created)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            self._begin(tx, row[0])
        return experiment

    def cancel(self, tx: Transaction, experiment: str, reason: str) -> list[str]:
        """Give an experiment up; return the jobs that run and are to be stopped. Again, it changes nothing.

        What has ended already stays as it is.
        """
        live = [row["id"] for row in live_jobs(tx, experiment)]
        if live:
            tx.execute(
                "UPDATE experiments SET canceled = ?, canceled_for = ? WHERE id = ? AND canceled IS NULL",
                (self.clock.now(), reason, experiment),
            )
        self.lifecycle.stop_all(tx, live, Code.MANUAL, reason)
        return [row["id"] for row in live_jobs(tx, experiment) if row["exited"] is None]

    def restart(self, tx: Transaction, experiment: str) -> list[str]:
        """Begin the failed and canceled tasks again, their retries with them; return their new jobs.

        :raises Problem: INVALID, as long as jobs of a canceled experiment have not ended
        """
        row = tx.execute("SELECT canceled FROM experiments WHERE id = ?", (experiment,)).fetchone()
        if row["canceled"] is not None and live_jobs(tx, experiment):
            raise invalid(f"experiment {experiment!r} is being canceled; its jobs have not ended yet")
        tasks = tx.execute(
            "SELECT id FROM tasks WHERE experiment_id = ? AND status IN (?, ?) ORDER BY position",
            (experiment, Status.FAILED, Status.CANCELED),
        ).fetchall()
        if tasks:
            tx.execute(
                "UPDATE experiments SET canceled = NULL, canceled_for = NULL WHERE id = ?", (experiment,)
            )
        for task in tasks:
            tx.execute("UPDATE tasks SET retries = 0 WHERE id = ?", (task["id"],))
        return [self._begin(tx, task["id"]) for task in tasks]

    def rename(self, tx: Transaction, row: Any, name: str) -> None:
        """Give an experiment another name.

        :raises Problem: CONFLICT, when the name is taken; INVALID, when it is none
        """
        if name != row["name"]:
            key = self._name_key(tx, name, row["author_id"], row["workspace_id"])
            tx.execute("UPDATE experiments SET name = ?, name_key = ? WHERE id = ?", (name, key, row["id"]))

    def delete(self, tx: Transaction, experiment: str) -> list[str]:
        """Remove an experiment, and return the ids of the jobs it had. What waits is canceled; results stay,
        but for the empty ones of jobs that never had a place.

        :raises Problem: INVALID, as long as one of its jobs runs
        """
        if self.cancel(tx, experiment, "the experiment is deleted") or live_jobs(tx, experiment):
            raise invalid(f"experiment {experiment!r} runs; cancel it first")
        jobs = tx.execute("SELECT id FROM jobs WHERE experiment_id = ?", (experiment,)).fetchall()
        tx.execute(
            "DELETE FROM datasets WHERE id IN"
            " (SELECT result_dataset_id FROM jobs WHERE experiment_id = ? AND node_id IS NULL)",
            (experiment,),
        )
        tx.execute("DELETE FROM experiments WHERE id = ?", (experiment,))
        return [str(row["id"]) for row in jobs]

    def _begin(self, tx: Transaction, task: str) -> str:
        """A task's first job: queued, or waiting for results."""
        row = tx.execute(
            "SELECT t.*, e.workspace_id, e.author_id FROM tasks t"
            " JOIN experiments e ON e.id = t.experiment_id WHERE t.id = ?",
            (task,),
        ).fetchone()
        spec, experiment = load_task(row["spec"]), row["experiment_id"]
        missing = dependencies.missing(tx, experiment, spec)
        if dependencies.parents(spec) and not missing:
            dependencies.fill_in(tx, experiment, task, spec)
        return self.lifecycle.queue(
            tx,
            NewJob(
                task_id=task,
                experiment_id=experiment,
                workspace_id=row["workspace_id"],
                author_id=row["author_id"],
                name=row["name"],
                priority=spec.priority,
                waits_for=missing,
            ),
        )

    def _name_key(self, tx: Transaction, name: str, author: str, workspace: str) -> str | None:
        if not name:
            return None
        if not NAME.fullmatch(name):
            raise invalid(
                f"name: {name[:300]!a} may have letters, digits, periods, dashes and underscores, 255 at"
                " most, and does not begin with a dash"
            )
        key = f"{author if self.scope is NameScope.AUTHOR else workspace}/{name}"
        if tx.execute("SELECT 1 FROM experiments WHERE name_key = ?", (key,)).fetchone():
            raise in_use("experiment", name)
        return key


def workspace(tx: Transaction, who: Principal, workspace_id: str) -> Any:
    """The row of a workspace that takes experiments of the caller.

    :raises Problem: NOT_FOUND, FORBIDDEN, or INVALID where it is archived
    """
    row = tx.execute("SELECT * FROM workspaces WHERE id = ?", (workspace_id,)).fetchone()
    if row is None:
        raise not_found("workspace", workspace_id)
    require(tx, who, workspace_id, f"workspace {workspace_id!r}")
    if row["archived"]:
        raise invalid(f"workspace {row['name']!r} is archived")
    return row


def find(tx: Transaction, who: Principal, experiment: str) -> Any:
    """An experiment by its id, with its rank.

    :raises Problem: NOT_FOUND, or FORBIDDEN to this caller
    """
    row = tx.execute(f"{SELECT} WHERE e.id = ?", (experiment,)).fetchone()
    if row is None:
        raise not_found("workload", experiment)
    require(tx, who, row["workspace_id"], f"workload {experiment!r}")
    return row


def resolve(tx: Transaction, who: Principal, author: str, name: str) -> str:
    """The id of an experiment by its author's name and its own; of several (in workspaces) the newest.

    :raises Problem: NOT_FOUND, also where the caller may not see it
    """
    rows = tx.execute(
        "SELECT e.id, e.workspace_id FROM experiments e JOIN users u ON u.id = e.author_id WHERE u.name = ?2"
        " AND ((e.name = ?1 AND e.name != '') OR (e.id = ?1 AND e.name = '')) ORDER BY e.created DESC",
        (name, author),
    )
    for row in rows.fetchall():
        if may_use(tx, who, row["workspace_id"]):
            return str(row["id"])
    raise not_found("workload", f"{author}/{name}")


def select(tx: Transaction, conditions: Iterable[tuple[str, Sequence[Any]]], order: str) -> list[Any]:
    """Experiments for which all conditions hold (SQL over ``e`` and ``rank``, and its values)."""
    parts = list(conditions)
    where = " AND ".join(f"({sql})" for sql, _ in parts) or "1"
    values = [value for _, each in parts for value in each]
    return tx.execute(f"{SELECT} WHERE {where} {order}", values).fetchall()


def tasks_of(tx: Transaction, experiments: Sequence[str]) -> dict[str, list[Any]]:
    """The tasks of experiments, in their order."""
    found: dict[str, list[Any]] = {experiment: [] for experiment in experiments}
    marks = ", ".join("?" * len(experiments))
    rows = tx.execute(
        f"SELECT * FROM tasks WHERE experiment_id IN ({marks}) ORDER BY experiment_id, position", experiments
    )
    for row in rows:
        found[row["experiment_id"]].append(row)
    return found


def live_jobs(tx: Transaction, experiment: str) -> list[Any]:
    """The jobs of an experiment that have not ended."""
    return tx.execute(
        "SELECT * FROM jobs WHERE experiment_id = ? AND finalized IS NULL ORDER BY created", (experiment,)
    ).fetchall()


def visible(
    who: Principal, organization: str | None = None, column: str = "e.workspace_id"
) -> tuple[str, Sequence[Any]]:
    """The condition that a caller may see a row by its workspace, within an organization if one is given."""
    return (
        f"{column} IN (SELECT w.id FROM workspaces w JOIN members m ON m.organization_id = w.organization_id"
        " WHERE m.user_id = ? AND (? IS NULL OR w.id = ?) AND (? IS NULL OR w.organization_id = ?))",
        (who.user_id, who.workspace_id, who.workspace_id, organization, organization),
    )
