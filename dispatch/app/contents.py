"""What files that go into an image hold, as a digest for the identity of the steps that run in it.

Owns which images have such files. What of a file counts is owned by who reads them: ``image.context`` and
``image.copied``.
"""

from __future__ import annotations

from dispatch.environment import CondaImage, DockerfileImage, Environment, PipImage
from dispatch.fingerprint import canonical, digest

# The version of the recipe's rules is no input of the user's, and platforms make no other steps.
_OF_DOCKERFILE = ("args", "context", "dockerfile", "stage")


def content_of(environment: Environment) -> str | None:
    """Return the digest of the files of a declaration; None where it names none.

    ConfigurationError where they cannot be read.
    """
    declaration = environment.declaration
    if isinstance(declaration, DockerfileImage) and declaration.file is not None:
        from dispatch.image.context import context_recipe

        inputs = dict(context_recipe(declaration).inputs)
        return digest(canonical({key: inputs[key] for key in _OF_DOCKERFILE}))
    if isinstance(declaration, (PipImage, CondaImage)) and declaration.more.copy:
        from dispatch.image.copied import copied_files

        return copied_files(declaration.more.copy).digest
    return None
