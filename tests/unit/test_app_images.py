"""What makes the image of a shell step what it is: the whole chain that its declaration comes to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch._docker import Door
from dispatch.app.contents import content_of
from dispatch.app.images import Doors, Images
from dispatch.config.catalogue import Catalogue, collect
from dispatch.environment import CopiedFile, DockerfileImage, Environment, Extras, PipImage
from dispatch.errors import ConfigurationError
from dispatch.settings import read_environment
from dispatch.settings.document import read_document
from dispatch.settings.matrix import read_images
from dispatch.settings.section import Section
from dispatch.testing.reporting import RecordingReporter


def no_engine() -> Door:
    raise AssertionError("an identity asks no engine")


def identity(root: Path, text: str, name: str = "it") -> str:
    path = root / "experiment.yml"
    path.write_text(text)
    entries = read_images(Section.of(read_document(path)))
    environments = collect(Catalogue([entries], []), [(name, "a test")])
    images = Images(
        environments, read_environment({"HOME": str(root)}), Doors(no_engine), "e.yml", RecordingReporter()
    )
    return images.identity(name)


def project(root: Path) -> Path:
    (root / "docker").mkdir(parents=True)
    (root / "docker" / "Dockerfile").write_text("FROM scratch\nCOPY a /\n")
    (root / "docker" / "a").write_text("1")
    return root


CHAIN = "it: {docker: 'u:1', run: [x]}\n"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("it: {docker: 'u:1', run: [x]}", True),
        ("it: {docker: 'u:1', run: [y]}", False),
        ("it: {docker: 'u:2', run: [x]}", False),
        ("it: {docker: 'u:1', run: [x], env: {A: b}}", False),
    ],
)
def test_an_image_of_steps(tmp_path: Path, text: str, same: bool) -> None:
    """It is its base, its steps and its variables."""
    assert (identity(tmp_path, CHAIN) == identity(tmp_path, text)) is same


def test_what_stands_on_a_users_dockerfile_changes_with_it(tmp_path: Path) -> None:
    """A base that is not just a base enters with all that it is made from; where it lies does not."""
    text = "tools: {dockerfile: docker/Dockerfile}\nit: {docker: 'x:1', run: [y]}\n"
    upon = "tools: {dockerfile: docker/Dockerfile}\nit: {dockerfile: docker/Dockerfile, base: tools}\n"
    here, there = project(tmp_path / "here"), project(tmp_path / "there")
    before = identity(here, upon)
    assert identity(there, upon) == before
    assert identity(here, text) != before
    (here / "docker" / "a").write_text("2")
    assert identity(here, upon) != before


def test_platforms_make_no_other_steps(tmp_path: Path) -> None:
    """A user's Dockerfile counts by its files, its arguments and its stage."""
    root = project(tmp_path)
    before = identity(root, "it: {dockerfile: docker/Dockerfile}")
    same = "it: {dockerfile: docker/Dockerfile, platforms: [linux/amd64, linux/arm64]}"
    assert identity(root, same) == before
    assert identity(root, "it: {dockerfile: docker/Dockerfile, args: {A: b}}") != before
    assert identity(root, "it: {dockerfile: docker/Dockerfile, stage: x}") != before


def with_copy(root: Path, source: str = "data", target: str = "/data") -> Environment:
    extras = Extras(copy=(CopiedFile(root / source, target),))
    return Environment("it", PipImage(root / "a.in", root / "a.lock", "b", more=extras), root / "e.yml")


def tree(root: Path) -> Path:
    (root / "data" / "below").mkdir(parents=True)
    (root / "data" / "a.txt").write_text("a")
    (root / "data" / "below" / "b.sh").write_text("b")
    (root / "data" / "link").symlink_to("a.txt")
    return root


def later(root: Path) -> None:
    os.utime(root / "data" / "a.txt", (1, 1))
    (root / "data" / "a.txt").chmod(0o600)


def executable(root: Path) -> None:
    (root / "data" / "a.txt").chmod(0o755)


def renamed(root: Path) -> None:
    (root / "data" / "a.txt").rename(root / "data" / "c.txt")


def pointed(root: Path) -> None:
    (root / "data" / "link").unlink()
    (root / "data" / "link").symlink_to("elsewhere")


def written(root: Path) -> None:
    (root / "data" / "below" / "b.sh").write_text("c")


@pytest.mark.parametrize(
    ("change", "same"),
    [(later, True), (executable, False), (renamed, False), (pointed, False), (written, False)],
)
def test_copied_files_count_by_what_is_in_the_image(
    tmp_path: Path, change: Callable[[Path], None], same: bool
) -> None:
    """Paths in the image, contents, links and the right to execute; times and other rights do not."""
    before = content_of(with_copy(tree(tmp_path / "here")))
    other = tree(tmp_path / "there")
    assert content_of(with_copy(other)) == before
    change(other)
    assert (content_of(with_copy(other)) == before) is same
    assert content_of(with_copy(tmp_path / "here", target="/other")) != before


def test_copied_files_that_are_not_there(tmp_path: Path) -> None:
    """What cannot be read is named."""
    with pytest.raises(ConfigurationError, match="gone: it is not there"):
        content_of(with_copy(tmp_path, "gone"))


def test_images_without_files_have_no_content(tmp_path: Path) -> None:
    """Where a declaration names no files, none enter."""
    steps = DockerfileImage(None, None, "u:1", more=Extras(run=("x",)))
    assert content_of(Environment("it", steps, tmp_path)) is None
