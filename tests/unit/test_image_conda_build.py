"""Images of conda, of pip upon conda, and with copied files: layers, caches, and what is made again."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.environment import CondaImage, CopiedFile, DebianImage, Extras, ImageDeclaration
from dispatch.errors import LockError
from dispatch.image.builder import Builder
from dispatch.image.maker import Tools
from dispatch.image.plan import plan_images
from dispatch.image.report import BuildReport
from dispatch.lock.model import CondaLock, Lock
from dispatch.lock.rattler import Rattler
from dispatch.testing.catalogue import FakeLocks, debian_image, debian_lock, environments, pip_image, pip_lock
from dispatch.testing.condapackages import MINOR, PYTHON, locked, true_channel
from dispatch.testing.images import FakeHelper, FakeImageStore, FakeInstaller, FakeRootfs, base_image
from dispatch.testing.reporting import RecordingReporter

PACKAGES = {"numpy": {"numpy/__init__.py": "x = 1\n"}, "scipy": {"scipy/__init__.py": "y = 1\n"}}
STEMS = (PYTHON, "zlib-1.3-h0_0", "libtext-1.3-h1_0", "greet-1.0-0")
DECLARED = CondaImage(Path("/repo/environment.yml"), Path("/repo/environment.linux-64.lock"), "base")


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The channel, whose Python does not run."""
    return true_channel(tmp_path_factory.mktemp("channel") / "channel", python=False)


class Yard:
    """A builder with everything it works with: fake, but for the cache on disk and the conda installer."""

    def __init__(self, cache: Path, channel: Path) -> None:
        self.cache = cache
        self.store = FakeImageStore()
        self.helper = FakeHelper()
        self.pip = FakeInstaller(PACKAGES)
        self.told = RecordingReporter()
        self.declared = DECLARED
        self.base: DebianImage | str = debian_image()
        self.locks: dict[str, Lock] = {
            "base": debian_lock(),
            "env+conda": locked(channel, *STEMS),
            "env": pip_lock("numpy==2.0", python=MINOR),
        }
        rattler = Rattler(lambda _: [channel.as_uri()], cache / "conda", dict(os.environ))
        self.tools = Tools(self.store, self.helper, self.pip, FakeRootfs(), "0:0", conda=rattler)

    def build(self, *names: str) -> BuildReport:
        """Plan and build."""
        declared: dict[str, ImageDeclaration | str] = {
            "base": self.base,
            "env+conda": self.declared,
            "env": pip_image("env", base="env+conda"),
        }
        catalogue = environments(**declared)
        plan = plan_images(names, catalogue, FakeLocks(self.locks), self.store)
        return Builder(self.tools, self.cache, clock=lambda: 0.0).build(plan, self.told)

    def ids(self, *names: str) -> list[str]:
        """Build, and return the images' IDs."""
        report = self.build(*names)
        report.raise_failures()
        return [str(report.images[name]) for name in names]

    def layer(self, path: str) -> dict[str, tarfile.TarInfo]:
        """The members of the one cached layer that holds a path."""
        for tar in sorted((self.cache / "layers").glob("*.tar")):
            with tarfile.open(fileobj=io.BytesIO(tar.read_bytes())) as archive:
                members = {member.name: member for member in archive}
            if path in members:
                return members
        raise KeyError(path)

    def content(self, path: str) -> bytes:
        """The content of a file in whichever cached layer holds it."""
        for tar in sorted((self.cache / "layers").glob("*.tar")):
            with tarfile.open(tar) as archive:
                if path in archive.getnames() and (file := archive.extractfile(path)) is not None:
                    return file.read()
        raise KeyError(path)


@pytest.fixture
def yard(tmp_path: Path, channel: Path) -> Yard:
    """A builder with an empty cache and an empty engine."""
    return Yard(tmp_path / "cache", channel)


def test_the_chain(yard: Yard) -> None:
    """The pip part stands on the conda part, which stands on the base; each has its bytecode."""
    yard.ids("env")
    record = next(each for each in yard.store.images.values() if len(each.diff_ids) == 5)
    path = next(each for each in record.config["Env"] if each.startswith("PATH="))
    assert path.startswith("PATH=/opt/venv/bin:/opt/conda/bin:")
    assert "CONDA_PREFIX=/opt/conda" in record.config["Env"]
    conda = yard.layer("opt/conda/bin/greet")
    assert f"opt/conda/lib/python{MINOR}/site-packages/greet/__init__.py" in conda
    compiled = yard.layer(f"opt/conda/lib/python{MINOR}/site-packages/greet/__pycache__")
    assert [name for name in compiled if name.endswith(".pyc")]
    assert (
        yard.layer("opt/venv/bin/python")["opt/venv/bin/python"].linkname == f"/opt/conda/bin/python{MINOR}"
    )


