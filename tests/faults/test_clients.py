"""Clients that come and go while a run goes on: detached, killed, second, watching, cancelling."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dispatch.testing.processes import lives, until
from dispatch.testing.project import Done, Project, Started

# Steps wait for a file, so that nothing depends on how fast this machine is.
GATE = 'while [ ! -e "$GATE" ]; do sleep 0.05; done'
CONFIG = {
    "steps": {
        "slow": {"type": "shell", "command": f'echo begun >> "$LEDGER"; echo begun; {GATE}; echo over'},
        "quick": {"type": "shell", "command": "echo quick"},
        "last": {
            "type": "shell",
            "command": 'echo last; cp -r "$DISPATCH_INPUT_SLOW" "$DISPATCH_OUTPUT_DIR"',
            "inputs": {"slow": {"type": "ref", "ref": "slow"}},
        },
    }
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project outside of any repository, on a machine without an engine."""
    (tmp_path / "project").mkdir()
    env = {
        "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        "GATE": str(tmp_path / "gate"),
        "LEDGER": str(tmp_path / "ledger"),
    }
    return Project(tmp_path / "project", env).write(
        {"dispatch.yml": "executor: {type: local, parallelism: 2}\n", "x.json": json.dumps(CONFIG)}
    )


def open_gate(project: Project) -> None:
    """Let the slow step end."""
    Path(project.env["GATE"]).touch()


def begun(project: Project) -> int:
    """How often the slow step was begun."""
    ledger = Path(project.env["LEDGER"])
    return len(ledger.read_text().split()) if ledger.exists() else 0


def status(project: Project, run: str) -> dict[str, Any]:
    """What ``status`` says of a run."""
    return project.dispatch("status", run, "--json").well().json()


def states(project: Project, run: str) -> dict[str, str]:
    """The state of each step of a run."""
    return {step["name"]: step["state"] for step in status(project, run)["steps"]}


def state_of(project: Project, run: str) -> str:
    """What is recorded of a run's end."""
    path = project.workspace / "runs" / run / ".run.json"
    return str(json.loads(path.read_text())["state"]) if path.exists() else ""


def client(project: Project, run: str) -> int:
    """The process that drives a run."""
    return int(status(project, run)["client"]["pid"])


def wait_for_slow(project: Project, count: int = 1) -> None:
    """Wait until the slow step has begun so often."""
    until(lambda: begun(project) >= count, "the step began")


def detach(project: Project, *options: str) -> str:
    """Start a detached run and return its name."""
    done = project.dispatch("run", "x.json", "--detach", *options).well()
    assert re.fullmatch(r"[a-z0-9-]+\n", done.out)
    return done.out.strip()


def verdicts(done: Done) -> dict[str, str]:
    """What became of each step of a run with ``--json``."""
    return {step["name"]: step["verdict"] for step in done.json()["steps"]}


# Detached.


def test_detach_and_come_back(project: Project) -> None:
    """The command ends, the run goes on in a session of its own, and is found again with its log."""
    run = detach(project)
    wait_for_slow(project)
    pid = client(project, run)
    assert os.getsid(pid) == pid
    assert [row["run"] for row in project.dispatch("status", "--json").well().json()["runs"]] == [run]
    following = project.start("dispatch", "follow", run)
    open_gate(project)
    followed = following.end().well()
    assert set(followed.table()) == set(CONFIG["steps"])
    assert "slow: completed" in followed.err
    assert state_of(project, run) == "completed"
    said = (project.workspace / "runs" / run / ".out.log").read_text()
    assert f"run {run}: completed" in said
    until(lambda: not lives(pid), "the client ended")
    assert project.dispatch("status").well().table() == {}
    assert project.dispatch("follow", run).code == 0


def test_what_a_detached_run_outlives(project: Project) -> None:
    """Nobody's hangup or interrupt reaches it: not that of the terminal, nor of the group that started it."""
    started = project.start("dispatch", "run", "x.json", "--detach", "-n", "on")
    assert started.end().code == 0
    pid = client(project, "on")
    assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull  # noqa: PTH115
    for stream in (1, 2):
        assert os.readlink(f"/proc/{pid}/fd/{stream}").endswith("/on/.out.log")  # noqa: PTH115
    open_gate(project)
    until(lambda: state_of(project, "on") == "completed", "the run ended")


def test_what_is_wrong_is_said_before_it_detaches(project: Project) -> None:
    """Errors and exit codes are the command's own; nothing goes on, and no run is registered."""
    project.write({"bad.json": json.dumps({"steps": {"a": {"type": "nothing.Here"}}})})
    done = project.dispatch("run", "bad.json", "--detach")
    assert (done.code, done.out) == (2, "")
    assert len(done.errors()) == 1
    memory = project.dispatch("run", "x.json", "--detach", "-w", "memory://")
    assert memory.code == 2
    assert "--detach" in memory.err
    both = project.dispatch("run", "x.json", "--detach", "--dry-run")
    assert both.code == 2
    assert not project.workspace.exists()


