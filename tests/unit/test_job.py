"""A job's files, its environment, what a shell step's entrypoint does, and what is read of an outcome."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from dispatch.errors import ConfigurationError, StepError
from dispatch.graph import StepNode
from dispatch.job import (
    CONTAINER,
    HostPlaces,
    Outcome,
    Places,
    PythonTask,
    ShellTask,
    StepLabel,
    describe_environment,
    environment,
    input_values,
    process_environment,
    read_outcome,
    write_describe_job,
    write_process_job,
    write_step_job,
)
from dispatch.runtime.outcome import OutcomeState

LABEL = StepLabel(name="train", unique_id="Train-001-abc", type="train", attempt=2)
SHELLS = [
    pytest.param(command, id=command[0])
    for command in (["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"])
    if shutil.which(command[0])
]
OUTCOME = {
    "contract": 1,
    "phase": "run",
    "state": "completed",
    "started": "2024-05-01T10:00:00.250000Z",
    "ended": "2024-05-01T10:00:01Z",
    "exit_code": 0,
    "exception": None,
    "interpreter": "3.11.2",
}


def places(root: Path) -> Places:
    """Make the directories an engine would bring, below ``root``."""
    made = Places(root=str(root / "dispatch"), source=str(root / "src"))
    for directory in (made.output, made.work, made.source):
        Path(directory).mkdir(parents=True)
    return made


def start(
    shell: list[str], root: Path, command: str, workdir: str = "", **user: str
) -> subprocess.Popen[str]:
    """Start a shell step as a container would, in a process group of its own."""
    here = Places(root=str(root / "dispatch"), source=str(root / "src"))
    if not Path(here.output).is_dir():
        places(root)
    task = ShellTask(command)
    files = write_step_job(Path(here.job), LABEL, task, workdir or here.source, here)
    env = {"PATH": os.environ["PATH"], **environment(LABEL, {"my-model": "/in/0"}, user, places=here)}
    return subprocess.Popen(
        [*shell, str(files.entrypoint)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def outcome_of(root: Path) -> Outcome:
    """Read the outcome that the step left."""
    found = read_outcome(root / "dispatch" / "output")
    assert found is not None
    return found


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("command", "exit_code", "state", "own"),
    [
        ("true", 0, OutcomeState.COMPLETED, 0),
        ("exit 3", 1, OutcomeState.FAILED, 3),
        ("false; true", 0, OutcomeState.COMPLETED, 0),
        ('test -z "$UNSET"', 0, OutcomeState.COMPLETED, 0),
        ("no-such-command", 1, OutcomeState.FAILED, 127),
        ("kill -9 $$", 137, OutcomeState.FAILED, 137),
    ],
)
def test_a_commands_end_is_recorded(
    tmp_path: Path, shell: list[str], command: str, exit_code: int, state: OutcomeState, own: int
) -> None:
    """The outcome holds the command's own code; the container's is 0, 1, or above 128 for a killed one."""
    process = start(shell, tmp_path, command)
    process.communicate(timeout=60)
    found = outcome_of(tmp_path)
    assert (process.returncode, found.state, found.exit_code, found.phase) == (exit_code, state, own, "run")
    assert found.started is not None
    assert found.ended is not None


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_sees_its_surroundings(tmp_path: Path, shell: list[str]) -> None:
    """Directories exist, input and user's variables arrive unchanged, and nobody can be asked."""
    command = """
    set -e
    test -d "$HOME" && test -d "$TMPDIR" && test -d "$XDG_CACHE_HOME"
    if read -r answer; then exit 9; fi
    exec > "$DISPATCH_OUTPUT_DIR/seen.txt"
    printf '%s\\n' "$PWD" "$DISPATCH_INPUT_MY_MODEL" "$phase" "$output" "it's"
    """
    process = start(shell, tmp_path, command, phase="of the moon", output="mine")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    seen = (tmp_path / "dispatch/output/result/seen.txt").read_text()
    assert seen == f"{tmp_path}/src\n/in/0\nof the moon\nmine\nit's\n"
    assert err.splitlines() == ["dispatch: phase source", "dispatch: phase run"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_missing_working_directory_is_a_source_fault(tmp_path: Path, shell: list[str]) -> None:
    """Exit 64, one line that names the directory, and an outcome of the phase ``source``."""
    process = start(shell, tmp_path, "true", f"{tmp_path}/src/it's $(gone)")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 64
    assert f"dispatch: the working directory {tmp_path}/src/it's $(gone) is not in the source" in err
    found = outcome_of(tmp_path)
    assert (found.phase, found.state, found.exit_code) == ("source", OutcomeState.FAILED, 64)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("command", "own"),
    [
        ("echo ready >&2; exec sleep 60", 143),
        ("echo ready >&2; sleep 60; true", 143),
        (
            "trap 'touch $DISPATCH_WORK_DIR/told; exit 5' TERM; echo ready >&2; while :; do sleep 1; done",
            5,
        ),
    ],
)
def test_a_stopped_command_is_cancelled(tmp_path: Path, shell: list[str], command: str, own: int) -> None:
    """TERM reaches the command and all it started; the outcome says cancelled with the command's own code."""
    process = start(shell, tmp_path, command)
    assert process.stderr is not None
    while process.stderr.readline() != "ready\n":
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    found = outcome_of(tmp_path)
    assert (process.returncode, found.state, found.exit_code) == (143, OutcomeState.CANCELLED, own)
    assert (tmp_path / "dispatch/work/told").exists() == (own == 5)


