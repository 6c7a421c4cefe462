"""The context of a build: which files, one digest for one content, an archive that is what was digested."""

from __future__ import annotations

import io
import os
import socket
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.environment import DockerfileImage, Extras
from dispatch.errors import ConfigurationError, ImageError
from dispatch.image.context import OWN_NAME, Context, context_of, context_recipe

FILES = {"Dockerfile": "FROM scratch\n", "a/one": "1", "b": "2", "z.sh": "3", "a.b/c": "4"}


def write(root: Path, files: dict[str, str]) -> DockerfileImage:
    """Write a project and declare its Dockerfile."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return DockerfileImage(root / "Dockerfile", root)


def names(context: Context) -> list[str]:
    """Return the files of a context."""
    return [each.entry.path for each in context.entries if each.sha256]


def unpacked(context: Context) -> dict[str, tarfile.TarInfo]:
    """Return what a reader finds in the archive."""
    data = b"".join(context.chunks())
    assert len(data) == context.size
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def test_the_archive_is_the_same_wherever_the_files_are(tmp_path: Path) -> None:
    """Place, times, umask and order of making change no byte."""
    first = context_of(write(tmp_path / "first", FILES))
    before = os.umask(0o077)
    try:
        second = context_of(write(tmp_path / "second" / "place", dict(reversed(FILES.items()))))
    finally:
        os.umask(before)
    os.utime(tmp_path / "first" / "b", (1, 1))
    assert first.digest == second.digest
    assert b"".join(first.chunks()) == b"".join(second.chunks())
    assert {member.mtime for member in unpacked(first).values()} == {315532800}
    assert {member.uid for member in unpacked(first).values()} == {0}


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "b").write_text("x"),
    "name": lambda root: (root / "b").rename(root / "c"),
    "executable": lambda root: (root / "b").chmod(0o755),
    "link": lambda root: (root / "link").symlink_to("b"),
    "directory": lambda root: (root / "empty").mkdir(),
    "text": lambda root: (root / "Dockerfile").write_text("FROM scratch\nUSER 1\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_build_can_see_changes_the_recipe(tmp_path: Path, change: str) -> None:
    """Each kind of change of a context gives another recipe."""
    declaration = write(tmp_path, FILES)
    before = context_recipe(declaration)
    CHANGES[change](tmp_path)
    assert context_recipe(declaration) != before


def test_arguments_and_stage_are_in_the_recipe_and_no_secret(tmp_path: Path) -> None:
    """What is asked of the build beside the files enters; where a secret lies does not."""
    declaration = write(tmp_path, FILES)
    recipe = context_recipe(declaration)
    assert context_recipe(replace(declaration, args=(("A", "1"),))) != recipe
    assert context_recipe(replace(declaration, stage="x")) != recipe
    assert context_recipe(replace(declaration, ssh=True)) == recipe
    declared = DockerfileImage(None, None, "base", more=Extras(run=("make",)))
    assert context_recipe(declared) != context_recipe(replace(declared, more=Extras(run=("make x",))))


def test_a_dockerfile_elsewhere_comes_along(tmp_path: Path) -> None:
    """One outside of the context, and one that is ignored, are sent under a name of ours."""
    context = write(tmp_path / "context", {**FILES, ".dockerignore": "Dockerfile\n"})
    assert context_of(context).dockerfile == OWN_NAME
    (tmp_path / "other").write_text("FROM scratch\nUSER 2\n")
    outside = context_of(replace(context, file=tmp_path / "other"))
    assert outside.dockerfile == OWN_NAME
    assert outside.text == b"FROM scratch\nUSER 2\n"
    assert "Dockerfile" not in names(outside)
    assert context_of(write(tmp_path / "plain", FILES)).dockerfile == "Dockerfile"


def test_a_list_of_its_own_goes_before_the_contexts(tmp_path: Path) -> None:
    """<Dockerfile>.dockerignore is read instead of .dockerignore."""
    declaration = write(tmp_path, {**FILES, ".dockerignore": "b\n", "Dockerfile.dockerignore": "a\n"})
    found = names(context_of(declaration))
    assert "b" in found and "a/one" not in found


def test_links_are_sent_as_they_are_and_sockets_are_not(tmp_path: Path) -> None:
    """A link out of the context is no way to its target; a socket is no content."""
    declaration = write(tmp_path, FILES)
    (tmp_path / "out").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    with socket.socket(socket.AF_UNIX) as line:
        here = os.open(tmp_path, os.O_RDONLY)
        line.bind(f"/proc/self/fd/{here}/s")
        os.close(here)
        found = unpacked(context_of(declaration))
    assert found["out"].linkname == "/etc/passwd"
    assert found["folder"].issym()
    assert "s" not in found


def fifo(root: Path) -> None:
    """Put something that is no file into a context."""
    os.mkfifo(root / "pipe")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no dockerfile": (lambda root: (root / "Dockerfile").unlink(), "No such file"),
    "not utf-8": (lambda root: (root / "Dockerfile").write_bytes(b"\xff"), "no text in UTF-8"),
    "a pipe": (fifo, "neither a file, a directory nor a link"),
    "a bad pattern": (
        lambda root: (root / ".dockerignore").write_text("a\n[z-a]\n"),
        "line 2: .* is no pattern",
    ),
    "a lone !": (lambda root: (root / ".dockerignore").write_text("!\n"), "line 1: '!' stands alone"),
    "a list that is none": (lambda root: (root / ".dockerignore").mkdir(), "Is a directory"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_a_context_is_refused_with_a_remedy(tmp_path: Path, case: str) -> None:
    """The error names the file."""
    spoil, expected = BAD[case]
    declaration = write(tmp_path, FILES)
    spoil(tmp_path)
    with pytest.raises(ConfigurationError, match=expected) as caught:
        context_of(declaration)
    assert str(tmp_path) in caught.value.message
    assert caught.value.remedy


def test_a_context_that_is_not_there(tmp_path: Path) -> None:
    """The error names the key to correct."""
    declaration = replace(write(tmp_path, FILES), context=tmp_path / "nosuch")
    with pytest.raises(ConfigurationError, match="no such directory") as caught:
        context_of(declaration)
    assert "context:" in caught.value.remedy


@pytest.mark.parametrize("content", ["", "2x", "x"])
def test_what_is_sent_is_what_was_digested(tmp_path: Path, content: str) -> None:
    """A file that is shorter, longer or another by the time it is sent breaks the archive off."""
    context = context_of(write(tmp_path, FILES))
    (tmp_path / "b").write_text(content)
    with pytest.raises(ImageError, match="b: it was changed while it was sent"):
        list(context.chunks())
    (tmp_path / "b").unlink()
    with pytest.raises(ImageError, match="b: No such file"):
        list(context.chunks())
