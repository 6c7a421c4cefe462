"""Looking into an image: what differs from the lock is found and named, and what works is left alone."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import Address, ImageRecord
from dispatch._docker.helper import Finished, OneShot
from dispatch.app.rebuilding import RebuildDoor, Rebuilt
from dispatch.errors import ImageError
from dispatch.image import inside_python
from dispatch.image.config import image_id
from dispatch.image.direct import Assembly
from dispatch.image.layers import LayerCache
from dispatch.image.recipes import pip_spec
from dispatch.image.spec import DIGEST_LABEL
from dispatch.image.tar import Entry, TarStream
from dispatch.image.verify import Layer, Verifier, compared, dpkg_packages, normal_name, normal_version
from dispatch.lock.model import CondaLock, CondaPackage
from dispatch.testing.catalogue import debian_lock, pip_image, pip_lock
from dispatch.testing.images import write_package
from dispatch.testing.reporting import RecordingReporter

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
STATUS = """\
Package: libc6
Status: install ok installed
Version: 2.36-9+deb12u10
Description: a library
 Version: of no interest

Package: python3
Status: install ok installed
Version: 3.11.2-1+b1

Package: removed
Status: deinstall ok config-files
Version: 1.0
"""


def package(name: str, version: str, files: Mapping[str, str], points: str = "") -> dict[str, str]:
    """The files of a package below site-packages."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    listing = {f"{info}/entry_points.txt": points} if points else {}
    return {**files, f"{info}/METADATA": metadata, **listing}


class Image:
    """A virtual environment that stands for that of an image, and is examined as one."""

    def __init__(self, root: Path) -> None:
        self.prefix = root / "venv"
        venv.create(self.prefix, symlinks=True)
        self.site = self.prefix / "lib" / f"python{PYTHON}" / "site-packages"
        self.work = root / "work"
        self.work.mkdir()

    def add(self, name: str, version: str, files: dict[str, str]) -> None:
        """Install a package, with scripts that run its entry points."""
        write_package(self.prefix, PYTHON, f"{name}-{version}", files)
        points = files.get(f"{name}-{version}.dist-info/entry_points.txt", "")
        for line in points.splitlines()[1:]:
            script, _, target = line.partition(" = ")
            module, _, function = target.partition(":")
            path = self.prefix / "bin" / script
            path.write_text(f"#!{self.prefix}/bin/python\nimport {module}\n{module}.{function}()\n")
            path.chmod(0o755)

    def examined(self, kind: str = "pip", limit: float = 120.0) -> dict[str, Any]:
        """What the program says that runs inside of images."""
        job = self.work / "job.json"
        document = {
            "kind": kind,
            "prefix": str(self.prefix),
            "site": str(self.site),
            "output": str(self.work / "answer.json"),
            "limit": limit,
        }
        job.write_text(json.dumps(document))
        command = [str(self.prefix / "bin" / "python"), "-B", str(inside_python.__file__), str(job)]
        subprocess.run(command, check=True, timeout=600, env={"PATH": os.environ["PATH"]})
        answer: dict[str, Any] = json.loads((self.work / "answer.json").read_text())
        return answer


@pytest.fixture
def image(tmp_path: Path) -> Image:
    """An image with nothing in it yet."""
    return Image(tmp_path)


def test_all_is_well(image: Image) -> None:
    """Packages are found with their versions, modules and scripts; what works earns no complaint."""
    points = "[console_scripts]\ngood = good:main\n"
    image.add("good", "1.0", package("good", "1.0", {"good.py": "def main(): print('hello')"}, points))
    odd = {
        "space/inner/__init__.py": "",
        "_private.py": "1/0",
        "tests/__init__.py": "1/0",
        "data/x.py": "1/0",
    }
    image.add("Odd.Name", "2.0", package("Odd.Name", "2.0", odd))
    answer = image.examined()
    assert answer["imports"] == {"good": "", "space.inner": ""}
    assert answer["scripts"] == {"good": ""}
    assert [(each["name"], each["version"], each["wrong"]) for each in answer["packages"]] == [
        ("Odd.Name", "2.0", []),
        ("good", "1.0", []),
    ]
    assert all(each["files"] > 2 for each in answer["packages"])


def test_what_does_not_work(image: Image) -> None:
    """An import that raises, exits or dies is named; the others of the same package still count."""
    files = {
        "a_dies.py": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "b_lacks.py": "import nothing_like_it",
        "c_leaves.py": "raise SystemExit('gone')",
        "d_works.py": "print('noise')",
    }
    image.add("bad", "1.0", package("bad", "1.0", files))
    assert image.examined()["imports"] == {
        "a_dies": "it ended the interpreter with signal 11",
        "b_lacks": "ModuleNotFoundError: No module named 'nothing_like_it'",
        "c_leaves": "SystemExit: gone",
        "d_works": "",
    }