def test_an_image_without_date_still_has_an_outcome(tmp_path: Path) -> None:
    """Where there is no ``date`` the times are null."""
    here = places(tmp_path)
    files = write_step_job(Path(here.job), LABEL, ShellTask("true"), here.source, here)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "mv", "mkdir"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    subprocess.run([str(tools / "sh"), str(files.entrypoint)], env={"PATH": str(tools)}, check=True)
    found = outcome_of(tmp_path)
    assert (found.state, found.started, found.ended) == (OutcomeState.COMPLETED, None, None)


@pytest.mark.parametrize("interpreter", [None, "/opt/none/python"])
def test_an_image_without_python_is_an_environment_fault(tmp_path: Path, interpreter: str | None) -> None:
    """Exit 65 and one line that says what is missing."""
    here = places(tmp_path)
    task = PythonTask("m", "C", None, None, {}, {}, (), interpreter)
    files = write_step_job(Path(here.job), LABEL, task, here.source, here)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "mv", "mkdir", "date"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    done = subprocess.run(
        [str(tools / "sh"), str(files.entrypoint)], env={"PATH": str(tools)}, capture_output=True, text=True
    )
    assert done.returncode == 65
    assert f"no Python{f' at {interpreter}' if interpreter else ': neither'}" in done.stderr
    assert outcome_of(tmp_path).state is OutcomeState.FAILED


def test_the_files_of_a_python_step(tmp_path: Path) -> None:
    """job.json is the contract's, and both files are readable to any user whatever the umask."""
    task = PythonTask(
        module="digits.steps",
        qualname="Train",
        version="001",
        format=None,
        arguments={"data": {"type": "ref", "ref": "digits"}, "C": 0.5},
        inputs=CONTAINER.inputs(["digits"]),
        paths=("/src/sub", "/src"),
    )
    before = os.umask(0o077)
    try:
        files = write_step_job(tmp_path / "job", LABEL, task)
    finally:
        os.umask(before)
    assert json.loads(files.document.read_text()) == {
        "contract": 1,
        "step": {
            "name": "train",
            "id": "Train-001-abc",
            "type": "train",
            "module": "digits.steps",
            "qualname": "Train",
            "version": "001",
            "format": None,
        },
        "arguments": {"data": {"type": "ref", "ref": "digits"}, "C": 0.5},
        "inputs": {"digits": "/dispatch/inputs/0"},
        "inline": {},
        "paths": ["/src/sub", "/src"],
        "output": "/dispatch/output",
        "work": "/dispatch/work",
        "attempt": 2,
    }
    assert files.document.name == "job.json"
    assert {oct(path.stat().st_mode & 0o777) for path in (files.entrypoint, files.document)} == {"0o644"}
    assert oct(files.directory.stat().st_mode & 0o777) == "0o755"
    assert CONTAINER.command() == ("/bin/sh", "/dispatch/job/entrypoint.sh")


