"""Environments of images that are not ours: made in the container from what the source declares, and used."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch import payload
from dispatch._docker import Door, ImageRecord
from dispatch._docker.containers import Bind
from dispatch._docker.helper import Finished, OneShot
from dispatch.app.standins import STAND_INS, StandIn
from dispatch.environment import LocalId
from dispatch.job import (
    BOOTED,
    Before,
    PythonTask,
    Setup,
    ShellTask,
    StepLabel,
    environment,
    provide_boot,
    write_step_job,
)
from dispatch.testing.channel import Package, write_channel
from dispatch.testing.index import wheel
from dispatch.testing.stand_ins import stand_ins

pytestmark = [pytest.mark.engine, pytest.mark.archive]

LABEL = StepLabel("train", "Train-001-abc", "train", 1)
VENV = "/dispatch/scratch/venv"
CONDA_IMAGE = STAND_INS[0].names[0]
TINY = "tiny-1.0-py3-none-any.whl"
REQUIREMENTS = f"--no-index\n./{TINY}\n"
ENVIRONMENT = f"name: theirs\ndependencies: [python, pip, {{pip: [--no-index, ./{TINY}]}}]\n"
PROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
BACKEND = """\
import base64, shutil
def build_wheel(directory, settings=None, metadata=None):
    shutil.copy("tiny-1.0-py3-none-any.whl", directory)
    return "tiny-1.0-py3-none-any.whl"
"""
# Where a Python step runs, and with what.
STEP = """\
import os, sys
from dispatch import Step

@Step.register("where")
class Where(Step):
    def run(self):
        try:
            from tiny import said
        except ImportError:
            said = "nothing"
        version = "%d.%d" % sys.version_info[:2]
        print("SEEN", said, sys.prefix, version, os.environ.get("GREETING", "-"), flush=True)
        return 1
"""


@pytest.fixture(scope="module")
def images(door: Door, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, LocalId]:
    """The stand-ins for Beaker's images, made where the engine lacks them."""
    return stand_ins(door, tmp_path_factory.mktemp("images") / "images").build()


class Job:
    """One job in a container, from what an engine would bring."""

    def __init__(self, door: Door, root: Path, **files: str | bytes) -> None:
        self.door = door
        self.root = root
        self.binds: tuple[Bind, ...] = ()
        self.env: Mapping[str, str] = {}
        self.source = root / "source"
        self.source.mkdir()
        self.add("steps.py", STEP)
        self.add(TINY, wheel("tiny", 'said = "tiny!"'))
        for name, content in files.items():
            self.add(name.replace("__", "."), content)

    def add(self, name: str, content: str | bytes) -> None:
        """Put a file into the source."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def run(
        self, image: str, setup: Setup, task: PythonTask | ShellTask | None = None, sub: str = ""
    ) -> Finished:
        """Run it without a network, and return how it ended."""
        task = task or PythonTask("steps", "Where", None, None, {}, {}, ("/src",))
        job = self.root / "job"
        write_step_job(job, LABEL, task, f"/src{sub}", BOOTED, Before(setup=setup, packs=True))
        boot = provide_boot(self.root / "cache", payload.provide(self.root / "cache").directory)
        archive = self.root / "source.tar"
        with tarfile.open(archive, "w") as made:
            made.add(self.source, ".")
        for path in (self.root, *self.root.parents):
            if path.stat().st_uid == self.root.stat().st_uid:
                path.chmod(path.stat().st_mode | 0o055)
        binds = (
            Bind(str(boot.directory), BOOTED.boot),
            Bind(str(job), BOOTED.job),
            Bind(str(archive), BOOTED.source_archive),
            *self.binds,
        )
        env = environment(LABEL, {}, self.env, places=BOOTED)
        return self.door.run_once(OneShot(image, BOOTED.command(), binds, env, timeout=240))


def seen(finished: Finished) -> list[str]:
    """What the step saw: what tiny says, the environment's place, Python, and a variable."""
    assert finished.exit_code == 0, finished.stderr.decode()
    return next(line for line in finished.stdout.decode().splitlines() if line.startswith("SEEN")).split()[1:]


@pytest.fixture
def job(door: Door, tmp_path: Path) -> Job:
    """A job whose source declares nothing."""
    return Job(door, tmp_path)


