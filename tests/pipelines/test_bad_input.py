"""Bad input of every kind: one clear error each, the right exit code, and nothing half-made."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch.engine.base import RUN_LABEL
from dispatch.testing.index import Index, source_distribution, wheel
from dispatch.testing.project import COMMAND, DEADLINE, Done, Project

pytestmark = pytest.mark.engine

Make = Callable[[Mapping[str, str]], Project]

BUSYBOX = 'image: busybox\nimages: {busybox: {docker: "dispatch-test-busybox:1"}}\n'
SETTINGS = "include_package: [mine]\n"
MODULE = """\
import os

from dispatch import step


@step("double")
def double(number: int, times: int = 1) -> int:
    return number * 2**times


@step("raises")
def raises() -> int:
    raise ValueError("the cat sat on it")


@step("leaves_at_once")
def leaves_at_once() -> int:
    os._exit(0)


@step("kills_itself")
def kills_itself() -> int:
    os.kill(os.getpid(), 9)


@step("hungry")
def hungry() -> int:
    return len(bytearray(512 << 20))
"""


@dataclass(frozen=True)
class Case:
    """One kind of bad input: what the user wrote and called, the exit code, and what the answer must name.

    ``fact`` are parts of the error's message, ``remedy`` of the line that says what to do.
    """

    steps: str
    fact: Sequence[str]
    remedy: Sequence[str]
    code: int = 2
    command: Sequence[str] = ("run", "x.yml")
    head: str = "image: debian-python\n"
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


CASES = {
    "unknown key": Case("stepz: {}", ["x.yml:2:1", "'stepz'", "did you mean 'steps'?"], ["steps"]),
    "unknown key of a step": Case(
        "steps: {a: {type: double, number: 1, step_netwrok: none}}",
        ["step 'a'", "'step_netwrok'", "did you mean 'step_network'?"],
        ["step_network"],
    ),
    "unknown key of the settings": Case(
        "steps: {a: {type: double, number: 1}}",
        ["dispatch.yml:1:1", "'workspce'", "did you mean 'workspace'?"],
        ["workspace"],
        files={"dispatch.yml": "workspce: here\n"},
    ),
    "missing argument": Case("steps: {a: {type: double}}", ["step 'a'", "'number'", "missing"], ["add it"]),
    "unknown argument": Case(
        "steps: {a: {type: double, number: 1, tims: 2}}", ["step 'a'", "'tims'"], ["times"]
    ),
    "wrong-typed argument": Case(
        "steps: {a: {type: double, number: 'two'}}", ["step 'a'", "'number'", "int", "'two'"], ["quotes"]
    ),
    "unknown step type": Case(
        "steps: {a: {type: doubel, number: 1}}",
        ["step 'a'", "'doubel'", "did you mean 'double'?", "registered: double, hungry, kills_itself"],
        ["include_package"],
    ),
    "missing reference": Case(
        "steps: {a: {type: double, number: {type: ref, ref: b}}}", ["step 'a'", "'b'"], ["the steps are: a"]
    ),
    "cycle": Case(
        "steps:\n  a: {type: double, number: {ref: b}}\n  b: {type: double, number: {ref: c}}\n"
        "  c: {type: double, number: {ref: a}}",
        ["a → b → c → a"],
        ["remove one"],
    ),
    "unknown image name": Case(
        "steps: {a: {type: double, number: 1}}",
        ["'debian-pyhton'", "did you mean 'debian-python'?"],
        ["images:"],
        head="image: debian-pyhton\n",
    ),
    "no image": Case(
        "steps: {a: {type: double, number: 1}}",
        ["step 'a'", "no image", "executor: {type: docker}"],
        ["step_image:", "image:"],
        head="",
        files={"dispatch.yml": f"{SETTINGS}executor: {{type: docker}}\n"},
    ),
    "missing lock": Case(
        "steps: {a: {type: double, number: 1}}",
        ["'e'", "requirements.lock"],
        ["`dispatch lock x.yml`"],
        command=("build", "x.yml"),
        head="image: e\nimages: {e: {pip: requirements.in, base: debian-python}}\n",
        files={"requirements.in": "humanize\n"},
    ),
    "unknown base": Case(
        "steps: {a: {type: double, number: 1}}",
        ["'e'", "'debian-pyhton'", "did you mean 'debian-python'?"],
        ["images:"],
        command=("lock", "x.yml"),
        head="image: e\nimages: {e: {pip: requirements.in, base: debian-pyhton}}\n",
        files={"requirements.in": "humanize\n"},
    ),
    "base that is nowhere": Case(
        "steps: {a: {type: double, number: 1}}",
        ["localhost:1/no/base:1", "not in the engine"],
        ["docker load", "another image"],
        code=3,
        command=("lock", "x.yml"),
        head='image: e\nimages: {e: {pip: requirements.in, base: "localhost:1/no/base:1"}}\n',
        files={"requirements.in": "humanize\n"},
    ),
    "image that is nowhere": Case(
        "steps: {a: {type: shell, command: 'true'}}",
        ["localhost:1/no/image:1", "not in the engine"],
        ["docker load", "another image"],
        code=3,
        head='image: e\nimages: {e: {docker: "localhost:1/no/image:1"}}\n',
    ),
    "no engine": Case(
        "steps: {a: {type: double, number: 1}}",
        ["Docker Engine", "no socket"],
        ["dispatch engine start"],
        code=3,
        env={"DOCKER_HOST": "unix:///nonexistent/docker.sock"},
    ),
    "engine elsewhere that is not there": Case(
        "steps: {a: {type: double, number: 1}}",
        ["nobody listens at tcp://127.0.0.1:1"],
        ["DOCKER_HOST"],
        code=3,
        env={"DOCKER_HOST": "tcp://127.0.0.1:1"},
    ),
    "no such configuration": Case("steps: {}", ["missing.yml"], [], command=("run", "missing.yml")),
    "no such step": Case(
        "steps: {a: {type: double, number: 1}}", ["'b'"], ["a"], command=("run", "x.yml", "-s", "b")
    ),
    "no such run": Case(
        "steps: {a: {type: double, number: 1}}", ["'b'"], ["dispatch runs"], command=("show", "b")
    ),
    "no run yet": Case(
        "steps: {a: {type: double, number: 1}}", ["no runs"], ["dispatch run"], command=("show",)
    ),
}


def holds(done: Done, code: int, fact: Sequence[str], remedy: Sequence[str]) -> None:
    """Hold that a command failed as it should: one error, its parts, a remedy, no traceback, no data."""
    assert done.code == code, f"exit code {done.code}\n{done.err}"
    assert done.out == ""
    assert "Traceback" not in done.err
    assert len(done.errors()) == 1, done.err
    message = done.err[done.err.index("error:") :]
    said, _, way_out = message.partition("\nremedy: ")
    for part in fact:
        assert part in said, f"{part!r} is not in: {said}"
    for part in remedy:
        assert part in way_out, f"{part!r} is not in the remedy: {way_out}"


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_error(name: str, make: Make) -> None:
    """The error names thing, fact and remedy; its exit code is right; no file appears or changes."""
    case = CASES[name]
    files = {"dispatch.yml": SETTINGS, "mine.py": MODULE, "x.yml": case.head + case.steps, **case.files}
    project = make(files)
    before = project.files()
    done = project.dispatch(*case.command, env=case.env)
    holds(done, case.code, case.fact, case.remedy)
    assert project.files() == before
    assert not project.workspace.exists()


# Where steps come from.


def test_a_repository_without_a_commit(make: Make) -> None:
    """An unborn HEAD is an error that says to commit."""
    project = make({"x.yml": f"{BUSYBOX}steps: {{a: {{type: shell, command: 'true'}}}}"})
    project.git("update-ref", "-d", "HEAD")
    holds(project.dispatch("run", "x.yml"), 2, ["no commit yet"], ["git commit"])
    assert not project.workspace.exists()


def test_a_directory_that_is_no_repository(tmp_path: Path) -> None:
    """Outside a repository a run is an error that says how to make one."""
    project = Project(tmp_path / "plain")
    project.write({"x.yml": f"{BUSYBOX}steps: {{a: {{type: shell, command: 'true'}}}}"})
    holds(project.dispatch("run", "x.yml"), 2, [str(project.root), "git repository"], ["git init"])
    assert not project.workspace.exists()


def test_an_engine_that_this_user_may_not_use(make: Make) -> None:
    """A socket without permission is named, with the group that gives it."""
    project = make({"x.yml": f"{BUSYBOX}steps: {{a: {{type: shell, command: 'true'}}}}"})
    # pytest's directories have paths too long for a socket.
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
        address = Path(short) / "engine.sock"
        listener.bind(str(address))
        listener.listen()
        address.chmod(0)
        # Root may use any socket, unless the capability to do so is taken away.
        less = "-dac_override,-dac_read_search"
        as_anybody = ("setpriv", f"--bounding-set={less}", f"--inh-caps={less}") if os.getuid() == 0 else ()
        done = project.call(*as_anybody, COMMAND, "run", "x.yml", env={"DOCKER_HOST": f"unix://{address}"})
    holds(done, 3, [str(address), "may not use"], ["group `docker`"])
    assert not project.workspace.exists()


# What an index serves.

GREETING = "dispatch-test-greeting"
GREETING_FILE = "dispatch_test_greeting-1.0-py3-none-any.whl"


@pytest.fixture
def locked(make: Make, index: Index, tmp_path: Path) -> Project:
    """A project with a lock that was made from the test's own index, which all its commands use."""
    index.serve(GREETING, GREETING_FILE, wheel(GREETING, "a = 1\n"))
    steps = "steps: {a: {type: shell, command: 'true'}}"
    head = "image: e\nimages: {e: {pip: requirements.in, base: debian-python}}\n"
    made = make({"x.yml": head + steps, "requirements.in": f"{GREETING}\n"})
    unset = {name: "" for name in os.environ if name.startswith(("PIP_", "UV_"))}
    settings = {"PIP_INDEX_URL": index.address, "PIP_CONFIG_FILE": os.devnull}
    project = Project(made.root, {**unset, **settings, "UV_CACHE_DIR": str(tmp_path / "uv")})
    project.dispatch("lock", "x.yml").well()
    return project.commit()


