"""Steps of the current environment, called from outside: how they end, what is recorded, who waits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dispatch.testing.project import Done, Project, Started

Make = Callable[[Mapping[str, str]], Project]

MODULE = """\
import os
import time
from pathlib import Path

from dispatch import JsonFormat, Step, step


def note(line):
    with open("calls", "a") as calls:
        calls.write(line + "\\n")


@step("add")
def add(a: int, b: int = 1) -> int:
    note(f"add {a} {b}")
    return a + b


@step("fails")
def fails() -> int:
    raise ValueError("the cat sat on it")


@step("leaves")
def leaves() -> int:
    os._exit(3)


@step("killed")
def killed() -> int:
    os.kill(os.getpid(), 9)


@step("slow")
def slow(seconds: float) -> int:
    Path("began").touch()
    time.sleep(seconds)
    note("slow")
    return 1


@step("draw", deterministic=False)
def draw() -> float:
    note("draw")
    return 0.5


@step("twice")
def twice(x: float) -> float:
    return 2 * x


@step("wrong", format=JsonFormat())
def wrong() -> object:
    return {"a": object}


@Step.register("resumes")
class Resumes(Step):
    def run(self) -> str:
        self.logger.info("attempt of %s", self.unique_id)
        seen = self.work_dir / "seen"
        if not seen.exists():
            seen.touch()
            raise RuntimeError("stopped half-way")
        return "resumed"


@Step.register("asks")
class Asks(Step):
    def run(self) -> str:
        return self.workspace.url
"""


@pytest.fixture
def project(make: Make) -> Project:
    """A project whose steps need no image."""
    return make(
        {"dispatch.yml": "include_package: [mine]\n", "mine.py": MODULE, ".gitignore": "calls\nbegan\n"}
    )


def run(project: Project, steps: str, *options: str) -> Done:
    """Run a configuration of these steps."""
    return project.write({"x.yml": f"steps:\n{steps}"}).dispatch("run", "x.yml", *options)


def calls(project: Project) -> list[str]:
    """What the steps noted, in order."""
    path = project.root / "calls"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    ("type", "fact"),
    [
        ("fails", "ValueError: the cat sat on it"),
        ("leaves", "exit code 3"),
        ("killed", "SIGKILL"),
        ("asks", "take"),
    ],
)
def test_a_failed_step_says_why(project: Project, type: str, fact: str) -> None:
    """Exit 1, one error that names the step and the fact; what does not need it is done, the rest skipped."""
    done = run(
        project,
        f"  bad: {{type: {type}}}\n"
        "  behind: {type: twice, x: {type: ref, ref: bad}}\n"
        "  beside: {type: add, a: 1}\n",
    )
    assert done.code == 1
    assert len(done.errors()) == 1
    assert "step 'bad' failed" in done.errors()[0]
    assert fact in done.err
    assert {name: row[0] for name, row in done.table().items()} == {
        "bad": "failed",
        "behind": "skipped",
        "beside": "completed",
    }


def test_a_result_that_does_not_fit_its_format_is_kept_aside(project: Project) -> None:
    """The step fails, the error names a path, and there is what could be saved; nothing is cached."""
    done = run(project, "  wrong: {type: wrong}\n")
    assert done.code == 1
    saved = list((project.workspace / "attempts").glob("wrong-*.1/output/quarantine/*"))
    assert [path.name for path in saved] == ["data.pickle"]
    assert str(saved[0]) in done.err
    assert list((project.workspace / "cache").iterdir()) == []


def test_work_survives_attempts_and_info_lines_are_in_the_log(project: Project) -> None:
    """A second run goes on where the first failed; what `self.logger` says at INFO is in the step's log."""
    assert run(project, "  again: {type: resumes}\n").code == 1
    done = run(project, "  again: {type: resumes}\n").well()
    assert done.table()["again"][0] == "completed"
    assert "attempt of Resumes-" in project.dispatch("logs", "latest", "again").well().out