every = pytest.mark.parametrize("stand_in", STAND_INS, ids=lambda each: each.image)


@every
def test_nothing_declared(stand_in: StandIn, images: Mapping[str, LocalId], job: Job) -> None:
    """The image's own Python runs the step, and nothing is made."""
    job.add("pyproject.toml", "[tool.ruff]\nline-length = 100\n")
    done = job.run(images[stand_in.names[0]].id, Setup())
    assert seen(done) == ["nothing", "/opt/conda", stand_in.python, "-"]
    assert b"nothing to install is declared" in done.stderr


@every
@pytest.mark.parametrize("told", [True, False], ids=["pip", "uv where there"])
def test_requirements(stand_in: StandIn, told: bool, images: Mapping[str, LocalId], job: Job) -> None:
    """A requirements.txt gets an environment of its own; uv fills it where it is and pip is told nothing."""
    job.add("requirements.txt", REQUIREMENTS)
    job.env = {"PIP_NO_INDEX": "1"} if told else {}
    done = job.run(images[stand_in.names[0]].id, Setup())
    assert seen(done) == ["tiny!", VENV, stand_in.python, "-"]
    with_uv = not told and stand_in.names[0] == CONDA_IMAGE
    assert (b"dispatch: uv pip install -r requirements.txt" in done.stderr) is with_uv
    assert (b"dispatch: pip install -r requirements.txt" in done.stderr) is not with_uv


@every
def test_environment_file(stand_in: StandIn, images: Mapping[str, LocalId], job: Job) -> None:
    """An environment.yml is made by conda, asking nobody, beside the image's own environments."""
    job.add("environment.yml", ENVIRONMENT)
    done = job.run(images[stand_in.names[0]].id, Setup())
    assert seen(done) == ["tiny!", VENV, stand_in.python, "-"]
    assert b"phase environment" in done.stderr
    assert b"phase install" in done.stderr


@every
@pytest.mark.parametrize("declared", ["requirements.txt", "environment.yml"])
def test_base(stand_in: StandIn, declared: str, images: Mapping[str, LocalId], job: Job) -> None:
    """`venv_name: base` uses the environment that is there, and adds what is declared to it."""
    job.add(declared, REQUIREMENTS if declared == "requirements.txt" else ENVIRONMENT)
    done = job.run(images[stand_in.names[0]].id, Setup("base"))
    assert seen(done) == ["tiny!", "/opt/conda", stand_in.python, "-"]


@every
@pytest.mark.parametrize("declared", ["requirements.txt", "environment.yml"])
def test_a_name(stand_in: StandIn, declared: str, images: Mapping[str, LocalId], job: Job) -> None:
    """An environment that the image has not is made under its name."""
    job.add(declared, REQUIREMENTS if declared == "requirements.txt" else ENVIRONMENT)
    done = job.run(images[stand_in.names[0]].id, Setup("mine"))
    assert seen(done) == ["tiny!", "/opt/conda/envs/mine", stand_in.python, "-"]


def test_a_name_that_is_there(images: Mapping[str, LocalId], door: Door, job: Job, tmp_path: Path) -> None:
    """An environment that the image has is used, and what is declared is added to it."""
    envs = tmp_path / "envs"
    envs.mkdir()
    image, bind = images[CONDA_IMAGE].id, Bind(str(envs), "/opt/conda/envs", read_only=False)
    command = ("conda", "create", "-y", "-n", "theirs", "python", "pip")
    user = f"{os.getuid()}:{os.getgid()}"
    done = door.run_once(OneShot(image, command, (bind,), {"HOME": "/tmp"}, user, timeout=240))
    assert done.exit_code == 0, done.stderr.decode()
    job.binds = (replace(bind, read_only=True),)
    task = ShellTask("python -c 'import sys; print(sys.prefix)'; echo $CONDA_DEFAULT_ENV")
    done = job.run(image, Setup("theirs"), task)
    assert done.exit_code == 0, done.stderr.decode()
    assert done.stdout.decode().split() == ["/opt/conda/envs/theirs", "theirs"]
    assert b"using the image's environment theirs" in done.stderr


