"""Images on a real engine: the same bytes from everywhere, and right inside a container."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dispatch._docker import Address, Door, ImageRecord
from dispatch._docker.helper import OneShot
from dispatch._docker.owners import HELPER_LABEL, remove_abandoned
from dispatch.assets import images
from dispatch.environment import DebianImage, Environment
from dispatch.image.base import Prober
from dispatch.lock.apt import Apt
from dispatch.lock.debian import renew_debian
from dispatch.settings.document import read_document
from dispatch.settings.images import read_image
from dispatch.settings.section import Section
from dispatch.testing.index import packed_source, serving, wheel

pytestmark = [pytest.mark.engine, pytest.mark.archive]

ROOT = Path(__file__).parents[2]
NOBODY = "65534"
CONFIG = """\
image: env
images:
  env: {pip: requirements.in, base: debian-python}
steps:
  nothing: {type: shell, command: "true"}
"""
CHECK = """\
import base64, csv, hashlib, importlib.metadata, json, os, subprocess, sys
import markupsafe, rich, yaml
wrong = []
for distribution in importlib.metadata.distributions():
    for row in csv.reader(distribution.read_text("RECORD").splitlines()):
        path = os.path.join(os.path.dirname(distribution._path), row[0])
        if row[1]:
            data = open(path, "rb").read()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            if row[1] != "sha256=" + digest or int(row[2]) != len(data):
                wrong.append(row[0])
script = subprocess.run(["markdown-it", "--version"], stdout=subprocess.PIPE, text=True)
print(json.dumps({
    "wrong": wrong,
    "prefix": sys.prefix,
    "executable": sys.executable,
    "compiled": all(os.path.exists(module.__cached__) for module in (rich, yaml, markupsafe)),
    "script": script.returncode,
    "virtual_env": os.environ["VIRTUAL_ENV"],
}))
"""


@dataclass(frozen=True)
class Place:
    """A machine of its own as far as a build can tell: a copy of the project, a home, other variables."""

    project: Path
    home: Path
    environ: Mapping[str, str]
    umask: int = 0o022
    cwd: Path | None = None
    user: tuple[str, ...] = ()

    def dispatch(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command on the project's configuration."""
        config = str(self.project / "experiment.yml")
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            **self.environ,
        }
        command, *options = arguments
        return subprocess.Popen(
            [*self.user, sys.executable, "-m", "dispatch.cli", command, config, *options],
            env=environ,
            cwd=self.cwd or self.project,
            umask=self.umask,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )

    def build(self) -> str:
        """Build, and return the image's reference."""
        process = self.dispatch("build")
        out, err = process.communicate()
        assert process.returncode == 0, err
        name, reference = out.strip().split("\t")
        assert name == "env"
        return reference

    @property
    def left(self) -> list[Path]:
        """What a build should have removed."""
        return list((self.home / "cache" / "dispatch" / "staging").iterdir())


