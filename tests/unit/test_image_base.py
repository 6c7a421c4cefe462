"""What a base offers, how it is found out, and which locks fit it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from dispatch._docker.helper import Finished, OneShot
from dispatch.environment import (
    BeakerImage,
    DebianImage,
    DockerImage,
    Environment,
    ImageDeclaration,
    PipImage,
)
from dispatch.errors import ConfigurationError, ImageError, LockError
from dispatch.image.base import Ground, Prober, base_environment, base_facts, debian_ground, refuse_misfit
from dispatch.lock.model import BaseFacts, CondaLock, DebianLock, DebianPackage, PipLock, Target
from dispatch.reporting import Lines
from dispatch.testing.images import FakeHelper, FakeImageStore, base_image

ORIGIN = Path("/repo/experiment.yml")
FACTS = BaseFacts("base", "3.11", "2.36", "x86_64")


def debian_lock(**versions: str) -> DebianLock:
    """A lock of packages by version."""
    packages = tuple(
        DebianPackage(name.replace("_", "-"), version, "amd64", "0" * 64, 1, "bookworm", f"{name}.deb")
        for name, version in versions.items()
    )
    return DebianLock(("bookworm",), "amd64", 1, "0" * 64, packages)


ignore = Lines(lambda _: None)


class NoLocks:
    """Locks that nobody should read."""

    def pip(self, environment: Environment) -> PipLock:
        """Fail."""
        raise AssertionError(environment)

    def debian(self, environment: Environment) -> DebianLock:
        """Return a lock with Python."""
        assert isinstance(environment.declaration, DebianImage)
        return debian_lock(python3="3.11.2-1+b1", libc6="2.36-9+deb12u10")

    def conda(self, environment: Environment) -> CondaLock:
        """Fail."""
        raise AssertionError(environment)


def test_debian_bases_are_known_from_their_lock() -> None:
    """Python, glibc, architecture and interpreter are read off the locked versions."""
    ground = debian_ground("base", debian_lock(python3="3.11.2-1+b1", libc6="2.36-9+deb12u10"))
    assert ground == Ground(FACTS, "/usr/bin/python3.11")
    assert debian_ground("bare", debian_lock(libc6="2.36-9")).interpreter == ""


def test_an_image_is_asked_once(tmp_path: Path) -> None:
    """A probe's answer is remembered by image ID, not by name, across probers."""
    store, helper = FakeImageStore(), FakeHelper(answer=("3.12", "/usr/local/bin/python3.12", "glibc 2.41"))
    record = store.add(base_image("python:3.12", "arm64"))
    expected = Ground(BaseFacts("python:3.12", "3.12", "2.41", "aarch64"), "/usr/local/bin/python3.12")
    for _ in range(2):
        assert Prober(store, helper, tmp_path).ground("python:3.12", ignore) == expected
    assert Prober(store, helper, tmp_path).known("other", record) is not None
    assert helper.probes == 1


def test_an_image_without_python(tmp_path: Path) -> None:
    """An image that has no python3 is a fact, not an error."""
    store, helper = FakeImageStore(), FakeHelper(python=False)
    store.add(base_image("busybox:1"))
    ground = Prober(store, helper, tmp_path).ground("busybox:1", ignore)
    assert ground == Ground(BaseFacts("busybox:1", None, None, "x86_64"), "")


@dataclass
class Shell:
    """An image without Python, whose shell prints something when it is asked for the C library."""

    said: str
    exit_code: int = 0
    asked: int = 0

    def run_once(self, shot: OneShot) -> Finished:
        """Answer the shell's command only."""
        self.asked += 1
        if shot.command[0] != "/bin/sh":
            raise ImageError(f"image {shot.image}: it cannot run {shot.command[0]}")
        return Finished(self.exit_code, self.said.encode(), b"")


