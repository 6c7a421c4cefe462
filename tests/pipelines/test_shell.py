"""`dispatch shell` at a terminal, through a pipe, and when it is killed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch._docker.containers import ContainerSpec
from dispatch.engine.session import SESSION_LABEL, sweep
from dispatch.testing.project import COMMAND, Done, Project
from dispatch.testing.terminal import DEADLINE, Terminal

pytestmark = pytest.mark.engine

CONFIG = """\
images: {busybox: {docker: "dispatch-test-busybox:1"}}
steps:
  seed: {type: shell, command: 'echo hello > "$DISPATCH_OUTPUT_DIR/seed"'}
  grow:
    type: shell
    step_image: busybox
    step_env: {COLOUR: blue}
    step_network: none
    step_resources: {memory: 64MiB}
    inputs: {seed: {type: ref, ref: seed}}
    command: cat "$DISPATCH_INPUT_SEED/seed"
"""

# Says so from inside the program that Ctrl-C is for: a shell that is just starting it might hear it instead.
SLEEP = "sh -c \"echo be''gun; exec sleep 1000\""


@pytest.fixture
def project(make: Callable[[Mapping[str, str]], Project], busybox_image: ImageRecord) -> Project:
    """A repository with a configuration in a folder, where the first step has its result."""
    assert busybox_image
    project = make({"jobs/e.yml": CONFIG, "README": "of the repository\n"})
    project.dispatch("run", "jobs/e.yml", "-s", "seed").well()
    return project


def piped(project: Project, text: str, *arguments: str) -> Done:
    """Run `dispatch shell` with a text at its stdin."""
    done = subprocess.run(
        [COMMAND, "shell", "jobs/e.yml", *arguments],
        cwd=project.root,
        env=project.environ({}),
        input=text,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def at_terminal(project: Project, *arguments: str) -> Terminal:
    """Start `dispatch shell` in a terminal."""
    command = [str(COMMAND), "shell", "jobs/e.yml", *arguments]
    return Terminal(command, project.root, project.environ({"TERM": "xterm", "PS1": "", "SHELL": "/bin/sh"}))


def sessions(door: Door, project: Project) -> list[str]:
    """The containers of sessions that a project's clients left or have."""
    found = []
    for row in door.containers.labelled(SESSION_LABEL):
        state = door.containers.inspect(row.name)
        if state is not None and any(
            source.startswith(str(project.root)) for source in state.mounts.values()
        ):
            found.append(row.name)
    return found


