"""A project that came from Tango, changed only in its imports, run as its user would: without any engine."""

from __future__ import annotations

import ast
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dispatch.testing.project import Done, Project

CASE = Path(__file__).parent / "from-tango"
CONFIG = "config.jsonnet"
NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}
STEPS = (
    "points", "split", "best", "report", "fit_momentum", "fit_plain", "score_momentum", "score_plain",
)  # fmt: skip
# What Tango 1.3.2 computes for it, with `-D points=40 -D rate=0.05`.
BEST = {
    "name": "momentum",
    "score": 0.016130465,
    "all": {"momentum": 0.016130465, "plain": 0.016309005},
}


def values(rate: str = "0.05", points: str = "40") -> tuple[str, ...]:
    """The options that give the configuration its variables."""
    return ("-D", f"rate={rate}", "-D", f"points={points}")


def verdicts(done: Done) -> dict[str, str]:
    """What became of each step of a run, by name."""
    return {step["name"]: step["verdict"] for step in done.json()["steps"]}


def run(project: Project, *words: str) -> dict[str, str]:
    """Run the configuration, which must go well, and return what became of each step."""
    return verdicts(project.dispatch("run", CONFIG, "--json", *words).well())


@dataclass(frozen=True)
class Ran:
    """A copy of the project in which the run ``first`` has been made."""

    project: Project
    first: Done


def copied(target: Path) -> Project:
    """The project as a plain directory."""
    shutil.copytree(CASE, target, ignore=shutil.ignore_patterns("__pycache__", "workspace"))
    return Project(target, NO_ENGINE)


