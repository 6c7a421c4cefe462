"""Our specification of a task in Beaker's words, and what ends of Beaker's jobs mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dispatch._beaker import (
    BeakerError,
    DatasetMount,
    HostMount,
    Job,
    JobState,
    SecretMount,
    TaskSpec,
    WekaMount,
)
from dispatch.engine.base import Reason
from dispatch.engine.beaker.reasons import reason_of
from dispatch.environment import BeakerId, RegistryDigest

TASK = TaskSpec("busybox", ("true",))
JOB = Job("j", "t", "w", JobState.FAILED, 0.0, 1.0, 2.0, 3.0, 4.0, 1, 0, "", "d", "n", "")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": BeakerId("01")}, {"image": {"beaker": "01"}}),
        ({"image": RegistryDigest("a@sha256:0")}, {"image": {"docker": "a@sha256:0"}}),
        ({"result_path": "/out"}, {"result": {"path": "/out"}}),
        (
            {"cpus": 1.5, "memory": 1025, "shared_memory": 1024},
            {"resources": {"cpuCount": 1.5, "memory": "2KiB", "sharedMemory": "1KiB"}},
        ),
        ({"gpus": 2}, {"resources": {"gpuCount": 2}}),
        ({"clusters": ("a/b",)}, {"constraints": {"cluster": ["a/b"]}}),
        ({"priority": "high"}, {"context": {"priority": "high", "autoResume": False}}),
        ({"min_runtime": 60}, {"context": {"minRuntime": 60 * 10**9, "autoResume": False}}),
        ({"preemptible": True, "auto_resume": True}, {"context": {"autoResume": True}}),
        ({"preemptible": False}, {"context": {"minRuntime": 8 * 3600 * 10**9, "autoResume": False}}),
        (
            {"preemptible": False, "time_limit": 2},
            {"context": {"minRuntime": 2 * 10**9, "autoResume": False}, "timeout": 2 * 10**9},
        ),
        (
            {"env": {"A": "1"}, "secret_env": {"B": "s"}},
            {"envVars": [{"name": "A", "value": "1"}, {"name": "B", "secret": "s"}]},
        ),
        (
            {
                "mounts": (
                    DatasetMount("d", "/a", "x"),
                    HostMount("/h", "/b"),
                    WekaMount("w", "/c"),
                    SecretMount("s", "/d"),
                )
            },
            {
                "datasets": [
                    {"source": {"beaker": "d"}, "mountPath": "/a", "subPath": "x"},
                    {"source": {"hostPath": "/h"}, "mountPath": "/b"},
                    {"source": {"weka": "w"}, "mountPath": "/c"},
                    {"source": {"secret": "s"}, "mountPath": "/d"},
                ]
            },
        ),
    ],
)
def test_in_the_words_of_beaker(change: dict[str, Any], told: dict[str, Any]) -> None:
    """Each thing that a task may ask for is said as Beaker's specification has it, durations in nanoseconds."""
    spec = replace(TASK, **change).for_beaker().to_json()
    (task,) = spec["tasks"]
    assert {name: task[name] for name in told} == told
    assert "retry" not in spec and "preemptible" not in task["context"]


def test_a_priority_that_there_is_none_of() -> None:
    """It is refused, and those that there are, are named."""
    with pytest.raises(BeakerError, match="'mro': there is none"):
        replace(TASK, priority="mro").for_beaker()


@pytest.mark.parametrize(
    ("change", "cancelled", "reason"),
    [
        ({"state": JobState.SUCCEEDED, "exit_code": 0}, True, Reason.STEP),
        ({}, False, Reason.STEP),
        ({}, True, Reason.STEP),
        (
            {"exit_code": None, "started": None, "message": "image 'x': there is no such image"},
            False,
            Reason.IMAGE,
        ),
        (
            {"exit_code": None, "started": None, "message": "its container cannot be made"},
            False,
            Reason.INFRA,
        ),
        ({"exit_code": 137, "message": "node a is lost"}, False, Reason.LOST),
        ({"exit_code": 137, "message": "Out of memory"}, False, Reason.OOM),
        ({"message": "its results cannot be kept: the disk is full"}, False, Reason.STEP),
        ({"exit_code": 0, "message": "its results cannot be kept: the disk is full"}, False, Reason.INFRA),
        ({"state": JobState.CANCELED, "canceled_code": 1}, False, Reason.PREEMPTED),
        ({"state": JobState.CANCELED, "canceled_code": 2}, True, Reason.CANCELLED),
        ({"state": JobState.CANCELED, "canceled_code": 4}, False, Reason.CANCELLED),
        ({"state": JobState.CANCELED, "canceled_code": 5}, False, Reason.TIMEOUT),
        ({"state": JobState.CANCELED, "canceled_code": 6}, False, Reason.LOST),
        ({"state": JobState.CANCELED, "canceled_code": 99}, False, Reason.CANCELLED),
    ],
)
def test_why_a_job_ended(change: dict[str, Any], cancelled: bool, reason: Reason) -> None:
    """Beaker's state, code and message become the reason by which the dispatcher decides."""
    assert reason_of(replace(JOB, **change), cancelled=cancelled) is reason