def test_a_detached_run_that_fails(project: Project) -> None:
    """The command has ended well, for the run began; its failure is the run's, and that of who follows."""
    project.write({"x.json": json.dumps({"steps": {"a": {"type": "shell", "command": f"{GATE}; exit 3"}}})})
    done = project.dispatch("run", "x.json", "--detach", "--json").well().json()
    following = project.start("dispatch", "follow", done["run"])
    open_gate(project)
    assert following.end().code == 1
    assert "exited with code 3" in (project.workspace / "runs" / done["run"] / ".out.log").read_text()


def test_interrupted_before_it_could_detach(project: Project) -> None:
    """Ctrl-C while steps are still being described ends both halves; nothing is left."""
    (project.root / "slowly.py").write_text(
        "import os, time, pathlib\nfrom dispatch import step\n"
        "pathlib.Path(os.environ['LEDGER']).write_text('begun')\ntime.sleep(60)\n"
        "@step('s')\ndef s() -> int:\n    return 1\n"
    )
    project.write({"y.json": json.dumps({"steps": {"a": {"type": "s"}}})})
    started = project.start("dispatch", "run", "y.json", "--detach", "-i", "slowly")
    wait_for_slow(project)
    started.signal(signal.SIGINT, group=True)
    done = started.end()
    assert (done.code, done.out) == (130, "")
    assert "interrupted" in done.err
    assert not project.workspace.exists()


# Killed and gone on with.


def test_the_same_command_goes_on_after_a_kill(project: Project) -> None:
    """The run of the killed client is unfinished and says so; the command takes it up under its name."""
    run = detach(project)
    wait_for_slow(project)
    until(lambda: states(project, run)["quick"] == "completed", "the quick step ended")
    os.kill(client(project, run), signal.SIGKILL)
    until(lambda: status(project, run)["state"] == "orphaned", "it is known to be gone")
    listed = project.dispatch("runs").well()
    assert "orphaned" in listed.out
    assert f"run {run}: its client is gone; repeat the command" in listed.err
    assert states(project, run)["slow"] == "unattended"
    assert project.dispatch("follow", run).code == 3
    open_gate(project)
    again = project.dispatch("run", "x.json", "--json").well()
    assert again.json()["run"] == run
    assert f"going on with run {run}" in again.err
    assert verdicts(again) == {"slow": "completed", "quick": "cached", "last": "completed"}
    assert begun(project) == 2
    assert len(list((project.workspace / "runs").glob("[a-z]*"))) == 1
    other = project.dispatch("run", "x.json", "--json").well()
    assert other.json()["run"] != run


# Two clients.


@dataclass(frozen=True)
class Client:
    """A client in the background, what it says on stderr in a file."""

    started: Started
    said: Path

    @classmethod
    def start(cls, project: Project, words: str) -> Client:
        """Start ``dispatch`` with these words."""
        said = project.root.parent / f"said-{len(list(project.root.parent.glob('said-*')))}"
        said.touch()
        return cls(project.start("sh", "-c", f"exec dispatch {words} 2> {said}"), said)

    def wait_for(self, words: str) -> None:
        """Wait until it has said something."""
        until(lambda: words in self.said.read_text(), f"{words!r} in {self.said.read_text()!r}")

    def end(self) -> Done:
        """Wait for its end."""
        done = self.started.end()
        return Done(done.code, done.out, self.said.read_text())


def test_the_second_client_follows(project: Project) -> None:
    """It shows the same progress and ends with the same words and code; each step was computed once."""
    first = project.start("dispatch", "run", "x.json", "-n", "one", "--json")
    wait_for_slow(project)
    second = Client.start(project, "run x.json -n one --json")
    third = Client.start(project, "run x.json -n one")
    for each in (second, third):
        each.wait_for("following run one, which process")
    open_gate(project)
    ends = [first.end().well(), second.end().well()]
    # Each says for how long it watched.
    alike = [{name: fact for name, fact in end.json().items() if name != "seconds"} for end in ends]
    assert alike[0] == alike[1]
    progress = [re.findall(r"^(\w+): (started|completed)", end.err, re.MULTILINE) for end in ends]
    assert progress[0] == progress[1]
    assert "run one: completed, 0 of 3 steps cached" in third.end().well().err
    assert begun(project) == 1


def test_a_client_of_other_targets_is_refused(project: Project) -> None:
    """A run's name is that run's, driven or not."""
    first = project.start("dispatch", "run", "x.json", "-n", "one")
    wait_for_slow(project)
    other = project.dispatch("run", "x.json", "-n", "one", "-s", "quick")
    assert other.code == 2
    assert "one" in other.errors()[0]
    open_gate(project)
    first.end().well()


