"""The pipelines of this folder, built, run and looked at as a user does, and verified from the outside."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch.engine.base import RUN_LABEL
from dispatch.testing.project import Done, Project

pytestmark = [pytest.mark.engine, pytest.mark.archive]

Make = Callable[[Mapping[str, str]], Project]

BUSYBOX = 'image: busybox\nimages: {busybox: {docker: "dispatch-test-busybox:1"}}\n'


@pytest.fixture(scope="module")
def quickstart(
    tmp_path_factory: pytest.TempPathFactory, copy: Callable[[str, Path], Project], base: str
) -> Project:
    """The quickstart, its images built, before any run."""
    assert base
    project = copy("quickstart", tmp_path_factory.mktemp("quickstart") / "digits")
    project.dispatch("build", "experiment.yml").well()
    return project


@pytest.fixture(scope="module")
def first(quickstart: Project) -> Done:
    """The quickstart's first run, named ``first``."""
    return quickstart.dispatch("run", "experiment.yml", "-n", "first", "--json").well()


def verdicts(done: Done) -> dict[str, str]:
    """The verdict of each step of a run with ``--json``."""
    return {step["name"]: step["verdict"] for step in done.json()["steps"]}


def ids(done: Done) -> dict[str, str]:
    """The unique id of each step of a run with ``--json``."""
    return {step["name"]: step["id"] for step in done.json()["steps"]}


def attempts(project: Project) -> set[str]:
    """Every attempt that was ever made in a project's workspace."""
    return {path.name for path in (project.workspace / "attempts").iterdir()}


def git_state(project: Project) -> tuple[str, ...]:
    """What git says of a project: changes, references, stashes."""
    questions = (("status", "--porcelain"), ("for-each-ref",), ("stash", "list"))
    return tuple(project.git(*question) for question in questions)


# The quickstart.


def test_the_locks_are_committed() -> None:
    """A newcomer locks nothing: every lock of the quickstart is beside its requirements."""
    requirements = Path(__file__).parent / "quickstart" / "requirements"
    assert {path.stem for path in requirements.glob("*.lock")} == {
        path.stem for path in requirements.glob("*.in")
    }


def test_build_prints_name_and_reference(quickstart: Project, door: Door) -> None:
    """What `build` prints is one line for each image: its name, a tab, a reference that the engine knows."""
    done = quickstart.dispatch("build", "experiment.yml").well()
    references = dict(line.split("\t") for line in done.out.splitlines())
    assert set(references) == {"sklearn", "plots", "debian-python"}
    for name, reference in references.items():
        assert re.fullmatch(rf"dispatch:{name}--[0-9a-f]{{16}}", reference)
        assert door.inspect_image(reference) is not None


def test_the_first_run_computes_everything(quickstart: Project, first: Done) -> None:
    """Every step of the first run is completed, and `verify` finds from the outside what it should."""
    assert set(verdicts(first).values()) == {"completed"}
    checked = quickstart.call("./verify", "workspace").well()
    assert checked.out.count("ok ") == 5


def test_a_run_ends_in_a_table_of_results(quickstart: Project, first: Done) -> None:
    """stdout is the table alone, each result a directory that exists; progress is on stderr."""
    done = quickstart.dispatch("run", "experiment.yml").well()
    assert done.out.split("\n")[0].split() == ["step", "state", "time", "image", "result"]
    table = done.table()
    assert list(table) == list(verdicts(first))
    assert all(Path(row[-1]).is_dir() for row in table.values())
    assert re.match(r"run \S+: completed, 8 of 8 steps cached\n  took .*\n  saved by the cache: ", done.err)


def test_the_second_run_starts_no_container(quickstart: Project, first: Done, door: Door) -> None:
    """Run again, every step is cached: no attempt is made and no file of any result changes."""
    before, made = quickstart.files(), attempts(quickstart)
    second = quickstart.dispatch("run", "experiment.yml", "-n", "second", "--json").well()
    assert set(verdicts(second).values()) == {"cached"}
    assert ids(second) == ids(first)
    assert attempts(quickstart) == made
    after = quickstart.files()
    assert {name: after[name] for name in before if "/cache/" in name} == {
        name: content for name, content in before.items() if "/cache/" in name
    }
    assert door.containers.labelled(RUN_LABEL, "second") == []


