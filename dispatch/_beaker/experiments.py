"""Experiments and their jobs: made, found, listed, followed, cancelled."""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

from collections.abc import Iterator, Sequence
from typing import Any

from beaker import beaker_pb2 as pb2
from beaker import exceptions as theirs
from beaker._service_client import RpcStreamingMethod

from dispatch._beaker.account import Account
from dispatch._beaker.calls import is_transient, translated
from dispatch._beaker.model import Experiment, Job, JobState, LogLine
from dispatch._beaker.problems import BeakerConflictError, BeakerNotFoundError, BeakerUnreachableError
from dispatch._beaker.spec import TaskSpec
from dispatch._beaker.values import experiment_of, job_of, made_id, state_of

_PAGE = 50


class Experiments:
    """The experiments of one workspace, as one account sees them. May be used from several threads."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client = account.client
        self._call = account.call

    def create(self, name: str, spec: TaskSpec) -> str:
        """Submit an experiment and return its id. BeakerConflictError where the name is taken."""
        account, body = self._account, spec.for_beaker().to_json()
        made = self._call(
            f"experiment {name}",
            lambda: self._client.experiment.http_request(
                f"workspaces/{account.workspace_id}/experiments",
                method="POST",
                query={"name": name},
                data=body,
                exceptions_for_status={409: theirs.BeakerExperimentConflict(name)},
            ).json(),
        )
        return made_id(f"experiment {name}", made)

    def get(self, experiment_id: str) -> Experiment:
        """Return an experiment by id or by ``author/name``. BeakerNotFoundError."""
        raw = self._call(f"experiment {experiment_id}", lambda: self._client.workload.get(experiment_id))
        return experiment_of(raw)

    def find(self, name: str) -> Experiment | None:
        """Return the experiment of a name in the workspace, whoever made it; our own first."""
        try:
            return self.get(f"{self._account.user_name}/{name}")
        except BeakerNotFoundError:
            found = [each for each in self.search(name) if each.name == name]
            return found[0] if found else None

    def search(
        self,
        text: str = "",
        *,
        finalized: bool | None = None,
        own: bool = False,
        created_after: float | None = None,
    ) -> list[Experiment]:
        """Return experiments whose name or description contains ``text``, newest first, 50 a request.

        With ``finalized`` False those with a job that is not finalized (or none yet), with True the others.
        """
        request = self._listing(text, own=own)
        if finalized is not None:
            request.options.job_finalized = finalized
        if created_after is not None:
            request.options.created_after.FromNanoseconds(int(created_after * 1e9))
        return [experiment_of(raw) for raw in self._workloads(text, request)]

    def jobs(self, task_id: str, limit: int | None = None) -> list[Job]:
        """Return a task's jobs, newest first."""
        options = pb2.ListJobsRequest.Opts
        request = pb2.ListJobsRequest(
            options=options(
                sort_clause=options.SortClause(sort_order=pb2.SortOrder.SORT_ORDER_DESCENDING, created={}),
                organization_id=self._account.organization_id,
                task_id=task_id,
                page_size=_PAGE if limit is None else min(_PAGE, limit),
            )
        )
        return self._pages(f"jobs of task {task_id}", request, limit)

    def unfinished_jobs(self) -> list[Job]:
        """Return the organisation's jobs that are not finalized, newest first, 50 a request."""
        options = pb2.ListJobsRequest.Opts
        request = pb2.ListJobsRequest(
            options=options(
                sort_clause=options.SortClause(sort_order=pb2.SortOrder.SORT_ORDER_DESCENDING, created={}),
                organization_id=self._account.organization_id,
                finalized=False,
                page_size=_PAGE,
            )
        )
        return self._pages("jobs", request, None)

    def job(self, job_id: str) -> Job:
        """Return a job. BeakerNotFoundError."""
        return job_of(self._call(f"job {job_id}", lambda: self._client.job.get(job_id)))

    def events(self, job_id: str) -> list[tuple[str, str]]:
        """Return what Beaker says of a job's progress, as (status, message), newest first."""
        options = pb2.ListSummarizedJobEventsRequest.Opts
        order = options.SortClause(sort_order=pb2.SortOrder.SORT_ORDER_DESCENDING, latest_occurrence={})
        request = pb2.ListSummarizedJobEventsRequest(
            options=options(sort_clause=order, job_id=job_id, page_size=20)
        )
        page = self._account.rpc(f"events of job {job_id}", "ListSummarizedJobEvents", request)
        return [(each.status, each.latest_message) for each in page.summarized_job_events]

    def logs(self, job_id: str, since: int = 0, *, follow: bool = False) -> Iterator[LogLine]:
        """Yield the lines of a job's log that are later than ``since`` (nanoseconds; 0: all).

        With ``follow`` until the job is finalized. BeakerUnreachableError where the line was cut: begin again
        with the time of the last line; BeakerNotFoundError.
        """
        request = pb2.StreamJobLogsRequest(job_id=job_id, follow=follow)
        if since:
            request.since.FromNanoseconds(since + 1)
        method: RpcStreamingMethod[Any] = RpcStreamingMethod(self._client.service.StreamJobLogs)
        what = f"log of job {job_id}"
        try:
            for line in method(request, None, self._client.user._rpc_call_metadata):
                yield LogLine(line.timestamp.ToNanoseconds(), line.message)
        except GeneratorExit:
            raise
        except Exception as error:
            if is_transient(error):
                raise BeakerUnreachableError(
                    f"{what}: the line was cut: {error}", "it is read again"
                ) from error
            raise translated(what, error) from error

    def unfinished(self, text: str) -> list[tuple[Experiment, JobState]]:
        """Return our own experiments of the workspace that have not ended, and how far they are.

        ``text`` is in their names or descriptions. 50 a request.
        """
        request = self._listing(text, own=True)
        request.options.job_finalized = False
        return [(experiment_of(raw), state_of(raw.status)) for raw in self._workloads(text, request)]

    def describe(self, experiment_id: str, description: str) -> None:
        """Set an experiment's description. BeakerNotFoundError once it is deleted."""
        request = pb2.UpdateWorkloadRequest(workload_id=experiment_id, description=description)
        self._account.rpc(f"experiment {experiment_id}", "UpdateWorkload", request)

    def cancel(self, experiment_ids: Sequence[str]) -> None:
        """Have experiments end; again is the same, and so is one that has ended or is gone."""
        for start in range(0, len(experiment_ids), _PAGE):
            ids = list(experiment_ids[start : start + _PAGE])
            try:
                self._account.rpc(
                    "experiments", "CancelWorkloads", pb2.CancelWorkloadsRequest(workload_ids=ids)
                )
            except (BeakerNotFoundError, BeakerConflictError):
                if len(ids) > 1:
                    for each in ids:
                        self.cancel([each])

    def delete(self, experiment_ids: Sequence[str]) -> None:
        """Remove experiments that have ended, with their jobs; their result datasets stay."""
        for each in experiment_ids:
            try:
                request = pb2.DeleteWorkloadsRequest(workload_ids=[each])
                self._account.rpc(f"experiment {each}", "DeleteWorkloads", request)
            except BeakerNotFoundError:
                continue

    def url(self, experiment_id: str) -> str:
        """Where a person looks at an experiment."""
        return f"{self._client.config.agent_address}/ex/{experiment_id}"

    def job_url(self, job_id: str) -> str:
        """Where a person looks at a job and its log."""
        return f"{self._client.config.agent_address}/job/{job_id}"

    def _listing(self, text: str, *, own: bool) -> Any:
        account, options = self._account, pb2.ListWorkloadsRequest.Opts
        return pb2.ListWorkloadsRequest(
            options=options(
                sort_clause=options.SortClause(sort_order=pb2.SortOrder.SORT_ORDER_DESCENDING, created={}),
                organization_id=account.organization_id,
                workspace_id=account.workspace_id,
                workload_type=pb2.WorkloadType.WORKLOAD_TYPE_EXPERIMENT,
                author_id=account.user_id if own else None,
                name_or_description_substring=text or None,
                page_size=_PAGE,
            )
        )

    def _workloads(self, text: str, request: Any) -> Iterator[Any]:
        while True:
            page = self._account.rpc(f"experiments {text}", "ListWorkloads", request)
            yield from (each for each in page.workloads if each.HasField("experiment"))
            if not page.next_page_token:
                return
            request.next_page_token = page.next_page_token

    def _pages(self, what: str, request: Any, limit: int | None) -> list[Job]:
        found: list[Job] = []
        while True:
            page = self._account.rpc(what, "ListJobs", request)
            found += [job_of(each) for each in page.jobs]
            if not page.next_page_token or (limit is not None and len(found) >= limit):
                return found if limit is None else found[:limit]
            request.next_page_token = page.next_page_token
