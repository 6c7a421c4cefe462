"""Images of conda, and of pip upon conda, on a real engine: right inside, and the same from anywhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch._docker.helper import OneShot
from dispatch.image.direct import Assembly
from dispatch.image.layers import LayerCache
from dispatch.image.spec import ImageSpec
from dispatch.image.tar import Entry, Kind, TarStream
from dispatch.testing.busybox import busybox_archive
from dispatch.testing.condapackages import MINOR, true_channel
from dispatch.testing.gitimage import with_libraries
from dispatch.testing.index import serving, wheel

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
BASE = "dispatch-test-glibc:1"
CONFIG = f"""\
images:
  env:
    conda: environment.yml
    base: {BASE}
    copy: [{{source: tool.conf, target: /opt/tool/tool.conf}}]
steps:
  said:
    type: shell
    step_image: env
    command: 'printf %s "$TOOLKIT_HOME" > "$DISPATCH_OUTPUT_DIR/home" && greet > "$DISPATCH_OUTPUT_DIR/greet"'
"""
ENVIRONMENT = """\
channels: [./channel]
dependencies: [greet, toolkit, pip, {pip: [tiny]}]
"""
CHECK = """\
import greet, importlib.metadata, json, os, subprocess, sys, tiny
print(json.dumps({
    "prefix": sys.prefix,
    "base": sys.base_prefix,
    "compiled": [os.path.exists(each.__cached__) for each in (json, greet, tiny)],
    "said": tiny.said,
    "versions": [importlib.metadata.version(each) for each in ("greet", "tiny")],
    "links": os.stat("/opt/conda/share/libtext/words.txt").st_nlink,
    "same": os.path.samefile("/opt/conda/share/libtext/words.txt", "/opt/conda/share/libtext/same.txt"),
    "greet": subprocess.run("greet", stdout=subprocess.PIPE, text=True).stdout,
    "copied": open("/opt/tool/tool.conf").read(),
    "conda": os.environ["CONDA_PREFIX"],
}))
"""


@pytest.fixture(scope="module")
def base(door: Door) -> ImageRecord:
    """An image of busybox and this machine's C library, without any Python."""
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.fail(f"{busybox} is missing: install it with `apt-get install busybox-static`", pytrace=False)
    listed = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    program = Path(sys.base_prefix) / "bin" / f"python{MINOR}"
    libraries = with_libraries([program, *Path(sys.base_prefix).glob("lib/python3*/lib-dynload/zlib*")])
    files = {path: data for path, data in libraries.items() if path.startswith("/lib")}
    door.load([busybox_archive(busybox.read_bytes(), listed.stdout.split(), more=files, reference=BASE)])
    record = door.inspect_image(BASE)
    assert record is not None
    return record