def test_the_pip_part_sees_conda(yard: Yard) -> None:
    """The environment of the pip part has the packages of conda too."""
    yard.ids("env")
    assert b"\ninclude-system-site-packages = true\n" in yard.content("opt/venv/pyvenv.cfg")


def test_pip_part_changed(yard: Yard) -> None:
    """A changed pip part leaves the conda layer alone: nothing is fetched, installed or compiled again."""
    yard.ids("env")
    before = {path.name: path.stat().st_mtime_ns for path in (yard.cache / "layers").glob("*.tar")}
    (conda,) = [each for each in yard.told.lines if "env+conda: installing" in each]
    compiled = list(yard.helper.compiled)
    yard.locks["env"] = pip_lock("numpy==2.0", "scipy==1.0", python=MINOR)
    channel_gone = Rattler(lambda _: [], yard.cache / "none", dict(os.environ))
    yard.tools = replace(yard.tools, conda=channel_gone)
    yard.ids("env")
    assert [each for each in yard.told.lines if "env+conda: installing" in each] == [conda]
    after = {path.name: path.stat().st_mtime_ns for path in (yard.cache / "layers").glob("*.tar")}
    assert after.items() > before.items()
    assert len(yard.helper.compiled) == len(compiled) + 1


def test_same_bytes_elsewhere(yard: Yard, channel: Path, tmp_path: Path) -> None:
    """Two builds that share nothing give the same images."""
    other = Yard(tmp_path / "elsewhere" / "cache", channel)
    assert yard.ids("env+conda", "env") == other.ids("env+conda", "env")


def test_layers_are_kept(yard: Yard, channel: Path) -> None:
    """With an empty engine and a full cache nothing is installed or compiled."""
    first = yard.ids("env")
    again = Yard(yard.cache, channel)
    again.tools = replace(again.tools, conda=Rattler(lambda _: [], yard.cache / "none", dict(os.environ)))
    assert again.ids("env") == first
    assert (again.pip.installs, again.helper.compiled) == (0, [])


def test_damaged_layers(yard: Yard, channel: Path) -> None:
    """Damaged layers of the cache are made again, which is said, and the images are as before."""
    first = yard.ids("env")
    for tar in (yard.cache / "layers").glob("*.tar"):
        content = bytearray(tar.read_bytes())
        content[-1] ^= 1
        tar.write_bytes(content)
    again = Yard(yard.cache, channel)
    assert again.ids("env") == first
    assert any(line.startswith("env+conda: layer") and "damaged" in line for line in again.told.lines)


def test_without_python(yard: Yard, channel: Path) -> None:
    """An environment without Python has nothing to compile."""
    yard.locks["env+conda"] = locked(channel, "libtext-1.3-h1_0", "toolkit-1.0-0")
    yard.ids("env+conda")
    assert yard.helper.compiled == []
    assert max(len(each.diff_ids) for each in yard.store.images.values()) == 2


def test_another_machine(yard: Yard) -> None:
    """A lock for another machine than the base is refused before anything is made."""
    lock = yard.locks["env+conda"]
    assert isinstance(lock, CondaLock)
    yard.locks["env+conda"] = replace(lock, platform="linux-aarch64")
    with pytest.raises(LockError, match="locked for linux-aarch64, its base 'base' is"):
        yard.ids("env+conda")
    assert yard.store.loads == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (("3.11", "/usr/bin/python3", "glibc 2.31"), "locked for glibc 2.36, its base 'base' has 2.31"),
        (("3.11", "/usr/bin/python3", None), "locked for glibc 2.36, its base 'base' has none"),
    ],
)
def test_a_base_that_does_not_fit(answer: tuple[str, str, str | None], message: str, yard: Yard) -> None:
    """What a pulled base turns out to be is compared with the lock before anything is fetched."""
    yard.base = "theirs:1"
    yard.store.registry["theirs:1"] = base_image("theirs:1")
    yard.helper.answer = answer
    with pytest.raises(LockError, match=message):
        yard.ids("env+conda")
    assert not (yard.cache / "conda").exists()
    yard.helper.answer = ("3.9", "/usr/bin/python3", "glibc 2.36")
    shutil.rmtree(yard.cache / "facts")
    yard.ids("env+conda")


def test_copied_files(yard: Yard, tmp_path: Path) -> None:
    """Copied files are a layer of their own on top: they change without anything being installed."""
    source = tmp_path / "tool.conf"
    source.write_text("one")
    copies = (CopiedFile(source, "/etc/tool.conf"),)
    yard.declared = replace(DECLARED, more=Extras(copy=copies))
    first = yard.ids("env+conda")
    assert "etc/tool.conf" in yard.layer("etc/tool.conf")
    source.write_text("two")
    assert yard.ids("env+conda") != first
    assert len([each for each in yard.told.lines if "env+conda: installing" in each]) == 1
    source.write_text("one")
    yard.store.images.clear()
    assert yard.ids("env+conda") == first
