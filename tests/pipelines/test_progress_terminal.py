"""`dispatch run` and `build` on a terminal: a real one, whose screen is read as a user would see it left."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dispatch.testing.project import COMMAND, Project

HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"
DEADLINE = 120.0

STEPS = """\
import time
from dispatch import step

@step("work")
def work(n: int, until: str = "", fail: bool = False) -> int:
    print(f"step {n} is at work", flush=True)
    while until and not __import__("os").path.exists(until):
        time.sleep(0.05)
    if fail:
        raise ValueError("no | data")
    return n
"""


@dataclass
class Terminal:
    """A command on a terminal of its own, and all that came out of it."""

    process: subprocess.Popen[bytes]
    master: int
    said: bytes = field(default=b"")

    def read_until(self, wanted: bytes) -> None:
        """Read until something was said; AssertionError with all of it where that takes too long."""
        deadline = time.monotonic() + DEADLINE
        while wanted not in self.said:
            assert time.monotonic() < deadline, self.said.decode("utf-8", "replace")
            if not self._read(0.2):
                assert self.process.poll() is None or wanted in self.said, self.said.decode(
                    "utf-8", "replace"
                )

    def end(self) -> int:
        """Wait for the end, reading all there is."""
        deadline = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.said.decode("utf-8", "replace")
            self._read(0.2)
        while self._read(0.0):
            pass
        os.close(self.master)
        return self.process.returncode

    def _read(self, timeout: float) -> bool:
        if not select.select([self.master], [], [], timeout)[0]:
            return False
        with contextlib.suppress(OSError):
            piece = os.read(self.master, 65536)
            self.said += piece
            return bool(piece)
        return False


def on_terminal(project: Project, *arguments: str, env: Mapping[str, str] | None = None) -> Terminal:
    """Start dispatch on a new terminal of 80 columns and 24 rows, in the foreground."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def own() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    around = project.environ({"TERM": "xterm-256color", "CI": "", "NO_COLOR": "", **(env or {})})
    process = subprocess.Popen(
        [COMMAND, *arguments],
        cwd=project.root,
        env={**around, "PYTHONUTF8": "1"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        preexec_fn=own,
    )
    os.close(slave)
    return Terminal(process, master)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Steps of this machine: one that waits for a file, and others."""
    made = Project(tmp_path / "project", {"DOCKER_HOST": "unix:///nonexistent/docker.sock"})
    made.root.mkdir()
    steps = {
        "waits": {"type": "work", "n": 1, "until": str(tmp_path / "go")},
        "after": {"type": "work", "n": 2},
        "breaks": {"type": "work", "n": 3, "fail": True},
    }
    return made.write(
        {
            "dispatch.yml": "executor: {type: local, parallelism: 2}\ninclude_package: [steps]\n",
            "steps.py": STEPS,
            "x.json": json.dumps({"steps": steps}),
        }
    )


def test_a_table_that_leaves_lines(project: Project, tmp_path: Path) -> None:
    """While steps run there is a table with what they said last; at the end only lines and the result."""
    terminal = on_terminal(project, "run", "x.json")
    terminal.read_until(b"step 1 is at work")
    terminal.read_until(b"2/3")
    (tmp_path / "go").touch()
    assert terminal.end() == 1
    shown = terminal.said
    assert shown.count(HIDE) == shown.count(SHOW) == 1
    after = shown[shown.index(SHOW) :].decode()
    assert "last line" not in after
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    for line in ("after: completed in", "breaks: failed in", "waits: completed in"):
        assert plain.count(line) == 1, plain
    assert "3 of 3" not in plain
    assert "took" in plain


def test_control_c_leaves_the_terminal_as_it_was(project: Project) -> None:
    """The cursor is back, nothing is drawn any more, and the exit code is that of an interrupt."""
    terminal = on_terminal(project, "run", "x.json")
    terminal.read_until(b"step 1 is at work")
    os.write(terminal.master, b"\x03")
    assert terminal.end() == 130
    assert terminal.said.rindex(SHOW) > terminal.said.rindex(HIDE)
    assert b"interrupted" in terminal.said[terminal.said.rindex(SHOW) :]


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("--progress", "plain"), {}),
        (("--progress", "quiet"), {}),
        ((), {"TERM": "dumb"}),
        ((), {"CI": "true"}),
    ],
)
def test_where_nothing_is_drawn(
    project: Project, tmp_path: Path, arguments: tuple[str, ...], env: Mapping[str, str]
) -> None:
    """A terminal that cannot be drawn on, or that nobody looks at, gets lines, and no cursor moves."""
    (tmp_path / "go").touch()
    terminal = on_terminal(project, "run", "x.json", *arguments, env=env)
    assert terminal.end() == 1
    assert HIDE not in terminal.said
    assert (b"waits: started" in terminal.said) == ("quiet" not in arguments)


def test_no_colour(project: Project, tmp_path: Path) -> None:
    """NO_COLOR leaves the table, and takes its colours."""
    terminal = on_terminal(project, "run", "x.json", env={"NO_COLOR": "1"})
    terminal.read_until(b"step 1 is at work")
    (tmp_path / "go").touch()
    terminal.end()
    assert HIDE in terminal.said
    assert not re.search(rb"\x1b\[(3[0-9]|9[0-9])m", terminal.said)


def test_logs_above_the_table(project: Project, tmp_path: Path) -> None:
    """With --logs each line that a step prints is shown once, with the step's name."""
    terminal = on_terminal(project, "run", "x.json", "--logs", env={"NO_COLOR": "1"})
    terminal.read_until(b"waits | step 1 is at work")
    (tmp_path / "go").touch()
    terminal.end()
    for name, number in (("waits", 1), ("after", 2), ("breaks", 3)):
        assert terminal.said.count(f"{name} | step {number} is at work".encode()) == 1


def test_live_needs_a_terminal(project: Project) -> None:
    """Asked for without one, it is refused before anything starts."""
    done = project.dispatch("run", "x.json", "--progress", "live")
    assert done.code == 2
    assert "live needs a terminal on stderr" in done.err
    assert not project.workspace.exists()


def test_json_lines_alone(project: Project, tmp_path: Path) -> None:
    """stderr holds nothing but objects, the last of them the summary that stdout has, too."""
    (tmp_path / "go").touch()
    done = project.dispatch("run", "x.json", "--progress", "json", "--logs", "--json")
    told = [json.loads(line) for line in done.err.splitlines()]
    summary = told[-1]
    assert (done.code, summary["event"]) == (1, "summary")
    assert {key: summary[key] for key in ("run", "state", "seconds", "counts", "results")} == {
        key: done.json()[key] for key in ("run", "state", "seconds", "counts", "results")
    }
    assert {each["text"] for each in told if each["event"] == "log" and each["step"] == "waits"} >= {
        "step 1 is at work"
    }


def test_what_a_job_of_github_shows(project: Project, tmp_path: Path) -> None:
    """The summary holds what failed with the end of its log; one that cannot be written fails no run."""
    (tmp_path / "go").touch()
    path = tmp_path / "summary.md"
    project.dispatch("run", "x.json", "-n", "first", env={"GITHUB_STEP_SUMMARY": str(path)})
    text = path.read_text()
    assert text.startswith("### Run first: failed\n")
    assert "**breaks** failed: ValueError&#58; no &#124; data" in text
    assert "step 3 is at work" in text
    done = project.dispatch(
        "run", "x.json", "-s", "after", env={"GITHUB_STEP_SUMMARY": str(tmp_path / "a/b")}
    )
    assert done.code == 0
    assert "the summary cannot be written" in done.err


def test_a_cached_run_loads_nothing_to_draw_with(project: Project, tmp_path: Path) -> None:
    """Where nothing runs, no display for terminals is imported."""
    (tmp_path / "go").touch()
    project.dispatch("run", "x.json", "-s", "after").well()
    code = (
        "import sys; from dispatch.cli.__main__ import group;"
        "group.main(['run', 'x.json', '-s', 'after'], standalone_mode=False);"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = project.call(Path(COMMAND).with_name("python"), "-c", code).well()
    loaded = set(done.err.splitlines()[-1].split())
    assert {"dispatch.cli.progress.plain", "dispatch.cli.run"} <= loaded
    assert not {name for name in loaded if name.partition(".")[0] in ("rich", "docker")}
    assert not {"dispatch.cli.progress.screen", "dispatch.cli.progress.github"} & loaded