@pytest.fixture(scope="module", params=["repository", "directory"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The project after its first run, in a git repository and without one."""
    project = copied(tmp_path_factory.mktemp("tango") / "project")
    if request.param == "repository":
        project.commit()
    return Ran(project, project.dispatch("run", CONFIG, "-n", "first", "--json", *values()).well())


def result(project: Project, run: str, step: str) -> Any:
    """A step's result that is JSON."""
    return project.dispatch("result", run, step).well().json()


def test_only_imports_know_us() -> None:
    """No line of the project's Python names us but its imports, and all that they name is Tango's, too."""
    names: set[str] = set()
    for path in CASE.rglob("*.py"):
        lines = [line for line in path.read_text().splitlines() if "dispatch" in line]
        for line in lines:
            (statement,) = ast.parse(line).body
            assert isinstance(statement, ast.ImportFrom)
            assert statement.module == "dispatch"
            names.update(alias.name for alias in statement.names)
    assert names == {"Step", "step", "Format", "JsonFormat", "Registrable", "FromParams", "Lazy"}
    assert "dispatch" not in (CASE / "optimizers.libsonnet").read_text()


def test_it_computes_what_it_computed_before(ran: Ran) -> None:
    """Every step runs, and the results are those of Tango."""
    assert verdicts(ran.first) == dict.fromkeys(STEPS, "completed")
    assert result(ran.project, "first", "best") == BEST
    points = result(ran.project, "first", "points")
    assert (len(points), points[0]) == (40, [0.0, pytest.approx(-0.9058284595319336)])


def test_what_a_step_printed_is_kept(ran: Ran) -> None:
    """The step that only prints has its words, and those of its logger, in its log."""
    log = ran.project.dispatch("logs", "first", "report").well().out
    assert "best: momentum with 0.016130" in log.splitlines()
    assert "of 2" in log


def test_the_second_run_finds_everything(ran: Ran) -> None:
    """All is cached but the step that says it is not to be."""
    assert run(ran.project, *values()) == {
        name: "completed" if name == "report" else "cached" for name in STEPS
    }


def test_another_value_recomputes_what_depends_on_it(ran: Ran) -> None:
    """Another rate leaves the data alone; what is fitted and scored with it is computed anew."""
    planned = ran.project.dispatch("plan", CONFIG, "--json", *values(rate="0.1")).well().json()
    standing = {step["name"]: step["standing"] for step in planned["steps"]}
    expected = {name: "cached" if name in ("points", "split") else "completed" for name in STEPS}
    assert {name for name, stands in standing.items() if stands == "cached"} == {"points", "split"}
    assert run(ran.project, *values(rate="0.1"), "-n", "faster") == expected
    assert result(ran.project, "faster", "best")["all"] != BEST["all"]
    assert result(ran.project, "first", "best") == BEST


def test_why_names_the_value(ran: Ran) -> None:
    """`why` says which input is another, and of what is cached that it is."""
    asked = ran.project.dispatch("why", CONFIG, "fit_plain", "--json", *values(rate="0.2")).well().json()
    assert (asked["step"], asked["standing"]) == ("fit_plain", "run")
    assert [change["input"] for change in asked["changes"]] == ["optimizer.rate"]
    (change,) = asked["changes"]
    assert "0.2" in change["change"]
    cached = ran.project.dispatch("why", CONFIG, "split", "--json", *values(rate="0.2")).well().json()
    assert cached["standing"] == "cached"


@pytest.mark.parametrize(
    "over",
    [
        '{"steps": {"fit_plain": {"progress": true}}}',
        '{"steps": {"score_plain": {"loss": "square"}}}',
        '{"steps": {"split": {"shuffle": false}}}',
        '{"steps": {"fit_plain": {"step_resources": {"cpu_count": 2}, "step_metadata": {"note": "again"}}}}',
    ],
    ids=["SKIP_ID_ARGUMENTS", "massage_kwargs", "SKIP_DEFAULT_ARGUMENTS", "options"],
)
def test_what_does_not_enter_an_identity(ran: Ran, over: str) -> None:
    """Arguments that the class keeps out of identities, and how a step is run, change nothing."""
    found = run(ran.project, *values(), "-o", over)
    assert {name for name, verdict in found.items() if verdict == "completed"} == {"report"}


def test_an_override_reaches_one_step(ran: Ran) -> None:
    """`-o` merges into one step's arguments, and recomputes it and what depends on it."""
    over = "{ steps: { fit_momentum: { training: { epochs: 2 } } } }"
    again = {"fit_momentum", "score_momentum", "best", "report"}
    found = run(ran.project, *values(), "-o", over)
    assert {name for name, verdict in found.items() if verdict == "completed"} == again


def test_variables_may_come_from_the_environment(ran: Ran) -> None:
    """`-D NAME` takes the value from the environment, which gives nothing unasked."""
    words = ("plan", CONFIG, "--json", "-D", "points=40")
    missing = ran.project.dispatch(*words, env={"rate": "0.05"})
    assert missing.code == 2
    (error,) = missing.errors()
    assert "config.jsonnet:6:" in error
    assert "'rate' is not set" in error
    assert "`-D rate=VALUE`" in missing.err
    taken = ran.project.dispatch(*words, "-D", "rate", env={"rate": "0.05"}).well().json()
    assert {step["name"] for step in taken["steps"] if step["standing"] != "cached"} == {"report"}


def test_settings_that_are_named(ran: Ran) -> None:
    """`--settings` uses another file alone; its workspace lies beside it."""
    other = ran.project.root.parent / "elsewhere" / "mine.yml"
    other.parent.mkdir(exist_ok=True)
    other.write_text("workspace: ./results\nexecutor: {type: local}\ninclude_package: lines.steps\n")
    words = ("run", CONFIG, "--json", "-s", "points", "--settings", "../elsewhere/mine.yml")
    assert verdicts(ran.project.dispatch(*words, *values()).well()) == {"points": "completed"}
    assert (other.parent / "results" / "cache").is_dir()
    shutil.rmtree(other.parent / "results")


def test_a_wrong_argument_is_one_clear_error(ran: Ran) -> None:
    """What the step's class refuses is named with step and argument, before anything runs."""
    over = '{"steps": {"fit_plain": {"optimizer": {"type": "plian"}}}}'
    done = ran.project.dispatch("run", CONFIG, *values(), "-o", over)
    assert done.code == 2
    assert "Traceback" not in done.err
    (error,) = done.errors()
    assert "step 'fit_plain'" in error
    assert "did you mean 'plain'?" in error
