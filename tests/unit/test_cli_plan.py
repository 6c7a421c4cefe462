"""`dispatch plan` and `dispatch why`, called as a user calls them, on steps of the current environment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.testing.project import Project

SETTINGS = """\
executor: {type: local}
include_package: [mine]
"""
STEPS = """\
from dispatch import step


@step("numbers")
def numbers(n: int) -> list:
    return list(range(n))


@step("draw", deterministic=False)
def draw(numbers: list) -> int:
    return numbers[-1]


@step("scale")
def scale(number: int, by: float = 1.0) -> float:
    return number * by
"""
CONFIG = """\
steps:
  numbers: {type: numbers, n: 3}
  draw: {type: draw, numbers: {ref: numbers}}
  scale: {type: scale, number: {ref: draw}, by: 2.0}
"""

Make = Callable[[str], Project]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a committed project with a configuration; its cache is its own."""

    def made(config: str) -> Project:
        cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "XDG_STATE_HOME": str(tmp_path / "state")}
        (tmp_path / "project").mkdir()
        project = Project(tmp_path / "project", cache)
        return project.write({"dispatch.yml": SETTINGS, "x.yml": config, "mine.py": STEPS}).commit()

    return made


def test_the_plan_of_a_graph(make: Make) -> None:
    """Every step with its standing and reason, before and after a run; nothing is computed for it."""
    project = make(CONFIG)
    before = project.dispatch("plan", "x.yml").well()
    assert before.table() == {
        "numbers": ["run", "here", "-", "no", "result", "yet"],
        "draw": ["inside", "here", "numbers", "computed", "by", "'scale'"],
        "scale": [
            *("run", "here", "draw", "no", "result", "yet;"),
            *("depends", "on", "'draw',", "which", "is", "not", "deterministic"),
        ],
    }
    assert before.err.splitlines() == [
        "bytes, process: inputs: in place, results: rename",
        "3 steps: 2 run, 1 inside",
    ]
    assert not project.workspace.exists()
    project.dispatch("run", "x.yml").well()
    after = project.dispatch("plan", "x.yml", "--json").well().json()
    assert after["schema"] == 1
    assert [(each["name"], each["standing"]) for each in after["steps"]] == [
        ("numbers", "cached"),
        ("draw", "inside"),
        ("scale", "cached"),
    ]
    assert after["steps"][1]["reason"] == "nothing needs it"
    assert (after["targets"], after["images"], after["bytes"]) == (["numbers", "draw", "scale"], [], {})


def test_the_plan_of_a_target(make: Make) -> None:
    """With -s only what it needs is planned, and what was asked for by name is a job."""
    project = make(CONFIG)
    found = project.dispatch("plan", "x.yml", "-s", "draw", "--json").well().json()
    assert [(each["name"], each["standing"]) for each in found["steps"]] == [
        ("numbers", "run"),
        ("draw", "run"),
    ]
    assert found["steps"][1]["needs"] == ["numbers"]


def test_running_changed_steps_again(make: Make) -> None:
    """After an edit a plan says so; with --rerun-changed it plans, and a run does, what has to be redone."""
    project = make("steps: {numbers: {type: numbers, n: 3}}\n")
    project.dispatch("run", "x.yml").well()
    project.write({"mine.py": STEPS.replace("range(n)", "range(n, n + n)")}).commit()
    assert project.dispatch("plan", "x.yml").well().table()["numbers"][:1] == ["cached"]
    why = project.dispatch("why", "x.yml", "numbers").well().out
    assert "numbers: cached: source changed since" in why
    assert "changed since: mine.py" in why
    (step,) = project.dispatch("plan", "x.yml", "--rerun-changed", "--json").well().json()["steps"]
    assert (step["standing"], step["reason"], step["replaces"]) == ("run", "source changed since", True)
    project.dispatch("run", "x.yml", "--rerun-changed").well()
    assert project.dispatch("result", "latest", "numbers").well().out.split() == ["[3,", "4,", "5]"]
    assert project.dispatch("plan", "x.yml").well().table()["numbers"] == ["cached", "here", "-"]


