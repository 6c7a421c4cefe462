"""Experiments and workloads, with the real client; their jobs are moved on by hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import requests
from beaker import BeakerExperimentSpec, BeakerTaskSpec, BeakerWorkloadStatus, BeakerWorkloadType
from beaker import beaker_pb2 as pb2
from beaker.exceptions import (
    BeakerClientError,
    BeakerError,
    BeakerExperimentConflict,
    BeakerExperimentNotFound,
    BeakerPermissionsError,
    BeakerWorkloadNotFound,
)
from beaker.types import BeakerSortOrder

from dispatch.beakerd.config import (
    Assumptions,
    ClusterConfig,
    Config,
    NameScope,
    NodeConfig,
    UserConfig,
    WorkspaceConfig,
)
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_jobs import Hand

SECOND = 1_000_000_000
TWO_USERS = Config(
    organizations=("ai2", "uw"),
    users=(UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)), UserConfig("her", ("uw",))),
    workspaces=(
        WorkspaceConfig("ai2/my-workspace", "ai2/default"),
        WorkspaceConfig("ai2/second", "ai2/other", maximum_priority="normal"),
        WorkspaceConfig("uw/theirs", "uw/default"),
    ),
    clusters=(
        ClusterConfig("ai2/general-cirrascale", (NodeConfig("local-1"),), aliases=("ai2/gc",)),
        ClusterConfig("ai2/big", (NodeConfig("local-2", gpus=8, gpu_type="NVIDIA_H100"),)),
    ),
)


def spec_of(**more: Any) -> BeakerExperimentSpec:
    """A spec of one task in busybox."""
    return BeakerExperimentSpec.new(docker_image="busybox", **more)


def post(beaker: LocalBeaker, workspace: str, body: Any, user: str = "me", **query: str) -> requests.Response:
    """What the client sends for an experiment, with any body."""
    with beaker.client(user) as client:
        return requests.post(
            f"{client.config.agent_address}/api/v3/workspaces/{workspace}/experiments",
            params=query,
            data=body if isinstance(body, (bytes, str)) else json.dumps(body),
            headers={"Authorization": f"Bearer {client.config.user_token}"},
            timeout=30,
        )


def refused(beaker: LocalBeaker, workspace: str, task: dict[str, Any], **more: Any) -> str:
    """Why an experiment of this task is refused."""
    response = post(beaker, workspace, {"tasks": [{"image": {"docker": "busybox"}, **task}], **more})
    assert response.status_code == 400, response.text
    message: str = response.json()["message"]
    return message


def test_an_experiment_is_made_and_found(beaker: LocalBeaker) -> None:
    """By its id and by its name; it is the caller's, in the workspace, queued, and counted to its budget."""
    hand = Hand(beaker)
    with beaker.client() as client:
        made = client.experiment.create(
            name="trial-1", spec=spec_of(description="a first trial", command=["true"])
        )
        assert made.experiment.name == "trial-1"
        assert made.experiment.description == "a first trial"
        assert made.experiment.author_id == client.user.get().id
        assert made.experiment.workspace_id == hand.workspace()
        assert made.budget_id == hand.one("SELECT budget_id FROM workspaces")
        assert made.status == BeakerWorkloadStatus.queued
        (task,) = made.experiment.tasks
        assert (task.name, task.status) == ("main", BeakerWorkloadStatus.queued)
        assert task.container_spec.docker_reference == "busybox"
        assert client.workload.get("me/trial-1") == made
        assert client.workload.get(made.experiment.id) == made
        assert client.workload.is_experiment(made)
    assert hand.told.changes == 1


def test_an_experiment_without_a_name_goes_by_its_id(beaker: LocalBeaker) -> None:
    """Two of them do not disturb each other."""
    Hand(beaker)
    with beaker.client() as client:
        first, second = (client.experiment.create(spec=spec_of()) for _ in range(2))
        assert first.experiment.name == first.experiment.id != second.experiment.id
        assert client.workload.get(f"me/{first.experiment.id}") == first


