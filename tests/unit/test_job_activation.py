"""What conda packages of a job's image set when they are activated reaches the step, and nothing else."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from dispatch.job import (
    HostPlaces,
    Places,
    ShellTask,
    StepLabel,
    environment,
    write_process_job,
    write_step_job,
)

LABEL = StepLabel(name="train", unique_id="Train-001-abc", type="train", attempt=2)
SHELLS = [
    pytest.param(command, id=command[0])
    for command in (["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"])
    if shutil.which(command[0])
]
HARD = 'it\'s "$HOME" `id`\n\\ *;é\n'
SHOW = """\
printf "%s" "$TOOLKIT" >"$DISPATCH_OUTPUT_DIR/seen"
printf "%s" "${LEFT-unset}" "|$PWD" >"$DISPATCH_OUTPUT_DIR/more"
"""


class Job:
    """A job's directories below ``root``, and a conda prefix with activation scripts by name."""

    def __init__(self, root: Path, scripts: Mapping[str, str]) -> None:
        self.places = Places(root=str(root / "dispatch"), source=str(root / "src"))
        for directory in (self.places.output, self.places.work, self.places.source):
            Path(directory).mkdir(parents=True)
        self.prefix = root / "it's conda"
        for name, text in scripts.items():
            path = self.prefix / "etc" / "conda" / "activate.d" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def run(self, shell: list[str], command: str = SHOW, path: str | None = None, **user: str) -> list[str]:
        """Run a shell step as a container would, and return the lines of its log."""
        files = write_step_job(
            Path(self.places.job), LABEL, ShellTask(command), self.places.source, self.places
        )
        env = {"CONDA_PREFIX": str(self.prefix), **environment(LABEL, {}, user, places=self.places)}
        env["PATH"] = path or os.environ["PATH"]
        done = subprocess.run(
            [*shell, str(files.entrypoint)], env=env, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stderr.splitlines()

    def result(self, name: str) -> str:
        """A file of the step's result."""
        return (Path(self.places.output) / "result" / name).read_text()


@pytest.mark.parametrize("shell", SHELLS)
def test_variables_arrive(shell: list[str], tmp_path: Path) -> None:
    """What a script exports arrives as it is, of later scripts too; what it does not export stays away."""
    scripts = {
        "a.sh": f"cd /\necho noise\nexport TOOLKIT={shlex.quote(HARD)}\nLEFT=1\n",
        "b.sh": 'export TOOLKIT="$TOOLKIT$CONDA_PREFIX"\n',
        "c.txt": "exit 1\n",
    }
    job = Job(tmp_path, scripts)
    log = job.run(shell)
    assert job.result("seen") == f"{HARD}{job.prefix}"
    assert job.result("more") == f"unset|{job.places.source}"
    assert log == ["dispatch: phase source", "dispatch: phase environment", "noise", "dispatch: phase run"]


@pytest.mark.parametrize("shell", SHELLS)
def test_written_for_bash(shell: list[str], tmp_path: Path) -> None:
    """Scripts that only bash understands are run by it, where the image has it."""
    if not shutil.which("bash"):
        pytest.fail("these tests need bash", pytrace=False)
    job = Job(
        tmp_path, {"a.sh": 'words=(one two)\n[[ ${words[1]} == two ]] && export TOOLKIT="${words[@]}"\n'}
    )
    job.run(shell)
    assert job.result("seen") == "one two"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("text", ["exit 3\n", "if [ ; then (\n", "exec false\n"])
def test_scripts_that_fail(shell: list[str], text: str, tmp_path: Path) -> None:
    """A script that ends its shell, or that no shell can read, does not end the job: that is said."""
    log = Job(tmp_path, {"a.sh": text}).run(shell, "true")
    assert log[-1] == "dispatch: phase run"
    if not text.startswith("if"):
        assert any("activate.d failed: going on without" in line for line in log)


@pytest.mark.parametrize("shell", SHELLS)
def test_unset_variables_and_failing_commands(shell: list[str], tmp_path: Path) -> None:
    """A script may use what is not set, and run what fails: as in a shell in which one types."""
    job = Job(tmp_path, {"a.sh": 'false\n[ -n "$NOT_SET" ] || export TOOLKIT=still\n'})
    job.run(shell)
    assert job.result("seen") == "still"


@pytest.mark.parametrize("shell", SHELLS)
def test_without_bash(shell: list[str], tmp_path: Path) -> None:
    """An image without bash runs the scripts by its own shell."""
    (tmp_path / "bin").mkdir()
    for name in ("sh", "date", "mv", "mkdir", "bash" if shell[0] == "bash" else "sh"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / "bin" / name).unlink(missing_ok=True)
        (tmp_path / "bin" / name).symlink_to(found)
    program = shutil.which(shell[0])
    assert program is not None
    job = Job(
        tmp_path, {"a.sh": f"export TOOLKIT='{HARD.replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}'\n"}
    )
    job.run([program, *shell[1:]], path=str(tmp_path / "bin"))
    assert job.result("seen") == HARD


def test_nothing_to_activate(tmp_path: Path) -> None:
    """Without scripts nothing is started and nothing is said."""
    job = Job(tmp_path, {})
    assert job.run(["sh"], "true") == ["dispatch: phase source", "dispatch: phase run"]


def test_not_on_this_machine(tmp_path: Path) -> None:
    """A job of this machine, whose environment is the user's own, activates nothing."""
    (tmp_path / "job").mkdir()
    places = HostPlaces("/runtime", "/job", "/output", "/work")
    files = write_process_job(tmp_path / "job", LABEL, ShellTask("true"), "/src", places)
    assert "activate.d" not in files.entrypoint.read_text()
