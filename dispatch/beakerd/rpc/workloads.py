"""Workloads: experiments as the API lists, cancels and restarts them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd.access import Principal, require
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import not_found
from dispatch.beakerd.rest.experiments import changes
from dispatch.beakerd.rpc.paging import SORT_ASCENDING, keyset, next_token, open_page
from dispatch.beakerd.rpc.server import Method
from dispatch.beakerd.rpc.specs import container_spec, nanoseconds, system_details
from dispatch.beakerd.spec import load_task
from dispatch.beakerd.store import workloads
from dispatch.beakerd.store.database import Transaction
from dispatch.beakerd.store.states import COMBINED, FINAL
from dispatch.beakerd.yamltext import yaml_text

_LIVE = "SELECT experiment_id FROM jobs WHERE finalized IS NULL"


def resolve_workload_name(backend: Backend, who: Principal, request: Any) -> Any:
    """The id behind ``author/name``."""
    with backend.database.read() as tx:
        found = workloads.resolve(tx, who, request.author_name, request.workload_name)
    return pb2.ResolveWorkloadNameResponse(workload_id=found)


def get_workload(backend: Backend, who: Principal, request: Any) -> Any:
    """One workload by its id."""
    with backend.database.read() as tx:
        return pb2.GetWorkloadResponse(workload=_one(tx, who, request.workload_id))


def list_workloads(backend: Backend, who: Principal, request: Any) -> Any:
    """A page of workloads, newest first unless asked otherwise."""
    options, place = open_page(request, backend.config.limits.page)
    descending = options.sort_clause.sort_order != SORT_ASCENDING
    with backend.database.read() as tx:
        condition, order, values = keyset("e.created", descending, place)
        conditions = [*_filters(tx, who, options), (condition, values)]
        rows = workloads.select(tx, conditions, order)
        page = rows[: place.size]
        response = pb2.ListWorkloadsResponse(workloads=_messages(tx, page))
    if len(rows) > place.size:
        response.next_page_token = next_token(options, page[-1]["created"], page[-1]["id"])
    return response


def update_workload(backend: Backend, who: Principal, request: Any) -> Any:
    """Change name and description, as far as they are given."""
    with backend.database.write() as tx:
        row = workloads.find(tx, who, request.workload_id)
        if request.HasField("name"):
            changes(backend).rename(tx, row, request.name)
        if request.HasField("description"):
            tx.execute(
                "UPDATE experiments SET description = ? WHERE id = ?", (request.description, row["id"])
            )
        return pb2.UpdateWorkloadResponse(workload=_one(tx, who, row["id"]))


def cancel_workloads(backend: Backend, who: Principal, request: Any) -> Any:
    """Give workloads up, all or none; return their ids."""
    running: list[str] = []
    ids = list(dict.fromkeys(request.workload_ids))
    with backend.database.write() as tx:
        name = tx.execute("SELECT name FROM users WHERE id = ?", (who.user_id,)).fetchone()["name"]
        for workload in ids:
            workloads.find(tx, who, workload)
            running += changes(backend).cancel(tx, workload, f"canceled by {name}")
    for job in running:
        backend.jobs.stop(job)
    backend.jobs.changed()
    return pb2.CancelWorkloadsResponse(workload_ids=ids)


def delete_workloads(backend: Backend, who: Principal, request: Any) -> Any:
    """Remove workloads of which nothing runs, all or none; the datasets of their results stay."""
    jobs: list[str] = []
    with backend.database.write() as tx:
        for workload in dict.fromkeys(request.workload_ids):
            workloads.find(tx, who, workload)
            jobs += changes(backend).delete(tx, workload)
    for job in jobs:
        shutil.rmtree(backend.layout.job(job), ignore_errors=True)
    backend.jobs.changed()
    return pb2.DeleteWorkloadsResponse()


def get_experiment_yaml_spec(backend: Backend, who: Principal, request: Any) -> Any:
    """The spec as it was sent, as YAML."""
    with backend.database.read() as tx:
        text = workloads.find(tx, who, request.experiment_id)["spec"]
    return pb2.GetExperimentYamlSpecResponse(experiment_spec=yaml_text(text))


def restart_experiment_tasks(backend: Backend, who: Principal, request: Any) -> Any:
    """Begin failed and canceled tasks again."""
    with backend.database.write() as tx:
        row = workloads.find(tx, who, request.experiment_id)
        changes(backend).restart(tx, row["id"])
        workload = _one(tx, who, row["id"])
    backend.jobs.changed()
    return pb2.RestartExperimentTasksResponse(workload=workload)


def _filters(tx: Transaction, who: Principal, options: Any) -> list[tuple[str, Sequence[Any]]]:
    found = [workloads.visible(who, options.organization_id or None)]
    if options.HasField("workspace_id"):
        known = tx.execute("SELECT 1 FROM workspaces WHERE id = ?", (options.workspace_id,)).fetchone()
        if known is None:
            raise not_found("workspace", options.workspace_id)
        require(tx, who, options.workspace_id, f"workspace {options.workspace_id!r}")
        found.append(("e.workspace_id = ?", (options.workspace_id,)))
    if options.HasField("author_id"):
        found.append(("e.author_id = ?", (options.author_id,)))
    if options.HasField("workload_type"):
        experiments = (pb2.WorkloadType.WORKLOAD_TYPE_EXPERIMENT, pb2.WorkloadType.WORKLOAD_TYPE_UNSPECIFIED)
        found.append(("1" if options.workload_type in experiments else "0", ()))
    if options.statuses:
        ranks = [COMBINED.index(status) for status in options.statuses if status in list(COMBINED)]
        found.append((f"rank IN ({', '.join('?' * len(ranks))})", ranks))
        if not set(options.statuses).intersection(FINAL):
            # Few of all are live, and these are found at once.
            found.append((f"e.id IN ({_LIVE})", ()))
    if options.HasField("job_finalized"):
        found.append((f"e.id {'NOT IN' if options.job_finalized else 'IN'} ({_LIVE})", ()))
    if options.HasField("name_or_description_substring") and options.name_or_description_substring:
        text = options.name_or_description_substring
        condition = "instr(lower(e.name), lower(?)) OR instr(lower(e.description), lower(?))"
        found.append((condition, (text, text)))
    if options.HasField("created_before"):
        found.append(("e.created < ?", (nanoseconds(options.created_before),)))
    if options.HasField("created_after"):
        found.append(("e.created > ?", (nanoseconds(options.created_after),)))
    return found


def _one(tx: Transaction, who: Principal, workload: str) -> Any:
    return _messages(tx, [workloads.find(tx, who, workload)])[0]


def _messages(tx: Transaction, rows: Sequence[Any]) -> list[Any]:
    tasks = workloads.tasks_of(tx, [row["id"] for row in rows])
    return [_workload(row, tasks[row["id"]]) for row in rows]


def _workload(row: Any, tasks: Sequence[Any]) -> Any:
    experiment = pb2.Experiment(
        id=row["id"],
        name=row["name"] or row["id"],
        author_id=row["author_id"],
        workspace_id=row["workspace_id"],
        description=row["description"],
        canceled_for=row["canceled_for"],
        tasks=[_task(task, row["author_id"]) for task in tasks],
    )
    experiment.created.FromNanoseconds(row["created"])
    if row["canceled"] is not None:
        experiment.canceled.FromNanoseconds(row["canceled"])
    status: Any = COMBINED[row["rank"]]
    return pb2.Workload(experiment=experiment, status=status, budget_id=row["budget_id"])


def _task(row: Any, author: str) -> Any:
    spec = load_task(row["spec"])
    task = pb2.Task(
        id=row["id"],
        experiment_id=row["experiment_id"],
        name=row["name"],
        author_id=author,
        container_spec=container_spec(spec),
        system_details=system_details(spec, spec.priority),
        status=row["status"],
    )
    task.created.FromNanoseconds(row["created"])
    return task


METHODS: dict[str, Method] = {
    "ResolveWorkloadName": resolve_workload_name,
    "GetWorkload": get_workload,
    "ListWorkloads": list_workloads,
    "UpdateWorkload": update_workload,
    "CancelWorkloads": cancel_workloads,
    "DeleteWorkloads": delete_workloads,
    "GetExperimentYamlSpec": get_experiment_yaml_spec,
    "RestartExperimentTasks": restart_experiment_tasks,
}
