"""Conda locks by the real conda-lock from a channel of our own: what is locked, kept, stale, refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.environment import CondaImage, Environment, Extras, TargetProfile
from dispatch.errors import ConfigurationError, ImageError, LockError
from dispatch.lock.conda import read_conda, renew_conda
from dispatch.lock.condainputs import refuse_misfit
from dispatch.lock.condalock import CHOICE, CondaLockTool
from dispatch.lock.condanames import pip_constraints
from dispatch.lock.condasolver import NAME
from dispatch.lock.model import BaseFacts, CondaLock
from dispatch.testing.channel import write_channel
from dispatch.testing.condapackages import noarch_python, served, true_channel

FACTS = BaseFacts("debian-python", "3.11", "2.36", "x86_64")


class Place:
    """A project with an environment.yml, and a machine whose channels are at ``alias``."""

    def __init__(self, directory: Path, alias: str) -> None:
        self.directory = directory
        self.alias = alias
        self.asked: list[str] = []
        self.file = directory / "environment.yml"
        self.path = directory / "environment.linux-64.lock"
        self.declaration = CondaImage(self.file, self.path, "debian-python")
        self.programs = directory / "programs"
        self.programs.mkdir()

    def environ(self) -> dict[str, str]:
        """The environment of this machine."""
        plain = {"PATH": f"{self.programs}:/usr/bin:/bin", "HOME": str(self.directory)}
        return {**plain, "CONDA_CHANNEL_ALIAS": self.alias}

    def write(self, *specs: str, channel: str = "team") -> None:
        """Write the environment.yml."""
        lines = [f"channels: [{channel}]", "dependencies:", *(f"  - {json.dumps(spec)}" for spec in specs)]
        self.file.write_text("\n".join(lines) + "\n", "utf-8")

    @property
    def environment(self) -> Environment:
        """The declaration as an environment."""
        return Environment("gpu", self.declaration, self.directory / "e.yml")

    def declare(self, python: str | None = None, **more: object) -> None:
        """Change the declaration: its ``python``, its ``target``, its ``platform``."""
        extras = replace(Extras(), **more)  # type: ignore[arg-type]
        self.declaration = replace(self.declaration, python=python, more=extras)

    def lock(
        self,
        facts: BaseFacts = FACTS,
        upgrade: bool = False,
        packages: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
    ) -> CondaLock:
        """Renew the lock and read it."""
        tool = CondaLockTool({**self.environ(), **(environ or {})}, self.directory / "cache")
        renew_conda(self.environment, facts, tool, upgrade, packages)
        return read_conda(self.environment)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A project, and a machine that has its channels at an address of its own."""
    team = true_channel(tmp_path / "served" / "team", python=False)
    write_channel(team, [noarch_python("demanding", "1.0", "libtext >=1.3")])
    project = tmp_path / "project"
    project.mkdir()
    with served(tmp_path / "served") as (address, asked):
        found = Place(project, address)
        found.asked = asked
        yield found


def versions(lock: CondaLock) -> dict[str, str]:
    """The versions of a lock by name."""
    return {package.name: package.version for package in lock.packages}


def test_what_a_lock_holds(place: Place) -> None:
    """Exact packages with hashes and kinds, the channel as it is declared, and nothing of this machine.

    The same inputs are not resolved anew; another machine that does comes to the same text.
    """
    place.write("greet", "accel", "datafiles", "numlib ==1.5")
    place.declare(target=TargetProfile(cuda="12.4", glibc="2.31"))
    lock = place.lock()
    text = place.path.read_text("utf-8")
    host = place.alias.removeprefix("http://")
    for secret in (host, "127.0.0.1", str(place.directory), "localhost"):
        assert secret not in text
    found = {package.name: package for package in lock.packages}
    assert set(found) == {"accel", "datafiles", "greet", "libtext", "numlib", "python", "zlib"}
    assert pip_constraints(lock) == ("greet==1.0", "numlib==1.5")
    assert {package.channel for package in lock.packages} == {"team"}
    assert found["accel"].build == "cuda12_2"
    assert [found[each].noarch for each in ("greet", "datafiles", "libtext")] == ["python", "generic", ""]
    assert dict(lock.virtual)["__glibc"] == "2.31" and dict(lock.virtual)["__cuda"] == "12.4"
    place.asked.clear()
    assert place.lock().digest == lock.digest and place.asked == []
    place.path.unlink()
    with served(place.directory.parent / "served") as (address, _):
        other = {"CONDA_CHANNEL_ALIAS": address, "CONDA_OVERRIDE_CUDA": "11.0"}
        assert place.lock(environ=other).digest == lock.digest
    assert place.path.read_text("utf-8") == text


