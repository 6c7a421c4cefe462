"""Jobs: shown, listed, preempted, given another priority; and what was said of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from beaker import beaker_pb2 as pb2

from dispatch.beakerd.access import Principal
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import invalid, not_found
from dispatch.beakerd.rpc.paging import SORT_ASCENDING, keyset, next_token, open_page
from dispatch.beakerd.rpc.server import Method
from dispatch.beakerd.rpc.specs import container_spec, nanoseconds, system_details
from dispatch.beakerd.spec import dump_task, load_task
from dispatch.beakerd.store import jobs, workloads
from dispatch.beakerd.store.references import References
from dispatch.beakerd.store.states import PREEMPTED, RESUMED, Code

TIMES = ("created", "scheduled", "started", "exited", "failed", "finalized", "canceled", "ready")
# The times of a job at which its status changed, as one value: the latest.
_CHANGED = f"max({', '.join(f'coalesce({name}, 0)' for name in TIMES)})"


def get_job(backend: Backend, who: Principal, request: Any) -> Any:
    """One job by its id."""
    with backend.database.read() as tx:
        return pb2.GetJobResponse(job=_message(jobs.find(tx, who, request.job_id)))


def list_jobs(backend: Backend, who: Principal, request: Any) -> Any:
    """A page of jobs: by creation, newest first, or in the order of the queue, unless asked otherwise."""
    options, place = open_page(request, backend.config.limits.page)
    clause = options.sort_clause
    queue = clause.WhichOneof("sort_by") == "cluster_job_queue"
    descending = clause.sort_order != SORT_ASCENDING and not (queue and not clause.sort_order)
    column = "queue_place" if queue else "created"
    condition, order, values = keyset(column, descending, place)
    with backend.database.read() as tx:
        rows = jobs.select(tx, [*_filters(who, options), (condition, values)], order)
    page = rows[: place.size]
    response = pb2.ListJobsResponse(jobs=[_message(row) for row in page])
    if len(rows) > place.size:
        response.next_page_token = next_token(options, page[-1][column], page[-1]["id"])
    return response


def list_job_events(backend: Backend, who: Principal, request: Any) -> Any:
    """A page of what was said of a job, newest first unless asked otherwise."""
    options, place = open_page(request, backend.config.limits.page)
    query = keyset("created", options.sort_clause.sort_order != SORT_ASCENDING, place)
    with backend.database.read() as tx:
        jobs.find(tx, who, options.job_id)
        rows = jobs.events(tx, options.job_id, *query)
    response = pb2.ListJobEventsResponse()
    for row in rows[: place.size]:
        event = response.job_events.add(
            id=row["id"], job_id=row["job_id"], status=row["status"], message=row["message"]
        )
        event.created.FromNanoseconds(row["created"])
        event.occurred.FromNanoseconds(row["created"])
    if len(rows) > place.size:
        last = rows[place.size - 1]
        response.next_page_token = next_token(options, last["created"], last["id"])
    return response


def list_summarized_job_events(backend: Backend, who: Principal, request: Any) -> Any:
    """A page of what was said of a job, once for each status, the latest first unless asked otherwise."""
    options, place = open_page(request, backend.config.limits.page)
    query = keyset("latest", options.sort_clause.sort_order != SORT_ASCENDING, place)
    with backend.database.read() as tx:
        jobs.find(tx, who, options.job_id)
        rows = jobs.summarized(tx, options.job_id, *query)
    response = pb2.ListSummarizedJobEventsResponse()
    for row in rows[: place.size]:
        event = response.summarized_job_events.add(
            job_id=options.job_id,
            status=row["id"],
            occurrences=row["occurrences"],
            latest_message=row["message"],
        )
        event.earliest_occurrence.FromNanoseconds(row["earliest"])
        event.latest_occurrence.FromNanoseconds(row["latest"])
    if len(rows) > place.size:
        last = rows[place.size - 1]
        response.next_page_token = next_token(options, last["latest"], last["id"])
    return response


def preempt_job(backend: Backend, who: Principal, request: Any) -> Any:
    """Wish that a running job makes room; its task goes on as a new job, if it resumes at all."""
    code = request.canceled_code or Code.USER_PREEMPTION
    if code not in PREEMPTED:
        raise invalid(f"canceled_code: {code} is no preemption")
    return pb2.PreemptJobResponse(job=_stop(backend, who, request, Code(code), resume=False))


def reschedule_job(backend: Backend, who: Principal, request: Any) -> Any:
    """Wish that a running job goes on as a new one, elsewhere perhaps."""
    code = request.canceled_code or Code.SYSTEM_PREEMPTION
    if code not in RESUMED:
        raise invalid(f"canceled_code: a job that ends for {code} is not resumed")
    return pb2.RescheduleJobResponse(job=_stop(backend, who, request, Code(code), resume=True))


def update_job_source_priority(backend: Backend, who: Principal, request: Any) -> Any:
    """Give a job's task another priority, and with it its jobs that have not ended."""
    if request.priority not in pb2.JobPriority.values() or not request.priority:
        raise invalid(f"priority: {request.priority} is none")
    with backend.database.write() as tx:
        row = jobs.find(tx, who, request.job_id)
        References(
            tx, who, workloads.workspace(tx, who, row["workspace_id"]), backend.config.assume
        ).check_priority(request.priority, "priority")
        spec = replace(load_task(row["spec"]), priority=request.priority)
        tx.execute("UPDATE tasks SET spec = ? WHERE id = ?", (dump_task(spec), row["task_id"]))
        backend.lifecycle.prioritize(tx, row["task_id"], request.priority, request.reason)
        message = _message(jobs.find(tx, who, request.job_id))
    backend.jobs.changed()
    return pb2.UpdateJobSourcePriorityResponse(job=message)


