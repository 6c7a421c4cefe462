"""What files that go into an image hold, as a digest for the identity of the steps that run in it.

Only content, paths in the image and whether a file can be executed count: times, owners and where the files
lie on this machine do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from dispatch.environment import CondaImage, CopiedFile, DockerfileImage, Environment, PipImage
from dispatch.errors import ConfigurationError
from dispatch.fingerprint import canonical, digest

_CHUNK = 1 << 20


def content_of(environment: Environment) -> str | None:
    """Return the digest of the files of a declaration; None where it names none.

    ConfigurationError where they cannot be read.
    """
    declaration = environment.declaration
    if isinstance(declaration, DockerfileImage) and declaration.file is not None:
        from dispatch.image.context import context_recipe

        # The version of the recipe's rules is left out: it is no input of the user's.
        return digest(canonical(dict(context_recipe(declaration).inputs)))
    if isinstance(declaration, (PipImage, CondaImage)) and declaration.more.copy:
        listed = [entry for copied in declaration.more.copy for entry in _entries(environment, copied)]
        return digest(canonical(listed))
    return None


def _entries(environment: Environment, copied: CopiedFile) -> Iterator[list[object]]:
    """Yield path in the image, kind and content of each file below what is copied."""
    try:
        for path in sorted(_below(copied.source)):
            inside = path.relative_to(copied.source).as_posix()
            target = copied.target if inside == "." else f"{copied.target}/{inside}"
            if path.is_symlink():
                yield [target, "link", str(path.readlink())]
            else:
                yield [target, bool(path.stat().st_mode & 0o100), _sha256(path)]
    except OSError as error:
        fact = f"{environment.origin}: image {environment.name!r}: {copied.source}: {error.strerror}"
        raise ConfigurationError(fact, "mend the path after `copy:`") from error


def _below(source: Path) -> list[Path]:
    """All files and links at a path; of directories only what is in them counts."""
    if source.is_symlink() or not source.is_dir():
        return [source]
    return [path for path in source.rglob("*") if path.is_symlink() or not path.is_dir()]


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
