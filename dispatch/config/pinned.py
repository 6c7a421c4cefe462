"""``images/pins.toml``: the digests that references of registries are fixed to.

Owns the file's form, and what a pin does: an image that is declared or stood upon by a reference in it is the
image of that digest, wherever the tag has moved. Refuses to fetch: ``app.pinning`` asks the registries, and
nothing else writes the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from dispatch.environment import DockerImage, Environment
from dispatch.errors import ConfigurationError
from dispatch.settings.document import read_document
from dispatch.settings.imagekeys import REFERENCE
from dispatch.settings.section import Section

FILE = "pins.toml"
_KEY = "images"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEAD = """\
# The digests that images of registries are fixed to, in place of tags that move. `dispatch lock --pins` asks
# the registries and writes them: nothing is filled in by hand.
"""


def read_pins(folders: Sequence[Path]) -> dict[str, str]:
    """Return the digest of each pinned reference; the first of the folders that has one wins."""
    found: dict[str, str] = {}
    for folder in reversed(folders):
        found.update(read_pin_file(folder / FILE))
    return found


def read_pin_file(path: Path) -> dict[str, str]:
    """Read one file; none is empty. ConfigurationError names the place of what is no pin."""
    if not path.is_file():
        return {}
    section = Section.of(read_document(path))
    section.only((_KEY,))
    images = section.section(_KEY)
    found = {}
    for reference in images or ():
        assert images is not None
        digest = images.text(reference)
        if not REFERENCE.fullmatch(reference) or "@" in reference or not _DIGEST.fullmatch(digest or ""):
            remedy = "remove the line and run `dispatch lock --pins`"
            raise images.refusal(reference, f"{reference!r}: this is no pin", remedy)
        found[reference] = str(digest)
    return found


def render_pins(pins: Mapping[str, str]) -> str:
    """Return the text of a file of pins, sorted."""
    lines = [f'"{reference}" = "{digest}"' for reference, digest in sorted(pins.items())]
    return "\n".join([_HEAD, f"[{_KEY}]", *lines]) + "\n"


def pinned(environment: Environment, pins: Mapping[str, str]) -> Environment:
    """Return an environment that a registry gives, fixed to its digest where there is a pin."""
    declaration = environment.declaration
    if not isinstance(declaration, DockerImage) or declaration.reference not in pins:
        return environment
    fixed = f"{declaration.reference}@{pins[declaration.reference]}"
    return replace(environment, declaration=DockerImage(fixed))


def unpinned(environment: Environment, pins: Mapping[str, str]) -> str | None:
    """Return the reference that an image of a registry was declared by, None for one that needs no pin."""
    declaration = environment.declaration
    if not isinstance(declaration, DockerImage):
        return None
    reference, _, digest = declaration.reference.partition("@")
    return reference if not digest or pins.get(reference) == digest else None


def refuse_without_folder(folder: Path | None) -> Path:
    """Return the file of pins of a repository; ConfigurationError where there is no repository."""
    if folder is None:
        raise ConfigurationError(
            "pins are kept in images/pins.toml of a repository, and this is none", "run `git init` first"
        )
    return folder / "images" / FILE
