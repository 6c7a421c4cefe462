"""Reads one declaration of an image: an entry under ``images:``, an ``image.yml``, an inline ``step_image``.

Owns the kinds, the keys of each and where locks lie; ``imagekeys`` owns what each key says. It looks at no
file but the one already read: whether a requirements file exists matters only for images that are used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from dispatch.environment import (
    BeakerImage,
    BuildSecret,
    CondaImage,
    DebianImage,
    DockerfileImage,
    DockerImage,
    Environment,
    ImageDeclaration,
    ImageKind,
    PipImage,
)
from dispatch.errors import did_you_mean
from dispatch.settings.imagekeys import (
    CONDA_PLATFORMS,
    PACKAGE,
    PLATFORM,
    REFERENCE,
    missing,
    read_base,
    read_bytecode,
    read_env,
    read_extras,
    read_lock,
    read_matching,
    read_names,
    read_path,
    read_python,
    read_resolver,
)
from dispatch.settings.imagekeys import (
    NAME as PACKAGE_NAME,
)
from dispatch.settings.section import Section

IMAGE_FILE = "image.yml"
PROJECT = "pyproject.toml"

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
BEAKER_NAME = re.compile(r"([A-Za-z0-9_.][A-Za-z0-9_.-]{0,127}/)?[A-Za-z0-9_.][A-Za-z0-9_.-]{0,127}")
SUITE = re.compile(r"[a-z0-9][a-z0-9./-]*")
ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*")
STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SECRET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_KINDS = tuple(kind.value for kind in ImageKind)
_UPON = ("base", "platform", "apt", "run", "env", "user")
_GENERATED = (*_UPON, "python", "target", "copy", "lock", "bytecode", "resolver", "sdists")
_DOCKERFILE = ("base", "platform", "env", "context", "args", "stage", "secrets", "ssh", "platforms")

KEYS: Mapping[ImageKind, tuple[str, ...]] = {
    ImageKind.DOCKER: ("docker", "platform", "apt", "run", "env", "user"),
    ImageKind.PIP: ("pip", *_GENERATED, "extras", "groups"),
    ImageKind.CONDA: ("conda", *_GENERATED),
    ImageKind.DEBIAN: ("debian", "python", "lock", "env"),
    ImageKind.DOCKERFILE: ("dockerfile", *_DOCKERFILE),
    ImageKind.BEAKER: ("beaker",),
}
"""What a declaration of each kind may say, its own key first."""

DEBIAN_KEYS = ("suites", "packages", "architecture", "epoch")


def read_image_name(section: Section, key: str) -> str | None:
    """Read the name of an image: one of the catalogue, never a reference."""
    value = section.content.get(key)
    if value is None or (isinstance(value, str) and NAME.fullmatch(value)):
        return value
    remedy = "declare the image under `images:` and give its name here"
    raise section.wrong(key, "the name of an image", value, remedy)


def read_image(section: Section, name: str) -> Environment:
    """Read one declaration. Raises ConfigurationError for anything that it cannot mean."""
    kind = read_kind(section, name)
    section.only(KEYS[kind], f"key of a {kind.value!r} image")
    return Environment(name, _READERS[kind](section, name), section.document.path)


def read_kind(section: Section, name: str) -> ImageKind:
    """Read which kind of image a declaration is of."""
    given = [key for key in section if key in _KINDS]
    if len(given) == 1:
        return ImageKind(given[0])
    if given:
        fact = f"image {name!r} is of several kinds at once: {', '.join(given)}"
        raise section.refusal(given[1], fact, "keep one of them")
    near = next((hint for key in section if (hint := did_you_mean(key, list(_KINDS)))), "")
    kinds = ", ".join(_KINDS)
    raise section.refusal(None, f"image {name!r} is of no kind{near}", f"say what it is made of: {kinds}")


def _docker(section: Section, name: str) -> ImageDeclaration:  # noqa: ARG001
    """Read a ``docker`` image; with more keys than the reference it is made upon that image."""
    reference = read_matching(section, "docker", REFERENCE, "a reference such as name:tag")
    if all(key == "docker" for key in section):
        return DockerImage(reference)
    # A bare name is one of the catalogue where a base is named.
    base = reference if any(sign in reference for sign in ":/@") else f"{reference}:latest"
    return DockerfileImage(file=None, context=None, base=base, more=read_extras(section))


def _beaker(section: Section, name: str) -> BeakerImage:  # noqa: ARG001
    return BeakerImage(read_matching(section, "beaker", BEAKER_NAME, "AUTHOR/NAME, or an id"))


def _pip(section: Section, name: str) -> PipImage:
    requirements = read_path(section, "pip", "a requirements file")
    project = requirements.name == PROJECT
    for key in ("extras", "groups"):
        if key in section and not project:
            fact = f"{key}: {requirements.name} has none"
            raise section.refusal(
                key, fact, f"they are a {PROJECT}'s: name one after `pip:`, or leave them out"
            )
    default = f"{name}.lock" if project else _beside(requirements.name)
    return PipImage(
        requirements=requirements,
        lock=read_lock(section, requirements.parent / default),
        base=read_base(section),
        python=read_python(section),
        bytecode=read_bytecode(section),
        extras=read_names(section, "extras", PACKAGE_NAME, "the name of an extra"),
        groups=read_names(section, "groups", PACKAGE_NAME, "the name of a dependency group"),
        resolver=read_resolver(section),
        sdists=read_names(section, "sdists", PACKAGE_NAME, "the name of a package"),
        more=read_extras(section),
    )


def _conda(section: Section, name: str) -> CondaImage:  # noqa: ARG001
    file = read_path(section, "conda", "an environment.yml")
    more = read_extras(section)
    default = file.with_name(f"{file.stem}.{CONDA_PLATFORMS[more.platform or 'linux/amd64']}.lock")
    return CondaImage(
        file=file,
        lock=read_lock(section, default),
        base=read_base(section),
        python=read_python(section),
        bytecode=read_bytecode(section),
        resolver=read_resolver(section),
        sdists=read_names(section, "sdists", PACKAGE_NAME, "the name of a package"),
        more=more,
    )


def _debian(section: Section, name: str) -> DebianImage:
    debian = section.section("debian")
    if debian is None:
        raise missing(section, "debian", "suites, packages, architecture and epoch")
    debian.only(DEBIAN_KEYS)
    epoch = debian.integer("epoch")
    if epoch is None or epoch < 0:
        raise debian.wrong("epoch", "seconds since 1970", epoch, "it becomes SOURCE_DATE_EPOCH of the image")
    folder = section.document.path.parent
    own = section.document.path.name == IMAGE_FILE
    return DebianImage(
        suites=_some(debian, "suites", SUITE, "a suite such as bookworm"),
        packages=_some(debian, "packages", PACKAGE, "the name of a package"),
        architecture=read_matching(debian, "architecture", ARCHITECTURE, "an architecture such as amd64"),
        epoch=epoch,
        lock=read_lock(section, folder / ("image.lock" if own else f"{name}.lock")),
        python=read_python(section),
        env=read_env(section),
    )


def _dockerfile(section: Section, name: str) -> DockerfileImage:  # noqa: ARG001
    file = read_path(section, "dockerfile", "the path of a Dockerfile")
    context = section.text("context")
    platforms = read_names(section, "platforms", PLATFORM, "platforms such as linux/amd64")
    if platforms and "platform" in section:
        raise section.refusal("platforms", "platforms: it has a `platform` too", "keep one of them")
    base = read_matching(section, "base", REFERENCE, "the name of an image or a reference", "")
    return DockerfileImage(
        file=file,
        context=file.parent if context is None else section.document.path.parent / context,
        base=base,
        args=_args(section, base),
        stage=read_matching(section, "stage", STAGE, "the name of a stage", ""),
        secrets=_secrets(section),
        ssh=bool(section.flag("ssh")),
        platforms=platforms,
        more=read_extras(section),
    )


def _args(section: Section, base: str) -> tuple[tuple[str, str], ...]:
    """Read build arguments, sorted."""
    args = section.variables("args")
    if base and "BASE" in args:
        raise section.refusal("args", "args: BASE is what `base:` gives", "keep one of them")
    return tuple(sorted(args.items()))


def _secrets(section: Section) -> tuple[BuildSecret, ...]:
    """Read ``secrets: {ID: {file: PATH}}`` or ``{ID: {env: VARIABLE}}``; values are not looked for."""
    secrets = section.section("secrets")
    found = []
    for name in secrets or ():
        assert secrets is not None
        entry = secrets.content[name]
        if not SECRET.fullmatch(name) or not isinstance(entry, dict) or len(entry) != 1:
            # A text here may be the value itself, so it is not shown.
            fact = f"secret {name!r}: says not where its value comes from"
            raise secrets.refusal(name, fact, "use {file: PATH} or {env: VARIABLE}")
        source = secrets.section(name)
        assert source is not None
        source.only(("file", "env"))
        if "file" in source:
            found.append(BuildSecret(name, file=read_path(source, "file", "a path")))
        else:
            variable = read_matching(source, "env", _VARIABLE, "the name of an environment variable")
            found.append(BuildSecret(name, variable=variable))
    return tuple(sorted(found, key=lambda each: each.id))


def _beside(name: str) -> str:
    """``x.in`` and ``x.txt`` have ``x.lock`` beside them; other names keep their ending."""
    stem, _, ending = name.rpartition(".")
    return f"{stem if stem and ending in ('in', 'txt') else name}.lock"


def _some(section: Section, key: str, pattern: re.Pattern[str], expected: str) -> tuple[str, ...]:
    values = read_names(section, key, pattern, expected)
    if not values:
        raise missing(section, key, f"a list, each {expected}")
    return values


_READERS: Mapping[ImageKind, Callable[[Section, str], ImageDeclaration]] = {
    ImageKind.DOCKER: _docker,
    ImageKind.PIP: _pip,
    ImageKind.CONDA: _conda,
    ImageKind.DEBIAN: _debian,
    ImageKind.DOCKERFILE: _dockerfile,
    ImageKind.BEAKER: _beaker,
}