def error_of(done: Done) -> Done:
    """A command's end without the progress and the notices before its error."""
    assert "error:" in done.err, done.err
    return replace(done, err=done.err[done.err.index("error:") :])


@pytest.mark.parametrize("command", ["build", "run"])
def test_a_stale_lock(command: str, locked: Project) -> None:
    """A lock that does not fit its requirements any more names them and the command that renews it."""
    locked.write({"requirements.in": f"{GREETING}\nhumanize\n"})
    before = locked.files()
    done = locked.dispatch(command, "x.yml")
    holds(error_of(done), 2, ["'e'", "stale", "humanize"], ["dispatch lock x.yml"])
    assert locked.files() == before


def test_a_lock_that_was_edited(locked: Project) -> None:
    """A lock whose content is not the one its header was written for is not believed."""
    lock = locked.root / "requirements.lock"
    lock.write_text(lock.read_text().replace("==1.0", "==2.0"))
    before = locked.files()
    holds(locked.dispatch("build", "x.yml"), 2, ["requirements.lock", "changed"], ["dispatch lock x.yml"])
    assert locked.files() == before


def test_a_download_that_is_not_what_was_locked(
    locked: Project, index: Index, tmp_path: Path, base: str, door: Door
) -> None:
    """A file of another hash is refused, with package and both hashes, and no image is made of it."""
    assert base
    index.serve(GREETING, GREETING_FILE, wheel(GREETING, "a = 2\n"))
    before = locked.files()
    done = locked.dispatch("build", "x.yml", env={"UV_CACHE_DIR": str(tmp_path / "another")})
    holds(error_of(done), 2, [GREETING, "does not match", "sha256:"], ["dispatch lock x.yml"])
    assert done.err.count("sha256:") == 2
    assert locked.files() == before
    plan = locked.dispatch("build", "--dry-run", "--json", "x.yml").well().json()
    (missing,) = [image for image in plan["images"] if image["names"] == ["e"]]
    assert missing["action"] != "present"
    assert door.inspect_image(missing["references"][0]) is None