def test_a_name_is_taken_once(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """Within its author, so another user may have it, too."""
    beaker = beaker_of(TWO_USERS)
    Hand(beaker)
    with beaker.client() as client, beaker.client("you") as other:
        client.experiment.create(name="trial", spec=spec_of())
        with pytest.raises(BeakerExperimentConflict):
            client.experiment.create(
                name="trial", spec=spec_of(), workspace=client.workspace.get("ai2/second")
            )
        other.experiment.create(name="trial", spec=spec_of())
        assert other.workload.get("me/trial").experiment.id != other.workload.get("you/trial").experiment.id


def test_within_what_a_name_is_taken_is_a_switch(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """Or within its workspace, whoever the author is."""
    assume = Assumptions(names=NameScope.WORKSPACE)
    beaker = beaker_of(replace(TWO_USERS, assume=assume))
    Hand(beaker)
    with beaker.client() as client, beaker.client("you") as other:
        client.experiment.create(name="trial", spec=spec_of())
        second = client.experiment.create(
            name="trial", spec=spec_of(), workspace=client.workspace.get("ai2/second")
        )
        with pytest.raises(BeakerExperimentConflict):
            other.experiment.create(name="trial", spec=spec_of())
        assert client.workload.get("me/trial") == second


def test_one_of_many_gets_the_name(beaker: LocalBeaker) -> None:
    """Twenty threads at once: one has it, all others are told so."""
    answers: list[int] = []
    workspace = Hand(beaker).workspace()

    def ask() -> None:
        answers.append(
            post(beaker, workspace, {"tasks": [{"image": {"docker": "b"}}]}, name="one").status_code
        )

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == [200] + [409] * 19


@pytest.mark.parametrize("name", ["-a", "a b", "a/b", "..", "é" * 300, "\x00", "a\n"])
def test_a_name_that_is_none_is_refused(beaker: LocalBeaker, name: str) -> None:
    """Also for those that do not ask the client's own check first."""
    hand = Hand(beaker)
    response = post(beaker, hand.workspace(), {"tasks": [{"image": {"docker": "b"}}]}, name=name)
    assert (response.status_code, "name: " in response.json()["message"]) == (400, True)


@pytest.mark.parametrize(
    "body", ["", "[]", "null", "{", "[" * 100_000, '{"tasks": NaN}', b"\xff", '{"tasks": [{"image": 1e999}]}']
)
def test_a_body_that_is_no_spec_is_refused(beaker: LocalBeaker, body: Any) -> None:
    """With a message, and never as the server's own failure."""
    response = post(beaker, Hand(beaker).workspace(), body)
    assert response.status_code == 400
    assert response.json()["message"]


def test_the_client_shows_why_a_spec_is_refused(beaker: LocalBeaker) -> None:
    """The field and the fact reach the user."""
    Hand(beaker)
    with beaker.client() as client, pytest.raises(BeakerError, match=r"tasks\[0\]\.datasets\[0\]\.mountPath"):
        task = BeakerTaskSpec.new("main", docker_image="busybox").with_dataset("data", beaker="x")
        client.experiment.create(spec=BeakerExperimentSpec(tasks=[task]))


def test_names_become_ids(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """Images, datasets, clusters and budgets by any of their names; a retry shows the same."""
    beaker = beaker_of(TWO_USERS)
    hand = Hand(beaker)
    image, data, yours = hand.image("py"), hand.dataset("data"), hand.dataset("data", user="you")
    gc = hand.one("SELECT id FROM clusters WHERE name = 'general-cirrascale'")
    big = hand.one("SELECT id FROM clusters WHERE name = 'big'")
    with beaker.client() as client:
        for name in ("me/py", "py", image):
            for clusters in (["ai2/general-cirrascale", "big"], ["ai2/gc", big], [gc, "ai2/gc", "ai2/big"]):
                task = BeakerTaskSpec.new("main", beaker_image=name, cluster=clusters)
                for mount, dataset in (("/1", "me/data"), ("/2", "data"), ("/3", data), ("/4", "you/data")):
                    task = task.with_dataset(mount, beaker=dataset)
                made = client.experiment.create(spec=BeakerExperimentSpec(tasks=[task], budget="ai2/other"))
                (got,) = made.experiment.tasks
                assert got.container_spec.image_id == image
                assert [mount.dataset_id for mount in got.container_spec.mounts] == [data, data, data, yours]
                (constraint,) = got.system_details.placement_constraints
                assert list(constraint.values) == [gc, big]
                assert made.budget_id == hand.one("SELECT id FROM budgets WHERE name = 'other'")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"image": {"beaker": "me/none"}}, "tasks[0].image.beaker: image 'me/none' not found"),
        ({"image": {"beaker": "raw"}}, "tasks[0].image.beaker: image 'raw' is not committed yet"),
        (
            {"datasets": [{"mountPath": "/d", "source": {"beaker": "me/none"}}]},
            "tasks[0].datasets[0].source.beaker: dataset 'me/none' not found",
        ),
        (
            {"datasets": [{"mountPath": "/d", "source": {"beaker": "raw"}}]},
            "tasks[0].datasets[0].source.beaker: dataset 'raw' is not committed yet",
        ),
        (
            {"datasets": [{"mountPath": "/d", "source": {"secret": "none"}}]},
            "tasks[0].datasets[0].source.secret: the workspace has no secret 'none'",
        ),
        (
            {"envVars": [{"name": "A", "secret": "none"}]},
            "tasks[0].envVars[0].secret: the workspace has no secret 'none'",
        ),
        (
            {"datasets": [{"mountPath": "/d", "source": {"hostPath": "/etc"}}]},
            "tasks[0].datasets[0].source.hostPath: /etc is in none of the directories",
        ),
        (
            {"datasets": [{"mountPath": "/d", "source": {"weka": "bucket"}}]},
            "tasks[0].datasets[0].source.weka: this server has none",
        ),
        (
            {"constraints": {"cluster": ["ai2/none"]}},
            "tasks[0].constraints.cluster[0]: cluster 'ai2/none' not found",
        ),
    ],
)
def test_what_is_not_there_is_refused(beaker: LocalBeaker, task: dict[str, Any], message: str) -> None:
    """When the experiment is made, by the field that names it; and nothing of the experiment stays."""
    hand = Hand(beaker)
    hand.image("raw", committed=False)
    hand.dataset("raw", committed=False)
    assert message in refused(beaker, hand.workspace(), task)
    assert "budget: budget 'ai2/none' not found" in refused(beaker, hand.workspace(), {}, budget="ai2/none")
    assert hand.one("SELECT count(*) FROM experiments") == 0


