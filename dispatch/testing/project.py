"""A user's project and the ``dispatch`` command, called from outside as a user calls it.

Owns directories, git and subprocesses of acceptance tests. Refuses to look into our own code: it shows
what a user gets, which is exit codes, two streams of text, and files.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("dispatch")
DEADLINE = 300.0

# The user's environment stays (indexes, certificates, engine, caches) but for what git would take from it,
# and for where a job of GitHub's that runs the tests would show what they do.
_IDENTITY = {
    "GIT_AUTHOR_NAME": "A. User",
    "GIT_AUTHOR_EMAIL": "user@localhost",
    "GIT_COMMITTER_NAME": "A. User",
    "GIT_COMMITTER_EMAIL": "user@localhost",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GITHUB_STEP_SUMMARY": "",
}


@dataclass(frozen=True)
class Done:
    """A command that has ended: exit code (negative: killed by that signal), stdout, stderr."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        """The one JSON object that stdout consists of."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    def table(self) -> dict[str, list[str]]:
        """The words of each row of a table on stdout, by the row's first word; the head is left out."""
        return {line.split()[0]: line.split()[1:] for line in self.out.splitlines()[1:]}

    def errors(self) -> list[str]:
        """The lines on stderr that begin an error."""
        return [line for line in self.err.splitlines() if line.lower().startswith("error:")]

    def well(self) -> Done:
        """Itself; AssertionError with everything it said if it failed."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return self


class Started:
    """A command that runs in a process group of its own, as one that was typed into a terminal does."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def signal(self, number: signal.Signals, *, group: bool) -> None:
        """Send a signal to the process alone, or to its group as a terminal does; not if it has ended."""
        if not self.running:
            return
        if group:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def line(self) -> str:
        """The next line that it prints on stdout, waited for; :meth:`end` may miss what came right behind."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def end(self) -> Done:
        """Wait for it."""
        try:
            out, err = self._process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise
        return Done(self._process.returncode, out, err)


@dataclass(frozen=True)
class Project:
    """A user's directory, usually a git repository. ``env`` is set for every command."""

    root: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def workspace(self) -> Path:
        """Where results are kept unless settings say otherwise."""
        return self.root / "workspace"

    def environ(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment of a command: the caller's, our command found first; '' unsets a variable."""
        path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
        around = {"GIT_CEILING_DIRECTORIES": str(self.root.parent), "PATH": path}
        every = {**os.environ, **_IDENTITY, **around, **self.env, **env}
        return {name: value for name, value in every.items() if value}

    def call(self, *command: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """Run any command in the project."""
        return self.start(*command, env=env).end()

    def start(self, *command: str | Path, env: Mapping[str, str] | None = None) -> Started:
        """Start any command in the project, in a process group of its own."""
        return Started(
            subprocess.Popen(
                [str(word) for word in command],
                cwd=self.root,
                env=self.environ(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
                preexec_fn=_interruptible if signal.getsignal(signal.SIGINT) is signal.SIG_IGN else None,
            )
        )

    def dispatch(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Done:
        """Run ``dispatch`` in the project."""
        return self.call(COMMAND, *arguments, env=env)

    def git(self, *arguments: str) -> str:
        """Run git, which must succeed, and return what it printed."""
        return self.call("git", *arguments).well().out

    def write(self, files: Mapping[str, str]) -> Project:
        """Write files by their relative paths."""
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return self

    def commit(self) -> Project:
        """Make the directory a repository if it is none, and commit all there is."""
        if not (self.root / ".git").exists():
            self.git("init", "--quiet", "--initial-branch=main", "--template=")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "As it is")
        return self

    def files(self) -> dict[str, bytes]:
        """Every file but git's own, by relative path, with its content."""
        found = {path.relative_to(self.root).as_posix(): path for path in self.root.rglob("*")}
        return {
            name: path.read_bytes()
            for name, path in found.items()
            if path.is_file() and not name.startswith(".git/")
        }


def _interruptible() -> None:
    """A caller that a shell put into the background ignores SIGINT, and so would its children.

    Not called without need: the child would be a real fork, which it may not survive where we use gRPC.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