def test_why_a_step_is_not_cached(make: Make) -> None:
    """It names the input that differs from the nearest earlier result, also in a dependency."""
    project = make(CONFIG)
    assert "never computed in this workspace" in project.dispatch("why", "x.yml", "scale").well().out
    project.dispatch("run", "x.yml", "-n", "first").well()
    changed = ("-o", '{"steps": {"scale": {"by": 3.0}, "numbers": {"n": 4}}}')
    lines = project.dispatch("why", "x.yml", "scale", *changed).well().out.splitlines()
    assert [line.strip() for line in lines[-4:]] == [
        "by: 2.0 → 3.0",
        "number: result of step 'draw' differs",
        "draw: numbers: result of step 'numbers' differs",
        "numbers: n: 3 → 4",
    ]
    found = project.dispatch("why", "x.yml", "scale", *changed, "--json").well().json()
    assert (found["schema"], found["nearest"]["run"]) == (1, "first")
    assert found["changes"][0] == {"step": "scale", "input": "by", "change": "2.0 → 3.0", "depth": 0}
    assert found["needs"] == ["numbers"]


@pytest.mark.parametrize(
    ("command", "fact"),
    [
        (("why", "x.yml", "scael"), "there is no step 'scael', did you mean 'scale'?"),
        (("plan", "x.yml", "-s", "scael"), "there is no step 'scael', did you mean 'scale'?"),
    ],
)
def test_a_misspelt_step(make: Make, command: tuple[str, ...], fact: str) -> None:
    """One error with a guess, exit code 2."""
    done = make(CONFIG).dispatch(*command)
    assert (done.code, done.out, done.errors()) == (2, "", [f"error: {fact}"])


def test_what_steps_ask_for(make: Make) -> None:
    """A plan shows it where any step asks for something, and in JSON always."""
    project = make(
        """steps:
  small: {type: numbers, n: 1, step_resources: {cpu_count: 1}}
  large: {type: numbers, n: 2, step_group: api, step_resources: {cpu_count: 0.5, memory: 512MiB}}
  none: {type: numbers, n: 3}
"""
    )
    project.write({"dispatch.yml": SETTINGS + "groups: {api: 2}\n"}).commit()
    done = project.dispatch("plan", "x.yml").well()
    assert done.out.splitlines()[0].split() == [
        "step",
        "standing",
        "image",
        "asks",
        "for",
        "inputs",
        "reason",
    ]
    assert {name: " ".join(row[2:-4]) for name, row in done.table().items()} == {
        "small": "1 CPU",
        "large": "0.5 CPUs, 512 MiB, group api",
        "none": "-",
    }
    steps = project.dispatch("plan", "x.yml", "--json").well().json()["steps"]
    assert [(each["resources"], each["group"]) for each in steps] == [
        ({"cpu_count": 1}, None),
        ({"cpu_count": 0.5, "memory": "512MiB"}, "api"),
        ({}, None),
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("step_resources: {cpu_count: 4000}", "step 'a': it asks for 4000 CPUs, the engine 'local' has"),
        (
            "step_resources: {memory: 9000TiB}",
            "step 'a': it asks for 9000 TiB of memory, the engine 'local' has",
        ),
        ("step_resources: {gpu_count: 3}", "step 'a': it asks for 3 GPUs, the engine 'local' has 2"),
        (
            "step_resources: {gpu_type: h100}",
            "it asks for 1 GPU of the type 'h100', the engine 'local' has 2 of a type that it does not tell",
        ),
        ("step_group: apis", "step 'a': step_group: unknown group 'apis', did you mean 'api'?"),
        ("step_mounts: [{source: /, target: /x}]", "step 'a': step_mounts: it runs on this machine without"),
    ],
)
def test_what_can_never_be(make: Make, options: str, words: str) -> None:
    """It is refused by the plan, with the numbers, before anything starts."""
    project = make(f"steps: {{a: {{type: numbers, n: 1, {options}}}}}\n")
    settings = SETTINGS.replace("{type: local}", "{type: local, gpus: 2}") + "groups: {api: 2}\n"
    project.write({"dispatch.yml": settings}).commit()
    for command in ("plan", "run"):
        done = project.dispatch(command, "x.yml")
        assert (done.code, done.out, len(done.errors())) == (2, "", 1)
        assert words in done.errors()[0]
        assert "remedy: " in done.err
    assert not project.workspace.exists()


def test_mounts_of_settings_without_a_container(make: Make) -> None:
    """One line says of which steps they are not seen; the run goes on."""
    project = make("steps: {a: {type: numbers, n: 1}, b: {type: numbers, n: 2}}\n")
    project.write({"dispatch.yml": SETTINGS + "mounts: [{source: /nowhere, target: /x}]\n"}).commit()
    done = project.dispatch("run", "x.yml").well()
    line = "the settings' mounts are not seen by steps without a container: 'a', 'b'"
    assert done.err.count(line) == 1
    assert line not in project.dispatch("run", "x.yml").well().err