def test_what_is_not_cached_runs_inside_what_needs_it(project: Project) -> None:
    """An interior step that is not deterministic is no job; a leaf is one, each time."""
    steps = "  chance: {type: draw}\n  once: {type: twice, x: {type: ref, ref: chance}}\n"
    first = run(project, steps).well().table()
    assert {name: row[0] for name, row in first.items()} == {"chance": "inside", "once": "completed"}
    assert calls(project) == ["draw"]
    second = run(project, steps).well().table()
    assert second["once"][0] == "cached"
    assert calls(project) == ["draw"]
    for _ in range(2):
        assert run(project, "  leaf: {type: draw}\n").well().table()["leaf"][0] == "completed"
    assert calls(project) == ["draw"] * 3


def test_changed_code_runs_again_when_asked(project: Project) -> None:
    """`plan` says so, a plain run believes the cache, --rerun-changed replaces it and what depends on it."""
    steps = "  a: {type: add, a: 1}\n  b: {type: add, a: {type: ref, ref: a}}\n"
    run(project, steps).well()
    project.write({"mine.py": MODULE.replace("return a + b", "return a + b + 100")})
    shown = {
        row["name"]: row["reason"] for row in project.dispatch("plan", "x.yml", "--json").json()["steps"]
    }
    assert "source changed since" in shown["a"]
    assert {row[0] for row in run(project, steps).well().table().values()} == {"cached"}
    assert project.dispatch("result", "latest", "b").out == "3\n"
    assert {row[0] for row in run(project, steps, "--rerun-changed").well().table().values()} == {"completed"}
    assert project.dispatch("result", "latest", "b").out == "203\n"
    assert {row[0] for row in run(project, steps, "--rerun-changed").well().table().values()} == {"cached"}


