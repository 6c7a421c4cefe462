"""What a Dockerfile is built from: its text, and the files of its context.

Owns which files of a directory are the context, the digest over them, and the archive that is sent, which is
the same wherever the files lie: owner, times, umask and order of the host are not in it. What is sent is
checked against the digest while it goes out. Refuses to build.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dispatch.environment import DockerfileImage
from dispatch.errors import ConfigurationError, ImageError
from dispatch.image.dockerignore import Ignored, read_ignored
from dispatch.image.rendering import configured, rendered, rendered_inputs
from dispatch.image.spec import EPOCH, LayerRecipe, canonical_digest
from dispatch.image.tar import CHUNK, END, Entry, Kind, header, padded

DOCKERFILE = "dockerfile"
"""The kind of the one recipe of an image that is built from a Dockerfile."""

OWN_NAME = ".dispatch.dockerfile"
"""Where the Dockerfile is in the archive if it lies outside of the context, or is left out of it."""

_VERSION = 1


@dataclass(frozen=True)
class ContextEntry:
    """One name of a context, and the SHA-256 of a file's content (``""`` for what is none)."""

    entry: Entry
    sha256: str = ""


@dataclass(frozen=True)
class Context:
    """All that a build is sent. ``dockerfile`` is the place of the Dockerfile among ``entries``."""

    dockerfile: str
    entries: tuple[ContextEntry, ...]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 over names, modes, links and contents."""
        return canonical_digest(
            [[e.entry.path, e.entry.kind.name, e.entry.mode, e.entry.target, e.sha256] for e in self.entries]
        )

    @property
    def text(self) -> bytes:
        """The Dockerfile."""
        return next(each.entry.data or b"" for each in self.entries if each.entry.path == self.dockerfile)

    @cached_property
    def size(self) -> int:
        """The length of the archive in bytes."""
        sizes = (len(header(each.entry, EPOCH)) + padded(each.entry.size) for each in self.entries)
        return sum(sizes) + len(END)

    def chunks(self) -> Iterator[bytes]:
        """Yield the archive; ImageError where a file is no longer what the digest says."""
        for each in self.entries:
            yield header(each.entry, EPOCH)
            if each.entry.data is not None:
                yield each.entry.data
            elif each.entry.source is not None:
                yield from _checked(each)
            if padding := padded(each.entry.size) - each.entry.size:
                yield bytes(padding)
        yield END


def context_of(declaration: DockerfileImage) -> Context:
    """Read what a declaration is built from; ConfigurationError where that cannot be read."""
    if declaration.file is None:
        return _with_dockerfile([], "Dockerfile", rendered(declaration))
    file, root = declaration.file, declaration.context or declaration.file.parent
    if not root.is_dir():
        raise ConfigurationError(f"{root}: there is no such directory", "correct the path after `context:`")
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{file}: {error.strerror}", "correct the path after `dockerfile:`"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{file}: it is no text in UTF-8", "write it in UTF-8") from error
    entries = list(_walk(root, "", read_ignored(root, file)))
    return _with_dockerfile(entries, _place(file, root, entries), configured(text, declaration))


def context_recipe(declaration: DockerfileImage, context: Context | None = None) -> LayerRecipe:
    """Return the recipe of a declaration: all that it is built from, but no secret.

    ``context`` is what :func:`context_of` returned, where that was read already.
    """
    given = declaration.file is not None
    inputs = _given_inputs(declaration, context) if given else rendered_inputs(declaration)
    if declaration.platforms:
        inputs["platforms"] = ",".join(declaration.platforms)
    return LayerRecipe(DOCKERFILE, _VERSION, tuple(sorted(inputs.items())))


def _given_inputs(declaration: DockerfileImage, context: Context | None) -> dict[str, str]:
    context = context or context_of(declaration)
    return {
        "args": canonical_digest(dict(declaration.args)),
        "context": context.digest,
        "dockerfile": hashlib.sha256(context.text).hexdigest(),
        "stage": declaration.stage,
    }


def _place(file: Path, root: Path, entries: list[ContextEntry]) -> str:
    """Return where the Dockerfile is to be: in its own place if it is part of the context."""
    try:
        place = file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return OWN_NAME
    return place if any(each.entry.path == place for each in entries) else OWN_NAME


def _with_dockerfile(entries: list[ContextEntry], place: str, text: str) -> Context:
    data = text.encode()
    own = ContextEntry(Entry.file(place, data), hashlib.sha256(data).hexdigest())
    others = [each for each in entries if each.entry.path != place]
    return Context(place, tuple(sorted([*others, own], key=lambda each: _order(each.entry.path))))


def _order(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _walk(root: Path, below: str, ignored: Ignored) -> Iterator[ContextEntry]:
    """Yield what is under ``root/below`` and not left out, with the directories above it."""
    with _readable(root / below), os.scandir(root / below) as found:
        items = sorted(found, key=lambda item: item.name)
    for item in items:
        path = f"{below}{item.name}"
        excluded = bool(ignored.rules) and ignored.excludes(path)
        if item.is_dir(follow_symlinks=False):
            inside = [] if excluded and not ignored.takes_back else list(_walk(root, f"{path}/", ignored))
            if inside or not excluded:
                yield ContextEntry(Entry.directory(path))
            yield from inside
        elif not excluded:
            with _readable(Path(item.path)):
                yield from _leaf(path, Path(item.path), item.stat(follow_symlinks=False))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {error.strerror}", "make it readable, or name it in .dockerignore"
        ) from error


def _leaf(path: str, source: Path, status: os.stat_result) -> Iterator[ContextEntry]:
    """Yield a file or a link; a socket is of the moment and no content, as Docker has it."""
    if stat.S_ISLNK(status.st_mode):
        yield ContextEntry(Entry.symlink(path, os.readlink(source)))  # noqa: PTH115 (as it is written)
    elif stat.S_ISREG(status.st_mode):
        yield digested(path, source)
    elif not stat.S_ISSOCK(status.st_mode):
        raise ConfigurationError(
            f"{source}: it is neither a file, a directory nor a link, and cannot be sent to a build",
            "remove it, or name it in .dockerignore",
        )


def digested(path: str, source: Path) -> ContextEntry:
    """Return a file of the host as an entry; OSError where it cannot be read."""
    status = source.stat()
    # As git has it: no bit but this one is the content's own, the others are the umask's.
    mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    entry = Entry(path, Kind.FILE, mode, status.st_size, source=os.fsencode(source))
    return ContextEntry(entry, _digest(source))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _checked(each: ContextEntry) -> Iterator[bytes]:
    """Yield a file's content if it is still the one that was digested."""
    assert each.entry.source is not None
    place = os.fsdecode(each.entry.source)
    digest, left = hashlib.sha256(), each.entry.size
    try:
        with open(each.entry.source, "rb", buffering=0) as file:  # noqa: PTH123 (the path is bytes)
            while left and (piece := file.read(min(left, CHUNK))):
                digest.update(piece)
                left -= len(piece)
                yield piece
            longer = bool(file.read(1))
    except OSError as error:
        raise ImageError(f"{place}: {error.strerror} while it was sent to the build") from error
    if left or longer or digest.hexdigest() != each.sha256:
        raise ImageError(f"{place}: it was changed while it was sent to the build", "repeat the command")