def test_a_package_without_a_wheel(locked: Project, index: Index) -> None:
    """What could only be compiled is refused by name, with the target that it has no wheel for."""
    name = "dispatch-test-source"
    index.serve(name, f"{name}-1.0.tar.gz", source_distribution(name))
    locked.write({"requirements.in": f"{name}\n"})
    before = locked.files()
    done = locked.dispatch("lock", "x.yml")
    holds(error_of(done), 2, [name, "no wheel", "Python 3."], ["`sdists:`"])
    assert locked.files() == before


# Steps that fail.


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory, base: str) -> tuple[Project, Done]:
    """A run in which every step but one fails, each in its own way."""
    assert base
    alone = "step_network: none, step_resources: {cpu_count: 0.5, memory: 64MiB}"
    steps = (
        f"  raising: {{type: raises, {alone}}}\n"
        f"  leaving: {{type: leaves_at_once, {alone}}}\n"
        f"  killing: {{type: kills_itself, {alone}}}\n"
        f"  hungry: {{type: hungry, {alone}}}\n"
        f"  command: {{type: shell, command: 'echo before; exit 3', {alone}}}\n"
        f"  behind: {{type: double, number: {{ref: raising}}, {alone}}}\n"
        f"  apart: {{type: double, number: 21, {alone}}}\n"
    )
    project = Project(tmp_path_factory.mktemp("failing"))
    files = {"dispatch.yml": SETTINGS, "mine.py": MODULE, "x.yml": f"image: debian-python\nsteps:\n{steps}"}
    project.write(files).commit()
    return project, project.dispatch("run", "x.yml", "-n", "bad", "-j", "4")