def left(door: Door, project: Project) -> list[str]:
    """The containers that are still there after a generous time."""
    deadline = time.monotonic() + DEADLINE
    while (found := sessions(door, project)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_a_pipe_gets_what_the_step_would_get(project: Project, door: Door) -> None:
    """Source, inputs, variables, limits and directory are the step's; streams stay apart; nothing stays."""
    script = (
        'pwd; cat ../README "$DISPATCH_INPUT_SEED/seed"; echo $COLOUR $DISPATCH_STEP_NAME\n'
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null\n"
        'ls /sys/class/net; echo kept > "$DISPATCH_WORK_DIR/note"; echo x > "$DISPATCH_OUTPUT_DIR/x"\n'
        "echo changed > ../README; echo aside >&2; exit 7\n"
    )
    before = set((project.workspace / "cache").iterdir())
    done = piped(project, script, "grow")
    assert done.code == 7
    said = ["/src/jobs", "of the repository", "hello", "blue grow", str(64 * 1024**2), "lo"]
    assert done.out.splitlines() == said
    assert done.err.splitlines()[-1] == "aside"
    assert set((project.workspace / "cache").iterdir()) == before
    assert (project.root / "README").read_text() == "of the repository\n"
    assert [path.read_text() for path in (project.workspace / "work").glob("*/note")] == ["kept\n"]
    assert left(door, project) == []


def test_a_command_instead_of_a_shell(project: Project) -> None:
    """Several words are run as they are, one word is a line for sh; stdin may be closed, and exits pass."""
    words = project.dispatch("shell", "jobs/e.yml", "grow", "--", "echo", "a  b", "$HOME").well()
    assert words.out == "a  b $HOME\n"
    line = project.dispatch("shell", "jobs/e.yml", "grow", "--", "echo $COLOUR | tr b B; exit 3")
    assert (line.code, line.out) == (3, "Blue\n")
    absent = project.dispatch("shell", "jobs/e.yml", "grow", "--", "no-such-program", "x")
    assert absent.code == 127


def test_the_step_itself_can_be_run_in_it(project: Project) -> None:
    """The job's own entrypoint is there."""
    done = piped(project, "sh /dispatch/job/entrypoint.sh\n", "grow")
    assert (done.code, done.out) == (0, "hello\n")


def test_every_byte_passes(project: Project) -> None:
    """Much output, and much input, arrive whole."""
    lines = "".join(f"{number}\n" for number in range(2_000_000))
    assert piped(project, lines, "grow", "--", "cat").out == lines


def test_a_terminal(project: Project, door: Door) -> None:
    """The window's size goes in, also a new one; Ctrl-C ends what runs inside; the exit code comes out."""
    with at_terminal(project, "grow") as terminal:
        before = terminal.mode()
        terminal.read_until("nothing is committed")
        terminal.type("stty size; echo rea''dy\r")
        assert "24 80" in terminal.read_until("ready")
        assert len(sessions(door, project)) == 1
        terminal.resize(50, 132)
        terminal.type("while [ \"$(stty size)\" != '50 132' ]; do :; done; echo wi''de $TERM\r")
        terminal.read_until("wide xterm")
        terminal.type(f"{SLEEP}; echo ne''ver\r")
        terminal.read_until("begun")
        terminal.type("\x03")
        terminal.type("echo code $? en''d\r")
        assert "never" not in terminal.read_until("code 130 end")
        terminal.type("exit 5\r")
        assert terminal.end() == 5
        assert terminal.mode() == before
    assert left(door, project) == []


@pytest.mark.parametrize("how", ["killed", "hung up", "terminated"])
def test_a_client_that_goes_away_leaves_no_container(how: str, project: Project, door: Door) -> None:
    """kill -9, a closed window and SIGTERM end the session; its container and directory go with it."""
    with at_terminal(project, "grow") as terminal:
        terminal.type("echo $DISPATCH_OUTPUT_DIR rea''dy\r")
        terminal.read_until("ready")
        (name,) = sessions(door, project)
        state = door.containers.inspect(name)
        assert state is not None
        directory = Path(state.mounts["/dispatch/output"]).parent
        if how == "killed":
            terminal.process.kill()
        elif how == "terminated":
            terminal.process.terminate()
        else:
            terminal.close()
        assert left(door, project) == []
    deadline = time.monotonic() + DEADLINE
    while directory.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not directory.exists()


def test_results_that_are_missing_are_named_with_the_command(project: Project) -> None:
    """A session whose inputs are not computed is refused, before anything starts."""
    project.dispatch("remove", "latest", "seed", "--yes").well()
    done = project.dispatch("shell", "jobs/e.yml", "grow")
    assert done.code == 2
    assert "step 'grow': its inputs have no results: seed" in done.err
    assert "dispatch run jobs/e.yml -s seed" in done.err
    unknown = project.dispatch("shell", "jobs/e.yml", "grwo")
    assert (unknown.code, "did you mean 'grow'" in unknown.err) == (2, True)


def test_a_step_of_this_machine(project: Project) -> None:
    """It gets a shell where it would run, with its variables; Ctrl-C goes to what runs inside."""
    done = piped(project, "pwd; echo $DISPATCH_STEP_NAME; cat ../README; exit 6\n", "seed")
    assert (done.code, done.out) == (6, f"{project.root}/jobs\nseed\nof the repository\n")
    with at_terminal(project, "seed") as terminal:
        terminal.type(f"{SLEEP}\r")
        terminal.read_until("begun")
        terminal.type("\x03")
        terminal.type("echo still he''re; exit 4\r")
        terminal.read_until("still here")
        assert terminal.end() == 4


def test_what_it_would_be_given(project: Project, door: Door) -> None:
    """`--print` starts no container, and says what one would have."""
    lines = project.dispatch("shell", "jobs/e.yml", "grow", "--print").well().out.splitlines()
    assert {"image: busybox", "directory: /src/jobs", "network: none", "env: COLOUR=blue"} <= set(lines)
    assert any(line.startswith("mount: /dispatch/inputs/0 (read-only): ") for line in lines)
    assert sessions(door, project) == []


def test_the_next_session_sweeps(door: Door, busybox_image: ImageRecord) -> None:
    """A session whose client and guard were both killed is removed, one that is alive is not."""
    names = {}
    for owner in ("dead", "alive"):
        spec = ContainerSpec(
            busybox_image.id, ("/bin/sleep", "1000"), labels={SESSION_LABEL: f"test/{owner}"}
        )
        names[owner] = door.containers.create(spec)
        door.containers.start(names[owner])
    try:
        sweep(door, lambda owner: owner != "test/dead")
        assert door.containers.inspect(names["dead"]) is None
        assert door.containers.inspect(names["alive"]) is not None
    finally:
        for name in names.values():
            door.containers.remove(name)