@pytest.mark.parametrize(
    ("said", "glibc"),
    [
        ("glibc 2.36\n", "2.36"),
        ("GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\nCopyright\n", "2.36"),
        ("ld.so (Ubuntu GLIBC 2.35-0ubuntu3.8) stable release version 2.35.\n", "2.35"),
        ("musl libc (x86_64)\nVersion 1.2.4\n", None),
        ("", None),
    ],
)
def test_glibc_without_python(said: str, glibc: str | None, tmp_path: Path) -> None:
    """The C library of an image without Python says its own version; that answer is remembered."""
    store, shell = FakeImageStore(), Shell(said)
    store.add(base_image("nvidia:1"))
    for _ in range(2):
        ground = Prober(store, shell, tmp_path).ground("nvidia:1", ignore)
        assert ground == Ground(BaseFacts("nvidia:1", None, glibc, "x86_64"), "")
    assert shell.asked == (2 if glibc else 4)
    assert Prober(store, Shell(said, 1), tmp_path / "other").ground("nvidia:1", ignore).facts.glibc is None


def test_an_image_is_pulled_to_be_asked(tmp_path: Path) -> None:
    """An absent image is pulled; where no registry has it the error names the ways out."""
    store = FakeImageStore({"python:3.11": base_image("python:3.11")})
    prober = Prober(store, FakeHelper(), tmp_path)
    assert prober.ground("python:3.11", ignore).facts.python == "3.11"
    with pytest.raises(ImageError, match=r"absent:1.*no registry gave it") as caught:
        prober.ground("absent:1", ignore)
    assert "docker load" in caught.value.remedy


@pytest.mark.parametrize(
    ("target", "facts", "fact"),
    [
        (("3.11", "2.36", "x86_64"), FACTS, None),
        (("3.11", "2.17", "x86_64"), FACTS, None),
        (("3.12", "2.36", "x86_64"), FACTS, "locked for Python 3.12, its base 'base' has 3.11"),
        (("3.11", "2.41", "x86_64"), FACTS, "locked for glibc 2.41, its base 'base' has 2.36"),
        (("3.11", "2.4", "x86_64"), BaseFacts("b", "3.11", "2.36", "x86_64"), None),
        (("3.11", "2.36", "aarch64"), FACTS, "locked for aarch64, its base 'base' is x86_64"),
        (("3.11", "2.36", "x86_64"), BaseFacts("b", None, None, "x86_64"), "base 'b' has no Python"),
        (("3.11", "2.36", "x86_64"), BaseFacts("b", "3.11", None, "x86_64"), "its base 'b' has none"),
    ],
)
def test_fit(target: tuple[str, str, str], facts: BaseFacts, fact: str | None) -> None:
    """A lock fits a base of its own Python and architecture, with its glibc or a newer one."""
    lock = PipLock("base", Target(*target), "0" * 64, ())
    if fact is None:
        refuse_misfit("ml", lock, facts)
    else:
        with pytest.raises(LockError, match=fact) as caught:
            refuse_misfit("ml", lock, facts)
        assert caught.value.remedy and "ml" in caught.value.message


def catalogue() -> dict[str, Environment]:
    """A Debian base, an image of somebody else, and an environment."""
    debian = DebianImage(("bookworm",), ("python3",), "x86_64", 1, Path("/b.lock"))
    declarations: dict[str, ImageDeclaration] = {
        "debian-python": debian,
        "theirs": DockerImage("python:3.11"),
        "ours": BeakerImage("me/tools"),
        "ml": PipImage(Path("/ml.in"), Path("/ml.lock"), "debian-python"),
    }
    return {name: Environment(name, declaration, ORIGIN) for name, declaration in declarations.items()}


@pytest.mark.parametrize(
    ("base", "name", "error"),
    [
        ("debian-python", "debian-python", None),
        ("theirs", "theirs", None),
        ("debian:12", "debian:12", None),
        ("registry.example/x", "registry.example/x", None),
        ("debian-pyton", "", "did you mean 'debian-python'"),
        ("ml", "", "is a pip environment"),
        ("ours", "", "is a beaker environment"),
    ],
)
def test_what_a_base_may_be(base: str, name: str, error: str | None) -> None:
    """A base is another image of the catalogue or a Docker reference; typing errors are met with a guess."""
    environment = catalogue()["ml"]
    if error is None:
        assert base_environment(environment, base, catalogue()).name == name
    else:
        with pytest.raises(ConfigurationError, match=error):
            base_environment(environment, base, catalogue())


def test_facts_of_a_debian_base_need_no_engine() -> None:
    """The facts for locking on a Debian base come from its lock alone."""
    assert base_facts(catalogue()["debian-python"], NoLocks(), None, ignore).python == "3.11"
