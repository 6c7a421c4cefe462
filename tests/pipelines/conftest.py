"""What the acceptance tests share: the base image, and projects in git repositories of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dispatch.testing.index import Index, serving
from dispatch.testing.project import Project

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image ``debian-python``, built if it is missing, its lock renewed if the archive has moved on."""
    root = tmp_path_factory.mktemp("base")
    steps = "steps: {nothing: {type: shell, step_image: debian-python, command: 'true'}}"
    done = Project(root).write({"base.yml": steps}).dispatch("build", "--renew-base", "base.yml").well()
    return done.out.split()[1]


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Mapping[str, str]], Project]:
    """Makes a project of files, committed."""

    def make(files: Mapping[str, str]) -> Project:
        (tmp_path / "project").mkdir()
        return Project(tmp_path / "project").write(files).commit()

    return make


@pytest.fixture(scope="session")
def copy() -> Callable[[str, Path], Project]:
    """Copies a pipeline of this folder into a directory, as a user's repository."""

    def copy(case: str, target: Path) -> Project:
        shutil.copytree(HERE / case, target, ignore=shutil.ignore_patterns("__pycache__", "workspace"))
        return Project(target).commit()

    return copy


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """A package index that answers while the test runs."""
    with serving(tmp_path / "index") as index:
        yield index