def test_the_second_client_takes_over(project: Project) -> None:
    """When the first is killed one of the others drives, and the next when that is, too."""
    first = project.start("dispatch", "run", "x.json", "-n", "one")
    wait_for_slow(project)
    others = [Client.start(project, "run x.json -n one --json") for _ in range(2)]
    for each in others:
        each.wait_for("following run one")
    first.signal(signal.SIGKILL, group=False)
    first.end()
    wait_for_slow(project, 2)
    driving = client(project, "one")
    os.kill(driving, signal.SIGKILL)
    wait_for_slow(project, 3)
    open_gate(project)
    ends = [each.end() for each in others]
    assert sorted(end.code for end in ends) == [-signal.SIGKILL, 0]
    (done,) = [end for end in ends if end.code == 0]
    assert "going on in its place" in done.err
    assert verdicts(done)["last"] == "completed"
    assert state_of(project, "one") == "completed"


def test_many_clients_at_once(project: Project) -> None:
    """Of clients that go on with one run at the same moment one drives; all end well, and alike."""
    left = detach(project, "-n", "one")
    wait_for_slow(project)
    os.kill(client(project, left), signal.SIGKILL)
    until(lambda: status(project, left)["state"] == "orphaned", "it is known to be gone")
    clients = [Client.start(project, "run x.json -n one --json") for _ in range(4)]
    for each in clients:
        # Whoever came after the end would find the name taken.
        each.wait_for(" run one")
    open_gate(project)
    ends = [each.end().well() for each in clients]
    assert {end.json()["state"] for end in ends} == {"completed"}
    assert begun(project) == 2
    assert sum("going on with run one" in end.err for end in ends) == 1


@pytest.mark.parametrize("words", ["follow one", "logs one -f", "run x.json -n one"])
def test_interrupting_who_watches_ends_nothing(project: Project, words: str) -> None:
    """Ctrl-C ends the watching, is said once, and the run goes on."""
    run = detach(project, "-n", "one")
    wait_for_slow(project)
    watching = Client.start(project, words)
    if words.startswith("logs"):
        assert watching.started.line() != ""
    else:
        watching.wait_for("slow: started")
    watching.started.signal(signal.SIGINT, group=True)
    done = watching.end()
    assert done.code == 130
    assert done.err.count("not watching any more") == 1
    assert status(project, run)["state"] == "running"
    open_gate(project)
    until(lambda: state_of(project, run) == "completed", "the run ended")


# Cancelled.


def test_cancel_of_a_run(project: Project) -> None:
    """It returns when all has ended: what ran is stopped, what waited does not begin, all of it recorded."""
    run = detach(project)
    wait_for_slow(project)
    pid = client(project, run)
    following = project.start("dispatch", "follow", run)
    done = project.dispatch("cancel", run).well()
    assert done.out.splitlines() == ["slow\tcancelled", "last\tcancelled"]
    assert state_of(project, run) == "cancelled"
    assert following.end().code == 130
    until(lambda: not lives(pid), "the client ended")
    assert "as process" in (project.workspace / "runs" / run / ".out.log").read_text()
    again = project.dispatch("cancel", run).well()
    assert again.out == ""
    assert "had ended already: cancelled" in again.err


def test_cancel_of_an_attached_run(project: Project) -> None:
    """The client in the terminal ends as by Ctrl-C."""
    first = project.start("dispatch", "run", "x.json", "-n", "one")
    wait_for_slow(project)
    project.dispatch("cancel", "one").well()
    assert first.end().code == 130


def test_cancel_of_a_step(project: Project) -> None:
    """That step and what needs it end, and nothing else; the rest of the run goes on to its end."""
    steps = {**CONFIG["steps"], "other": {"type": "shell", "command": f"{GATE}; echo other"}}
    project.write({"x.json": json.dumps({"steps": steps})})
    run = detach(project)
    wait_for_slow(project)
    done = project.dispatch("cancel", run, "slow", "--json").well().json()
    assert [(step["name"], step["verdict"]) for step in done["stopped"]] == [("slow", "cancelled")]
    assert status(project, run)["state"] == "running"
    open_gate(project)
    until(lambda: state_of(project, run) != "", "the run ended")
    shown = project.dispatch("show", run, "--json").well().json()
    assert {step["name"]: step["state"] for step in shown["steps"]} == {
        "slow": "cancelled",
        "quick": "completed",
        "last": "skipped",
        "other": "completed",
    }
    assert shown["state"] == "failed"


