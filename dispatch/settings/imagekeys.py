"""Reads the keys that several kinds of images have in common, each into a typed value.

Owns what each of these keys may say. Which kind takes which key is owned by ``settings.images``.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from dispatch.environment import CopiedFile, Extras, Resolver, TargetProfile
from dispatch.errors import ConfigurationError
from dispatch.settings.section import Section

DEFAULT_BASE = "debian-python"

REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
PYTHON = re.compile(r"3\.(9|1[0-9])")
PLATFORM = re.compile(r"linux/(amd64|arm64|ppc64le)")
VERSION = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}")
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
USER = re.compile(r"([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})(:([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}))?")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")

# Where generated layers lie, and what the engine or the container contract mounts over.
TAKEN = ("/dispatch", "/src", "/proc", "/sys", "/dev", "/run", "/opt/venv", "/opt/conda")

CONDA_PLATFORMS = {
    "linux/amd64": "linux-64",
    "linux/arm64": "linux-aarch64",
    "linux/ppc64le": "linux-ppc64le",
}
"""Conda's names of the platforms that an image may be for."""


def read_extras(section: Section) -> Extras:
    """Read what an image has beside its packages. Keys that its kind does not take were refused before."""
    return Extras(
        apt=read_names(section, "apt", PACKAGE, "the name of a package such as git"),
        run=section.texts("run"),
        copy=_copied(section, "copy"),
        env=read_env(section),
        user=read_matching(section, "user", USER, "a user such as app, 1000 or 1000:1000", ""),
        platform=read_platform(section),
        target=_target(section),
    )


def read_platform(section: Section) -> str | None:
    """Read ``platform: linux/arm64``."""
    if "platform" not in section:
        return None
    return read_matching(section, "platform", PLATFORM, "a platform such as linux/amd64 or linux/arm64")


def read_python(section: Section) -> str | None:
    """Read a minor version of Python, in quotes."""
    return _version(section, "python", PYTHON, "3.11")


def read_env(section: Section) -> tuple[tuple[str, str], ...]:
    """Read the environment variables of an image, sorted."""
    return tuple(sorted(section.variables("env").items()))


def read_base(section: Section) -> str:
    """Read what an image stands on."""
    expected = "the name of an image or a reference such as name:tag"
    return read_matching(section, "base", REFERENCE, expected, DEFAULT_BASE)


def read_bytecode(section: Section) -> bool:
    """Read whether bytecode is compiled; it is unless told otherwise."""
    bytecode = section.flag("bytecode")
    return True if bytecode is None else bytecode


def read_lock(section: Section, default: Path) -> Path:
    """Read where the lock lies, relative to the declaring file."""
    named = section.text("lock")
    return section.document.path.parent / named if named else default


def read_resolver(section: Section) -> Resolver:
    """Read which tool resolves a pip declaration."""
    named = section.choice("resolver", [each.value for each in Resolver])
    return Resolver(named) if named else Resolver.UV


def read_path(section: Section, key: str, expected: str) -> Path:
    """Read the path of a file that must be named, relative to the declaring file."""
    text = section.text(key)
    if text is None:
        raise missing(section, key, expected)
    return section.document.path.parent / text


def read_names(section: Section, key: str, pattern: re.Pattern[str], expected: str) -> tuple[str, ...]:
    """Read a list of names of one spelling, each once; an absent one is empty."""
    values = section.texts(key)
    for value in values:
        if not pattern.fullmatch(value):
            raise section.wrong(key, expected, value)
    return tuple(dict.fromkeys(values))


def read_matching(
    section: Section, key: str, pattern: re.Pattern[str], expected: str, default: str | None = None
) -> str:
    """Read a text of one spelling; without a default it must be there."""
    value = section.text(key)
    if value is None:
        if default is None:
            raise missing(section, key, expected)
        return default
    if not pattern.fullmatch(value):
        raise section.wrong(key, expected, value)
    return value


def missing(section: Section, key: str, expected: str) -> ConfigurationError:
    """The error for a key that must be there."""
    return section.wrong(key, expected, None)


def image_path(section: Section, key: str) -> str:
    """Read an absolute path in the image, outside of the places that are made or mounted."""
    text = section.text(key)
    if text is None:
        raise missing(section, key, "an absolute path in the image")
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 2:
        raise section.wrong(key, "an absolute path below / without '..'", text)
    plain = "/" + "/".join(path.parts[1:])
    if any(plain == taken or plain.startswith(f"{taken}/") for taken in TAKEN):
        raise section.refusal(key, f"{key}: {text!r} lies in a place that is taken", "copy it elsewhere")
    # A slash at the end makes it the directory that a file is copied into.
    return f"{plain}/" if text.endswith("/") else plain


def _copied(section: Section, key: str) -> tuple[CopiedFile, ...]:
    """Read a list of ``{source: …, target: …}``."""
    found: dict[str, CopiedFile] = {}
    for mapping in section.sections(key):
        mapping.only(("source", "target"))
        target = image_path(mapping, "target")
        if target in found:
            raise mapping.refusal("target", f"target: {target!r} is copied to twice", "name it once")
        found[target] = CopiedFile(read_path(mapping, "source", "a file or a directory"), target)
    return tuple(found[target] for target in sorted(found))


def _target(section: Section) -> TargetProfile:
    """Read ``target: {glibc: "2.28", cuda: "12.4"}``."""
    target = section.section("target")
    if target is None:
        return TargetProfile()
    target.only(("glibc", "cuda"))
    glibc, cuda = _version(target, "glibc", VERSION, "2.28"), _version(target, "cuda", VERSION, "12.4")
    return TargetProfile(glibc, cuda)


def _version(section: Section, key: str, pattern: re.Pattern[str], example: str) -> str | None:
    value = section.content.get(key)
    if isinstance(value, float):
        # Not guessed: 3.10 without quotes is the number 3.1.
        remedy = f'write it as text: {key}: "{example}"'
        raise section.wrong(key, "a version in quotes", value, remedy)
    if value is None:
        return None
    return read_matching(section, key, pattern, f'a minor version such as "{example}"')
