"""Jobs and their events, with the real client; scheduler and runner are the test's hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timezone
from typing import Any

import pytest
from beaker import (
    BeakerCancelationCode,
    BeakerExperimentSpec,
    BeakerJobPriority,
    BeakerTaskSpec,
    BeakerWorkloadStatus,
)
from beaker import beaker_pb2 as pb2
from beaker._service_client import RpcMethod
from beaker.exceptions import BeakerClientError, BeakerJobNotFound, BeakerNotFoundError
from beaker.types import BeakerSortOrder
from google.protobuf.json_format import MessageToDict

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.config import Assumptions, ClusterConfig, Config, NodeConfig, WorkspaceConfig
from dispatch.beakerd.store.states import Code
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_jobs import Hand

SECOND = 1_000_000_000
GIB = 1 << 30
CONFIG = Config(
    workspaces=(
        WorkspaceConfig("ai2/my-workspace", "ai2/default", maximum_priority="high"),
        WorkspaceConfig("ai2/second", "ai2/default"),
    ),
    clusters=(
        ClusterConfig("ai2/one", (NodeConfig("n1", cpus=4, memory=8 * GIB, gpus=2, gpu_type="NVIDIA_H100"),)),
        ClusterConfig("ai2/two", (NodeConfig("n2"),)),
    ),
)


def call(client: Any, method: str, request: Any) -> Any:
    """A method that the client does not wrap."""
    return client.job.rpc_request(RpcMethod(getattr(client.service, method)), request)


def create(client: Any, **more: Any) -> tuple[Any, Any]:
    """An experiment of one task, and its job."""
    made = client.experiment.create(spec=BeakerExperimentSpec.new(docker_image="busybox", **more))
    return made, client.workload.get_latest_job(made)


def times(job: Any) -> set[str]:
    """The times that a job has."""
    return {field.name for field, _ in job.status.ListFields() if field.message_type is not None}


def test_a_job_is_shown_at_every_stage(beaker: LocalBeaker) -> None:
    """Each time is there from when it is one; results and place from when the job has them."""
    hand = Hand(beaker)
    with beaker.client() as client:
        made, job = create(client)
        assert (job.status.status, times(job)) == (BeakerWorkloadStatus.queued, {"created"})
        assert not job.assignment_details.HasField("result_dataset_id")
        assert client.job.get_results(job) is None
        hand.assign(job.id)
        job = client.job.get(job.id)
        seen = {"created", "scheduled"}
        assert (job.status.status, times(job)) == (BeakerWorkloadStatus.initializing, seen)
        assert job.assignment_details.node_id == hand.one("SELECT id FROM nodes")
        assert not client.job.get_results(job).HasField("committed")
        hand.start(job.id)
        job = client.job.get(job.id)
        seen |= {"started", "ready"}
        assert (job.status.status, times(job)) == (BeakerWorkloadStatus.running, seen)
        hand.exit(job.id, 3)
        job = client.job.get(job.id)
        seen |= {"exited"}
        assert (job.status.status, times(job)) == (BeakerWorkloadStatus.uploading_results, seen)
        assert (job.status.exit_code, job.status.HasField("finalized")) == (3, False)
        hand.finalize(job.id)
        job = client.job.get(job.id)
        seen |= {"failed", "finalized"}
        assert (job.status.status, times(job)) == (BeakerWorkloadStatus.failed, seen)
        assert client.job.get_results(job).HasField("committed")
        assert client.workload.get_results(made).id == job.assignment_details.result_dataset_id
        assert client.workload.get(made.experiment.id).status == BeakerWorkloadStatus.failed


def test_a_job_says_all_of_its_task(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """Container, placement, assignment, and whose it is."""
    beaker = beaker_of(CONFIG)
    hand = Hand(beaker)
    hand.secret("token")
    data = hand.dataset("data")
    task = BeakerTaskSpec.new(
        "train",
        docker_image="busybox:1",
        cluster="ai2/one",
        result_path="/results",
        priority="high",
        min_runtime="1h",
        auto_resume=False,
        timeout="2h",
        command=["sh"],
        arguments=["-c", "true"],
        constraints={"hostname": ["n1"]},
        host_networking=True,
        propagate_failure=True,
    )
    task = task.with_resources(cpu_count=1.5, gpu_count=1, memory="2GiB", shared_memory="1GiB")
    task = task.with_env_var("A", value="1").with_env_var("T", secret="token").with_env_var("E")
    task = task.with_dataset("/data", beaker="data", sub_path="x").with_dataset("/key", secret="token")
    with beaker.client() as client:
        made = client.experiment.create(name="trial", spec=BeakerExperimentSpec(tasks=[task]))
        job = client.workload.get_latest_job(made)
        hand.assign(job.id, gpus=("0",))
        job = client.job.get(job.id)
        assert (job.name, job.task_id) == ("train", made.experiment.tasks[0].id)
        assert (job.workload_id, job.workspace_id) == (made.experiment.id, hand.workspace())
        assert (job.author_reference, job.workspace_reference) == ("me", "ai2/my-workspace")
        assert (job.budget_id, job.author_id) == (made.budget_id, made.experiment.author_id)
        assert job.workload_created == made.experiment.created
        assert MessageToDict(job.container_spec) == {
            "resourceRequest": {
                "cpuCount": 1.5,
                "gpuCount": 1,
                "memoryBytes": str(2 * GIB),
                "sharedMemoryBytes": str(GIB),
            },
            "dockerReference": "busybox:1",
            "command": ["sh"],
            "arguments": ["-c", "true"],
            "environmentVariables": [
                {"name": "A", "literal": "1"},
                {"name": "T", "secretReference": "token"},
                {"name": "E", "literal": ""},
            ],
            "mounts": [
                {"mountPath": "/data", "subPath": "x", "datasetId": data, "mode": "MOUNT_MODE_READ_ONLY"},
                {"mountPath": "/key", "secretReference": "token", "mode": "MOUNT_MODE_READ_ONLY"},
            ],
            "resultPath": "/results",
            "hostNetworking": True,
        }
        assert job.container_spec == made.experiment.tasks[0].container_spec
        cluster = hand.one("SELECT id FROM clusters WHERE name = 'one'")
        assert MessageToDict(job.system_details) == {
            "priority": "JOB_PRIORITY_HIGH",
            "timeout": "7200s",
            "minRuntime": "3600s",
            "placementConstraints": [
                {"type": "JOB_PLACEMENT_CONSTRAINT_TYPE_CLUSTER", "values": [cluster]},
                {"type": "JOB_PLACEMENT_CONSTRAINT_TYPE_HOSTNAME", "values": ["n1"]},
            ],
            "propagateFailure": True,
        }
        assert list(job.assignment_details.resource_assignment.gpus) == ["0"]
        assert job.assignment_details.resource_assignment.cpu_count == 1.5


def test_a_task_that_asks_for_nothing_may_use_its_node(
    beaker_of: Callable[[Config], LocalBeaker],
) -> None:
    """What is shown as assigned is what is there."""
    beaker = beaker_of(CONFIG)
    hand = Hand(beaker)
    with beaker.client() as client:
        _, job = create(client)
        assert job.container_spec.resource_request.shared_memory_bytes == 5 * GIB
        hand.assign(job.id)
        got = client.job.get(job.id).assignment_details.resource_assignment
        assert (got.cpu_count, got.memory_bytes) == (4.0, 8 * GIB)


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        ('{"loss": 0.5, "steps": 3, "deep": {"a": [1, null, "x"]}}', True),
        ("{}", False),
        ("[1]", False),
        ("not JSON", False),
        ('{"a": ' + "9" * 400 + "}", False),
        ('{"a": "\\ud800"}', False),
    ],
)
def test_metrics_are_shown_where_they_can_be(beaker: LocalBeaker, metrics: str, shown: bool) -> None:
    """What is no object, or fits into no message, is left out; the job is shown all the same."""
    hand = Hand(beaker)
    with beaker.client() as client:
        _, job = create(client)
        hand.begin(job.id)
        hand.exit(job.id)
        hand.finalize(job.id, metrics=metrics)
        got = client.job.get(job.id)
        assert got.status.status == BeakerWorkloadStatus.succeeded
        assert MessageToDict(got.metrics) == (
            {"loss": 0.5, "steps": 3.0, "deep": {"a": [1.0, None, "x"]}} if shown else {}
        )


def test_an_unknown_job_is_not_found(beaker: LocalBeaker) -> None:
    """By every method that takes one."""
    Hand(beaker)
    with beaker.client() as client:
        with pytest.raises(BeakerJobNotFound):
            client.job.get("none")
        for method, request in (
            ("PreemptJob", pb2.PreemptJobRequest(job_id="none")),
            ("RescheduleJob", pb2.RescheduleJobRequest(job_id="none")),
            ("GetJobBind", pb2.GetJobBindRequest(job_id="none")),
            (
                "UpdateJobSourcePriority",
                pb2.UpdateJobSourcePriorityRequest(job_id="none", priority="JOB_PRIORITY_LOW"),
            ),
        ):
            with pytest.raises(BeakerNotFoundError):
                call(client, method, request)
        with pytest.raises(BeakerNotFoundError):
            list(client.job.list_summarized_events(pb2.Job(id="none")))
        with pytest.raises(BeakerNotFoundError):
            list(client.job.list(environment=pb2.Environment(id="none")))


def test_what_was_said_of_a_job(beaker: LocalBeaker) -> None:
    """Once for each status, with the last message, the latest first; or every single one."""
    hand = Hand(beaker)
    with beaker.client() as client:
        _, job = create(client)
        for reason in ("no room", "no room", "no GPU"):
            with hand.backend.database.write() as tx:
                hand.backend.lifecycle.waits_for(tx, job.id, reason)
        assert client.job.get(job.id).status.failed_scheduling_message == "no GPU"
        hand.run(job.id)
        events = list(client.job.list_summarized_events(job))
        said = [(event.status, event.occurrences, event.latest_message) for event in events]
        assert said == [
            ("succeeded", 1, ""),
            ("exited", 1, "exit code 0"),
            ("started", 1, "the container runs"),
            ("scheduled", 1, "assigned to a node"),
            ("waiting", 2, "no GPU"),
            ("queued", 1, "waiting to be scheduled"),
        ]
        assert events[4].earliest_occurrence.ToNanoseconds() < events[4].latest_occurrence.ToNanoseconds()
        up = list(client.job.list_summarized_events(job, sort_order=BeakerSortOrder.ascending))
        assert up == events[::-1]
        assert list(client.job.list_summarized_events(job, limit=2)) == events[:2]
        options = pb2.ListJobEventsRequest.Opts(job_id=job.id, page_size=3)
        page = call(client, "ListJobEvents", pb2.ListJobEventsRequest(options=options))
        rest = call(client, "ListJobEvents", pb2.ListJobEventsRequest(next_page_token=page.next_page_token))
        third = call(client, "ListJobEvents", pb2.ListJobEventsRequest(next_page_token=rest.next_page_token))
        statuses = [event.status for answer in (page, rest, third) for event in answer.job_events]
        assert statuses == ["succeeded", "exited", "started", "scheduled", "waiting", "waiting", "queued"]
        assert not third.next_page_token


def test_a_retry_is_another_job_of_the_task(beaker: LocalBeaker) -> None:
    """The latest job of a task is the one that counts, and it names the first."""
    hand = Hand(beaker)
    with beaker.client() as client:
        task = BeakerTaskSpec.new("main", docker_image="busybox")
        made = client.experiment.create(spec=BeakerExperimentSpec(tasks=[task]).with_retries(1))
        first = client.workload.get_latest_job(made)
        hand.run(first.id, 1)
        second = client.workload.get_latest_job(made)
        assert second.retry_ancestor_id == first.id
        assert client.workload.get(made.experiment.id).status == BeakerWorkloadStatus.queued
        assert client.workload.get_latest_job(made, finalized=True).id == first.id
        waiting = pb2.ListJobsRequest.Opts(retry_ancestors_of_non_scheduled_non_finalized_jobs=True)
        answer = call(client, "ListJobs", pb2.ListJobsRequest(options=waiting))
        assert [job.id for job in answer.jobs] == [first.id]
        hand.run(second.id)
        assert client.workload.get(made.experiment.id).status == BeakerWorkloadStatus.succeeded


def test_a_job_is_preempted(beaker: LocalBeaker) -> None:
    """A user's preemption: the job stops, and its task goes on as a new job."""
    hand = Hand(beaker)
    with beaker.client() as client:
        made, job = create(client)
        with pytest.raises(BeakerClientError, match="waits for a place already"):
            call(client, "PreemptJob", pb2.PreemptJobRequest(job_id=job.id))
        hand.begin(job.id)
        request = pb2.PreemptJobRequest(job_id=job.id, canceled_for="make room")
        got = call(client, "PreemptJob", request).job
        assert (got.status.status, got.status.canceled_for) == (BeakerWorkloadStatus.stopping, "make room")
        assert got.status.canceled_code == BeakerCancelationCode.user_preemption
        assert hand.told.stopped == [job.id]
        call(client, "PreemptJob", request)
        hand.end(job.id, 143)
        assert client.job.get(job.id).status.status == BeakerWorkloadStatus.canceled
        new = client.workload.get_latest_job(made)
        assert (new.id != job.id, new.status.status) == (True, BeakerWorkloadStatus.queued)
        assert not new.HasField("retry_ancestor_id")
        with pytest.raises(BeakerClientError, match="has ended"):
            call(client, "PreemptJob", request)
        with pytest.raises(BeakerClientError, match="is no preemption"):
            call(
                client,
                "PreemptJob",
                pb2.PreemptJobRequest(job_id=new.id, canceled_code="CANCELATION_CODE_MANUAL"),
            )