def test_no_container_is_left_behind(first: Done, door: Door) -> None:
    """When the command has ended, nothing of the run is in the engine."""
    assert first.code == 0
    assert door.containers.labelled(RUN_LABEL, "first") == []


def test_another_commit_changes_no_identity(quickstart: Project, first: Done) -> None:
    """A commit that touches no argument, no version and no declared path leaves everything cached."""
    quickstart.write({"README.md": "# Digits\n"}).commit()
    done = quickstart.dispatch("run", "experiment.yml", "--json").well()
    assert ids(done) == ids(first)
    assert set(verdicts(done).values()) == {"cached"}


def test_uncommitted_changes_are_announced_in_one_line(quickstart: Project, first: Done) -> None:
    """A dirty tree runs as a snapshot, which one line on stderr says; git's own state stays as it was."""
    assert first.code == 0
    note = quickstart.root / "NOTES.md"
    note.write_text("to be continued\n")
    before = git_state(quickstart)
    done = quickstart.dispatch("run", "experiment.yml", "-s", "data").well()
    assert [line for line in done.err.splitlines() if not line.startswith(("run ", "  "))] == [
        line for line in done.err.splitlines() if "uncommitted changes" in line
    ]
    assert done.err.count("uncommitted changes") == 1
    assert git_state(quickstart) == before
    note.unlink()


def test_a_part_of_the_graph(quickstart: Project, first: Done) -> None:
    """`-s` takes the named step and what it needs, and nothing else."""
    assert first.code == 0
    done = quickstart.dispatch("run", "experiment.yml", "-s", "train_fine", "-n", "part", "--json").well()
    assert list(verdicts(done)) == ["data", "train_fine"]
    shown = quickstart.dispatch("show", "part", "--json").well().json()
    assert [step["name"] for step in shown["steps"]] == ["data", "train_fine"]


def test_a_taken_name_is_refused(quickstart: Project, first: Done) -> None:
    """A finished run keeps its name: exit code 2, and what to do."""
    assert first.code == 0
    done = quickstart.dispatch("run", "experiment.yml", "-n", "first")
    assert (done.code, done.out) == (2, "")
    assert len(done.errors()) == 1
    assert "'first'" in done.errors()[0]
    assert "remedy: choose another name" in done.err


def test_a_run_as_json(quickstart: Project, first: Done) -> None:
    """`run --json` is one object of schema 1 that says of every step what it is and where its result lies."""
    document = first.json()
    assert (document["schema"], document["run"], document["state"]) == (1, "first", "completed")
    step: dict[str, Any] = document["steps"][0]
    assert set(step) == {
        "name", "id", "verdict", "reason", "image", "image_id", "started", "ended", "seconds", "result"
    }  # fmt: skip
    assert re.fullmatch(r"load_digits-[a-z2-7]{32}", step["id"])
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", step["image_id"])
    assert Path(step["result"]) == quickstart.workspace / "cache" / step["id"] / "result"
    assert step["started"] < step["ended"]


def test_runs_are_listed_newest_first(quickstart: Project, first: Done) -> None:
    """`runs` knows every run with its state; the same in JSON."""
    assert first.code == 0
    quickstart.dispatch("run", "experiment.yml", "-s", "data", "-n", "listed").well()
    table = quickstart.dispatch("runs").well().table()
    assert next(iter(table)) == "listed"
    assert (table["first"][-2:], table["listed"][-2:]) == (["completed", "8"], ["completed", "1"])
    rows = quickstart.dispatch("runs", "--json").well().json()["runs"]
    assert [row["name"] for row in rows] == list(table)
    only = quickstart.dispatch("runs", "--limit", "1").well().table()
    assert list(only) == ["listed"]


def test_a_run_is_shown(quickstart: Project, first: Done) -> None:
    """`show` has the steps of a run with state, image and result, the newest run without a name."""
    shown = quickstart.dispatch("show", "first").well()
    assert {row[0] for row in shown.table().values()} == {"completed"}
    document = quickstart.dispatch("show", "first", "--json").well().json()
    assert document["schema"] == 1
    assert {step["name"]: step["id"] for step in document["steps"]} == ids(first)
    assert all(Path(step["log"]).is_file() for step in document["steps"])
    newest = quickstart.dispatch("runs", "--json").well().json()["runs"][0]["name"]
    assert quickstart.dispatch("show", "--json").well().json()["run"] == newest