def get_job_bind(backend: Backend, who: Principal, request: Any) -> Any:
    """Whether a job has a place."""
    with backend.database.read() as tx:
        row = jobs.find(tx, who, request.job_id)
    kind = pb2.JobBindStatus
    if row["node_id"] is not None:
        return pb2.GetJobBindResponse(job_bind_status=kind.JOB_BIND_STATUS_SUCCEEDED)
    failed = row["finalized"] is not None
    return pb2.GetJobBindResponse(
        job_bind_status=kind.JOB_BIND_STATUS_FAILED if failed else kind.JOB_BIND_STATUS_PENDING
    )


def _stop(backend: Backend, who: Principal, request: Any, code: Code, resume: bool) -> Any:
    with backend.database.write() as tx:
        row = jobs.find(tx, who, request.job_id)
        if row["finalized"] is not None or row["exited"] is not None:
            raise invalid(f"job {row['id']!r} has ended")
        if row["node_id"] is None:
            raise invalid(f"job {row['id']!r} waits for a place already")
        if resume and not load_task(row["spec"]).auto_resume:
            raise invalid(f"job {row['id']!r} is of a task that is not resumed (autoResume is false)")
        backend.lifecycle.stop(tx, row["id"], code, request.canceled_for or code.name.lower())
        # Others may stop with it; see propagatePreemption.
        running = [
            job["id"]
            for job in workloads.live_jobs(tx, row["experiment_id"])
            if job["canceled"] is not None and job["node_id"] is not None
        ]
        message = _message(jobs.find(tx, who, row["id"]))
    for job in running:
        backend.jobs.stop(job)
    backend.jobs.changed()
    return message


