"""The schema of a declaration of an image: each kind with its keys, alone or as a matrix."""

from __future__ import annotations

from collections.abc import Callable

from dispatch.config.schema.words import (
    FLAG,
    TEXT,
    VARIABLE,
    VARIABLES,
    Node,
    about,
    absolute,
    given,
    keyed,
    matching,
    one_of,
    record,
    reference,
    several,
    whole,
)
from dispatch.environment import ImageKind, Resolver
from dispatch.settings import imagekeys as keys
from dispatch.settings import images
from dispatch.settings.matrix import AXES, MATRIX

_WHAT = {
    ImageKind.DOCKER: ("A reference: NAME:TAG or NAME@DIGEST.", matching(keys.REFERENCE)),
    ImageKind.PIP: ("A requirements file, or a pyproject.toml.", TEXT),
    ImageKind.CONDA: ("An environment.yml, with its pip section.", TEXT),
    ImageKind.DOCKERFILE: ("The path of a Dockerfile.", TEXT),
    ImageKind.BEAKER: ("An image of Beaker: AUTHOR/NAME, or an id.", matching(images.BEAKER_NAME)),
    ImageKind.DEBIAN: (
        "A base made of packages of a Debian archive.",
        record(
            {
                "suites": several(matching(images.SUITE), some=True),
                "packages": several(matching(keys.PACKAGE), some=True),
                "architecture": matching(images.ARCHITECTURE),
                "epoch": about("Seconds since 1970: the time of every newer file.", whole(0)),
            },
            images.DEBIAN_KEYS,
        ),
    ),
}

_TARGET = record(
    {
        "glibc": about("The oldest glibc that it must run on.", matching(keys.VERSION)),
        "cuda": about("The highest CUDA version that the driver supports.", matching(keys.VERSION)),
    }
)
_COPIED = record({"source": TEXT, "target": absolute(*keys.TAKEN)}, ("source", "target"))
_SECRET: Node = {"anyOf": [record({"file": TEXT}, ("file",)), record({"env": matching(VARIABLE)}, ("env",))]}

_COMMON: dict[str, Node] = {
    "base": about("What it stands on: the name of an image, or a reference.", matching(keys.REFERENCE)),
    "python": about("The minor version of Python, in quotes.", matching(keys.PYTHON)),
    "platform": about("What it is built for; by default the base's.", matching(keys.PLATFORM)),
    "target": about("What the machines that run it offer.", _TARGET),
    "apt": about("Packages of the base's distribution.", several(matching(keys.PACKAGE))),
    "run": about("Commands for /bin/sh, run after the installation.", several(TEXT)),
    "copy": about("Files and directories to copy into it.", several(_COPIED)),
    "env": about("Variables that every container of it has.", VARIABLES),
    "user": about("Who runs in it: a name, a number, or two with a colon.", matching(keys.USER)),
    "lock": about("Where its lock lies, from this file.", TEXT),
    "bytecode": about("Whether Python's bytecode is compiled into it.", FLAG),
    "resolver": about("What resolves requirements.", one_of([each.value for each in Resolver])),
    "sdists": about("Packages that may be built from source.", several(matching(keys.NAME))),
    "extras": about("Extras of the pyproject.toml.", several(matching(keys.NAME))),
    "groups": about("Dependency groups of the pyproject.toml.", several(matching(keys.NAME))),
    "context": about("The directory that is sent; by default the Dockerfile's.", TEXT),
    "args": about("Build arguments.", VARIABLES),
    "stage": about("The stage that is built; by default the last.", matching(images.STAGE)),
    "secrets": about("Secrets of the build: {ID: {file: PATH}}.", keyed(images.SECRET.pattern, _SECRET)),
    "ssh": about("Whether the build may use the ssh agent.", FLAG),
    "platforms": about("What a multi-platform image is built for.", several(matching(keys.PLATFORM))),
}

_PLACE = r"(?<!\$)\{(?:" + "|".join(AXES) + r")\}"

# What no table of keys can say: each is a condition, and what holds then.
_RULES: dict[ImageKind, list[Node]] = {
    ImageKind.PIP: [
        {
            "if": {"anyOf": [given("extras"), given("groups")]},
            "then": {"properties": {"pip": {"pattern": r"(^|/)pyproject\.toml$"}}},
        }
    ],
    ImageKind.DOCKERFILE: [
        {"not": given("platform", "platforms")},
        {"not": {**given("base", "args"), "properties": {"base": {"type": "string"}, "args": given("BASE")}}},
    ],
}


def image_definitions() -> dict[str, Node]:
    """The definitions that :data:`IMAGE` and :data:`INLINE` refer to."""
    found: dict[str, Node] = {
        "image": {"if": {"required": [MATRIX]}, "then": _any("matrix"), "else": _any("image")}
    }
    for kind in ImageKind:
        found[f"image_{kind.value}"] = _kind(kind, {})
        found[f"matrix_{kind.value}"] = _kind(kind, {MATRIX: _matrix()}, filled)
    return found


IMAGE = reference("image")
"""A declaration under ``images:`` or in an ``image.yml``, which may be a matrix."""


def _any(prefix: str) -> Node:
    return {"anyOf": [reference(f"{prefix}_{kind.value}") for kind in ImageKind]}


INLINE = _any("image")
"""A declaration in a step."""


def _kind(kind: ImageKind, more: dict[str, Node], change: Callable[[Node], Node] = lambda node: node) -> Node:
    own, what = kind.value, _WHAT[kind]
    properties = {key: change(_COMMON[key]) for key in images.KEYS[kind] if key != own}
    found = record({own: change(about(*what)), **properties, **more}, (own, *more))
    return {**found, **({"allOf": _RULES[kind]} if kind in _RULES else {})}


def _matrix() -> Node:
    axes = {axis: several(matching(pattern), some=True) for axis, (pattern, _) in AXES.items()}
    found = record(axes)
    # An axis that is there has values: unlike other keys it may not be empty.
    found["properties"] = axes
    return about("One image for each combination; {python} and {cuda} stand for its values.", found) | {
        "minProperties": 1
    }


def filled(node: Node) -> Node:
    """A node in which ``{python}`` and ``{cuda}`` may stand for texts of any spelling; never in names."""
    found = {
        key: filled(value)
        if isinstance(value, dict) and key != "propertyNames"
        else [filled(each) if isinstance(each, dict) else each for each in value]
        if isinstance(value, list)
        else value
        for key, value in node.items()
    }
    if isinstance(node.get("pattern"), str):
        found["pattern"] = f"{node['pattern']}|{_PLACE}"
    return found
