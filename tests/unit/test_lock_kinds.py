"""What a declaration says beyond its requirements: extras, sources, targets, and what its base brings."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.environment import Extras, Resolver, TargetProfile
from dispatch.errors import ConfigurationError, ImageError, LockError
from dispatch.lock.complaint import shortened
from dispatch.lock.model import BaseFacts, PipLock, Upgrade
from dispatch.lock.pip import read_pip, render, renew_pip
from dispatch.testing.index import serving
from dispatch.testing.wheelhouse import FACTS, Place, make_sdist, make_wheel

RUNTIME = "nvidia_cuda_runtime_cu12"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty place."""
    return Place(tmp_path, os.environ["PATH"])


def versions(lock: PipLock) -> dict[str, str]:
    """Versions by name."""
    return {pin.name: pin.version for pin in lock.pins}


def stale(place: Place, facts: BaseFacts | None = None, provided: tuple[str, ...] | None = None) -> str:
    """Say why the lock is stale."""
    with pytest.raises(LockError, match="is stale") as caught:
        read_pip(place.environment, facts, provided=provided)
    return caught.value.message.partition("is stale: ")[2]


def test_upgrade_of_one_package(place: Place) -> None:
    """Only the named package is taken newer; what it is not asked of keeps its version."""
    make_wheel(place.wheels, "other", "1.0")
    place.renew("low==1.0\nother==1.0\n")
    make_wheel(place.wheels, "other", "2.0")
    assert versions(place.renew("low\nother\n")) == {"low": "1.0", "other": "1.0"}
    upgraded = place.renew(upgrade=Upgrade(packages=("other",)))
    assert versions(upgraded) == {"low": "1.0", "other": "2.0"}


def test_project_with_extras_and_groups(place: Place, tmp_path: Path) -> None:
    """A project's file is locked with the extras and groups that are named, and is stale when they change."""
    make_wheel(place.wheels, "extra", "1.0")
    make_wheel(place.wheels, "grouped", "1.0")
    path = tmp_path / "pyproject.toml"
    path.write_text(
        "[project]\nname = 'a'\ndependencies = ['top']\noptional-dependencies = {x = ['extra']}\n"
        "[dependency-groups]\ng = ['grouped']\n"
    )
    place.declare(requirements=path, extras=("x",))
    assert versions(place.renew()) == {"extra": "1.0", "low": "1.0", "top": "1.0"}
    place.declare(extras=(), groups=("g",))
    assert "asks for grouped, which it does not hold" in stale(place)
    assert versions(place.renew()) == {"grouped": "1.0", "low": "1.0", "top": "1.0"}


def test_extras_are_a_projects(place: Place) -> None:
    """A requirements file has no extras and no groups to name."""
    place.requirements.write_text("top\n")
    place.declare(groups=("g",))
    with pytest.raises(ConfigurationError, match=r"only a pyproject\.toml has groups"):
        renew_pip(place.environment, FACTS, place.uv)


def test_project_of_another_python(place: Place, tmp_path: Path) -> None:
    """A project that the base's Python cannot run is refused before anything is resolved."""
    path = tmp_path / "pyproject.toml"
    path.write_text("[project]\nname = 'a'\nrequires-python = '>=3.12'\ndependencies = ['absent']\n")
    place.declare(requirements=path)
    with pytest.raises(ConfigurationError, match=r"image 'sk' is for Python 3\.11, and .* requires >=3\.12"):
        renew_pip(place.environment, FACTS, place.uv)


def test_sdists(place: Place) -> None:
    """What may come from source is locked by the hash of its source, and the lock says so."""
    make_sdist(place.wheels, "sourced", "1.0")
    place.requirements.write_text("sourced\ntop\n")
    with pytest.raises(ConfigurationError, match=r"package sourced 1\.0 has no wheel") as caught:
        renew_pip(place.environment, FACTS, place.uv)
    assert "`sdists:`" in caught.value.remedy
    place.declare(sdists=("Sourced", "unused"))
    lock = place.renew()
    assert lock.sdists == ("sourced",)
    assert "# source: sourced\n" in place.lock.read_text()
    assert versions(lock) == {"low": "1.0", "sourced": "1.0", "top": "1.0"}
    assert lock.digest != replace(lock, sdists=()).digest
    place.declare(sdists=())
    assert "changed" in stale(place)