@pytest.fixture(scope="module")
def somewhere() -> Iterator[Path]:
    """A directory that every user may enter; pytest's own are closed to others."""
    directory = Path(tempfile.mkdtemp(prefix="dispatch-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def here(somewhere: Path) -> Place:
    """A project with its locks: a base as the archive is today, and a few packages."""
    project = somewhere / "project"
    base = project / "images" / "debian-python"
    base.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", project], check=True)
    shipped = images() / "debian-python" / "image.yml"
    shutil.copy(shipped, base)
    declared = read_image(Section.of(read_document(shipped)), "debian-python")
    assert isinstance(declared, Environment) and isinstance(declared.declaration, DebianImage)
    declaration = replace(declared.declaration, lock=base / "image.lock")
    renew_debian(replace(declared, declaration=declaration), Apt(os.environ), lambda _: None)
    (project / "experiment.yml").write_text(CONFIG)
    (project / "requirements.in").write_text("markupsafe\npyyaml\nrich\n")
    home = somewhere / "home"
    home.mkdir()
    place = Place(project, home, {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "1"})
    process = place.dispatch("lock")
    _, err = process.communicate()
    assert process.returncode == 0, err
    return place


@pytest.fixture(scope="module")
def reference(here: Place, door: Door) -> Iterator[str]:
    """The image, built from empty caches, removed at the end."""
    reference = here.build()
    yield reference
    door.remove_image(reference)


def as_nobody(address: Address) -> tuple[str, ...]:
    """The prefix that runs a command as another user, empty where that one cannot reach us or the engine."""
    group = str(Path(address.socket_path).stat().st_gid)
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={group}", "--clear-groups", "--")
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        return ()
    # The interpreter must also be able to start itself: its own directory may be closed to that user.
    again = "import click, dispatch, subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)"
    probe = [*prefix, sys.executable, "-c", again]
    done = subprocess.run(probe, env={"PYTHONPATH": str(ROOT)}, cwd="/", capture_output=True, check=False)
    return prefix if done.returncode == 0 else ()


@pytest.fixture
def elsewhere(here: Place, somewhere: Path, address: Address) -> Place:
    """Everything different: user, umask, paths, working directory, locale, time zone, hash seed."""
    other = somewhere / "an other plâce"
    shutil.copytree(here.project, other / "project")
    for name in ("home", "tmp"):
        (other / name).mkdir()
    user = as_nobody(address)
    if user:
        for path in [other, *other.rglob("*")]:
            shutil.chown(path, int(NOBODY), int(NOBODY))
    environ = {
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
        "PYTHONHASHSEED": "77",
        "TMPDIR": str(other / "tmp"),
        "USER": "somebody",
        "LOGNAME": "somebody",
        "UV_LINK_MODE": "copy",
        "UV_CACHE_DIR": str(other / "home" / "uv"),
    }
    return Place(other / "project", other / "home", environ, 0o077, Path("/"), user)


def inspected(door: Door, reference: str) -> ImageRecord:
    """An image that must be there."""
    record = door.inspect_image(reference)
    assert record is not None
    return record


def test_same_image_from_everywhere(door: Door, reference: str, here: Place, elsewhere: Place) -> None:
    """One lock, built twice from empty caches by machines that share nothing, is one image ID."""
    first = inspected(door, reference)
    for tag in first.tags:
        door.remove_image(tag)
    assert door.inspect_image(first.id) is None
    assert elsewhere.build() == reference
    second = inspected(door, reference)
    assert second.diff_ids == first.diff_ids
    assert second.id == first.id
    told = json.dumps([dict(second.config), dict(second.labels)])
    assert str(here.project) not in told and str(elsewhere.project) not in told
    assert here.left == elsewhere.left == []


def test_inside(door: Door, reference: str) -> None:
    """In the container all packages import, are compiled, and are what their RECORD says; scripts run."""
    finished = door.run_once(OneShot(reference, ("python", "-c", CHECK), user="1234:1234"))
    assert finished.exit_code == 0, finished.stderr.decode()
    assert json.loads(finished.stdout) == {
        "wrong": [],
        "prefix": "/opt/venv",
        "executable": "/opt/venv/bin/python",
        "compiled": True,
        "script": 0,
        "virtual_env": "/opt/venv",
    }


def test_nothing_to_do(door: Door, reference: str, here: Place) -> None:
    """A second build finds the image and touches nothing."""
    before = inspected(door, reference)
    layers = {path: path.stat().st_mtime_ns for path in (here.home / "cache/dispatch/layers").iterdir()}
    assert here.build() == reference
    assert inspected(door, reference) == before
    assert layers == {
        path: path.stat().st_mtime_ns for path in (here.home / "cache/dispatch/layers").iterdir()
    }


def test_killed_in_the_middle(door: Door, reference: str, here: Place, somewhere: Path) -> None:
    """A build that is killed leaves no tag, and the next one gives the same image and cleans up."""
    first = inspected(door, reference)
    for tag in first.tags:
        door.remove_image(tag)
    place = replace(here, home=somewhere / "killed")
    place.home.mkdir()
    process = place.dispatch("build")
    assert process.stderr is not None
    for line in process.stderr:
        if "loading" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    remove_abandoned(door.containers)
    assert _helpers(door, place.home) == []
    assert place.build() == reference
    assert inspected(door, reference).id == first.id
    assert place.left == []


def _helpers(door: Door, home: Path) -> list[str]:
    """The helper containers that work for builds with this home."""
    found = []
    for listed in door.containers.labelled(HELPER_LABEL):
        state = door.containers.inspect(listed.name)
        if state is not None and any(source.startswith(f"{home}/") for source in state.mounts.values()):
            found.append(listed.name)
    return found


def test_images_are_asked(door: Door, reference: str, busybox_image: ImageRecord, tmp_path: Path) -> None:
    """The probe finds the Python, glibc and interpreter of an image, and that another has none."""
    prober = Prober(door, door, tmp_path)
    ground = prober.of_image("env", inspected(door, reference))
    assert (ground.facts.python, ground.interpreter) == ("3.11", "/usr/bin/python3.11")
    assert ground.facts.glibc is not None and ground.facts.glibc.startswith("2.")
    bare = prober.of_image("busybox", busybox_image)
    assert (bare.facts.python, bare.facts.glibc, bare.interpreter) == (None, None, "")


PYPROJECT = """\
[build-system]
requires = ["builderhelp"]
build-backend = "own"
backend-path = ["."]
"""
BACKEND = """\
import builderhelp, os, socket, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    try:
        socket.create_connection(("127.0.0.1", 1), 5)
    except OSError as error:
        network = error.strerror
    interfaces = sorted(name for _, name in socket.if_nameindex())
    said = repr([builderhelp.WORD, interfaces, os.environ["SOURCE_DATE_EPOCH"]])
    name = "fromsource-1.0-py3-none-any.whl"
    info = "fromsource-1.0.dist-info"
    files = {
        "fromsource.py": f"SAID = {said}\\n",
        f"{info}/METADATA": "Metadata-Version: 2.2\\nName: fromsource\\nVersion: 1.0\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{each},,\\n" for each in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    print("made by", builderhelp.WORD)
    return name
"""


def test_a_package_that_comes_as_source(here: Place, door: Door, somewhere: Path) -> None:
    """It is built without network by what its lock names, and that is not in the image; then it is known."""
    project = somewhere / "source"
    shutil.copytree(here.project, project)
    text = CONFIG.replace("base: debian-python", "base: debian-python, sdists: [fromsource]")
    (project / "experiment.yml").write_text(text)
    (project / "requirements.in").write_text("fromsource\n")
    (project / "requirements.lock").unlink()
    with serving(somewhere / "index") as index:
        index.serve(
            "builderhelp", "builderhelp-1.0-py3-none-any.whl", wheel("builderhelp", "WORD = 'help'\n")
        )
        files = {
            "PKG-INFO": "Metadata-Version: 2.2\nName: fromsource\nVersion: 1.0\n",
            "pyproject.toml": PYPROJECT,
            "own.py": BACKEND,
        }
        index.serve("fromsource", "fromsource-1.0.tar.gz", packed_source("fromsource", files))
        environ = {**here.environ, "PIP_CONFIG_FILE": os.devnull, "UV_DEFAULT_INDEX": index.address}
        place = Place(project, here.home, environ)
        assert done(place.dispatch("lock"))
        lock = (project / "requirements.lock").read_text()
        assert "\n# source: fromsource\n# builder: builderhelp==1.0 sha256:" in lock
        assert "127.0.0.1" not in lock
        (reference,) = (line.split("\t")[1] for line in done(place.dispatch("build")).splitlines())
    try:
        program = "import fromsource, importlib.util as u; print(fromsource.SAID, u.find_spec('builderhelp'))"
        finished = door.run_once(OneShot(reference, ("python", "-c", program)))
        assert finished.stdout.decode().strip() == "['help', ['lo'], '315532800'] None"
        first = inspected(door, reference)
        # The index is gone: the wheel is known, and the image is the same.
        for layer in (here.home / "cache/dispatch/layers").iterdir():
            layer.unlink()
        for tag in first.tags:
            door.remove_image(tag)
        process = place.dispatch("build")
        _, said = process.communicate()
        assert process.returncode == 0, said
        assert "from source" not in said
        assert inspected(door, reference).id == first.id
    finally:
        door.remove_image(reference)


def done(process: subprocess.Popen[str]) -> str:
    """Wait for a command that must succeed, and return what it prints."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out or err


STEPS = """\
image: env
images:
  tool: {dockerfile: tool.dockerfile, base: debian-python, env: {TOOL: "a b"}}
  env: {pip: requirements.in, base: tool, run: ["python -c 'import markupsafe'; id -u > /ran"], user: "1000"}
steps:
  nothing: {type: shell, command: "true"}
"""


def test_packages_between_steps(here: Place, door: Door, somewhere: Path) -> None:
    """Packages are locked for what a Dockerfile comes to, and commands run upon them; then all is there."""
    project = somewhere / "steps"
    shutil.copytree(here.project, project)
    (project / "experiment.yml").write_text(STEPS)
    (project / "tool.dockerfile").write_text("ARG BASE\nFROM ${BASE}\nRUN echo made > /made\n")
    (project / "requirements.in").write_text("markupsafe\n")
    (project / "requirements.lock").unlink()
    place = replace(here, project=project)
    done(place.dispatch("lock"))
    assert "\n# base: tool\n" in (project / "requirements.lock").read_text()
    done(place.dispatch("lock", "--check"))
    built = done(place.dispatch("build"))
    (reference,) = (line.split("\t")[1] for line in built.splitlines())
    try:
        program = "cat /made /ran; id -u; python -c 'import markupsafe, os; print(os.environ[\"TOOL\"])'"
        finished = door.run_once(OneShot(reference, ("sh", "-c", program)))
        assert finished.stdout.decode().split("\n") == ["made", "0", "1000", "a b", ""]
        process = place.dispatch("build")
        out, err = process.communicate()
        assert (process.returncode, out) == (0, built), err
        assert "building" not in err
    finally:
        door.remove_image(reference)
