"""Reads one declaration of an image: an entry under ``images:``, an ``image.yml``, an inline ``step_image``.

Owns the keys of each kind and where locks lie. It looks at no file but the one already read: whether a
requirements file exists matters only for images that are used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dispatch.environment import (
    BeakerImage,
    DebianImage,
    DockerImage,
    Environment,
    Extras,
    ImageDeclaration,
    ImageKind,
    PipImage,
)
from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.settings.section import Section

DEFAULT_BASE = "debian-python"
IMAGE_FILE = "image.yml"

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
BEAKER_NAME = re.compile(r"([A-Za-z0-9_.][A-Za-z0-9_.-]{0,127}/)?[A-Za-z0-9_.][A-Za-z0-9_.-]{0,127}")
_PYTHON = re.compile(r"3\.(9|1[0-9])")
_SUITE = re.compile(r"[a-z0-9][a-z0-9./-]*")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*")

_KINDS = tuple(kind.value for kind in ImageKind)
_KEYS = {
    ImageKind.DOCKER: ("docker",),
    ImageKind.PIP: ("pip", "python", "base", "lock", "bytecode", "env"),
    ImageKind.DEBIAN: ("debian", "python", "lock", "env"),
    ImageKind.BEAKER: ("beaker",),
}
_DEBIAN_KEYS = ("suites", "packages", "architecture", "epoch")


@dataclass(frozen=True)
class UnsupportedImage:
    """A declaration of a kind that cannot be built yet. It is in nobody's way until a step names it."""

    name: str
    kind: str
    where: str

    def refusal(self) -> ConfigurationError:
        """The error for using it."""
        return ConfigurationError(
            f"{self.where}: image {self.name!r}: the kind {self.kind!r} is not supported yet",
            f"declare it as one of: {', '.join(kind.value for kind in _KEYS)}",
        )


ImageEntry = Environment | UnsupportedImage


def read_image_name(section: Section, key: str) -> str | None:
    """Read the name of an image: one of the catalogue, never a reference."""
    value = section.content.get(key)
    if value is None or (isinstance(value, str) and NAME.fullmatch(value)):
        return value
    remedy = "declare the image under `images:` and give its name here"
    raise section.wrong(key, "the name of an image", value, remedy)


def read_images(section: Section | None) -> dict[str, ImageEntry]:
    """Read all entries of an ``images:`` section."""
    entries: dict[str, ImageEntry] = {}
    for name in section or ():
        assert section is not None
        if not NAME.fullmatch(name):
            remedy = "use letters, digits, '_', '.' and '-'"
            raise section.refusal(name, f"{name!r} is no name for an image", remedy)
        entry = section.section(name)
        if entry is None:
            raise section.wrong(name, "a declaration such as {pip: requirements.in}", None)
        entries[name] = read_image(entry, name)
    return entries


def read_image(section: Section, name: str) -> ImageEntry:
    """Read one declaration. Raises ConfigurationError for anything that it cannot mean."""
    kind = _kind(section, name)
    if kind not in _KEYS:
        return UnsupportedImage(name, kind.value, section.document.where(section.keys))
    section.only(_KEYS[kind], f"key of a {kind.value!r} image")
    declaration: ImageDeclaration
    if kind is ImageKind.DOCKER:
        declaration = DockerImage(_matching(section, "docker", REFERENCE, "a reference such as name:tag"))
    elif kind is ImageKind.BEAKER:
        declaration = BeakerImage(_matching(section, "beaker", BEAKER_NAME, "AUTHOR/NAME, or an id"))
    elif kind is ImageKind.PIP:
        declaration = _pip(section, name)
    else:
        declaration = _debian(section, name)
    return Environment(name, declaration, section.document.path)


def _kind(section: Section, name: str) -> ImageKind:
    given = [key for key in section if key in _KINDS]
    if len(given) == 1:
        return ImageKind(given[0])
    if given:
        fact = f"image {name!r} is of several kinds at once: {', '.join(given)}"
        raise section.refusal(given[1], fact, "keep one of them")
    near = next((hint for key in section if (hint := did_you_mean(key, list(_KINDS)))), "")
    kinds = ", ".join(kind.value for kind in _KEYS)
    raise section.refusal(None, f"image {name!r} is of no kind{near}", f"say what it is made of: {kinds}")


def _pip(section: Section, name: str) -> PipImage:
    directory = section.document.path.parent
    file = section.text("pip")
    if file is None:
        raise _missing(section, "pip", "a requirements file")
    requirements = directory / file
    default = f"{name}.lock" if requirements.name == "pyproject.toml" else _beside(requirements.name)
    bytecode = section.flag("bytecode")
    base = DEFAULT_BASE
    if "base" in section:
        base = _matching(section, "base", REFERENCE, "the name of an image or a reference such as name:tag")
    return PipImage(
        requirements=requirements,
        lock=_lock(section, requirements.parent / default),
        base=base,
        python=_python(section),
        bytecode=True if bytecode is None else bytecode,
        more=Extras(env=_env(section)),
    )


def _debian(section: Section, name: str) -> DebianImage:
    debian = section.section("debian")
    if debian is None:
        raise _missing(section, "debian", "suites, packages, architecture and epoch")
    debian.only(_DEBIAN_KEYS)
    epoch = debian.integer("epoch")
    if epoch is None or epoch < 0:
        raise debian.wrong("epoch", "seconds since 1970", epoch, "it becomes SOURCE_DATE_EPOCH of the image")
    folder = section.document.path.parent
    own = section.document.path.name == IMAGE_FILE
    return DebianImage(
        suites=_all_matching(debian, "suites", _SUITE, "a suite such as bookworm"),
        packages=_all_matching(debian, "packages", _PACKAGE, "the name of a package"),
        architecture=_matching(debian, "architecture", _ARCHITECTURE, "an architecture such as amd64"),
        epoch=epoch,
        lock=_lock(section, folder / ("image.lock" if own else f"{name}.lock")),
        python=_python(section),
        env=_env(section),
    )


def _beside(name: str) -> str:
    """``x.in`` and ``x.txt`` have ``x.lock`` beside them; other names keep their ending."""
    stem, _, ending = name.rpartition(".")
    return f"{stem if stem and ending in ('in', 'txt') else name}.lock"


def _lock(section: Section, default: Path) -> Path:
    named = section.text("lock")
    return section.document.path.parent / named if named else default


def _python(section: Section) -> str | None:
    value = section.content.get("python")
    if isinstance(value, float):
        # Not guessed: 3.10 without quotes is the number 3.1.
        raise section.wrong("python", "a version in quotes", value, 'write it as text: python: "3.11"')
    if value is None:
        return None
    return _matching(section, "python", _PYTHON, 'a minor version such as "3.11"')


def _env(section: Section) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(section.variables("env").items()))


def _matching(section: Section, key: str, pattern: re.Pattern[str], expected: str) -> str:
    value = section.text(key)
    if value is None:
        raise _missing(section, key, expected)
    if not pattern.fullmatch(value):
        raise section.wrong(key, expected, value)
    return value


def _all_matching(section: Section, key: str, pattern: re.Pattern[str], expected: str) -> tuple[str, ...]:
    values = section.texts(key)
    if not values:
        raise _missing(section, key, f"a list, each {expected}")
    for value in values:
        if not pattern.fullmatch(value):
            raise section.wrong(key, expected, value)
    return values


def _missing(section: Section, key: str, expected: str) -> ConfigurationError:
    return section.wrong(key, expected, None)