def test_a_result_is_printed_or_named(quickstart: Project, first: Done) -> None:
    """`result` prints JSON, and the directory of what is neither JSON nor text."""
    report = quickstart.dispatch("result", "first", "report").well()
    assert report.json()["accuracy"] >= 0.9
    assert report.err == ""
    picture = quickstart.dispatch("result", "first", "picture").well()
    assert (Path(picture.out.strip()) / "confusion.png").is_file()
    asked = quickstart.dispatch("result", "first", "report", "--path").well()
    assert Path(asked.out.strip()) == quickstart.workspace / "cache" / ids(first)["report"] / "result"


def test_a_log_is_printed(quickstart: Project, first: Done) -> None:
    """`logs` prints what the step printed."""
    assert first.code == 0
    assert "best: medium" in quickstart.dispatch("logs", "first", "summary").well().out.splitlines()


def test_doctor_finds_what_a_run_needs(quickstart: Project) -> None:
    """`doctor` checks engine, git, workspace, disk and tools, and is content here."""
    done = quickstart.dispatch("doctor").well()
    assert {line.split()[1].rstrip(":") for line in done.out.splitlines() if line.startswith("ok")} >= {
        "engine", "git", "workspace", "disk", "uv"
    }  # fmt: skip
    document = quickstart.dispatch("doctor", "--json").well().json()
    assert document["healthy"]
    assert {"what", "level", "fact", "remedy", "code"} == set(document["checks"][0])


# A shell, and nothing else.


def test_steps_run_in_an_image_that_holds_only_a_shell(
    tmp_path: Path, copy: Callable[[str, Path], Project], busybox_image: ImageRecord
) -> None:
    """Shell steps need no Python, no bash and no git in their image."""
    project = copy("shell-only", tmp_path / "shell-only")
    assert project.dispatch("build", "experiment.yml").well().out == "busybox\tdispatch-test-busybox:1\n"
    done = project.dispatch("run", "experiment.yml", "--json").well()
    assert {step["image_id"] for step in done.json()["steps"]} == {busybox_image.id}
    assert project.call("./verify", "workspace").well().out.startswith("ok")
    again = project.dispatch("run", "experiment.yml", "--json").well()
    assert set(verdicts(again).values()) == {"cached"}


def test_a_snapshot_is_what_the_working_tree_holds(make: Make, busybox_image: ImageRecord) -> None:
    """Uncommitted content runs, in the configuration's own directory; ignored files stay behind."""
    assert busybox_image
    look = (
        "steps:\n  look:\n    type: shell\n    step_network: none\n    paths: [note.txt]\n    command: |\n"
        '      ls * > "$DISPATCH_OUTPUT_DIR/ls"; cat note.txt > "$DISPATCH_OUTPUT_DIR/note"\n'
    )
    project = make({"sub/note.txt": "old\n", "sub/x.yml": BUSYBOX + look, ".gitignore": "*.secret\n"})
    project.write({"sub/note.txt": "new\n", "sub/untracked.txt": "", "sub/a.secret": "hidden"})
    done = project.dispatch("run", "sub/x.yml", "--json").well()
    result = Path(done.json()["steps"][0]["result"])
    assert (result / "note").read_text() == "new\n"
    assert (result / "ls").read_text().split() == ["note.txt", "untracked.txt", "x.yml"]
    project.write({"sub/note.txt": "newer\n"})
    again = project.dispatch("run", "sub/x.yml", "--json").well()
    assert verdicts(again) == {"look": "completed"}
    assert ids(again) != ids(done)


def test_an_unfinished_run_goes_on_under_its_name(make: Make, busybox_image: ImageRecord) -> None:
    """A run that failed is taken up by its name: what was completed is kept, the work directory too."""
    assert busybox_image
    steps = (
        "steps:\n  first: {type: shell, step_network: none, command: 'true'}\n"
        "  second:\n    type: shell\n    step_network: none\n    inputs: {first: {type: ref, ref: first}}\n"
        '    command: test -e "$DISPATCH_WORK_DIR/tried" || { touch "$DISPATCH_WORK_DIR/tried"; exit 7; }\n'
    )
    project = make({"x.yml": BUSYBOX + steps})
    failed = project.dispatch("run", "x.yml", "-n", "mine", "--json")
    assert (failed.code, failed.json()["state"]) == (1, "failed")
    assert verdicts(failed) == {"first": "completed", "second": "failed"}
    assert project.dispatch("show", "mine", "--json").well().json()["state"] == "failed"
    done = project.dispatch("run", "x.yml", "-n", "mine", "--json").well()
    assert verdicts(done) == {"first": "cached", "second": "completed"}
    assert project.dispatch("show", "mine", "--json").well().json()["state"] == "completed"
    assert len(project.dispatch("runs", "--json").well().json()["runs"]) == 1