def test_cancel_of_what_is_not_there(project: Project) -> None:
    """A run, a step and a step that has ended: each said, with exit codes that scripts can use."""
    run = detach(project)
    wait_for_slow(project)
    until(lambda: states(project, run)["quick"] == "completed", "the quick step ended")
    ended = project.dispatch("cancel", run, "quick").well()
    assert "step quick: had ended already: completed" in ended.err
    for words in ((run, "slwo"), ("nothing",), (run, "slow", "--grace", "soon")):
        done = project.dispatch("cancel", *words)
        assert done.code == 2
        assert len(done.errors()) == 1
    assert status(project, run)["state"] == "running"
    open_gate(project)


def test_cancel_with_a_grace(project: Project) -> None:
    """A step that will not stop is killed after the time that was given, not after the usual ten seconds."""
    stubborn = f'trap "" TERM; echo begun >> "$LEDGER"; {GATE}'
    project.write({"x.json": json.dumps({"steps": {"slow": {"type": "shell", "command": stubborn}}})})
    run = detach(project)
    wait_for_slow(project)
    started = time.monotonic()
    project.dispatch("cancel", run, "slow", "--grace", "0.2").well()
    assert time.monotonic() - started < 9
    assert states(project, run) == {"slow": "cancelled"}


def test_cancel_after_the_client_was_killed(project: Project) -> None:
    """The run is ended in its place: recorded as cancelled, and nobody goes on with it by itself."""
    run = detach(project)
    wait_for_slow(project)
    os.kill(client(project, run), signal.SIGKILL)
    until(lambda: status(project, run)["state"] == "orphaned", "it is known to be gone")
    project.dispatch("cancel", run, "slow").well()
    assert status(project, run)["state"] == "orphaned"
    assert states(project, run)["slow"] == "cancelled"
    project.dispatch("cancel", run).well()
    assert state_of(project, run) == "cancelled"
    shown = project.dispatch("show", run, "--json").well().json()
    assert {step["state"] for step in shown["steps"]} == {"completed", "cancelled"}
    open_gate(project)
    again = project.dispatch("run", "x.json", "--json").well().json()
    assert again["run"] != run
    project.dispatch("check").well()


# Logs.


def numbered(text: str) -> dict[str, list[int]]:
    """The numbers that each step printed, from lines with prefixes."""
    found: dict[str, list[int]] = {}
    for line in text.splitlines():
        match = re.fullmatch(r"(\w+) *\| (?:dispatch: phase \w+|line (\d+) of (\w+))", line)
        assert match, line
        if match[2]:
            assert match[1] == match[3]
            found.setdefault(match[1], []).append(int(match[2]))
    return found


def test_logs_of_many_steps_lose_nothing(project: Project) -> None:
    """200 000 lines of four steps, followed while they are printed: each once, in order, none mixed."""
    count = 50_000
    command = (
        f'awk -v n={count} -v s="$DISPATCH_STEP_NAME" '
        '\'BEGIN { for (i = 0; i < n; i++) { print "line " i " of " s; if (i % 1000 == 0) fflush() } }\''
    )
    names = ("a", "bb", "ccc", "dddd")
    steps = {name: {"type": "shell", "command": f"{GATE}; {command} # {name}"} for name in names}
    project.write({"x.json": json.dumps({"steps": steps})})
    run = detach(project, "-j", "4")
    following = project.start("dispatch", "logs", run, "-f")
    time.sleep(1.0)
    open_gate(project)
    done = following.end().well()
    expected = {name: list(range(count)) for name in names}
    assert numbered(done.out) == expected
    assert {line.index("|") for line in done.out.splitlines()} == {5}
    assert numbered(project.dispatch("logs", run).well().out) == expected
    one = project.dispatch("logs", run, "bb").well().out.splitlines()
    assert one[-1] == f"line {count - 1} of bb"


def test_a_line_is_shown_when_it_is_printed(project: Project) -> None:
    """Not when the step has ended: it waits for us here."""
    run = detach(project)
    following = project.start("dispatch", "logs", run, "slow", "-f")
    while following.line() != "begun\n":
        assert begun(project) <= 1
    assert following.running
    open_gate(project)
    assert following.end().well().out.endswith("over\n")


def test_logs_of_steps_and_attempts(project: Project) -> None:
    """A missing one is an error; several steps come one after the other; colour is for terminals."""
    open_gate(project)
    project.dispatch("run", "x.json", "-n", "one").well()
    both = project.dispatch("logs", "latest", "quick", "last").well().out
    assert re.findall(r"^(\w+) *\| (\w+)$", both, re.MULTILINE) == [("quick", "quick"), ("last", "last")]
    assert "\x1b" not in both
    assert project.dispatch("logs", "one", "quick", "--attempt", "1").well().out.endswith("quick\n")
    for words in (("one", "qick"), ("one", "quick", "--attempt", "2"), ("two",)):
        done = project.dispatch("logs", *words)
        assert (done.code, done.out) == (2, "")
    ended = project.dispatch("logs", "one", "-f").well().out
    assert len(re.findall(r"^\w+ *\| (quick|last|begun|over)$", ended, re.MULTILINE)) == 4