def test_what_does_not_end(image: Image) -> None:
    """An import that hangs is named; a script that does is at work."""
    text = "def waits(): import sys, time; sys.stdin.read(); time.sleep(600)"
    points = "[gui_scripts]\nwaits = tool:waits\n"
    image.add(
        "tool",
        "1.0",
        package("tool", "1.0", {"tool.py": text, "tool_slow.py": "import time; time.sleep(600)"}, points),
    )
    answer = image.examined(limit=2.0)
    assert answer["scripts"] == {"waits": ""}
    assert answer["imports"]["tool_slow"] == "it took too long"


def test_scripts_that_do_not_start(image: Image) -> None:
    """A script that is missing, cannot be run, or lacks a module is named; one that refuses --help is not."""
    names = ("missing", "locked", "lost", "refuses", "fails", "lacks", "killed")
    points = "[console_scripts]\n" + "".join(f"{name} = tool:{name}\n" for name in names)
    text = (
        "import sys, os\n"
        "def refuses(): sys.exit(2)\n"
        "def fails(): raise ValueError('ImportError: not really')\n"
        "def lacks(): import nothing_like_it\n"
        "def killed(): os.abort()\n"
    )
    image.add("tool", "1.0", package("tool", "1.0", {"tool.py": text}, points))
    image.prefix.joinpath("bin", "missing").unlink()
    image.prefix.joinpath("bin", "locked").chmod(0o644)
    image.prefix.joinpath("bin", "lost").write_text("#!/no/such/interpreter\n")
    assert image.examined()["scripts"] == {
        "missing": "it is missing",
        "locked": "it is not executable",
        "lost": "it does not start: No such file or directory",
        "refuses": "",
        "fails": "",
        "lacks": "ModuleNotFoundError: No module named 'nothing_like_it'",
        "killed": "it ended with signal 6",
    }


def test_files_that_are_not_what_was_installed(image: Image) -> None:
    """A file of a package that was changed or removed is named; compiled files are nobody's loss."""
    image.add("good", "1.0", package("good", "1.0", {"good.py": "", "other.py": "", "old.pyc": ""}))
    (image.site / "good.py").write_text("changed = True")
    (image.site / "other.py").unlink()
    (image.site / "old.pyc").unlink()
    (found,) = image.examined()["packages"]
    assert sorted(found["wrong"]) == ["good.py was changed", "other.py is missing"]


def test_conda_metadata(image: Image) -> None:
    """Of a conda prefix its own metadata counts: packages with builds, files, modules, commands in Python."""
    site = f"lib/python{PYTHON}/site-packages"
    content = {
        f"{site}/tool.py": "def main(): pass",
        "bin/tool": f"#!{image.prefix}/bin/python\nimport tool; tool.main()\n",
        "bin/native": "\x7fELF",
        "share/changed": "changed",
    }
    paths = []
    for path, text in content.items():
        place = image.prefix / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(0o755)
        paths.append(
            {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(text.encode()).hexdigest()}
        )
    (image.prefix / "share" / "changed").write_text("otherwise")
    paths += [{"_path": "share/gone", "path_type": "hardlink", "sha256": "0" * 64}]
    meta = image.prefix / "conda-meta"
    meta.mkdir()
    facts = {"name": "tool", "version": "1.0", "build": "py_0", "paths_data": {"paths": paths}}
    (meta / "tool-1.0-py_0.json").write_text(json.dumps(facts))
    assert image.examined("conda") == {
        "imports": {"tool": ""},
        "scripts": {"tool": ""},
        "packages": [
            {
                "name": "tool",
                "version": "1.0",
                "build": "py_0",
                "files": 5,
                "wrong": ["share/changed was changed", "share/gone is missing"],
            }
        ],
    }


@pytest.mark.parametrize(
    ("installed", "open_end", "problems"),
    [
        ({"a": "1", "b": "2"}, False, ()),
        ({"a": "1"}, False, ("b 2 is not installed",)),
        ({"a": "1", "b": "3"}, False, ("b is 3, the lock says 2",)),
        ({"a": "1", "b": "2", "c": "1"}, False, ("c 1 is in no lock",)),
        ({"a": "1", "b": "2", "c": "1"}, True, ()),
        ({"a": "2", "c": "1"}, True, ("b 2 is not installed", "a is 2, the lock says 1")),
    ],
)
def test_compared(installed: dict[str, str], open_end: bool, problems: tuple[str, ...]) -> None:
    """What is missing, different or too much is named; more is allowed only where steps ran above."""
    assert compared("packages", {"a": "1", "b": "2"}, installed, open_end).problems == problems


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2023.03.01", "2023.3.1", True),
        ("1.0-beta2", "1.0b2", True),
        ("v1.0", "1.0", True),
        ("1.0+CU118", "1.0+cu118", True),
        ("1.0.post1", "1.0-post1", True),
        ("1.0", "1.0.1", False),
        ("1.0rc1", "1.0", False),
        ("1.0", "1.0+cu118", False),
    ],
)
def test_spellings_of_versions(one: str, other: str, same: bool) -> None:
    """Two spellings of one version are one; two versions are two."""
    assert (normal_version(one) == normal_version(other)) is same
    assert normal_name("Zope.Interface__x") == "zope-interface-x"