def test_the_files_of_a_question(tmp_path: Path) -> None:
    """A describing container finds its request beside its entrypoint."""
    files = write_describe_job(tmp_path, {"contract": 1, "packages": ["a"]})
    assert json.loads((tmp_path / "request.json").read_text()) == {"contract": 1, "packages": ["a"]}
    assert "request.json" in files.entrypoint.read_text()


def test_an_argument_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    """The error names the file, not a traceback of json."""
    task = PythonTask("m", "C", None, None, {"when": datetime.now(timezone.utc)}, {}, ())
    with pytest.raises(ConfigurationError, match=r"job\.json"):
        write_step_job(tmp_path, LABEL, task)


def test_the_environment_of_a_step() -> None:
    """All of the contract's variables are there, the user's win over defaults, and the order is fixed."""
    found = environment(LABEL, {"model": "/dispatch/inputs/0"}, {"A": "1", "HOME": "/home/me"}, 2.5)
    assert found == {
        "A": "1",
        "DISPATCH_ATTEMPT": "2",
        "DISPATCH_INPUT_MODEL": "/dispatch/inputs/0",
        "DISPATCH_OUTPUT_DIR": "/dispatch/output/result",
        "DISPATCH_STEP_ID": "Train-001-abc",
        "DISPATCH_STEP_NAME": "train",
        "DISPATCH_WORK_DIR": "/dispatch/work",
        "HOME": "/home/me",
        "LOGNAME": "dispatch",
        "MPLCONFIGDIR": "/dispatch/scratch/cache/matplotlib",
        "OMP_NUM_THREADS": "2",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": "/dispatch/scratch/tmp",
        "USER": "dispatch",
        "XDG_CACHE_HOME": "/dispatch/scratch/cache",
    }
    assert list(found) == sorted(found)


@pytest.mark.parametrize(("cpus", "threads"), [(0.5, "1"), (1.0, "1"), (4.0, "4"), (None, None)])
def test_threads_follow_the_cpus(cpus: float | None, threads: str | None) -> None:
    """Libraries see the host's cores: the number of threads is told, and at least one."""
    assert environment(LABEL, {}, {}, cpus).get("OMP_NUM_THREADS") == threads


@pytest.mark.parametrize("name", ["DISPATCH_STEP_ID", "dispatch_output", "A=B", "", "1A", "A B", "Ä"])
def test_a_variable_that_is_ours_or_none_is_refused(name: str) -> None:
    """The names of the contract cannot be set by users, nor can what is no name."""
    with pytest.raises(ConfigurationError) as caught:
        environment(LABEL, {}, {name: "x"})
    assert caught.value.remedy


def test_the_environment_of_a_process() -> None:
    """On top of the user's own it has what is the step's; home and temporary files stay where they are."""
    places = HostPlaces("/runtime", "/ws/job", "/ws/output", "/ws/work")
    assert process_environment(LABEL, {"x": "/ws/cache/a/result"}, {"A": "1"}, 2.5, places) == {
        "A": "1",
        "DISPATCH_ATTEMPT": "2",
        "DISPATCH_INPUT_X": "/ws/cache/a/result",
        "DISPATCH_OUTPUT_DIR": "/ws/output/result",
        "DISPATCH_STEP_ID": "Train-001-abc",
        "DISPATCH_STEP_NAME": "train",
        "DISPATCH_WORK_DIR": "/ws/work",
        "OMP_NUM_THREADS": "2",
        "PYTHONUNBUFFERED": "1",
    }
    with pytest.raises(ConfigurationError, match="reserved"):
        process_environment(LABEL, {}, {"DISPATCH_X": "1"}, None, places)


def test_the_files_of_a_process(tmp_path: Path) -> None:
    """A Python step's are data with the client's paths; a command has the containers' entrypoint."""
    places = HostPlaces("/runtime", "/ws/job", "/ws/output", "/ws/work")
    python = PythonTask("m", "C", None, None, {}, {"a": "/ws/cache/a/result"}, ("/home/me",))
    (tmp_path / "1").mkdir()
    files = write_process_job(tmp_path / "1", LABEL, python, "/home/me", places)
    assert [path.name for path in files.directory.iterdir()] == ["job.json"]
    job = json.loads(files.document.read_text())
    assert (job["output"], job["work"], job["inputs"], job["paths"]) == (
        "/ws/output",
        "/ws/work",
        {"a": "/ws/cache/a/result"},
        ["/home/me"],
    )
    files = write_process_job(tmp_path / "2", LABEL, ShellTask("true"), "/home/me", places)
    assert "dispatch_workdir='/home/me'\ndispatch_output='/ws/output'\n" in files.entrypoint.read_text()