def test_a_job_is_rescheduled_if_it_is_resumed(beaker: LocalBeaker) -> None:
    """As by the system; a task that does not resume is left alone."""
    hand = Hand(beaker)
    with beaker.client() as client:
        _, job = create(client)
        _, other = create(client, auto_resume=False)
        for each in (job, other):
            hand.begin(each.id)
        got = call(client, "RescheduleJob", pb2.RescheduleJobRequest(job_id=job.id)).job
        assert got.status.canceled_code == BeakerCancelationCode.system_preemption
        with pytest.raises(BeakerClientError, match="not resumed"):
            call(client, "RescheduleJob", pb2.RescheduleJobRequest(job_id=other.id))
        assert client.job.get(other.id).status.status == BeakerWorkloadStatus.running


def test_a_preemption_may_take_the_other_tasks_along(beaker: LocalBeaker) -> None:
    """All that stop are told to."""
    hand = Hand(beaker)
    tasks = [
        BeakerTaskSpec.new(name, docker_image="busybox", propagate_preemption=True) for name in ("a", "b")
    ]
    with beaker.client() as client:
        made = client.experiment.create(spec=BeakerExperimentSpec(tasks=tasks))
        jobs = [client.workload.get_latest_job(made, task=task).id for task in made.experiment.tasks]
        for job in jobs:
            hand.begin(job)
        call(client, "PreemptJob", pb2.PreemptJobRequest(job_id=jobs[0]))
        assert sorted(hand.told.stopped) == sorted(jobs)
        assert client.job.get(jobs[1]).status.canceled_code == BeakerCancelationCode.sibling_task_preemption