def test_what_a_rerun_did_not_come_to_is_not_forgotten(project: Project) -> None:
    """Where a step behind a replaced result failed, its old result is named as such, and made anew."""
    steps = (
        "  a: {type: add, a: 1}\n  b: {type: shell, inputs: {a: {ref: a}},"
        ' command: \'test ! -e began && cp "$DISPATCH_INPUT_A/data.json" "$DISPATCH_OUTPUT_DIR/n"\'}\n'
    )
    run(project, steps).well()
    project.write({"mine.py": MODULE.replace("return a + b", "return a + b + 100"), "began": ""})
    assert run(project, steps, "--rerun-changed").code == 1
    (project.root / "began").unlink()
    plain = run(project, steps).well().table()
    assert {row[0] for row in plain.values()} == {"cached"}
    shown = {
        row["name"]: row["reason"] for row in project.dispatch("plan", "x.yml", "--json").json()["steps"]
    }
    assert shown["b"] == "'a' was computed again since"
    again = run(project, steps, "--rerun-changed").well().table()
    assert {name: row[0] for name, row in again.items()} == {"a": "cached", "b": "completed"}
    found = Path(project.dispatch("result", "latest", "b").well().out.strip())
    assert (found / "n").read_text() == "102\n"
    assert {row[0] for row in run(project, steps, "--rerun-changed").well().table().values()} == {"cached"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_recorded_and_lets_go(project: Project, number: signal.Signals) -> None:
    """Exit 130, the step is cancelled and ended, and the next run starts it at once."""
    project.write({"x.yml": "steps: {long: {type: slow, seconds: 60}}"})
    started = project.start("dispatch", "run", "x.yml", "-n", "stopped")
    wait_for(project.root / "began", started)
    started.signal(number, group=number is signal.SIGINT)
    done = started.end()
    assert done.code == 130, done.err
    shown = project.dispatch("show", "stopped", "--json").json()
    assert (shown["state"], shown["steps"][0]["state"]) == ("cancelled", "cancelled")
    assert project.dispatch("steps", "--state", "running").table() == {}
    project.write({"x.yml": "steps: {long: {type: slow, seconds: 0}}"})
    assert project.dispatch("run", "x.yml").well().table()["long"][0] == "completed"


def test_a_killed_client_takes_its_steps_along(project: Project) -> None:
    """After kill -9 of the client no step goes on, and the same command computes it once."""
    project.write({"x.yml": "steps: {long: {type: slow, seconds: 2}}"})
    started = project.start("dispatch", "run", "x.yml")
    wait_for(project.root / "began", started)
    started.signal(signal.SIGKILL, group=False)
    assert started.end().code == -signal.SIGKILL
    (project.root / "began").unlink()
    done = project.dispatch("run", "x.yml").well()
    assert done.table()["long"][0] == "completed"
    time.sleep(0.5)
    assert calls(project) == ["slow"]


def wait_for(path: Path, started: Started) -> None:
    """Wait until a step made a file; fail if the command ends before."""
    until = time.monotonic() + 60
    while not path.exists():
        assert started.running, started.end().err
        assert time.monotonic() < until
        time.sleep(0.02)


def test_two_runs_compute_a_step_once(project: Project) -> None:
    """The second waits for the first, and finds its result."""
    project.write({"x.yml": "steps: {long: {type: slow, seconds: 1.5}}"})
    both = [project.start("dispatch", "run", "x.yml") for _ in range(2)]
    verdicts = sorted(each.end().well().table()["long"][0] for each in both)
    assert verdicts == ["cached", "completed"]
    assert calls(project) == ["slow"]


def test_a_workspace_in_memory_serves_one_run(project: Project) -> None:
    """With `-w memory://` everything is computed, shown and forgotten; no directory is left."""
    done = run(
        project, "  a: {type: add, a: 1}\n  b: {type: add, a: {type: ref, ref: a}}\n", "-w", "memory://"
    )
    assert {row[0] for row in done.well().table().values()} == {"completed"}
    assert not project.workspace.exists()


@pytest.mark.parametrize("dirty", [True, False])
def test_uncommitted_changes_can_be_refused(project: Project, dirty: bool) -> None:
    """`allow_dirty: false` holds for steps that run here, too."""
    project.write({"dispatch.yml": "include_package: [mine]\nallow_dirty: false\n"})
    project.write({"x.yml": "steps: {a: {type: add, a: 1}}"}).commit()
    if dirty:
        project.write({"mine.py": MODULE + "\n"})
    done = project.dispatch("run", "x.yml")
    assert done.code == (2 if dirty else 0), done.err


def test_doctor_asks_for_no_engine_where_none_is_used(project: Project) -> None:
    """With `executor: {type: local}` a missing engine is told, and is nothing that a run needs."""
    project.write({"dispatch.yml": "include_package: [mine]\nexecutor: {type: local}\n"})
    nowhere = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}
    done = project.dispatch("doctor", env=nowhere).well()
    assert "warning  engine" in done.out
    project.write({"dispatch.yml": "include_package: [mine]\n"})
    assert project.dispatch("doctor", env=nowhere).code == 3


@pytest.mark.engine
@pytest.mark.archive
def test_images_and_the_current_environment_in_one_run(project: Project, base: str) -> None:
    """What has no image, or says `machine: local`, runs here, the others in theirs; results cross over."""
    assert base
    done = run(
        project,
        "  here: {type: add, a: 1}\n"
        "  there: {type: add, a: {type: ref, ref: here}, step_image: debian-python}\n"
        "  back: {type: add, a: {type: ref, ref: there}, step_image: debian-python,"
        " step_resources: {machine: local}}\n"
        "  said: {type: shell, inputs: {n: {type: ref, ref: back}},"
        ' command: \'cat "$DISPATCH_INPUT_N/data.json" > "$DISPATCH_OUTPUT_DIR/n"\'}\n',
    ).well()
    assert {row[0] for row in done.table().values()} == {"completed"}
    assert project.dispatch("result", "latest", "back").well().out == "4\n"
    said = Path(project.dispatch("result", "latest", "said").well().out.strip())
    assert (said / "n").read_text() == "4\n"
    assert calls(project) == ["add 1 1", "add 3 1"]
    assert os.getuid() == (said / "n").stat().st_uid