SIDE_BY_SIDE = "type: shell, step_network: none, step_resources: {cpu_count: 1, memory: 16MiB}"


def test_one_step_at_a_time(make: Make, busybox_image: ImageRecord) -> None:
    """With `-j 1` a step starts when the one before it has ended."""
    assert busybox_image
    steps = ", ".join(f"{name}: {{{SIDE_BY_SIDE}, command: 'true # {name}'}}" for name in "abc")
    project = make({"x.yml": f"{BUSYBOX}steps: {{{steps}}}"})
    done = project.dispatch("run", "x.yml", "-j", "1", "--json").well().json()
    times = sorted((step["started"], step["ended"]) for step in done["steps"])
    assert all(before[1] <= after[0] for before, after in pairwise(times))


@pytest.mark.parametrize("jobs", ["2", "-1"])
def test_as_many_at_a_time_as_asked(jobs: str, make: Make, busybox_image: ImageRecord) -> None:
    """`-j` says how many steps run side by side; -1 leaves it to the machine."""
    assert busybox_image
    steps = ", ".join(f"{name}: {{{SIDE_BY_SIDE}, command: 'sleep 1 # {name}'}}" for name in "ab")
    project = make({"x.yml": f"{BUSYBOX}steps: {{{steps}}}"})
    said = project.dispatch("run", "x.yml", "-j", jobs).well().err.splitlines()
    assert said[:2] == ["a: started", "b: started"]
    assert all(": completed in " in line for line in said[2:4])


def test_a_package_is_included_by_hand(make: Make, base: str) -> None:
    """`-i` imports a module that the settings do not name; `-w` names another workspace."""
    assert base
    project = make(
        {
            "extra.py": "from dispatch import step\n\n@step('hello')\ndef hello(name: str) -> str:\n"
            "    return f'hello {name}'\n",
            "x.yml": "image: debian-python\nsteps: {greet: {type: hello, name: you, step_network: none}}\n",
        }
    )
    assert project.dispatch("run", "x.yml").code == 2
    elsewhere = project.root.parent / "elsewhere"
    project.dispatch("run", "x.yml", "-i", "extra", "-w", str(elsewhere)).well()
    assert project.dispatch("result", "latest", "greet", "-w", "../elsewhere").well().out == "hello you\n"
    assert not project.workspace.exists()


def test_a_dry_run_changes_nothing(make: Make, busybox_image: ImageRecord) -> None:
    """`--dry-run` prints the plan, with reasons, and leaves no file behind."""
    assert busybox_image
    steps = (
        "steps:\n  a: {type: shell, command: 'true'}\n"
        "  b: {type: shell, command: 'true', inputs: {a: {ref: a}}}\n"
    )
    project = make({"x.yml": BUSYBOX + steps})
    before = project.files()
    done = project.dispatch("run", "--dry-run", "x.yml").well()
    assert {name: row[:2] for name, row in done.table().items()} == {
        "a": ["run", "busybox"],
        "b": ["run", "busybox"],
    }
    plan = project.dispatch("run", "--dry-run", "--json", "x.yml").well().json()
    assert plan["schema"] == 1
    assert [{"name", "standing", "image", "id", "reason"} - set(step) for step in plan["steps"]] == [
        set()
    ] * 2
    assert project.dispatch("plan", "--json", "x.yml").well().json() == plan
    assert project.files() == before
    assert not project.workspace.exists()


def test_a_dry_run_builds_no_image_to_find_out(make: Make) -> None:
    """What only a missing image could tell is `unknown until built`."""
    project = make(
        {
            "dispatch.yml": "include_package: [model]\n",
            "model.py": "import dispatch_test_missing_library\n",
            "x.yml": 'image: none\nimages: {none: {docker: "dispatch-test-nowhere:1"}}\n'
            "steps: {fit: {type: fit}}\n",
        }
    )
    done = project.dispatch("run", "--dry-run", "x.yml").well()
    assert "unknown until built" in done.out
    assert not project.workspace.exists()