def test_a_priority_is_changed(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """Of the task, its job that waits, and all that follow; within what the workspace allows."""
    beaker = beaker_of(CONFIG)
    hand = Hand(beaker)
    with beaker.client() as client:
        made, job = create(client, priority="low")
        request = pb2.UpdateJobSourcePriorityRequest(
            job_id=job.id, priority="JOB_PRIORITY_HIGH", reason="a deadline"
        )
        got = call(client, "UpdateJobSourcePriority", request).job
        assert got.system_details.priority == BeakerJobPriority.high
        (task,) = client.workload.get(made.experiment.id).experiment.tasks
        assert task.system_details.priority == BeakerJobPriority.high
        assert hand.one("SELECT priority FROM jobs WHERE id = ?", job.id) == 3
        assert "a deadline" in [event.latest_message for event in client.job.list_summarized_events(job)]
        beyond: list[Any] = [0, 4, 77]
        for priority in beyond:
            request = pb2.UpdateJobSourcePriorityRequest(job_id=job.id, priority=priority)
            with pytest.raises(BeakerClientError, match="priority"):
                call(client, "UpdateJobSourcePriority", request)


def test_whether_a_job_has_a_place(beaker: LocalBeaker) -> None:
    """Pending, had one, never had one."""
    hand = Hand(beaker)
    with beaker.client() as client:

        def bound(job: Any) -> str:
            answer = call(client, "GetJobBind", pb2.GetJobBindRequest(job_id=job.id))
            return str(pb2.JobBindStatus.Name(answer.job_bind_status)).removeprefix("JOB_BIND_STATUS_")

        (_, placed), (made, never) = create(client), create(client)
        assert bound(placed) == "PENDING"
        hand.begin(placed.id)
        list(client.workload.cancel(made))
        assert (bound(placed), bound(never)) == ("SUCCEEDED", "FAILED")


@pytest.fixture
def stages(beaker_of: Callable[[Config], LocalBeaker]) -> tuple[LocalBeaker, dict[str, str]]:
    """Jobs at several stages, by the name of their stage."""
    beaker = beaker_of(CONFIG)
    hand = Hand(beaker)
    jobs = {}
    with beaker.client() as client:
        for name, more in (
            ("waits-low", {"priority": "low", "cluster": "ai2/two"}),
            ("waits-high", {"priority": "high", "cluster": ["ai2/one", "ai2/two"]}),
            ("waits", {"priority": "low"}),
            ("runs", {}),
            ("uploads", {}),
            ("ended", {}),
            ("canceled", {}),
        ):
            made, job = create(client, **more)
            jobs[name] = job.id
            if name in ("runs", "uploads", "ended"):
                hand.begin(job.id)
            if name in ("uploads", "ended"):
                hand.exit(job.id)
            if name == "ended":
                hand.finalize(job.id)
            if name == "canceled":
                list(client.workload.cancel(made))
    return beaker, jobs


NEWEST = ["canceled", "ended", "uploads", "runs", "waits", "waits-high", "waits-low"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, NEWEST),
        ({"page_size": 3}, NEWEST),
        ({"finalized": True}, ["canceled", "ended"]),
        ({"finalized": False, "scheduled": True}, ["uploads", "runs"]),
        ({"scheduled": False}, ["canceled", "waits", "waits-high", "waits-low"]),
        ({"canceled": True}, ["canceled"]),
        ({"canceled": False, "exited": True}, ["ended", "uploads"]),
        ({"exited": False, "finalized": False}, ["runs", "waits", "waits-high", "waits-low"]),
        ({"organization_id": "none"}, []),
        (
            {"sort_clause": {"sort_order": 2, "created": {}}, "finalized": False},
            ["waits-low", "waits-high", "waits", "runs", "uploads"],
        ),
        (
            {"sort_clause": {"cluster_job_queue": {}}, "scheduled": False, "finalized": False},
            ["waits-high", "waits-low", "waits"],
        ),
        (
            {
                "sort_clause": {"sort_order": 1, "cluster_job_queue": {}},
                "scheduled": False,
                "finalized": False,
                "page_size": 1,
            },
            ["waits", "waits-low", "waits-high"],
        ),
    ],
)
def test_jobs_are_filtered(
    stages: tuple[LocalBeaker, dict[str, str]], options: dict[str, Any], names: list[str]
) -> None:
    """By each option, page after page."""
    beaker, jobs = stages
    with beaker.client() as client:
        request = pb2.ListJobsRequest(options=pb2.ListJobsRequest.Opts(**options))
        found = []
        while True:
            answer = call(client, "ListJobs", request)
            found += [job.id for job in answer.jobs]
            if not answer.next_page_token:
                break
            request = pb2.ListJobsRequest(next_page_token=answer.next_page_token)
        assert found == [jobs[name] for name in names]


