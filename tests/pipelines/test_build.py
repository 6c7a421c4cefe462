"""`dispatch build` where images are to be elsewhere, or many: directories without an engine, and a matrix."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dispatch.image.config import image_id
from dispatch.testing.project import Project
from dispatch.testing.registries import docker_registry

pytestmark = [pytest.mark.engine, pytest.mark.archive]

CONFIG = """\
image: e
images:
  e: {pip: requirements.in, base: debian-python, bytecode: false}
  d: {dockerfile: Dockerfile, base: e}
steps:
  a: {type: shell, command: "true"}
"""
MATRIX = """\
pip: requirements.in
base: debian-python
matrix: {python: ["3.11", "3.12"]}
"""
NOWHERE = {"DOCKER_HOST": "unix:///nowhere/docker.sock"}

Make = Callable[[Mapping[str, str]], Project]


@pytest.fixture
def project(make: Make, base: str) -> Project:
    """A project with an image of one package."""
    assert base
    files = {"x.yml": CONFIG, "requirements.in": "markupsafe\n", "Dockerfile": "ARG BASE\nFROM $BASE\n"}
    project = make({**files, "images/m/image.yml": MATRIX, "images/m/requirements.in": "markupsafe\n"})
    project.dispatch("lock", "x.yml").well()
    return project


def files(directory: Path) -> dict[str, str]:
    """The files of a directory: digests by name."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_directory_without_an_engine(project: Project, tmp_path: Path) -> None:
    """Two directories hold the same bytes, and the image is the one that an engine would have."""
    lines = []
    for name in ("one", "two"):
        directory = tmp_path / name
        done = project.dispatch("build", "--oci", directory, "x.yml", env=NOWHERE).well()
        lines.append(done.out.replace(str(directory), "DIR"))
    assert lines[0] == lines[1] and lines[0].startswith("e\toci:DIR:dispatch:e--")
    assert files(tmp_path / "one") == files(tmp_path / "two")
    reference = project.dispatch("build", "x.yml").well().out.split()[1]
    assert lines[0].split()[1] == f"oci:DIR:{reference}"
    held = json.loads(project.call("docker", "image", "inspect", reference).well().out)[0]["Id"]
    blob = tmp_path / "one" / "blobs" / "sha256" / held.rpartition(":")[2]
    assert image_id(blob.read_bytes()) == held
    project.call("docker", "image", "rm", reference).well()


def test_what_needs_an_engine_is_refused(project: Project, tmp_path: Path) -> None:
    """An image that commands make cannot come into a directory, and nothing is begun."""
    done = project.dispatch("build", "--oci", tmp_path / "o", "-o", '{"image": "d"}', "x.yml", env=NOWHERE)
    assert done.code == 3 and "'d': it is built by running commands" in done.err
    assert not (tmp_path / "o").exists()


def test_a_matrix(project: Project) -> None:
    """What can be is built, what cannot is refused with its reason, and a table says which is which."""
    project.dispatch("lock", "images/m")
    done = project.dispatch("build", "--matrix", "images/m")
    assert done.code == 2
    (line,) = done.out.splitlines()
    name, reference = line.split("\t")
    assert name == "m-py3.11"
    rows = {row.split()[0]: row.split()[1] for row in done.err.splitlines() if row.startswith("m-py3")}
    assert rows["m-py3.12"] == "refused"
    assert "m-py3.11  built" in done.err
    assert "1 of 2 images cannot be: m-py3.12" in done.errors()[0]
    project.call("docker", "image", "rm", reference).well()


def test_a_base_that_was_deleted_upstream(make: Make, tmp_path: Path) -> None:
    """A registry that answers, and has the image no more, is told apart from one that does not answer."""
    with docker_registry(tmp_path / "registry") as registry:
        image = f"{registry.host}/team/base:1"
        steps = f"steps: {{a: {{type: shell, step_image: {{docker: '{image}'}}, command: 'true'}}}}"
        done = make({"x.yml": steps}).dispatch("build", "x.yml")
        assert done.code == 3
        (error,) = done.errors()
        assert image in error and "its registry has none of this name" in error
        assert "name another image, or load a copy" in done.err
