"""Tasks that wait for the results of other tasks of their experiment.

Owns who waits for whom, and where a result is once it is there. Whether a task may go on is
:mod:`dispatch.beakerd.store.lifecycle`'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dispatch.beakerd.spec import TaskSpec, dump_task, load_task
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.states import Status


@dataclass(frozen=True)
class Waiting:
    """A job that waits for results."""

    job: str
    task_id: str
    spec: TaskSpec


def parents(spec: TaskSpec) -> list[str]:
    """The names of the tasks whose results a task mounts."""
    return list(dict.fromkeys(mount.result for mount in spec.mounts if mount.result is not None))


def missing(tx: Transaction, experiment: str, spec: TaskSpec) -> list[str]:
    """The names of those whose results are not there yet."""
    there = _results(tx, experiment) if parents(spec) else {}
    return [name for name in parents(spec) if name not in there]


def fill_in(tx: Transaction, experiment: str, task_id: str, spec: TaskSpec) -> None:
    """Write the datasets of the results into a task's mounts; all of them are there."""
    there = _results(tx, experiment)
    mounts = tuple(
        mount if mount.result is None else replace(mount, beaker=there[mount.result]) for mount in spec.mounts
    )
    tx.execute("UPDATE tasks SET spec = ? WHERE id = ?", (dump_task(replace(spec, mounts=mounts)), task_id))


def waiting(tx: Transaction, experiment: str) -> list[Waiting]:
    """The jobs of an experiment that wait for results."""
    rows = tx.execute(
        "SELECT j.id, j.task_id, t.spec FROM jobs j JOIN tasks t ON t.id = j.task_id"
        " WHERE j.experiment_id = ? AND j.status = ? ORDER BY t.position",
        (experiment, Status.SUBMITTED),
    )
    return [Waiting(row["id"], row["task_id"], load_task(row["spec"])) for row in rows.fetchall()]


def behind(name: str, rest: Iterable[Waiting]) -> list[Waiting]:
    """Those who wait for a task's result, and those who wait for theirs in turn."""
    found: list[Waiting] = []
    rest, names = list(rest), {name}
    while True:
        more = [each for each in rest if names.intersection(parents(each.spec))]
        if not more:
            return found
        found += more
        rest = [each for each in rest if each not in more]
        names = {each.spec.name for each in more}


def _results(tx: Transaction, experiment: str) -> dict[str, str]:
    """The result datasets of the tasks that have succeeded, by the tasks' names."""
    rows = tx.execute(
        "SELECT t.name, j.result_dataset_id FROM tasks t JOIN jobs j ON j.task_id = t.id AND j.status = ?2"
        " WHERE t.experiment_id = ?1 AND t.status = ?2 AND t.name != '' ORDER BY j.created",
        (experiment, Status.SUCCEEDED),
    )
    return {row["name"]: row["result_dataset_id"] for row in rows.fetchall()}
