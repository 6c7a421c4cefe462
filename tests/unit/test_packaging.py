"""The distribution: what a wheel built from an sdist holds, and that it works where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "from hatchling.build import build_{kind}; print(build_{kind}({target!r}))"
DATA = {"templates": "dispatch/_templates", "images": "dispatch/_images"}
LISTED = (
    "import pathlib, sys, dispatch; from dispatch import assets\n"
    "assert pathlib.Path(dispatch.__file__).is_relative_to(sys.prefix), dispatch.__file__\n"
    "for folder in (assets.templates(), assets.images()):\n"
    "    for path in sorted(folder.rglob('*')):\n"
    "        if path.is_file(): print(folder.name, path.relative_to(folder).as_posix())\n"
)


def built(kind: str, source: Path, target: Path) -> Path:
    """Build an sdist or a wheel with the backend that pyproject.toml names, without any network."""
    code = BUILD.format(kind=kind, target=str(target))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return target / done.stdout.split()[-1]


def files(folder: Path) -> set[str]:
    """The files below a folder of the checkout, as git would take them."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in found}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist of the checkout, built in a copy of it."""
    copy = tmp_path_factory.mktemp("checkout") / "dispatch"
    unwanted = shutil.ignore_patterns(".venv", ".git", ".demo", ".*_cache", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=unwanted, symlinks=True)
    return built("sdist", copy, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that was built from the sdist alone."""
    place = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    (unpacked,) = place.iterdir()
    return built("wheel", unpacked, tmp_path_factory.mktemp("wheel"))


def members(wheel: Path) -> set[str]:
    """The names of a wheel's files."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_the_whole_package(wheel: Path) -> None:
    """Every module is in it, those in folders that ignore rules name, too."""
    package = {f"dispatch/{name}" for name in files(ROOT / "dispatch")}
    inside = {name for name in members(wheel) if name.startswith("dispatch/")}
    assert inside - set(package) == {name for name in inside if name.startswith(tuple(DATA.values()))}
    assert package <= inside


@pytest.mark.parametrize("folder", DATA)
def test_the_wheel_holds_the_folders_beside_the_code(folder: str, wheel: Path) -> None:
    """templates/ and images/ are in it, file by file, and nowhere else."""
    wanted = files(ROOT / folder)
    prefix = f"{DATA[folder]}/"
    assert wanted
    assert {name.removeprefix(prefix) for name in members(wheel) if name.startswith(prefix)} == wanted
    assert not [name for name in members(wheel) if name.startswith(f"{folder}/")]


def test_the_sdist_holds_what_the_tests_need(sdist: Path) -> None:
    """Tests with their golden files, the Makefile, README, changelog and licence travel with the source."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"} <= names
    for folder in ("dispatch", "templates", "images", "tests"):
        assert {f"{folder}/{name}" for name in files(ROOT / folder)} <= names


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    """Name, licence, the command and the typing marker are where installers look for them."""
    names = members(wheel)
    (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(metadata).decode()
        entry = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
    assert "Name: dispatch-toolchain" in text
    assert "License-Expression: Apache-2.0" in text
    assert "dispatch = dispatch.cli.__main__:main" in entry
    assert "dispatch/py.typed" in names
    assert metadata.replace("METADATA", "licenses/LICENSE") in names


def test_an_installed_wheel_finds_its_folders(wheel: Path, tmp_path: Path) -> None:
    """Installed into a fresh environment, without a checkout near it, `assets` finds both folders whole."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "--quiet"]
    options = ["--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", *options, wheel], check=True)
    done = subprocess.run(
        [environment / "bin" / "python", "-I", "-c", LISTED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = {f"_{folder} {name}" for folder in DATA for name in files(ROOT / folder)}
    assert set(done.stdout.splitlines()) == wanted
