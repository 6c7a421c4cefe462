"""Steps that fail and are tried again, that run for too long, and that want too much memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import ImageRecord
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.project import Done, Project

CASES = Path(__file__).parent
RAISES = """\
from dispatch import step


@step("raises")
def raises(name: str) -> None:
    kinds = {"reset": ConnectionResetError, "value": ValueError}
    raise kinds[name]("no more")
"""


def project_of(directory: Path, files: dict[str, str]) -> Project:
    """A repository with these files."""
    directory.mkdir()
    return Project(directory).write(files).commit()


def run(project: Project, steps: dict[str, Any], *options: str) -> Done:
    """Run steps that are written down as they are."""
    project.write({"x.json": json.dumps({"steps": steps})})
    return project.dispatch("run", "x.json", *options)


def attempts(project: Project) -> list[Path]:
    """The directories of all attempts, in order."""
    found = (project.workspace / "attempts").iterdir()
    return sorted(found, key=lambda path: int(path.name.rpartition(".")[2]))


def facts(attempt: Path) -> dict[str, Any]:
    """What is recorded of an attempt."""
    found: dict[str, Any] = json.loads((attempt / "attempt.json").read_text())["facts"]
    return found


def test_a_training_resumes(tmp_path: Path) -> None:
    """The example: each attempt goes on from the last checkpoint, and each is recorded with its log."""
    shutil.copytree(CASES / "resume", tmp_path / "p")
    project = Project(tmp_path / "p").commit()
    done = project.dispatch("run", "experiment.yml").well()
    assert json.loads(project.dispatch("result", "latest", "train").well().out) == {
        "resumed_from": 8,
        "sum": 45,
    }
    assert done.err.count("Preempted: after epoch") == 2
    mine = [each for each in attempts(project) if each.name.startswith("Train")]
    assert [facts(each)["state"] for each in mine] == ["failed", "failed", "completed"]
    assert [facts(each)["exception"]["message"] for each in mine[:2]] == ["after epoch 3", "after epoch 7"]
    logs = [(each / "out.log").read_text() for each in mine]
    assert ["from epoch 0" in logs[0], "from epoch 4" in logs[1], "from epoch 8" in logs[2]] == [True] * 3


@pytest.mark.parametrize(("name", "count"), [("reset", 3), ("value", 1)])
def test_exceptions_by_name(tmp_path: Path, name: str, count: int) -> None:
    """An exception is retried by its own name or that of any class it derives from, and no other is."""
    project = project_of(tmp_path / "p", {"dispatch.yml": "include_package: [mine]\n", "mine.py": RAISES})
    retries = {"limit": 2, "on": ["OSError", "TimeoutError"], "delay": "0.05s"}
    done = run(project, {"s": {"type": "raises", "name": name, "step_retries": retries}})
    assert done.code == 1
    assert len(attempts(project)) == count


def test_a_step_of_this_machine_that_runs_for_too_long(tmp_path: Path) -> None:
    """It is stopped with all its processes, and the reason is said."""
    project = project_of(tmp_path / "p", {"dispatch.yml": ""})
    step = {"type": "shell", "command": "sleep 600 & sleep 600", "step_timeout": "1s"}
    done = run(project, {"s": step})
    assert done.code == 1
    assert done.errors() == ["error: step 's' failed in the phase 'run': it ran for longer than 1.0 s"]
    assert facts(attempts(project)[0])["reason"] == "timeout"


@pytest.mark.engine
def test_containers(tmp_path: Path, busybox_image: ImageRecord) -> None:  # noqa: ARG001
    """In containers: time limits, memory limits, exit codes; the work directory survives attempts."""
    project = project_of(tmp_path / "p", {"dispatch.yml": "executor: {type: docker, parallelism: 4}\n"})
    shell: dict[str, Any] = {"type": "shell", "step_image": {"docker": REFERENCE}, "step_network": "none"}
    counts = 'cd "$DISPATCH_WORK_DIR"; echo x >> tries; [ $(wc -l < tries) -ge 3 ] || exit 75'
    steps = {
        "slow": {**shell, "command": "sleep 600", "step_timeout": "1s"},
        "deaf": {**shell, "command": "trap '' TERM; sleep 4; echo late", "step_timeout": "1s"},
        "large": {
            **shell,
            "command": "tail /dev/zero",
            "step_resources": {"memory": "32MiB"},
            "step_retries": {"limit": 1, "on": ["oom"], "delay": "0.05s"},
        },
        "flaky": {**shell, "command": counts, "step_retries": {"limit": 5, "on": [75], "delay": "0.05s"}},
    }
    done = run(project, steps, "--json")
    assert done.code == 1
    found = {step["name"]: step for step in done.json()["steps"]}
    assert {name: step["verdict"] for name, step in found.items()} == {
        "slow": "failed",
        "deaf": "failed",
        "large": "failed",
        "flaky": "completed",
    }
    assert {found[name]["reason"] for name in ("slow", "deaf")} == {"it ran for longer than 1.0 s"}
    assert found["large"]["reason"].startswith("killed for memory: its limit is 32 MiB")
    tries = {step["name"]: step["id"] for step in done.json()["steps"]}
    counted = {
        name: len(list((project.workspace / "attempts").glob(f"{unique_id}.*")))
        for name, unique_id in tries.items()
    }
    assert counted == {"slow": 1, "deaf": 1, "large": 2, "flaky": 3}