def test_jobs_are_filtered_by_the_client(stages: tuple[LocalBeaker, dict[str, str]]) -> None:
    """By place, and by what a job may run on."""
    beaker, jobs = stages
    hand = beaker.server.backend
    assert hand is not None
    with beaker.client() as client, hand.database.read() as tx:
        one, two = (
            pb2.Cluster(id=tx.execute("SELECT id FROM clusters WHERE name = ?", (name,)).fetchone()[0])
            for name in ("one", "two")
        )
        node = pb2.Node(id=tx.execute("SELECT id FROM nodes WHERE hostname = 'n1'").fetchone()[0])
        placed = [jobs[name] for name in ("ended", "uploads", "runs")]
        assert [job.id for job in client.job.list(scheduled_on_node=node)] == placed
        assert [job.id for job in client.job.list(scheduled_on_cluster=one)] == placed
        assert list(client.job.list(scheduled_on_cluster=two)) == []
        queue = [
            [
                job.id
                for job in client.job.list(
                    elegible_for_cluster=cluster,
                    finalized=False,
                    scheduled=False,
                    sort_field="cluster_job_queue",
                    sort_order=BeakerSortOrder.ascending,
                )
            ]
            for cluster in (one, two)
        ]
        assert queue == [
            [jobs["waits-high"], jobs["waits"]],
            [jobs["waits-high"], jobs["waits-low"], jobs["waits"]],
        ]


