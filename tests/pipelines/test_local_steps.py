"""The shortest start: steps without any image, run on this machine as they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dispatch.testing.project import Done, Project

CASE = Path(__file__).parent / "local-steps"
CONFIG = "experiment.yml"
STEPS = ("words", "counts", "table")
COUNTS = {
    "the": 3, "quick": 1, "brown": 1, "fox": 1, "jumps": 1, "over": 1, "lazy": 1, "dog": 1, "end": 1,
}  # fmt: skip


@pytest.fixture(params=["repository", "directory"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    """A copy of the pipeline on a machine without an engine, in a git repository and without one."""
    shutil.copytree(CASE, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__", "workspace"))
    made = Project(tmp_path / "project", {"DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    return made.commit() if request.param == "repository" else made


def verdicts(done: Done) -> dict[str, str]:
    """What became of each step of a run, by name."""
    return {step["name"]: step["verdict"] for step in done.json()["steps"]}


def test_steps_need_no_image(project: Project) -> None:
    """Python and shell steps run where dispatch runs, see each other's results, and are found again."""
    before = set(project.files())
    first = project.dispatch("run", CONFIG, "-n", "first", "--json").well()
    assert verdicts(first) == dict.fromkeys(STEPS, "completed")
    assert {step["image"] for step in first.json()["steps"]} == {None}
    assert project.dispatch("result", "first", "counts").well().json() == COUNTS
    table = Path(project.dispatch("result", "first", "table").well().out.strip()) / "table.txt"
    assert table.read_text().splitlines() == sorted(f"{word}:{n}" for word, n in COUNTS.items())
    again = project.dispatch("run", CONFIG, "--json").well()
    assert verdicts(again) == dict.fromkeys(STEPS, "cached")
    left = {name for name in set(project.files()) - before if "__pycache__" not in name}
    assert {name.split("/")[0] for name in left} == {"workspace"}


def test_the_plan_says_that_they_run_here(project: Project) -> None:
    """`plan` and a dry run know of no image, and leave nothing behind."""
    before = project.files()
    planned = project.dispatch("plan", CONFIG, "--json").well().json()
    assert {step["name"]: (step["standing"], step["image"]) for step in planned["steps"]} == dict.fromkeys(
        STEPS, ("run", None)
    )
    project.dispatch("run", "--dry-run", CONFIG).well()
    assert project.files() == before


def test_one_changed_argument(project: Project) -> None:
    """Another text runs all that depends on it; `why` names it."""
    project.dispatch("run", CONFIG).well()
    over = '{"steps": {"words": {"text": "one word"}}}'
    asked = project.dispatch("why", CONFIG, "words", "--json", "-o", over).well().json()
    assert [change["input"] for change in asked["changes"]] == ["text"]
    assert verdicts(project.dispatch("run", CONFIG, "--json", "-o", over).well()) == dict.fromkeys(
        STEPS, "completed"
    )
    assert project.dispatch("result", "latest", "counts").well().json() == {"one": 1, "word": 1}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_how_processes_are_started(project: Project, method: str) -> None:
    """Both ways of starting a step's process give the same."""
    project.write({"dispatch.yml": f"executor: {{type: local, start_method: {method}}}\n"})
    assert verdicts(project.dispatch("run", CONFIG, "--json", "-j", "2").well()) == dict.fromkeys(
        STEPS, "completed"
    )


def test_a_step_that_fails(project: Project) -> None:
    """A step that raises fails with its traceback; what depends on it is skipped; the exit code says so."""
    project.write({"tally.py": (CASE / "tally.py").read_text().replace("Counter(words)", "int(words)")})
    done = project.dispatch("run", CONFIG, "-n", "bad", "--json")
    assert done.code == 1
    assert verdicts(done) == {"words": "completed", "counts": "failed", "table": "skipped"}
    assert "TypeError" in done.err
    project.write({"tally.py": (CASE / "tally.py").read_text()})
    again = project.dispatch("run", CONFIG, "-n", "bad", "--json").well()
    assert verdicts(again) == {"words": "cached", "counts": "completed", "table": "completed"}


def test_a_container_is_not_made_by_accident(project: Project) -> None:
    """Where the settings ask for containers, a step without an image is refused, with both ways out."""
    project.write({"dispatch.yml": "executor: {type: docker}\n"})
    done = project.dispatch("run", CONFIG)
    assert done.code == 2
    (error,) = done.errors()
    assert "step 'words'" in error
    assert "step_image" in done.err
    assert not project.workspace.exists()