@pytest.mark.parametrize(
    ("step", "fact", "phase"),
    [
        ("raising", "ValueError: the cat sat on it", " in the phase 'run'"),
        ("leaving", "ended without a result (exit code 0)", ""),
        ("killing", "137", ""),
        ("hungry", "killed for memory: its limit is 64 MiB, its peak was 64 MiB", ""),
        ("command", "the command exited with code 3", " in the phase 'run'"),
    ],
)
def test_a_failed_step_says_why_and_where_its_log_is(
    step: str, fact: str, phase: str, failed: tuple[Project, Done]
) -> None:
    """Exit code 1; one error a step with the phase and the reason; the command that prints its log works."""
    project, done = failed
    assert done.code == 1
    (error,) = [line for line in done.errors() if f"step '{step}'" in line]
    assert error.startswith(f"error: step '{step}' failed{phase}: ")
    assert fact in error
    assert f"log: dispatch logs bad {step}" in done.err.splitlines()
    assert "dispatch: phase run" in project.dispatch("logs", "bad", step).well().out
    shown = {row["name"]: row for row in project.dispatch("show", "bad", "--json").well().json()["steps"]}
    assert (shown[step]["state"], shown[step]["result"]) == ("failed", None)
    assert fact in shown[step]["error"]


def test_a_step_that_raises_shows_its_own_traceback(failed: tuple[Project, Done]) -> None:
    """The one traceback is the step's: from the user's line on, without a frame of ours."""
    _, done = failed
    assert done.err.count("Traceback (most recent call last)") == 1
    trace = done.err[done.err.index("Traceback") :].partition("\nlog: ")[0]
    assert 'File "/src/mine.py"' in trace
    assert "/dispatch/" not in trace


def test_unrelated_steps_go_on_and_dependents_are_skipped(failed: tuple[Project, Done]) -> None:
    """A failure costs what stands behind it, with the reason, and nothing else; stdout is still the table."""
    project, done = failed
    table = done.table()
    assert table["apart"][0] == "completed"
    assert table["behind"][0] == "skipped"
    assert "behind: skipped: needs 'raising', which failed" in done.err.splitlines()
    assert project.dispatch("result", "bad", "apart").well().out == "42\n"
    refused = project.dispatch("result", "bad", "raising")
    holds(refused, 2, ["'raising'", "no result"], ["dispatch logs bad raising"])
    for command in ("result", "logs"):
        holds(project.dispatch(command, "bad", "behind"), 2, ["'behind'"], ["dispatch show bad"])