class Project:
    """A project with a channel beside it; ``index`` is where its pip part comes from."""

    def __init__(self, root: Path, index: str) -> None:
        self.root = root
        self._index = index

    def dispatch(self, *arguments: str, home: str = "home") -> str:
        """Run a command, and return what it printed."""
        (self.root / home).mkdir(exist_ok=True)
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CONDA"))},
            "HOME": str(self.root / home),
            "XDG_CACHE_HOME": str(self.root / home / "cache"),
            "PYTHONPATH": str(ROOT),
            "PIP_INDEX_URL": self._index,
        }
        words = [sys.executable, "-m", "dispatch.cli", *arguments]
        done = subprocess.run(
            words, env=environ, cwd=self.root / "project", capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def build(self, home: str = "home") -> str:
        """Build, and return the reference."""
        name, reference = self.dispatch("build", "experiment.yml", home=home).strip().split("\t")
        assert name == "env"
        return reference


@pytest.fixture(scope="module")
def project(base: ImageRecord, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project, with its locks."""
    assert base.tags
    root = tmp_path_factory.mktemp("conda")
    directory = root / "project"
    true_channel(directory / "channel")
    (directory / "experiment.yml").write_text(CONFIG)
    (directory / "environment.yml").write_text(ENVIRONMENT)
    (directory / "tool.conf").write_text("tool\n")
    (directory / ".gitignore").write_text("channel\nworkspace\n")
    for words in (("init", "--quiet"), ("add", "."), ("commit", "--quiet", "-m", "all")):
        identity = ("-c", "user.name=me", "-c", "user.email=me@example.org")
        subprocess.run(["git", *identity, *words], cwd=directory, check=True)
    with serving(root / "index") as index:
        index.serve("tiny", "tiny-1.0-py3-none-any.whl", wheel("tiny", 'said = "tiny!"\n'))
        made = Project(root, index.address)
        made.dispatch("lock", "experiment.yml")
        yield made


@pytest.fixture(scope="module")
def reference(project: Project, door: Door) -> Iterator[str]:
    """The image, built from empty caches, removed at the end."""
    reference = project.build()
    yield reference
    door.remove_image(reference)


def test_inside(door: Door, reference: str) -> None:
    """Python and packages of conda and pip work together, are compiled, and links are what they were."""
    finished = door.run_once(OneShot(reference, ("python", "-c", CHECK), user="1234:1234"))
    assert finished.exit_code == 0, finished.stderr.decode()
    assert json.loads(finished.stdout) == {
        "prefix": "/opt/venv",
        "base": "/opt/conda",
        "compiled": [True, True, True],
        "said": "tiny!",
        "versions": ["1.0", "1.0"],
        "links": 2,
        "same": True,
        "greet": f"hello from /opt/conda/lib/python{MINOR}/site-packages/greet/__init__.py\n",
        "copied": "tool\n",
        "conda": "/opt/conda",
    }


def test_compiled_files_are_used(door: Door, reference: str) -> None:
    """The interpreter takes the compiled files for those of its sources, the standard library's as well."""
    finished = door.run_once(OneShot(reference, ("python", "-v", "-c", "import json, greet")))
    said = finished.stderr.decode()
    assert not re.search(r"code object from '[^']*\.py'", said)
    for module in (f"/opt/conda/lib/python{MINOR}/json/__init__.py", "site-packages/greet/__init__.py"):
        assert f"{module}\n" in said and "matches" in said


def test_activated(project: Project, reference: str) -> None:
    """A step has the variables that packages set when they are activated."""
    assert reference
    project.dispatch("run", "experiment.yml")
    (result,) = (project.root / "project" / "workspace" / "cache").glob("Shell-*/result")
    assert (result / "home").read_text() == "/opt/conda/share/toolkit"
    assert (result / "greet").read_text().startswith("hello from /opt/conda")


def test_same_from_empty_caches(door: Door, project: Project, reference: str) -> None:
    """Built again, with nothing kept, it is the same image."""
    first = door.inspect_image(reference)
    assert first is not None
    for tag in [*first.tags, *_of("env-conda")]:
        door.remove_image(tag)
    assert door.inspect_image(first.id) is None
    try:
        assert project.build("elsewhere") == reference
        second = door.inspect_image(reference)
        assert second is not None and second.id == first.id
    finally:
        shutil.rmtree(project.root / "elsewhere", ignore_errors=True)


def _of(name: str) -> list[str]:
    """The tags of the image below."""
    words = ["docker", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", f"dispatch:{name}--*"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()


def test_capabilities(door: Door, reference: str, tmp_path: Path) -> None:
    """A program's capability comes into the image with it, and so do hard links."""
    below = door.inspect_image(reference)
    assert below is not None
    value = b"\x01\x00\x00\x02\x00\x20\x00\x00" + bytes(12)
    entries = [
        Entry("opt/able/able", Kind.FILE, 0o755, 4, b"able", capability=value),
        Entry("opt/able/same", Kind.HARDLINK, 0o755, target="opt/able/able", capability=value),
        Entry.directory("opt/able"),
    ]
    cache = LayerCache(tmp_path)
    spec = ImageSpec("linux/amd64", f"image:{below.id}", "", ())
    assembly = Assembly(spec, below, [partial(cache.open, "able", lambda: TarStream(entries, 0))])
    door.load(assembly.chunks())
    try:
        code = "import os; print(os.getxattr('/opt/able/same', 'security.capability').hex())"
        finished = door.run_once(OneShot(assembly.image_id, ("python", "-c", code)))
        assert (finished.exit_code, finished.stdout.decode().strip()) == (0, value.hex()), finished.stderr
    finally:
        door.remove_image(assembly.image_id)