def test_dpkg_status() -> None:
    """Of Debian's own record only what is installed counts, and only fields at the start of a line."""
    assert dpkg_packages(STATUS) == {"libc6": "2.36-9+deb12u10", "python3": "3.11.2-1+b1"}


class Answering:
    """Runs no container: leaves in the output what an image would have, or fails."""

    def __init__(self, *left: tuple[str, str], code: int = 0) -> None:
        self._left = list(left)
        self._code = code
        self.shots: list[OneShot] = []

    def run_once(self, shot: OneShot) -> Finished:
        """Leave the next answer."""
        self.shots.append(shot)
        output = Path(next(bind.source for bind in shot.binds if not bind.read_only))
        if self._left:
            name, text = self._left.pop(0)
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            (output / name).write_text(text)
        return Finished(self._code, b"", b"first\nlast words\n")


def conda_lock(*names: str) -> CondaLock:
    """A lock of packages of version 1.0."""
    packages = tuple(
        CondaPackage(name, "1.0", "0", "forge", "noarch", f"{name}-1.0-0.conda", "0" * 64, 1)
        for name in names
    )
    return CondaLock("linux-64", (), "0" * 64, packages)


def test_a_chain_of_layers(tmp_path: Path) -> None:
    """Every lock below an image is held against it, the lowest first, and nothing of it needs a network."""
    facts = json.dumps({"name": "tool", "version": "1.0", "build": "1"})
    python = json.dumps(
        {
            "packages": [{"name": "NumPy", "version": "2.0", "files": 3, "wrong": ["x.py was changed"]}],
            "imports": {"numpy": "ImportError: no"},
            "scripts": {"f2py": ""},
        }
    )
    runner = Answering(("status", STATUS), ("conda-meta/tool.json", facts), ("answer.json", python))
    layers = [Layer(debian_lock()), Layer(conda_lock("tool")), Layer(pip_lock("numpy==2.0", "scipy==1.0"))]
    found = Verifier(runner, "1:1", tmp_path).verify("env", "sha256:1", layers, RecordingReporter())
    assert {check.name: (check.count, check.problems) for check in found.checks} == {
        "debian packages": (2, ()),
        "conda packages": (1, ("tool is 1.0 1, the lock says 1.0 0",)),
        "pip packages": (1, ("scipy 1.0 is not installed",)),
        "files of pip packages": (3, ("NumPy: x.py was changed",)),
        "imports of pip packages": (1, ("import numpy: ImportError: no",)),
        "scripts of pip packages": (1, ()),
    }
    assert [shot.command[0] for shot in runner.shots] == ["cp", "cp", "/opt/venv/bin/python"]
    assert len(found.problems) == 4


@pytest.mark.parametrize("layer", [debian_lock(), conda_lock("tool"), pip_lock("numpy==2.0")])
def test_an_image_that_cannot_be_asked(layer: Any, tmp_path: Path) -> None:
    """An image that cannot run what asks it, or leaves rubbish, is an error with its last words."""
    for runner in (Answering(code=127), Answering(("answer.json", "{"))):
        with pytest.raises(ImageError, match="last words"):
            Verifier(runner, "1:1", tmp_path).verify("env", "sha256:1", [Layer(layer)], RecordingReporter())
        for left in tmp_path.iterdir():
            left.rename(tmp_path.parent / f"{id(runner)}-{left.name}")


def test_an_engine_that_keeps_nothing(tmp_path: Path) -> None:
    """An engine for building again takes an archive to its end, knows the image by its ID, and keeps none."""
    spec = pip_spec(pip_image("env", bytecode=False), pip_lock("numpy==2.0"), "")
    layers = LayerCache(tmp_path / "layers")

    def make() -> TarStream:
        return TarStream([Entry.file("opt/venv/x", b"x" * 3_000_000)], 0)

    assembly = Assembly(spec, None, [lambda: layers.open("key", make)])
    door = RebuildDoor(Address(f"unix://{tmp_path}/no.sock"), tmp_path, frozenset({spec.digest}))
    assert door.find_image(DIGEST_LABEL, spec.digest) is None
    door.load(assembly.chunks())
    record = door.inspect_image(assembly.image_id)
    assert isinstance(record, ImageRecord)
    assert (record.id, record.diff_ids) == (assembly.image_id, assembly.diff_ids)
    assert record.labels[DIGEST_LABEL] == spec.digest
    door.tag(record.id, "dispatch", "env--0")
    assert image_id(b"") != record.id


@pytest.mark.parametrize(
    ("rebuilt", "problem"),
    [
        (Rebuilt("env", "sha256:1", "sha256:1"), ""),
        (
            Rebuilt("env", "sha256:1", "sha256:2"),
            "env: the engine has sha256:1, from its lock comes sha256:2",
        ),
        (Rebuilt("env", "sha256:1", "", "its base is gone"), "env: its base is gone"),
    ],
)
def test_what_is_said_of_building_again(rebuilt: Rebuilt, problem: str) -> None:
    """Only the same image ID is the same image."""
    assert rebuilt.problem == problem
    assert rebuilt.same is (problem == "")