def test_failures_leave_nothing_half_made(failed: tuple[Project, Done], door: Door) -> None:
    """The cache holds the one completed result, the engine no container; the run is recorded as failed."""
    project, _ = failed
    cached = [path.name.partition("-")[0] for path in (project.workspace / "cache").iterdir()]
    assert cached == ["double"]
    assert door.containers.labelled(RUN_LABEL, "bad") == []
    (row,) = project.dispatch("runs", "--json").well().json()["runs"]
    assert (row["name"], row["state"]) == ("bad", "failed")


def test_uncommitted_changes_where_settings_forbid_them(make: Make, busybox_image: ImageRecord) -> None:
    """With `allow_dirty: false` a changed working tree is refused, and a committed one runs."""
    assert busybox_image
    steps = "steps: {a: {type: shell, command: 'true'}}\n"
    project = make({"x.yml": BUSYBOX + steps, "dispatch.yml": "allow_dirty: false\n"})
    project.write({"new.txt": "not committed"})
    done = project.dispatch("run", "x.yml")
    assert done.code == 2
    assert "allow_dirty" in done.errors()[0]
    project.commit().dispatch("run", "x.yml").well()


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_step_that_no_machine_can_hold(
    make: Make, busybox_image: ImageRecord, options: tuple[str, ...]
) -> None:
    """A step that asks for more than the engine has is refused by name before anything starts."""
    assert busybox_image
    steps = "steps: {a: {type: shell, command: 'true', step_resources: {cpu_count: 4096}}}\n"
    project = make({"x.yml": BUSYBOX + steps})
    done = project.dispatch("run", "x.yml", *options)
    assert done.code == 2
    (error,) = done.errors()
    assert "step 'a'" in error
    assert "4096 CPUs" in error
    assert not project.workspace.exists()


# Interrupts.


@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, False)],
    ids=["ctrl-c in a terminal", "SIGINT to the process alone", "SIGTERM"],
)
def test_an_interrupt_stops_the_containers(
    number: signal.Signals, group: bool, make: Make, busybox_image: ImageRecord, door: Door
) -> None:
    """Containers are stopped and removed, the run is recorded as cancelled, and the exit code is 130."""
    assert busybox_image
    step = "type: shell, step_network: none, command: 'touch \"$DISPATCH_WORK_DIR/started\"; sleep 600'"
    steps = f"steps: {{long: {{{step}}}, behind: {{{step}, inputs: {{long: {{ref: long}}}}}}}}"
    project = make({"x.yml": BUSYBOX + steps})
    running = project.start(COMMAND, "run", "x.yml", "-n", "stopped")
    deadline = time.monotonic() + DEADLINE
    while running.running and not list(project.workspace.glob("work/*/started")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.signal(number, group=group)
    done = running.end()
    assert (done.code, done.out) == (130, ""), done.err
    assert "Traceback" not in done.err
    assert done.err.splitlines()[-1] == "interrupted"
    assert door.containers.labelled(RUN_LABEL, "stopped") == []
    shown = project.dispatch("show", "stopped", "--json").well().json()
    assert shown["state"] == "cancelled"
    assert [step["state"] for step in shown["steps"]] == ["cancelled", "cancelled"]
    assert list((project.workspace / "cache").glob("*")) == []


def test_an_interrupted_run_goes_on(make: Make, busybox_image: ImageRecord) -> None:
    """Repeated under its name, an interrupted run completes with what it had."""
    assert busybox_image
    command = 'test -e "$DISPATCH_WORK_DIR/started" || { touch "$DISPATCH_WORK_DIR/started"; sleep 600; }'
    steps = f"steps:\n  long:\n    type: shell\n    step_network: none\n    command: {command}\n"
    project = make({"x.yml": BUSYBOX + steps})
    running = project.start(COMMAND, "run", "x.yml", "-n", "mine")
    deadline = time.monotonic() + DEADLINE
    while running.running and not list(project.workspace.glob("work/*/started")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.signal(signal.SIGINT, group=True)
    assert running.end().code == 130
    again = project.dispatch("run", "x.yml", "-n", "mine", "--json").well().json()
    assert (again["state"], again["steps"][0]["verdict"]) == ("completed", "completed")