def test_no_source(place: Place) -> None:
    """A package that has no source to build from is said to be so."""
    place.requirements.write_text("top\n")
    place.declare(sdists=("top",))
    with pytest.raises(ConfigurationError, match="package top has no source distribution") as caught:
        renew_pip(place.environment, FACTS, place.uv)
    assert "take it out of `sdists:`" in caught.value.remedy


def test_older_glibc(place: Place) -> None:
    """A target with an older glibc than the base's gets wheels for that one."""
    make_wheel(place.wheels, "built", "1.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    make_wheel(place.wheels, "built", "2.0", tag="cp311-cp311-manylinux_2_34_x86_64")
    assert versions(place.renew("built\n")) == {"built": "2.0"}
    place.declare(more=Extras(target=TargetProfile(glibc="2.28")))
    assert stale(place) == "glibc was 2.36, now it is 2.28"
    lock = place.renew()
    assert (versions(lock), lock.target.glibc) == ({"built": "1.0"}, "2.28")


def test_lock_for_an_older_glibc_fits_a_newer_base(place: Place) -> None:
    """A lock stays valid on a base with a newer glibc than it was made for."""
    lock = place.renew("top\n")
    newer = read_pip(place.environment, replace(FACTS, glibc="2.41"))
    assert newer.digest == lock.digest


@pytest.mark.parametrize(
    ("more", "fact"),
    [
        (
            Extras(target=TargetProfile(glibc="2.39")),
            "asks for glibc 2.39, its base debian-python has 2.36",
        ),
        (Extras(platform="linux/arm64"), "asks for the machine aarch64, its base debian-python has x86_64"),
    ],
)
def test_target_that_the_base_is_not(place: Place, more: Extras, fact: str) -> None:
    """A target beyond its base is refused, with the remedy, before anything is resolved."""
    place.requirements.write_text("absent\n")
    place.declare(more=more)
    with pytest.raises(ConfigurationError) as caught:
        renew_pip(place.environment, FACTS, place.uv)
    assert fact in caught.value.message
    assert caught.value.remedy


def test_for_another_machine(place: Place) -> None:
    """A lock is made for the base's machine, whichever this one is."""
    make_wheel(place.wheels, "built", "1.0", tag="cp311-cp311-manylinux_2_28_aarch64")
    make_wheel(place.wheels, "built", "2.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    place.requirements.write_text("built\n")
    place.declare(more=Extras(platform="linux/arm64"))
    renew_pip(place.environment, replace(FACTS, architecture="aarch64"), place.uv)
    lock = read_pip(place.environment)
    assert (versions(lock), lock.target.architecture) == ({"built": "1.0"}, "aarch64")
    place.declare(more=Extras(platform="linux/amd64"))
    assert stale(place) == "the machine was aarch64, now it is x86_64"


def test_driver_chooses_the_release(place: Place) -> None:
    """With a driver's maximum, the newest release is taken whose CUDA such a driver supports."""
    for version, cuda in (("1.0", "12.4.127"), ("2.0", "12.8.90"), ("3.0", "13.0.96")):
        name = "nvidia_cuda_runtime" if cuda.startswith("13") else RUNTIME
        make_wheel(place.wheels, name, cuda)
        make_wheel(place.wheels, "torch", version, requires=f"{name}=={cuda}")
    assert versions(place.renew("torch\n"))["torch"] == "3.0"
    for maximum, expected in (("12.4", "1.0"), ("12.9", "2.0"), ("13.1", "3.0")):
        place.declare(more=Extras(target=TargetProfile(cuda=maximum)))
        assert stale(place).endswith(f"now it is {maximum}")
        lock = place.renew(upgrade=Upgrade(everything=True))
        assert (versions(lock)["torch"], lock.target.cuda) == (expected, maximum)
    place.declare(more=Extras(target=TargetProfile(cuda="11.8")))
    with pytest.raises(ConfigurationError, match=r"together with a driver for CUDA 11\.8") as caught:
        place.renew()
    assert "`target: {cuda: …}`" in caught.value.remedy


def test_what_the_base_brings(place: Place) -> None:
    """What the base has installed decides and is not installed again; only what is needed of it is noted."""
    base = ("low==1.0", "Python_Thing==2024a", "unrelated==3.0")
    lock = place.renew("top\n", provided=base)
    assert versions(lock) == {"top": "1.0"}
    assert lock.provided == ("low==1.0",)
    assert "# provided: low==1.0\n" in place.lock.read_text()
    read_pip(place.environment, FACTS, provided=("low==1.0", "unrelated==4.0"))
    assert stale(place, FACTS, ("low==1.5",)) == "low of its base debian-python changed"
    assert stale(place, FACTS, ()) == "low of its base debian-python changed"
    assert stale(place, FACTS, ("low==1.0", "top==9.0")) == "top of its base debian-python changed"


def test_base_that_excludes_what_is_asked(place: Place) -> None:
    """A package that cannot work with what the base has is no solution, in the resolver's words."""
    place.requirements.write_text("top\n")
    with pytest.raises(ConfigurationError, match="cannot be met together") as caught:
        renew_pip(place.environment, FACTS, place.uv, provided=("low==2.0",))
    assert "low" in caught.value.message


def test_provided_cannot_be_edited(place: Place) -> None:
    """A base's package that is written into a lock by hand makes it stale."""
    lock = place.renew("top\n", provided=("low==1.0",))
    place.lock.write_text(render(replace(lock, provided=("low==1.5",))))
    assert "changed" in stale(place)


def test_pip_section(place: Place, tmp_path: Path) -> None:
    """The pip section of an environment.yml is locked alone, and again only for a reason of its own."""
    path = tmp_path / "environment.yml"
    text = "channels: [c]\ndependencies:\n  - python=3.11\n  - pip:\n    - top\n    - --pre\n"
    path.write_text(text)
    place.declare(requirements=path)
    lock = place.renew(provided=("low==1.0",))
    assert versions(lock) == {"top": "1.0"}
    dead = replace(place.uv, environ={**place.environ, "PIP_FIND_LINKS": ""})
    path.write_text(text.replace("python=3.11", "python=3.11\n  - more"))
    unchanged = renew_pip(place.environment, FACTS, dead, provided=("low==1.0", "more==1.0"))
    assert (unchanged.changed, unchanged.summary) == (False, "1 packages, for the same inputs")
    path.write_text(text.replace("- top", "- top\n    - new"))
    assert "asks for new, which it does not hold" in stale(place)
    path.write_text(text.replace("- top", "- -e ."))
    with pytest.raises(ConfigurationError, match=r"environment\.yml, line 5: an editable package"):
        renew_pip(place.environment, FACTS, place.uv)


def test_pip_tools_gives_the_same(place: Place, tmp_path: Path) -> None:
    """pip-tools and uv write the same lock for the same inputs, byte by byte: all hashes of each release."""
    (tmp_path / "limits.txt").write_text("low<2\n")
    make_wheel(place.wheels, "pre", "1.0rc1")
    make_wheel(place.wheels, "top", "0.5", tag="cp311-cp311-manylinux_2_28_aarch64")
    make_wheel(place.wheels, "top", "1.0", requires="low", tag="cp311-cp311-manylinux_2_28_aarch64")
    make_sdist(place.wheels, "low", "1.0")
    make_sdist(place.wheels, "low", "1.5")
    place.requirements.write_text("top\n--pre\npre\n-c limits.txt\n")
    with serving(tmp_path / "index") as index:
        for file in sorted(place.wheels.iterdir()):
            index.add(file.name.partition("-")[0], file)
        place.environ.update(PIP_INDEX_URL=index.address, PIP_NO_INDEX="", PIP_FIND_LINKS="")
        lock = place.renew()
        by_uv = place.lock.read_text()
        place.lock.unlink()
        place.declare(resolver=Resolver.PIP_TOOLS)
        renew_pip(place.environment, FACTS, place.pip_tools)
    assert place.lock.read_text() == by_uv
    assert {pin.name: len(pin.hashes) for pin in lock.pins} == {"low": 2, "pre": 1, "top": 2}
    assert "127.0.0.1" not in by_uv


def test_pip_tools_keeps_and_upgrades(place: Place) -> None:
    """pip-tools keeps the versions of a lock, made by either, but for the package that is to be newer."""
    make_wheel(place.wheels, "other", "1.0")
    place.renew("low<2\nother\n")
    make_wheel(place.wheels, "other", "2.0")
    place.requirements.write_text("low\nother\n")
    renew_pip(place.environment, FACTS, place.pip_tools, Upgrade(packages=("other",)))
    assert versions(read_pip(place.environment, FACTS)) == {"low": "1.0", "other": "2.0"}


def test_pip_tools_obeys_the_target(place: Place) -> None:
    """pip-tools is told of an older glibc; a machine that it cannot stand for is refused."""
    make_wheel(place.wheels, "built", "1.0", tag="cp311-cp311-manylinux_2_17_x86_64")
    make_wheel(place.wheels, "built", "2.0", tag="cp311-cp311-manylinux_2_28_x86_64")
    place.requirements.write_text("built\n")
    older = replace(FACTS, glibc="2.17")
    renew_pip(place.environment, older, replace(place.pip_tools, python="python3.11"))
    assert versions(read_pip(place.environment, older)) == {"built": "1.0"}
    for facts, fact in (
        (replace(FACTS, architecture="aarch64"), "resolves for this machine (x86_64"),
        (replace(FACTS, glibc="2.99"), "resolves for this machine (x86_64"),
        (replace(FACTS, python="3.99"), "there is no python3.99 here"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            renew_pip(place.environment, facts, place.pip_tools)
        assert fact in caught.value.message
        assert "uv" in caught.value.remedy or "leave `resolver: pip-tools` out" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("absent", "no release of package absent fits Python 3.11, glibc 2.36, x86_64"),
        ("top\nlow>=2", "cannot be met together: you need low>=2, and top 1.0 needs low<2"),
    ],
)
def test_pip_tools_complains(place: Place, text: str, fact: str) -> None:
    """What pip cannot resolve is one error with reason and remedy, in our words, without a place."""
    place.requirements.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        renew_pip(place.environment, FACTS, place.pip_tools)
    assert fact in caught.value.message
    assert caught.value.remedy
    assert "hidden" not in caught.value.message
    assert not place.lock.exists()


def test_pip_tools_and_a_silent_index(place: Place) -> None:
    """An index that does not answer is no fault of the requirements; no host and no password is shown."""
    place.requirements.write_text("top\n")
    place.environ.update(PIP_INDEX_URL="http://user:s3cret@127.0.0.1:9/simple", PIP_RETRIES="0")
    place.environ.update(PIP_NO_INDEX="", PIP_FIND_LINKS="")
    with pytest.raises(ImageError, match="the package index does not answer") as caught:
        renew_pip(place.environment, FACTS, place.pip_tools)
    assert not any(word in caught.value.message for word in ("s3cret", "127.0.0.1", "user"))


def test_a_long_explanation_is_shortened() -> None:
    """Of a resolver's long chain of reasons the beginning and the end are told, without markers."""
    step = "And because only a<={0} is there, we can conclude that a<{0} cannot be used."
    chain = "Because a==1 depends on b{sys_platform == 'linux'}<1, we can conclude that no a is."
    long = " ".join([chain, *(step.format(number) for number in range(20)), "And because you require a, no."])
    told = shortened(long)
    assert told.startswith("Because a==1 depends on b<1, we can conclude")
    assert told.endswith(" … And because you require a, no.")
    assert len(told) <= 510
    assert shortened(chain) == chain.replace("{sys_platform == 'linux'}", "")
