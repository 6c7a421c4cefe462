"""What a container is sent on its standard input, and what the entrypoint makes of it, in real shells."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dispatch.engine.delivery import memory_of, message
from dispatch.job import HostPlaces, ShellTask, StepLabel, write_step_job

LABEL = StepLabel("step", "step-abc", "shell", 1)
SHELLS = [
    pytest.param(command, id=Path(command[-1]).name if len(command) == 1 else "busybox")
    for command in (["/bin/dash"], ["/bin/busybox", "sh"], ["/bin/bash", "--posix"])
    if shutil.which(command[0])
]
VALUES = {
    "PLAIN": "hunter2",
    "SPACES": "  two  words \t ",
    "HOSTILE": "a'b\"c\\d\\n$HOME `id` $(id) %s -n *;#\u00e9",
    "OPTION": "-n -e \\c",
    "LINES": "first\n\n  third \\\n.\nlast",
    "ENDED": "with a newline\n",
    "ENDS": "with several\n\n\n",
    "WINDOWS": "one\r\ntwo\r\n",
    "BLANKS": "\n\nfour",
    "LONG": "x" * 65536,
}
SHOW = """
cd "$DISPATCH_SECRETS_DIR"
for name in *; do cat "$name" > "$DISPATCH_OUTPUT_DIR/$name"; ls -l "$name"; done
env > "$DISPATCH_OUTPUT_DIR/environment"
read -r anything && echo "read $anything"
umask
"""


def enter(
    shell: list[str], place: Path, sent: bytes, command: str = SHOW
) -> tuple[subprocess.CompletedProcess[bytes], Path]:
    """Run an entrypoint as in a container, and return its end and the output directory."""
    memory, output = place / "secrets", place / "output"
    for directory in (memory, output / "result"):
        directory.mkdir(parents=True, exist_ok=True)
    places = HostPlaces("/none", str(place / "job"), str(output), str(place / "work"))
    files = write_step_job(place / "job", LABEL, ShellTask(command), str(place), places, str(memory))
    environ = {
        "PATH": os.defpath,
        "DISPATCH_SECRETS_DIR": str(memory),
        "DISPATCH_OUTPUT_DIR": str(output / "result"),
    }
    done = subprocess.run(
        [*shell, str(files.entrypoint)],
        input=sent,
        env=environ,
        umask=0o022,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done, output


@pytest.mark.parametrize("shell", SHELLS)
def test_values_arrive(shell: list[str], tmp_path: Path) -> None:
    """Every value is stored byte by byte, for the user alone; exported are those that were asked for."""
    done, output = enter(shell, tmp_path, message(VALUES, ("PLAIN", "HOSTILE")))
    assert done.returncode == 0, done.stderr
    assert done.stderr == b"dispatch: phase source\ndispatch: phase run\n"
    result = output / "result"
    for name, value in VALUES.items():
        assert (result / name).read_bytes() == value.encode(), name
    *listed, umask = done.stdout.decode().splitlines()
    assert len(listed) == len(VALUES)
    assert all(line.startswith("-rw-------") for line in listed)
    assert int(umask, 8) == 0o022
    environment = (result / "environment").read_text()
    assert "PLAIN=hunter2\n" in environment
    assert f"HOSTILE={VALUES['HOSTILE']}\n" in environment
    assert "two  words" not in environment
    assert "dispatch_" not in environment


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("cut", [0, 3, 20, 31, -1])
def test_values_that_do_not_arrive(shell: list[str], cut: int, tmp_path: Path) -> None:
    """A message that breaks off anywhere never lets the step begin, and is told as what it is."""
    sent = message({"TOKEN": "hunter2", "KEY": "two\nlines"}, ())[:cut]
    done, output = enter(shell, tmp_path, sent, 'touch "$DISPATCH_OUTPUT_DIR/began"')
    assert done.returncode == 75
    assert done.stderr == b"dispatch: the secrets did not arrive\n"
    outcome = json.loads((output / "outcome.json").read_text())
    assert (outcome["phase"], outcome["state"], outcome["exit_code"]) == ("secrets", "failed", 75)
    assert not (output / "result" / "began").exists()


def test_memory() -> None:
    """The file system has room for the values and not for much more, and nobody else may look."""
    assert memory_of({}, "0:0") == {}
    (options,) = memory_of({"A": "x" * 65536, "B": "short"}, "1000:100").values()
    words = options.split(",")
    assert {"noexec", "nosuid", "nodev", "mode=0700", "uid=1000", "gid=100"} <= set(words)
    size = int(words[-1].removeprefix("size="))
    assert 65536 + 4096 < size < 2**20