def test_two_inputs_cannot_share_a_variable() -> None:
    """``my-x`` and ``my_x`` would both be DISPATCH_INPUT_MY_X: an error that names both."""
    with pytest.raises(ConfigurationError, match=r"'my-x' and 'my_x' are both DISPATCH_INPUT_MY_X"):
        environment(LABEL, {"my-x": "/a", "my_x": "/b"}, {})


def test_inputs_of_a_python_step_are_its_references() -> None:
    """Only arguments that are references get a variable, under the argument's name."""
    arguments = {
        "data": {"type": "ref", "ref": "a", "key": "x"},
        "more": {"ref": "b"},
        "C": 1,
        "all": [{"ref": "a"}],
    }
    node = StepNode("s", "train", arguments, ("a", "b"))
    assert input_values(node, CONTAINER.inputs(node.dependencies)) == {
        "data": "/dispatch/inputs/0",
        "more": "/dispatch/inputs/1",
    }


def test_inputs_of_a_shell_step_are_its_entries() -> None:
    """References become places, values text."""
    inputs = {"model": {"ref": "a"}, "n": 3, "x": 0.5, "on": True, "none": None, "text": "it's"}
    node = StepNode("s", "shell", {"command": "true", "inputs": inputs}, ("a",))
    assert input_values(node, CONTAINER.inputs(node.dependencies)) == {
        "model": "/dispatch/inputs/0",
        "n": "3",
        "x": "0.5",
        "on": "true",
        "none": "",
        "text": "it's",
    }


def test_a_describing_container_has_no_step() -> None:
    """Its environment is that of a step without the step's own variables."""
    found = describe_environment({"A": "1"})
    assert found["A"] == "1"
    assert not [name for name in found if name.startswith("DISPATCH_")]


def test_an_outcome_is_read(tmp_path: Path) -> None:
    """Times are aware, with and without a fraction."""
    (tmp_path / "outcome.json").write_text(json.dumps(OUTCOME))
    found = read_outcome(tmp_path)
    assert found == Outcome(
        phase="run",
        state=OutcomeState.COMPLETED,
        started=datetime(2024, 5, 1, 10, 0, 0, 250000, tzinfo=timezone.utc),
        ended=datetime(2024, 5, 1, 10, 0, 1, tzinfo=timezone.utc),
        exit_code=0,
        exception=None,
        interpreter="3.11.2",
    )


def test_no_outcome_is_none(tmp_path: Path) -> None:
    """A job that was killed leaves none; what that means is for the caller."""
    assert read_outcome(tmp_path) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        json.dumps({**OUTCOME, "contract": 2}),
        json.dumps({**OUTCOME, "state": "fine"}),
        json.dumps({**OUTCOME, "exit_code": True}),
        json.dumps({**OUTCOME, "started": "yesterday"}),
        json.dumps({**OUTCOME, "exception": "x"}),
        "[" * 100_000,
    ],
)
def test_what_is_no_outcome_is_the_steps_fault(tmp_path: Path, text: str) -> None:
    """A file that is not of the contract is a StepError, never a crash or a success."""
    (tmp_path / "outcome.json").write_text(text)
    with pytest.raises(StepError, match=r"outcome\.json"):
        read_outcome(tmp_path)


def test_an_outcome_that_is_no_plain_file_is_not_followed(tmp_path: Path) -> None:
    """A link to a file of the host, a pipe or a directory under the name is refused without being read."""
    (tmp_path / "secret").write_text(json.dumps(OUTCOME))
    path = tmp_path / "outcome.json"
    makers: tuple[Callable[[], None], ...] = (
        lambda: path.symlink_to("secret"),
        lambda: os.mkfifo(path),
        lambda: path.mkdir(),
    )
    for make in makers:
        make()
        with pytest.raises(StepError):
            read_outcome(tmp_path)
        path.rmdir() if path.is_dir() else path.unlink()