def _filters(who: Principal, options: Any) -> list[tuple[str, Sequence[Any]]]:
    found = [workloads.visible(who, options.organization_id or None, "workspace_id")]
    if options.WhichOneof("source") == "task_id":
        found.append(("task_id = ?", (options.task_id,)))
    elif options.WhichOneof("source") == "environment_id":
        raise not_found("environment", options.environment_id)
    for option, column in (("finalized", "finalized"), ("canceled", "canceled"), ("exited", "exited")):
        if options.HasField(option):
            found.append((f"{column} IS {'NOT ' if getattr(options, option) else ''}NULL", ()))
    if options.HasField("scheduled"):
        found.append((f"scheduled IS {'NOT ' if options.scheduled else ''}NULL", ()))
    for option, condition in (
        ("scheduled_on_node_id", "node_id = ?"),
        ("scheduled_on_cluster_id", "cluster_id = ?"),
        (
            "eligible_for_cluster_id",
            "json_array_length(spec, '$.clusters') = 0"
            " OR ? IN (SELECT value FROM json_each(spec, '$.clusters'))",
        ),
    ):
        if options.HasField(option):
            found.append((condition, (getattr(options, option),)))
    if options.retry_ancestors_of_non_scheduled_non_finalized_jobs:
        waiting = "SELECT retry_ancestor_id FROM jobs WHERE scheduled IS NULL AND finalized IS NULL"
        found.append((f"id IN ({waiting})", ()))
    return found + _moments(options)


def _moments(options: Any) -> list[tuple[str, Sequence[Any]]]:
    found: list[tuple[str, Sequence[Any]]] = []
    if options.HasField("running_at"):
        when = nanoseconds(options.running_at)
        found.append(("started <= ? AND (exited IS NULL OR exited > ?)", (when, when)))
    if options.HasField("status_changed_before"):
        found.append((f"{_CHANGED} < ?", (nanoseconds(options.status_changed_before),)))
    if options.HasField("status_changed_at_or_after"):
        found.append((f"{_CHANGED} >= ?", (nanoseconds(options.status_changed_at_or_after),)))
    return found


def _message(row: Any) -> Any:
    spec = load_task(row["spec"])
    job = pb2.Job(
        id=row["id"],
        task_id=row["task_id"],
        name=row["name"],
        author_id=row["author_id"],
        workspace_id=row["workspace_id"],
        status=_status(row),
        container_spec=container_spec(spec),
        system_details=system_details(spec, row["priority"]),
        assignment_details=_assignment(row, spec.resources.cpus, spec.resources.memory),
        workload_id=row["experiment_id"],
        workspace_reference=row["workspace"],
        author_reference=row["author"],
        retry_ancestor_id=row["retry_ancestor_id"],
        budget_id=row["budget_id"],
    )
    job.workload_created.FromNanoseconds(row["workload_created"])
    _measure(job, row["metrics"])
    return job


def _status(row: Any) -> Any:
    status = pb2.JobStatus(
        status=row["status"],
        exit_code=None if row["exit_code"] is None else row["exit_code"] & 0xFFFFFFFF,
        message=row["message"],
        canceled_for=row["canceled_for"],
        canceled_code=row["canceled_code"],
        failed_scheduling_message=row["waiting_for"],
    )
    for name in TIMES:
        if row[name] is not None:
            getattr(status, name).FromNanoseconds(row[name])
    return status


def _assignment(row: Any, cpus: float, memory: int) -> Any:
    """Where a job runs; what it may use is all of its node, where it asks for nothing less."""
    if row["node_id"] is None:
        return pb2.AssignmentDetails(result_dataset_id=row["result_dataset_id"])
    gpus = json.loads(row["gpus"])
    return pb2.AssignmentDetails(
        node_id=row["node_id"],
        resource_assignment=pb2.ResourceAssignment(
            cpu_count=cpus or row["node_cpus"] / 1000,
            memory_bytes=memory or row["node_memory"],
            gpus=gpus,
            assigned_slots_count=len(gpus) or 1,
        ),
        result_dataset_id=row["result_dataset_id"],
        occupied_slots_count=len(gpus) or 1,
    )


def _measure(job: Any, metrics: str | None) -> None:
    """Put a job's metrics into its message; what no Struct can hold is left out, and the job is not."""
    if metrics is None:
        return
    try:
        job.metrics.update(json.loads(metrics))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        job.ClearField("metrics")


METHODS: dict[str, Method] = {
    "GetJob": get_job,
    "ListJobs": list_jobs,
    "ListJobEvents": list_job_events,
    "ListSummarizedJobEvents": list_summarized_job_events,
    "PreemptJob": preempt_job,
    "RescheduleJob": reschedule_job,
    "UpdateJobSourcePriority": update_job_source_priority,
    "GetJobBind": get_job_bind,
}