def test_what_may_be_missing_is_a_switch(beaker_of: Callable[[Config], LocalBeaker], tmp_path: Path) -> None:
    """Uncommitted data and secrets that come later are taken, where they are; host paths, as configured."""
    beaker = beaker_of(
        Config(assume=Assumptions(mount_uncommitted=True, check_secrets=False), host_paths=(tmp_path,))
    )
    hand = Hand(beaker)
    raw = hand.dataset("raw", committed=False)
    with beaker.client() as client:
        task = BeakerTaskSpec.new("main", docker_image="busybox").with_env_var("T", secret="later")
        task = task.with_dataset("/raw", beaker="raw").with_dataset("/here", host_path=str(tmp_path / "x"))
        got = client.experiment.create(spec=BeakerExperimentSpec(tasks=[task])).experiment.tasks[0]
        assert got.container_spec.environment_variables[0].secret_reference == "later"
        assert got.container_spec.mounts[0].dataset_id == raw
        assert got.container_spec.mounts[1].mode == pb2.MountMode.MOUNT_MODE_READ_WRITE


def test_constraints_that_nothing_meets_wait(beaker: LocalBeaker) -> None:
    """A node that is not there is no error: the experiment is queued."""
    Hand(beaker)
    with beaker.client() as client:
        made = client.experiment.create(spec=spec_of(constraints={"hostname": ["nowhere"]}))
        assert made.status == BeakerWorkloadStatus.queued