@pytest.mark.parametrize("files", [("pyproject.toml",), ("pyproject.toml", "requirements.txt")])
def test_a_project(files: tuple[str, ...], images: Mapping[str, LocalId], job: Job) -> None:
    """A project is installed; what requirements.txt names, too."""
    job.add("backend.py", BACKEND)
    job.add("pyproject.toml", PROJECT)
    if "requirements.txt" in files:
        job.add("requirements.txt", "--no-index\n")
    assert seen(job.run(images[CONDA_IMAGE].id, Setup()))[:2] == ["tiny!", VENV]


def test_a_command_to_install(images: Mapping[str, LocalId], job: Job) -> None:
    """`install_cmd` is run by bash in the repository's root, in the new environment, and nothing else is."""
    job.add("requirements.txt", "no-such-package\n")
    job.add("sub/keep", "")
    command = f"set -o pipefail; echo it\\'s; [[ -f {TINY} ]] && pip install --no-index ./tiny*.whl | cat"
    done = job.run(images[CONDA_IMAGE].id, Setup(install_cmd=command), sub="/sub")
    assert seen(done)[:2] == ["tiny!", VENV]
    assert "it's" in done.stdout.decode().splitlines()


def test_the_working_directory_declares(images: Mapping[str, LocalId], job: Job) -> None:
    """Where the repository's root says nothing, what lies beside the configuration counts."""
    job.add("sub/requirements.txt", f"--no-index\n../{TINY}\n")
    assert seen(job.run(images[CONDA_IMAGE].id, Setup(), sub="/sub"))[:2] == ["tiny!", VENV]


def test_without_conda(images: Mapping[str, LocalId], job: Job, tmp_path: Path) -> None:
    """An image with Python alone makes environments, too; an environment.yml it refuses, with a way out."""
    empty = tmp_path / "empty"
    empty.mkdir()
    job.binds = (Bind(str(empty), "/opt/conda"),)
    job.add("requirements.txt", REQUIREMENTS)
    image = images[STAND_INS[1].names[0]].id
    for name in ("", "mine"):
        assert seen(job.run(image, Setup(name))) == ["tiny!", VENV, "3.9", "-"]
    job.add("environment.yml", ENVIRONMENT)
    done = job.run(image, Setup())
    assert done.exit_code == 67
    assert b"declare requirements.txt instead" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_scripts_of_packages_are_read(shell: str, images: Mapping[str, LocalId], job: Job) -> None:
    """An environment is activated as its packages want it, by bash, or where there is none by the shell."""
    script = "unset NO_SUCH\nfalse\n[ -z $NO_SUCH ] && export GREETING=it\\'s\\\"\\$HOME\necho loud\n"
    if shell == "bash":
        script += "[[ -n $NO_SUCH ]] || declare -a list=(1 2)\n"
    else:
        dash = shutil.which("dash")
        assert dash is not None
        job.binds = (Bind(os.path.realpath(dash), "/bin/bash"),)
    package = Package("hello", "1.0", (), {"etc/conda/activate.d/hello.sh": script})
    write_channel(job.source / "channel", (package,))
    job.add("environment.yml", "channels: [file:///src/channel]\ndependencies: [hello]\n")
    assert seen(job.run(images[CONDA_IMAGE].id, Setup("base")))[3] == "it's\"$HOME"


@pytest.mark.parametrize(
    ("name", "content", "code", "phase", "word"),
    [
        ("requirements.txt", "--no-index\nno-such-package\n", 68, "install", "cannot be installed"),
        ("environment.yml", "dependencies: [python=2.7]\n", 67, "environment", "conda cannot make"),
    ],
)
def test_what_cannot_be_had(
    name: str, content: str, code: int, phase: str, word: str, images: Mapping[str, LocalId], job: Job
) -> None:
    """The job ends in the phase that failed, and the last line says what it was."""
    job.add(name, content)
    done = job.run(images[CONDA_IMAGE].id, Setup())
    assert done.exit_code == code
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("dispatch: ")
    assert word in last
    assert f"phase {phase}" in done.stderr.decode()
    assert "phase run" not in done.stderr.decode()


def test_a_command_without_python(busybox_image: ImageRecord, job: Job) -> None:
    """A shell step on an image without Python runs, though the source declares packages."""
    job.add("requirements.txt", REQUIREMENTS)
    done = job.run(busybox_image.id, Setup(), ShellTask("echo fine"))
    assert (done.exit_code, done.stdout) == (0, b"fine\n"), done.stderr.decode()
    assert b"no Python to make an environment with" in done.stderr