def test_versions_are_kept_until_they_are_upgraded(place: Place) -> None:
    """A changed file moves only what must move; an upgrade moves what it names, or everything."""
    place.write("libtext ==1.2", "numlib ==1.5")
    place.lock()
    place.write("libtext", "numlib", "datafiles")
    before = versions(place.lock())
    assert before["libtext"] == "1.2" and before["numlib"] == "1.5" and "datafiles" in before
    after = versions(place.lock(packages=("numlib",)))
    assert after == {**before, "numlib": "2.0"}
    newest = versions(place.lock(upgrade=True))
    assert newest["libtext"] == "1.3" and newest["numlib"] == "2.0"


def program(place: Place, name: str) -> Path:
    """Put a conda of the user's on the path: ours by another name, which notes how it is called."""
    log = place.directory / f"{name}.log"
    path = place.programs / name
    path.write_text(
        f'#!/bin/sh\necho "$*" >>{log}\nunset DISPATCH_CONDA_KEEP\n'
        f'exec {sys.executable} -m dispatch.lock.condasolver "$@"\n',
        "utf-8",
    )
    path.chmod(0o755)
    return log


def test_the_users_own_conda(place: Place) -> None:
    """It is used where there is one, and keeps versions as far as all of them still fit; it can be chosen."""
    place.write("libtext ==1.2")
    first = place.lock()
    log = program(place, "micromamba")
    place.write("libtext", "datafiles")
    kept = place.lock()
    assert versions(kept) == {"libtext": "1.2", "datafiles": "1.0"}
    assert kept.packages[1] == first.packages[0]
    assert "--dry-run --json --override-channels --channel team" in log.read_text("utf-8")
    place.write("libtext >=1.3")
    assert versions(place.lock()) == {"libtext": "1.3"}
    called = log.read_text("utf-8")
    place.write("libtext >=1.3", "zlib")
    place.lock(environ={CHOICE: NAME})
    assert log.read_text("utf-8") == called
    place.write("libtext")
    with pytest.raises(ConfigurationError, match=rf"{CHOICE} names nowhere, which is not to be found"):
        place.lock(environ={CHOICE: "nowhere"})


def test_a_channel_in_a_directory(place: Place) -> None:
    """Its packages are measured, since no server vouches for them; the lock says what the file says."""
    directory = write_channel(place.directory / "channel", [noarch_python("six", "1.0")])
    true_channel(directory, python=False)
    place.write("six", channel="./channel")
    lock = place.lock()
    assert {package.channel for package in lock.packages} == {str(directory)}
    assert "channel ./channel" in place.path.read_text("utf-8")
    damaged = directory / "noarch" / "six-1.0-0.conda"
    damaged.write_bytes(damaged.read_bytes() + b"x")
    with pytest.raises(LockError, match=r"six: the channel holds another file than its index says"):
        place.lock(upgrade=True)
    damaged.unlink()
    with pytest.raises(LockError, match=r"six-1\.0-0\.conda is in the channel's index, and cannot be read"):
        place.lock(upgrade=True)