def test_a_workspace_has_a_highest_priority(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """What is above it is refused."""
    beaker = beaker_of(TWO_USERS)
    Hand(beaker)
    with beaker.client() as client:
        second = client.workspace.get("ai2/second")
        client.experiment.create(spec=spec_of(priority="normal"), workspace=second)
        with pytest.raises(BeakerError, match="allows normal at most, not high"):
            client.experiment.create(spec=spec_of(priority="high"), workspace=second)


def test_another_organization_sees_nothing(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """Not to make, not to read, not to list, not to stop, not to mount."""
    beaker = beaker_of(TWO_USERS)
    hand = Hand(beaker)
    hand.dataset("data")
    with beaker.client() as client:
        made = client.experiment.create(name="trial", spec=spec_of())
        job = client.workload.get_latest_job(made).id
    with beaker.client("her", default_org="uw", default_workspace="uw/theirs") as her:
        for forbidden in (
            lambda: her.workload.get(made.experiment.id),
            lambda: her.workload.cancel(made),
            lambda: her.workload.delete(made),
            lambda: her.workload.update(made, name="mine"),
            lambda: her.experiment.restart_tasks(made),
            lambda: her.experiment.get_spec(made),
            lambda: her.job.get(job),
            lambda: list(her.job.list_summarized_events(pb2.Job(id=job))),
            lambda: list(her.workload.list(workspace=pb2.Workspace(id=hand.workspace()))),
        ):
            with pytest.raises(BeakerPermissionsError):
                forbidden()
        assert her.workload.get_latest_job(made) is None
        with pytest.raises(BeakerWorkloadNotFound):
            her.workload.get("me/trial")
        assert list(her.workload.list()) == []
        assert list(her.job.list()) == []
        response = post(beaker, hand.workspace(), {"tasks": [{"image": {"docker": "b"}}]}, user="her")
        assert response.status_code == 403
        task = BeakerTaskSpec.new("main", docker_image="busybox").with_dataset("/d", beaker="me/data")
        with pytest.raises(BeakerError, match="dataset 'me/data' not found"):
            her.experiment.create(spec=BeakerExperimentSpec(tasks=[task]))
    assert hand.one("SELECT status FROM tasks") == BeakerWorkloadStatus.queued


def test_an_unknown_workspace_is_not_found(beaker: LocalBeaker) -> None:
    """404, as the client expects."""
    Hand(beaker)
    assert post(beaker, "nowhere", {"tasks": [{"image": {"docker": "b"}}]}).status_code == 404


def test_the_spec_comes_back_as_it_was_sent(beaker: LocalBeaker) -> None:
    """As YAML that the client reads into the same spec."""
    hand = Hand(beaker)
    hand.secret("token")
    task = BeakerTaskSpec.new(
        "main", docker_image="busybox", priority="high", timeout="1h", command=["sh", "-c", "a: b # c\n'x'"]
    )
    task = (
        task.with_env_var("A", value="yes").with_env_var("B", secret="token").with_env_var("N", value="é\t☃")
    )
    sent = BeakerExperimentSpec(tasks=[task], description="no: really").with_retries(1)
    with beaker.client() as client:
        made = client.experiment.create(spec=sent)
        assert client.experiment.get_spec(made).to_json() == sent.to_json()
        with pytest.raises(BeakerExperimentNotFound):
            client.experiment.get_spec("01ARZ3NDEKTSV4RRFFQ69G5FAV")


def test_a_workload_is_updated(beaker: LocalBeaker) -> None:
    """Name and description, each as far as it is given; a name that is taken is not."""
    Hand(beaker)
    with beaker.client() as client:
        made = client.experiment.create(name="one", spec=spec_of(description="first"))
        client.experiment.create(name="two", spec=spec_of())
        assert client.workload.update(made, description="second").experiment.name == "one"
        renamed = client.workload.update(made, name="three")
        assert (renamed.experiment.name, renamed.experiment.description) == ("three", "second")
        assert client.workload.get("me/three") == renamed
        with pytest.raises(BeakerWorkloadNotFound):
            client.workload.get("me/one")
        for name in ("two", "a b"):
            with pytest.raises(BeakerClientError):
                client.workload.update(made, name=name)
        client.experiment.create(name="one", spec=spec_of())


def test_workloads_are_canceled(beaker: LocalBeaker) -> None:
    """What waits ends at once; what runs is told to stop; again, nothing changes."""
    hand = Hand(beaker)
    with beaker.client() as client:
        waits, runs = (client.experiment.create(spec=spec_of()) for _ in range(2))
        job = client.workload.get_latest_job(runs)
        hand.begin(job.id)
        ids = [waits.experiment.id, runs.experiment.id]
        assert list(client.workload.cancel(waits, runs)) == ids
        assert hand.told.stopped == [job.id]
        got = client.workload.get(waits.experiment.id)
        assert got.status == BeakerWorkloadStatus.canceled
        assert (got.experiment.HasField("canceled"), got.experiment.canceled_for) == (True, "canceled by me")
        assert client.workload.get_latest_job(waits).status.HasField("finalized")
        assert client.workload.get_results(waits).HasField("committed")
        assert client.workload.get(runs.experiment.id).status == BeakerWorkloadStatus.stopping
        before = client.workload.get(waits.experiment.id)
        assert list(client.workload.cancel(waits, runs)) == ids
        assert client.workload.get(waits.experiment.id) == before
        hand.end(job.id, 143)
        got = client.workload.get(runs.experiment.id)
        assert got.status == BeakerWorkloadStatus.canceled
        with pytest.raises(BeakerError):
            list(client.workload.cancel(pb2.Workload(experiment=pb2.Experiment(id="none"))))


def test_workloads_are_deleted(beaker: LocalBeaker) -> None:
    """What runs is not, all or none; names are free again, and results stay."""
    hand = Hand(beaker)
    with beaker.client() as client:
        waits = client.experiment.create(name="one", spec=spec_of())
        runs = client.experiment.create(name="two", spec=spec_of())
        job = client.workload.get_latest_job(runs)
        hand.begin(job.id)
        log = hand.backend.layout.job_log(job.id)
        log.parent.mkdir(parents=True)
        log.write_bytes(b"")
        with pytest.raises(BeakerClientError, match="cancel it first"):
            client.workload.delete(waits, runs)
        assert client.workload.get("me/one").status == BeakerWorkloadStatus.queued
        hand.end(job.id)
        done = client.job.get(job.id)
        client.workload.delete(waits, runs)
        for gone in (waits, runs):
            with pytest.raises(BeakerWorkloadNotFound):
                client.workload.get(gone.experiment.id)
        assert not log.parent.exists()
        client.experiment.create(name="one", spec=spec_of())
        result = client.job.get_results(done)
        assert result.HasField("committed")


def test_failed_tasks_are_restarted(beaker: LocalBeaker) -> None:
    """Those that failed or were canceled, in the same experiment; what succeeded stays."""
    hand = Hand(beaker)
    tasks = [BeakerTaskSpec.new(name, docker_image="busybox") for name in ("good", "bad")]
    with beaker.client() as client:
        made = client.experiment.create(spec=BeakerExperimentSpec(tasks=tasks))
        good, bad = (client.workload.get_latest_job(made, task=task) for task in made.experiment.tasks)
        hand.run(good.id)
        hand.run(bad.id, 1)
        assert client.workload.get(made.experiment.id).status == BeakerWorkloadStatus.failed
        again = client.experiment.restart_tasks(made)
        assert again.experiment.id == made.experiment.id
        assert [task.status for task in again.experiment.tasks] == [
            BeakerWorkloadStatus.succeeded,
            BeakerWorkloadStatus.queued,
        ]
        assert client.workload.get_latest_job(made, task=made.experiment.tasks[0]).id == good.id
        new = client.workload.get_latest_job(made, task=made.experiment.tasks[1])
        assert new.id != bad.id
        assert not new.HasField("retry_ancestor_id")
        list(client.workload.cancel(made))
        client.workload.restart_tasks(made)
        hand.run(client.workload.get_latest_job(made, task=made.experiment.tasks[1]).id)
        assert client.workload.get(made.experiment.id).status == BeakerWorkloadStatus.succeeded


@pytest.fixture
def many(beaker_of: Callable[[Config], LocalBeaker]) -> LocalBeaker:
    """Workloads in two workspaces by two users, in several states."""
    beaker = beaker_of(TWO_USERS)
    hand = Hand(beaker)
    with beaker.client() as client, beaker.client("you") as other:
        for number in range(5):
            made = client.experiment.create(
                name=f"mine-{number}", spec=spec_of(description=f"Trial {number}")
            )
            job = client.workload.get_latest_job(made).id
            if number == 1:
                hand.run(job)
            elif number == 2:
                hand.run(job, 1)
            elif number == 3:
                hand.begin(job)
            elif number == 4:
                list(client.workload.cancel(made))
        other.experiment.create(
            name="yours", spec=spec_of(description="100%_sure"), workspace=other.workspace.get("ai2/second")
        )
    return beaker


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["yours", "mine-4", "mine-3", "mine-2", "mine-1", "mine-0"]),
        (
            {"sort_order": BeakerSortOrder.ascending},
            ["mine-0", "mine-1", "mine-2", "mine-3", "mine-4", "yours"],
        ),
        ({"limit": 2}, ["yours", "mine-4"]),
        ({"finalized": True}, ["mine-4", "mine-2", "mine-1"]),
        ({"finalized": False}, ["yours", "mine-3", "mine-0"]),
        ({"statuses": [BeakerWorkloadStatus.running]}, ["mine-3"]),
        (
            {"statuses": [BeakerWorkloadStatus.failed, BeakerWorkloadStatus.canceled]},
            ["mine-4", "mine-2"],
        ),
        ({"statuses": [BeakerWorkloadStatus.uploading_results]}, []),
        ({"name_or_description": "TRIAL 2"}, ["mine-2"]),
        ({"name_or_description": "your"}, ["yours"]),
        ({"name_or_description": "%_"}, ["yours"]),
        ({"name_or_description": "_"}, ["yours"]),
        ({"workload_type": BeakerWorkloadType.experiment, "limit": 1}, ["yours"]),
        ({"workload_type": BeakerWorkloadType.environment}, []),
    ],
)
def test_workloads_are_filtered(many: LocalBeaker, options: dict[str, Any], names: list[str]) -> None:
    """By each option of the client."""
    with many.client() as client:
        assert [each.experiment.name for each in client.workload.list(**options)] == names


