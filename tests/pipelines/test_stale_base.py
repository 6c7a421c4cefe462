"""A base whose lock names a package that the archive has dropped: said, and renewed where that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch import assets
from dispatch.environment import DebianImage, Environment
from dispatch.lock.debian import read_debian, render
from dispatch.settings.document import read_document
from dispatch.settings.images import read_image
from dispatch.settings.section import Section
from dispatch.testing.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.archive]

NAME = "debian-python"
STEPS = "steps: {nothing: {type: shell, step_image: debian-python, command: 'true'}}"


def vanished(directory: Path) -> str:
    """A lock like the packaged one, made when another version of tzdata was in the archive."""
    environment = read_image(Section.of(read_document(directory / "image.yml")), NAME)
    assert isinstance(environment, Environment)
    assert isinstance(environment.declaration, DebianImage)
    lock = read_debian(environment)
    packages = tuple(
        replace(each, version="1990a-1", sha256="0" * 64, path=each.path.replace(each.version, "1990a-1"))
        if each.name == "tzdata"
        else each
        for each in lock.packages
    )
    return render(replace(lock, packages=packages))


@pytest.fixture
def project(make: Callable[[Mapping[str, str]], Project], base: str) -> Project:
    """A repository with a base of its own under the packaged one's name, and a lock that has become stale."""
    assert base
    packaged = assets.images() / NAME
    files = {
        "x.yml": STEPS,
        f"images/{NAME}/image.yml": (packaged / "image.yml").read_text("utf-8"),
        f"images/{NAME}/image.lock": vanished(packaged),
    }
    return make(files)


def test_vanished_package_is_a_stale_lock(project: Project) -> None:
    """The build says which package is gone, and names the command that renews the lock."""
    done = project.dispatch("build", "x.yml")
    assert done.code == 2
    (error,) = done.errors()
    assert "tzdata 1990a-1 is no longer in the archive" in error
    assert "`dispatch lock --image debian-python`" in done.err
    assert done.out == ""


def test_stale_base_is_renewed_where_asked(project: Project) -> None:
    """`--renew-base` says so in one line, renews the lock and builds."""
    done = project.dispatch("build", "--renew-base", "x.yml").well()
    notices = [line for line in done.err.splitlines() if "renewing the lock" in line]
    assert len(notices) == 1
    assert "1990a-1" not in (project.root / "images" / NAME / "image.lock").read_text("utf-8")
    assert done.out.startswith(f"{NAME}\tdispatch:{NAME}--")