def test_jobs_are_filtered_by_moments(stages: tuple[LocalBeaker, dict[str, str]]) -> None:
    """What ran at a time; what has changed since."""
    beaker, jobs = stages
    with beaker.client() as client:

        def found(**options: Any) -> list[str]:
            request = pb2.ListJobsRequest(options=pb2.ListJobsRequest.Opts(**options))
            return [job.id for job in call(client, "ListJobs", request).jobs]

        ended = client.job.get(jobs["ended"]).status
        assert found(running_at=ended.started) == [jobs["ended"], jobs["runs"]]
        assert found(running_at=ended.finalized) == [jobs["runs"]]
        assert found(status_changed_at_or_after=ended.finalized) == [jobs["canceled"], jobs["ended"]]
        assert jobs["ended"] not in found(status_changed_before=ended.finalized)
        far = ended.finalized.ToDatetime(timezone.utc).replace(year=9999)
        assert found(running_at=far) == [jobs["runs"]]
        assert len(found(status_changed_before=far)) == len(jobs)


def test_a_jobs_token_sees_its_own_workspace(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """It lists, makes and cancels there and nowhere else, and ends with its job."""
    beaker = beaker_of(CONFIG)
    hand = Hand(beaker)
    with beaker.client() as client:
        _, job = create(client)
        elsewhere = client.experiment.create(
            spec=BeakerExperimentSpec.new(docker_image="b"),
            workspace=pb2.Workspace(id=hand.workspace("second")),
        )
        hand.begin(job.id)
        with hand.backend.database.write() as tx:
            who = Principal(job.author_id, Purpose.JOB, job.workspace_id, job.id)
            token = hand.backend.access.issue(tx, who)
    with beaker.client(user_token=token) as inside:
        made = inside.experiment.create(spec=BeakerExperimentSpec.new(docker_image="b"))
        assert made.experiment.author_id == job.author_id
        assert {each.experiment.id for each in inside.workload.list()} == {
            job.workload_id,
            made.experiment.id,
        }
        with pytest.raises(Exception, match="no access to its workspace"):
            inside.workload.cancel(elsewhere)
        hand.end(job.id)
        with pytest.raises(Exception, match="not valid here"):
            inside.workload.get(made.experiment.id)


def test_a_task_that_waits_for_a_result_is_shown(beaker: LocalBeaker) -> None:
    """Submitted, with the reason; then queued, with the dataset it mounts; a failure cancels it, said so."""
    hand = Hand(beaker)
    tasks = [
        BeakerTaskSpec.new("use", docker_image="busybox").with_dataset("/in", result="make"),
        BeakerTaskSpec.new("make", docker_image="busybox", result_path="/out"),
    ]
    with beaker.client() as client:
        made = client.experiment.create(spec=BeakerExperimentSpec(tasks=tasks))
        use, make = (client.workload.get_latest_job(made, task=task) for task in made.experiment.tasks)
        assert use.status.status == BeakerWorkloadStatus.submitted
        (event,) = client.job.list_summarized_events(use)
        assert event.latest_message == "waiting for the result of make"
        hand.run(make.id)
        result = client.job.get(make.id).assignment_details.result_dataset_id
        use = client.job.get(use.id)
        assert use.status.status == BeakerWorkloadStatus.queued
        assert use.container_spec.mounts[0].dataset_id == result
        made = client.experiment.create(spec=BeakerExperimentSpec(tasks=tasks))
        use, make = (client.workload.get_latest_job(made, task=task) for task in made.experiment.tasks)
        hand.run(make.id, 1)
        status = client.job.get(use.id).status
        assert status.canceled_code == BeakerCancelationCode.sibling_task_failed
        assert client.workload.get(made.experiment.id).status == BeakerWorkloadStatus.failed


def test_a_timeout_is_not_a_cancel(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """Canceled with a code of its own, whatever the retries; as a switch says, it is tried again."""
    for retried, status in ((False, "canceled"), (True, "queued")):
        beaker = beaker_of(replace(CONFIG, assume=Assumptions(retry_timeouts=retried)))
        hand = Hand(beaker)
        with beaker.client() as client:
            task = BeakerTaskSpec.new("main", docker_image="busybox")
            made = client.experiment.create(spec=BeakerExperimentSpec(tasks=[task]).with_retries(1))
            job = client.workload.get_latest_job(made)
            hand.begin(job.id)
            hand.stop(job.id, Code.TIMEOUT)
            hand.end(job.id, 137)
            got = client.job.get(job.id).status
            assert got.status == BeakerWorkloadStatus.canceled
            assert (got.canceled_code, got.exit_code) == (BeakerCancelationCode.timeout, 137)
            assert BeakerWorkloadStatus(client.workload.get(made.experiment.id).status).name == status
        beaker.stop()


@pytest.mark.parametrize("size", [0, 4_000_000_000])
def test_a_page_of_no_size_is_refused(beaker: LocalBeaker, size: int) -> None:
    """For every list."""
    Hand(beaker)
    with beaker.client() as client:
        for method, request in (
            ("ListJobs", pb2.ListJobsRequest),
            ("ListWorkloads", pb2.ListWorkloadsRequest),
            ("ListJobEvents", pb2.ListJobEventsRequest),
            ("ListSummarizedJobEvents", pb2.ListSummarizedJobEventsRequest),
        ):
            with pytest.raises(BeakerClientError, match="page_size"):
                call(client, method, request(options=request.Opts(page_size=size)))
            with pytest.raises(BeakerClientError, match="next_page_token"):
                call(client, method, request(next_page_token="made up"))
