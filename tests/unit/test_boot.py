"""What a job begins with where an engine can mount little: its places are made, and its output is settled."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from dispatch import payload
from dispatch.job import (
    Before,
    BootedPlaces,
    Outcome,
    PythonTask,
    Setup,
    ShellTask,
    StepLabel,
    environment,
    provide_boot,
    read_outcome,
    write_step_job,
)
from dispatch.runtime.outcome import OutcomeState

LABEL = StepLabel(name="train", unique_id="Train-001-abc", type="train", attempt=2)
SHELLS = [
    pytest.param(command, id=command[0])
    for command in (["sh"], ["dash"], ["busybox", "sh"], ["bash", "--posix"])
    if shutil.which(command[0])
]
shells = pytest.mark.parametrize("shell", SHELLS)
SCAN = 'cd "$DISPATCH_OUTPUT_DIR/.." && find . | sort'
# A result that comes through as it is.
PLAIN = 'mkdir "$DISPATCH_OUTPUT_DIR/d" && echo one >"$DISPATCH_OUTPUT_DIR/d/a b.txt"'


class Container:
    """Directories as an engine would show them to a job, and the job's end."""

    def __init__(self, root: Path, shell: list[str] | None = None, path: str = os.environ["PATH"]) -> None:
        self.places = BootedPlaces(root=str(root / "dispatch"), source=str(root / "src"))
        self.root = root / "dispatch"
        self.output = self.root / "output"
        self.shell = shell or ["/bin/sh"]
        self.path = path
        self.user: Mapping[str, str] = {}
        self.root.mkdir()
        runtime = payload.provide(root / "cache").directory
        (self.root / "boot").symlink_to(provide_boot(root / "cache", runtime, self.places).directory)

    def write(self, task: ShellTask | PythonTask, setup: Setup | None = None) -> None:
        """Write the job's files."""
        before = Before(packs=True, setup=setup)
        write_step_job(self.root / "job", LABEL, task, self.places.source, self.places, before)

    def start(self) -> subprocess.Popen[str]:
        """Start the job as a container would, in a process group of its own."""
        env = environment(LABEL, {}, self.user, places=self.places)
        return subprocess.Popen(
            [*self.shell, self.places.command()[1]],
            env={"PATH": self.path, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[int, str, str]:
        """Run a shell step to its end: its exit code, what it printed, and what was said of it."""
        self.write(ShellTask(command))
        process = self.start()
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    @property
    def outcome(self) -> Outcome:
        """What the job said of its end."""
        found = read_outcome(self.output)
        assert found is not None
        return found

    def names(self) -> list[str]:
        """What is captured."""
        return sorted(path.relative_to(self.output).as_posix() for path in self.output.rglob("*"))


def pack(directory: Path, archive: Path) -> None:
    """Make an archive of a directory as an engine would."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w") as made:
        made.add(directory, ".")


def tree(directory: Path, **files: str) -> Path:
    """Make a directory with files."""
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name).write_text(text)
    return directory


@shells
def test_places_are_made(tmp_path: Path, shell: list[str]) -> None:
    """The source is unpacked, inputs are where all jobs have them, and scratch, output and work are there."""
    made = Container(tmp_path, shell)
    pack(tree(tmp_path / "tree", file="source"), made.root / "source.tar")
    first, second = made.places.inputs(("a", "b")).values()
    pack(tree(tmp_path / "a", file="packed"), Path(made.places.packed(first)))
    tree(Path(second), file="mounted")
    code, out, err = made.run(
        f'cat file {first}/file {second}/file; cp file "$DISPATCH_OUTPUT_DIR"; : >"$DISPATCH_WORK_DIR/w"; '
        'for each in "$HOME" "$TMPDIR" "$XDG_CACHE_HOME"; do [ -w "$each" ] && echo yes; done; pwd'
    )
    assert (code, out) == (0, f"sourcepackedmountedyes\nyes\nyes\n{made.places.source}\n"), err
    assert made.names() == ["outcome.json", "result", "result/file"]


@shells
def test_work_goes_on(tmp_path: Path, shell: list[str]) -> None:
    """The earlier attempt's work is copied in, writable, and what this one leaves is captured with it."""
    made = Container(tmp_path, shell)
    before = tree(made.root / "before" / "work", old="1")
    (before / "old").chmod(0o444)
    code, _, _ = made.run('cd "$DISPATCH_WORK_DIR" && cat old && echo 2 >>old && echo 3 >new && exit 1')
    assert code == 1
    assert (made.output / "work" / "old").read_text() == "12\n"
    assert (before / "old").read_text() == "1"
    assert made.names() == ["outcome.json", "result", "work", "work/new", "work/old"]


def test_work_that_was_packed_goes_on(tmp_path: Path) -> None:
    """An archive is there when it is whole; what lies beside it may be half removed."""
    made = Container(tmp_path)
    tree(made.root / "before" / "work", half="no")
    pack(tree(tmp_path / "whole", file="yes"), made.root / "before" / "work.tar")
    code, out, _ = made.run('ls "$DISPATCH_WORK_DIR"')
    assert (code, out) == (0, "file\n")


def test_shared_work_is_left_alone(tmp_path: Path) -> None:
    """Where the work directory is a mount, that is what the step has, and nothing of it is captured."""
    made = Container(tmp_path)
    work = tree(made.root / "work", file="shared")
    code, out, _ = made.run('cat "$DISPATCH_WORK_DIR/file"; echo 1 >"$DISPATCH_WORK_DIR/new"; exit 1')
    assert (code, out) == (1, "shared")
    assert (work / "new").exists()
    assert made.names() == ["outcome.json", "result"]


def test_half_copied_work_is_not_taken_for_whole(tmp_path: Path) -> None:
    """Whoever is ended while the work is copied leaves it under another name."""
    made = Container(tmp_path)
    tree(made.root / "before" / "work", file="x")
    slow = tmp_path / "bin"
    slow.mkdir()
    (slow / "cp").write_text('#!/bin/sh\n/bin/cp "$@"; touch "$HOME/copied"; exec sleep 60\n')
    (slow / "cp").chmod(0o755)
    made.path = f"{slow}:{made.path}"
    made.write(ShellTask("true"))
    process = made.start()
    _wait_for(made.root / "scratch" / "home" / "copied")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    os.killpg(process.pid, signal.SIGKILL)
    assert made.names() == ["result", "work.part", "work.part/file"]


def test_a_job_that_is_begun_again_finds_no_output(tmp_path: Path) -> None:
    """On a drive that of the first try is there: neither its result nor its end is the second one's."""
    made = Container(tmp_path)
    assert made.run(f"{PLAIN}; exit 3")[0] != 0
    assert (made.output / "outcome.json").exists()
    _, out, _ = made.run(SCAN)
    assert "./result\n" in out
    assert "result/" not in out
    assert "outcome.json" not in out
    assert made.outcome.state is OutcomeState.COMPLETED


@shells
def test_what_cannot_be_unpacked_is_said(tmp_path: Path, shell: list[str]) -> None:
    """A broken archive ends the job in the phase of the source, with its name."""
    made = Container(tmp_path, shell)
    (made.root / "source.tar").write_bytes(b"no archive" * 1000)
    code, _, err = made.run("true")
    assert code == 66
    assert f"{made.root}/source.tar cannot be unpacked" in err
    assert not (made.output / "outcome.json").exists()


def test_an_image_without_tar(tmp_path: Path) -> None:
    """It is named, before anything else fails of it."""
    made = Container(tmp_path, path=str(_programs(tmp_path, "mkdir")))
    pack(tree(tmp_path / "tree"), made.root / "source.tar")
    code, _, err = made.run("true")
    assert (code, "the image has no tar: add it" in err) == (66, True)


def test_a_user_who_may_not_write(tmp_path: Path) -> None:
    """An image whose user may not make the places is told what to do."""
    made = Container(tmp_path)
    tools = _programs(tmp_path)
    (tools / "mkdir").write_text("#!/bin/sh\necho mkdir: denied >&2\nexit 1\n")
    (tools / "mkdir").chmod(0o755)
    made.path = f"{tools}:{made.path}"
    code, _, err = made.run("true")
    assert (code, "let it be root" in err) == (66, True)


@pytest.mark.parametrize(
    ("command", "captured"),
    [
        (PLAIN, ["result", "result/d", "result/d/a b.txt"]),
        ("true", ["result.tar"]),
        (f"{PLAIN}; ln -s d/a* $R/link", ["result.tar"]),
        (f"{PLAIN}; : >$R/empty", ["result.tar"]),
        (f"{PLAIN}; mkdir $R/e", ["result.tar"]),
        (f"{PLAIN}; chmod +x $R/d/*", ["result.tar"]),
        (f"{PLAIN}; echo 1 >$R/ä", ["result.tar"]),
        ("for i in 1 2 3 4 5 6 7 8 9 a b c d e f g; do echo $i >$R/$i; done", None),
        ("for i in 1 2 3 4 5 6 7 8 9 a b c d e f g h; do echo $i >$R/$i; done", ["result.tar"]),
        ("for i in 1 2 3 4 5 6 7 8 9 a b c d e f g h; do head -c 1100000 /dev/zero >$R/$i; done", None),
    ],
)
@pytest.mark.parametrize("python", [True, False], ids=["python", "shell"])
def test_what_would_not_come_through_is_packed(
    tmp_path: Path, command: str, captured: list[str] | None, python: bool
) -> None:
    """Links, what is empty, rights, odd names and many small files are; anything else stays files."""
    made = Container(tmp_path)
    made.user = {"R": made.places.result}
    if python:
        made.write(_python(made, command))
        process = made.start()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    else:
        assert made.run(command)[0] == 0
    assert made.outcome.state is OutcomeState.COMPLETED
    found = [name for name in made.names() if name != "outcome.json"]
    if captured is None:
        assert found[0] == "result"
        assert len(found) > 16
    else:
        assert found == captured
    if found == ["result.tar"]:
        _same_after_unpacking(made, tmp_path, command)


def _same_after_unpacking(made: Container, tmp_path: Path, command: str) -> None:
    """What comes out of the archive is what the command made."""
    straight = tmp_path / "straight"
    straight.mkdir()
    env = {"PATH": made.path, "R": str(straight), "DISPATCH_OUTPUT_DIR": str(straight)}
    subprocess.run(["sh", "-c", command], env=env, check=True, timeout=60)
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xof", made.output / "result.tar", "-C", unpacked], check=True, timeout=60)
    assert _facts(unpacked) == _facts(straight)


def _facts(directory: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in directory.rglob("*"):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_dir():
            found[name] = None
        else:
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
    return found


def _python(made: Container, command: str) -> PythonTask:
    source = Path(made.places.source)
    source.mkdir(exist_ok=True)
    (source / "mine.py").write_text(
        "import os, pathlib, subprocess\n"
        "from dispatch import Format, Step\n\n"
        "class Mine(Format):\n"
        "    def write(self, artifact, directory, own=()):\n"
        "        subprocess.run(['sh', '-c', artifact], check=True)\n"
        "    def read(self, directory):\n"
        "        return None\n\n"
        "@Step.register('mine')\n"
        "class Work(Step):\n"
        "    FORMAT = Mine()\n"
        "    def run(self, command):\n"
        "        (self.work_dir / 'state').write_text('x')\n"
        "        if command.startswith('raise'):\n"
        "            os.chmod(self.work_dir / 'state', 0o755)\n"
        "            raise ValueError(command)\n"
        "        return command\n"
    )
    return PythonTask(
        "mine", "Work", None, None, {"command": command}, {}, (str(source),), interpreter=sys.executable
    )


@pytest.mark.parametrize("kind", ["python", "shell"])
def test_a_link_out_of_the_result_is_refused(tmp_path: Path, kind: str) -> None:
    """It is named; the step has no result, as elsewhere."""
    made = Container(tmp_path)
    made.user = {"R": made.places.result}
    command = f"{PLAIN}; ln -s /etc/passwd $R/out"
    if kind == "python":
        made.write(_python(made, command))
        process = made.start()
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert made.outcome.exception is not None
    else:
        code, _, err = made.run(command)
        assert (code, made.outcome.phase) == (69, "result")
    assert made.outcome.state is OutcomeState.FAILED
    assert "'out'" in err or "./out" in err


@pytest.mark.parametrize("kind", ["python", "shell"])
def test_a_result_elsewhere_is_refused(tmp_path: Path, kind: str) -> None:
    """A step that puts a link in the place of its result's directory has none."""
    made = Container(tmp_path)
    command = f"rmdir {made.places.result}; ln -s {tmp_path} {made.places.result}"
    if kind == "python":
        made.write(_python(made, command))
        process = made.start()
        process.communicate(timeout=120)
        assert process.returncode == 1
    else:
        assert made.run(command)[0] == 69
    assert made.outcome.state is OutcomeState.FAILED
    assert not (made.output / "result.tar").exists()


@shells
def test_who_is_stopped_while_packages_come_in(tmp_path: Path, shell: list[str]) -> None:
    """The job ends at once, in that phase, and is cancelled by its own account."""
    tools = _programs(tmp_path)
    (tools / "python3").write_text('#!/bin/sh\ntouch "$HOME/ready"\nexec sleep 60\n')
    (tools / "python3").chmod(0o755)
    made = Container(tmp_path, shell, f"{tools}:{os.environ['PATH']}")
    tree(Path(made.places.source), **{"requirements.txt": "numpy\n"})
    setup = Setup(source=made.places.source, place=f"{made.places.scratch}/venv")
    made.write(ShellTask("true"), setup)
    process = made.start()
    _wait_for(made.root / "scratch" / "home" / "ready")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    os.killpg(process.pid, signal.SIGKILL)
    assert (made.outcome.state, made.outcome.phase) == (OutcomeState.CANCELLED, "environment")


def test_the_work_of_a_failed_python_step_is_packed(tmp_path: Path) -> None:
    """What would not come through of it is kept for the next attempt in an archive."""
    made = Container(tmp_path)
    made.write(_python(made, "raise"))
    process = made.start()
    process.communicate(timeout=120)
    assert process.returncode == 1
    assert made.names() == ["outcome.json", "result", "work.tar"]


@shells
def test_a_stopped_command_leaves_its_work(tmp_path: Path, shell: list[str]) -> None:
    """A preempted step's last work is there, packed where it must be; the step says that it was stopped."""
    made = Container(tmp_path, shell)
    made.write(ShellTask('cd "$DISPATCH_WORK_DIR" && ln -s a b && echo 1 >a && : >"$HOME/ready" && sleep 60'))
    process = made.start()
    _wait_for(made.root / "scratch" / "home" / "ready")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert made.outcome.state is OutcomeState.CANCELLED
    assert made.names() == ["outcome.json", "result", "work.tar"]


def test_an_image_without_find_packs(tmp_path: Path) -> None:
    """What cannot be looked through is packed: that is always right."""
    tools = _programs(tmp_path, "mkdir", "tar", "mv", "rm", "ln", "sh", "head", "date")
    made = Container(tmp_path, path=str(tools))
    code, _, err = made.run('echo 1 >"$DISPATCH_OUTPUT_DIR/a"')
    assert (code, made.names()) == (0, ["outcome.json", "result.tar"]), err


def test_equal_results_are_equal_archives(tmp_path: Path) -> None:
    """Times, owners and the order of the directory are not in the archive of a Python step's result."""
    archives = []
    for each in ("1", "2"):
        here = tmp_path / each
        here.mkdir()
        made = Container(here)
        made.user = {"R": made.places.result}
        names = "a b c" if each == "1" else "c b a"
        made.write(_python(made, f"for i in {names}; do ln -s x $R/$i; done; echo 1 >$R/x"))
        process = made.start()
        process.communicate(timeout=120)
        archives.append((made.output / "result.tar").read_bytes())
    assert archives[0] == archives[1]


def test_boot_is_made_once(tmp_path: Path) -> None:
    """It is found again by its content, and whoever comes second finds the same."""
    runtime = payload.provide(tmp_path).directory
    first = provide_boot(tmp_path, runtime)
    marker = first.directory.stat().st_ino
    assert provide_boot(tmp_path, runtime) == first
    assert first.directory.stat().st_ino == marker
    assert (first.directory / "runtime" / "main.py").is_file()
    assert {path.name for path in first.directory.parent.iterdir()} == {first.digest}


def _programs(tmp_path: Path, *names: str) -> Path:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in names:
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    return tools


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)
