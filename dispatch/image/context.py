"""What a Dockerfile is built from: its text, and the files of its context.

Owns which files of a directory are the context, and the digest over them. Refuses to build.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from dispatch.environment import DockerfileImage
from dispatch.errors import ConfigurationError
from dispatch.image.spec import LayerRecipe, canonical_digest

DOCKERFILE = "dockerfile"
"""The kind of the one recipe of an image that is built from a Dockerfile."""

_VERSION = 1


@dataclass(frozen=True)
class Context:
    """The text of a Dockerfile, and the files of its context by their path there."""

    dockerfile: str
    files: tuple[tuple[str, Path], ...]


def context_of(declaration: DockerfileImage) -> Context:
    """Read what a declaration is built from; ConfigurationError where that cannot be read."""
    file, context = declaration.file, declaration.context
    if file is None or context is None:
        raise ConfigurationError("a rendered Dockerfile has no file", "name one")
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"{file}: {error.strerror}", "correct the path after `dockerfile:`"
        ) from error
    files = [each for each in sorted(context.rglob("*")) if each.is_file()]
    return Context(text, tuple((each.relative_to(context).as_posix(), each) for each in files))


def context_recipe(declaration: DockerfileImage) -> LayerRecipe:
    """Return the recipe of a declaration: all that it is built from, but no secret."""
    context = context_of(declaration)
    listed = [[name, hashlib.sha256(path.read_bytes()).hexdigest()] for name, path in context.files]
    inputs = (
        ("args", canonical_digest(dict(declaration.args))),
        ("context", canonical_digest(listed)),
        ("dockerfile", hashlib.sha256(context.dockerfile.encode()).hexdigest()),
        ("stage", declaration.stage),
    )
    return LayerRecipe(DOCKERFILE, _VERSION, inputs)
