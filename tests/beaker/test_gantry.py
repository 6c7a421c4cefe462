"""gantry, unmodified and in an environment of its own, against a local Beaker with containers as jobs."""

from __future__ import annotations

import os
import re
import shlex
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch.app.beakershell import exports
from dispatch.beakerd.config import Config, Interception
from dispatch.lock.uv import find_uv
from dispatch.testing import gantry as tools
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.gantry import Gantry

pytestmark = [pytest.mark.engine, pytest.mark.archive]

CLUSTER = "ai2/general-cirrascale"

Made = tuple[Gantry, LocalBeaker]
SCRIPT = """#!/bin/bash
echo "the script says $1"
cat input/greeting.txt 2>/dev/null
echo '{"loss": 0.25}' > /results/metrics.json
echo made > /results/made.txt
"""


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gantry's own environment, made once a session."""
    return tools.install(tmp_path_factory.mktemp("gantry") / "venv", find_uv(os.environ))


@pytest.fixture
def gantry(
    beakers: Beakers,
    program: Path,
    gantry_image: ImageRecord,  # noqa: ARG001, it is in the engine now
    tmp_path: Path,
) -> Made:
    """gantry as the README sets it up, and a server that answers for its host."""
    project, mirrors = tools.project(tmp_path, run_sh=SCRIPT)
    images = {"beaker-py/gantry": tools.REFERENCE}
    running = beakers.start(replace(Config(), images=images, intercept=Interception(tools.HOST, mirrors)))
    return Gantry(program, project, mirrors, environment(running, tmp_path)), running


def environment(running: LocalBeaker, home: Path) -> Mapping[str, str]:
    """The variables of `dispatch beaker env --intercept`, in a shell that has none of its own."""
    (home / "home").mkdir()
    found = {"PATH": os.environ["PATH"], "HOME": str(home / "home"), "COLUMNS": "160"}
    for line in exports(running.layout.root, None, found, running.endpoint.proxy):
        word, *rest = shlex.split(line)
        if word == "export":
            variable, _, value = rest[0].partition("=")
            found[variable] = value
    return found


def name() -> str:
    """A name that no other workload has."""
    return f"t-{uuid.uuid4().hex[:8]}"


def run(gantry: Gantry, *words: str, named: str | None = None) -> tuple[int, str]:
    """`gantry run` without Python, to the end: exit code and output."""
    options = ("--yes", "--show-logs", "--no-python", "--cluster", CLUSTER, "--name", named or name())
    done = gantry("run", *options, *words)
    return done.returncode, done.stdout


def test_a_run_brings_the_source_and_shows_what_it_prints(gantry: Made) -> None:
    """`gantry run --no-python`: the commit is cloned from the mirror, its script runs, its result is kept."""
    program, server = gantry
    named = name()
    code, shown = run(program, "--", "bash", "run.sh", "hello", named=named)
    assert code == 0, shown
    assert "the script says hello" in shown
    with server.client() as client:
        workload = client.workload.get(f"me/{named}")
        job = client.workload.get_latest_job(workload)
        assert job.metrics["loss"] == 0.25
        result = client.dataset.get(job.assignment_details.result_dataset_id)
        assert b"".join(client.dataset.stream_file(result, "made.txt")) == b"made\n"


def test_a_dataset_is_mounted(gantry: Made, tmp_path: Path) -> None:
    """`--dataset NAME:/path` shows the dataset's files in the job."""
    program, server = gantry
    (tmp_path / "data").mkdir()
    (tmp_path / "data/greeting.txt").write_text("a greeting\n")
    with server.client() as client:
        client.dataset.create("greeting", tmp_path / "data")
    code, shown = run(program, "--dataset", "me/greeting:/data", "--", "cat", "/data/greeting.txt")
    assert code == 0, shown
    assert "a greeting" in shown


def test_a_secret_is_a_variable(gantry: Made) -> None:
    """`--env-secret NAME=SECRET` gives the job the secret's value."""
    program, server = gantry
    with server.client() as client:
        client.secret.write("PASSWORD", "hunter-2")
    code, shown = run(
        program, "--env-secret", "WORD=PASSWORD", "--", "bash", "-c", 'test "$WORD" = hunter-2 && echo it is'
    )
    assert code == 0, shown
    assert "it is" in shown


def test_a_failing_run_fails(gantry: Made) -> None:
    """A command that fails makes gantry fail."""
    program, _ = gantry
    code, shown = run(program, "--", "bash", "-c", "echo before; exit 7")
    assert code != 0
    assert "before" in shown


def test_a_run_past_its_time_is_stopped(gantry: Made) -> None:
    """`--task-timeout` ends the job, and gantry says so."""
    program, server = gantry
    named = name()
    code, shown = run(program, "--task-timeout", "3s", "--", "sleep", "600", named=named)
    assert code != 0, shown
    with server.client() as client:
        job = client.workload.get_latest_job(client.workload.get(f"me/{named}"))
        assert job.status.canceled_code == 5


def test_list_logs_and_follow(gantry: Made) -> None:
    """`gantry list`, `logs` and `follow` find a run that was started and left."""
    program, _ = gantry
    named = name()
    started = program(
        "run", "--yes", "--no-python", "--timeout", "0", "--cluster", CLUSTER, "--name", named,
        "--", "bash", "-c", "for i in 1 2 3; do echo line $i; sleep 1; done",
    )  # fmt: skip
    assert started.returncode == 0, started.stdout
    followed = program("follow", f"me/{named}")
    assert followed.returncode == 0, followed.stdout
    assert "line 3" in followed.stdout
    assert named in program("list", "--workspace", "ai2/my-workspace").stdout
    logged = program("logs", f"me/{named}")
    assert [line for line in logged.stdout.splitlines() if re.search(r"line \d$", line)], logged.stdout


def test_stop_ends_a_run(gantry: Made) -> None:
    """`gantry stop` cancels a workload that runs."""
    program, server = gantry
    named = name()
    started = program(
        "run", "--yes", "--no-python", "--timeout", "0", "--cluster", CLUSTER, "--name", named,
        "--", "sleep", "600",
    )  # fmt: skip
    assert started.returncode == 0, started.stdout
    stopped = program("stop", "--yes", f"me/{named}")
    assert stopped.returncode == 0, stopped.stdout
    with server.client() as client:
        wait(
            lambda: client.workload.get_latest_job(client.workload.get(f"me/{named}")).status.HasField(
                "finalized"
            )
        )
        job = client.workload.get_latest_job(client.workload.get(f"me/{named}"))
        assert job.status.canceled_code == 4


def wait(condition: Callable[[], bool]) -> None:
    """Wait until something holds; a minute at most."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