def test_workloads_are_filtered_by_what_they_belong_to(many: LocalBeaker) -> None:
    """Author, workspace, organization, and when they were made."""
    with many.client() as client:

        def names(**options: Any) -> list[str]:
            return [each.experiment.name for each in client.workload.list(**options)]

        middle = client.workload.get("me/mine-2").experiment.created.ToDatetime(timezone.utc)
        assert names(author=client.user.get("you")) == ["yours"]
        assert names(workspace=client.workspace.get("ai2/second")) == ["yours"]
        assert names(org=pb2.Organization(id="none")) == []
        # Python's times have microseconds only.
        assert names(created_before=middle)[-2:] == ["mine-1", "mine-0"]
        assert names(created_after=middle + timedelta(microseconds=1)) == ["yours", "mine-4", "mine-3"]
        assert names(created_after=datetime(9999, 1, 1, tzinfo=timezone.utc)) == []


def test_workloads_come_in_pages(beaker: LocalBeaker) -> None:
    """All of them, once, also while new ones come; over more than one page of the client's size."""
    Hand(beaker)
    with beaker.client() as client:
        made = [client.experiment.create(spec=spec_of()).experiment.id for _ in range(120)]
        listed: list[str] = []
        for workload in client.workload.list():
            if len(listed) == 60:
                client.experiment.create(spec=spec_of())
            listed.append(workload.experiment.id)
        assert listed == made[::-1]