@pytest.mark.parametrize(
    ("specs", "facts"),
    [
        (("demanding", "libtext <1.3"), ("cannot be met together", "demanding 1.0 would require", "libtext")),
        (("newest",), ("cannot be met together", "__glibc >=2.99")),
        (("libtext >=7",), ("no channel has libtext >=7",)),
    ],
)
def test_what_cannot_be_met(place: Place, specs: tuple[str, ...], facts: tuple[str, ...]) -> None:
    """The solver's own explanation is given, short, without an address; the lock stays as it was."""
    place.write(*specs)
    place.path.write_text("as it was", "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        place.lock()
    said = caught.value.message
    assert all(fact in said for fact in facts) and len(said.splitlines()) < 20
    assert "127.0.0.1" not in said and "Traceback" not in said and caught.value.remedy
    assert place.path.read_text("utf-8") == "as it was"


@pytest.mark.parametrize(
    ("alias", "fact"),
    [("http://127.0.0.1:1", "a channel does not answer"), ("file:///nowhere", "a channel is not there")],
)
def test_a_channel_that_is_not_to_be_had(place: Place, alias: str, fact: str) -> None:
    """It is said which, and its address stays with the machine."""
    place.write("libtext")
    with pytest.raises(ImageError) as caught:
        place.lock(environ={"CONDA_CHANNEL_ALIAS": alias})
    assert fact in caught.value.message and "127.0.0.1" not in caught.value.message


def test_what_makes_a_lock_stale(place: Place) -> None:
    """Each input that is another one now is named; what does not matter changes nothing."""
    command = "dispatch lock e.yml"
    place.write("libtext", "zlib")
    with pytest.raises(LockError, match=r"has no lock: .*does not exist"):
        read_conda(place.environment, command)
    place.lock()
    text = place.path.read_text("utf-8")
    place.file.write_text("name: x\nchannels: [team]\ndependencies: [zlib, libtext]\n", "utf-8")
    read_conda(place.environment)

    def problem() -> str:
        with pytest.raises(LockError) as caught:
            read_conda(place.environment, command)
        assert command in str(caught.value.remedy)
        return caught.value.message

    place.write("libtext >=1", "zlib")
    assert "asks for libtext >=1 and no longer asks for libtext" in problem()
    place.write("libtext", "zlib", channel="team, other")
    assert "the channels that" in problem()
    place.write("libtext", "zlib")
    place.declare(target=TargetProfile(cuda="12.4"))
    assert "cuda of the target was none, now it is 12.4" in problem()
    place.declare(target=TargetProfile(glibc="2.28"))
    assert "glibc of the target was 2.36, now it is 2.28" in problem()
    place.declare(platform="linux/arm64")
    assert "it is for linux-64, the image is for linux-aarch64" in problem()
    place.declare(python="3.11")
    assert "asks for python 3.11.*" in problem()
    place.declare()
    for before, after in (("size ", "size 9"), ("    needs __glibc", "    needs  __glibc"), ("h1_0", "h1_1")):
        place.path.write_text(text.replace(before, after), "utf-8")
        assert problem()
    place.path.write_text(text.replace("    channel team", "    channel tea", 1), "utf-8")
    assert "channel tea is not among those that it was made from" in problem()
    place.path.write_text(text.replace("noarch", "nowhere").replace("libtext 1", "../x 1"), "utf-8")
    assert "not a package with its version and build" in problem()


def test_a_lock_fits_one_kind_of_base(place: Place) -> None:
    """A base of another machine or with an older glibc is refused, by the lock and by the target."""
    place.write("libtext")
    lock = place.lock()
    refuse_misfit("gpu", lock, FACTS)
    refuse_misfit("gpu", lock, replace(FACTS, glibc="2.40"))
    with pytest.raises(LockError, match=r"locked for glibc 2\.36, its base 'debian-python' has 2\.31"):
        refuse_misfit("gpu", lock, replace(FACTS, glibc="2.31"))
    with pytest.raises(LockError, match=r"locked for linux-64, its base 'debian-python' is linux-aarch64"):
        refuse_misfit("gpu", lock, replace(FACTS, architecture="aarch64"))
    with pytest.raises(ConfigurationError, match=r"has no glibc"):
        place.lock(replace(FACTS, glibc=None))
    place.declare(target=TargetProfile(glibc="2.40"))
    with pytest.raises(ConfigurationError, match=r"promises glibc 2\.40, its base debian-python has 2\.36"):
        place.lock()
    place.declare(platform="linux/arm64")
    with pytest.raises(ConfigurationError, match=r"is for linux/arm64, its base debian-python for linux-64"):
        place.lock()
    place.declare(platform="windows/amd64")
    with pytest.raises(ConfigurationError, match=r"no conda packages are made for the platform"):
        place.lock()


def test_another_platform(place: Place) -> None:
    """The lock for another machine is made on this one."""
    place.write("accel", "python")
    place.declare(platform="linux/arm64", target=TargetProfile(cuda="11.8"))
    lock = place.lock(replace(FACTS, architecture="aarch64"))
    assert lock.platform == "linux-aarch64" and {p.subdir for p in lock.packages} == {"linux-aarch64"}
    assert next(p.build for p in lock.packages if p.name == "accel") == "cuda11_1"


def test_the_python_that_is_demanded(place: Place) -> None:
    """`python:` chooses the version, and what the file says to the contrary cannot be met."""
    place.write("python >=3.9", "greet")
    place.declare(python="3.10")
    assert place.lock().python == "3.10"
    place.write("python >=3.11", "greet")
    with pytest.raises(ConfigurationError, match=r"no channel has python >=3\.11,3\.10\.\*"):
        place.lock()
    place.write("python=3.11", "greet")
    with pytest.raises(ConfigurationError, match=r"asks for Python 3\.10, .*environment\.yml brings 3\.11"):
        place.lock()
