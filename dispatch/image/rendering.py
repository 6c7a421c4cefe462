"""The Dockerfiles that we write, and the lines that we add to a user's.

Owns their texts, and by which arguments values get into them: a variable's value or a user's name is never
part of a text, it comes as an argument of the build, which nobody expands again. Refuses to build.
"""

from __future__ import annotations

import hashlib
import re

from dispatch import assets
from dispatch.environment import DockerfileImage
from dispatch.errors import ConfigurationError
from dispatch.image.spec import canonical_digest

BASE = "BASE"
_STEPS = "steps.dockerfile.j2"
_VALUE = "DISPATCH_ENV_{}"
_USER = "DISPATCH_USER"
_FINAL = "dispatch-final"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ESCAPE = re.compile(r"#\s*escape\s*=\s*(?P<sign>[\\`])\s*", re.IGNORECASE)


def rendered(declaration: DockerfileImage) -> str:
    """Return the Dockerfile of a declaration that names none: its packages and its commands upon a base."""
    from dispatch import render

    more = declaration.more
    text = render.render_dockerfile(_STEPS, {"packages": more.apt, "commands": more.run})
    head, separator, steps = text.partition("USER root\n")
    return "".join([head, *_variables(more.env), separator, steps, *_user()])


def rendered_inputs(declaration: DockerfileImage) -> dict[str, str]:
    """Return what decides the text of :func:`rendered`, without rendering it: that loads a library."""
    template = assets.templates() / "dockerfile" / _STEPS
    return {
        "apt": canonical_digest(list(declaration.more.apt)),
        "run": canonical_digest(list(declaration.more.run)),
        "template": hashlib.sha256(template.read_bytes()).hexdigest(),
    }


def configured(text: str, declaration: DockerfileImage) -> str:
    """Return a user's Dockerfile, at its end what the declaration sets in the image beside it."""
    lines = [*_variables(declaration.more.env), *(_user() if declaration.more.user else ())]
    if not lines:
        return text
    if declaration.stage:
        lines.insert(0, f"FROM {_checked_stage(declaration.stage)} AS {_FINAL}\n")
    return "".join([_ended(text), *lines])


def target_of(declaration: DockerfileImage) -> str:
    """Return the stage to be built, ``""`` for the last one."""
    more = declaration.more
    return _FINAL if declaration.stage and (more.env or more.user) else declaration.stage


def arguments_of(declaration: DockerfileImage, base: str, user: str) -> dict[str, str]:
    """Return the arguments of the build. ``base`` is a reference, ``""`` for none; ``user`` is the base's."""
    more = declaration.more
    arguments = dict(declaration.args)
    arguments |= {BASE: base} if base else {}
    arguments |= {_VALUE.format(number): value for number, (_, value) in enumerate(more.env)}
    if more.user or declaration.file is None:
        arguments[_USER] = more.user or user or "root"
    return arguments


def _variables(env: tuple[tuple[str, str], ...]) -> list[str]:
    lines = []
    for number, (name, _) in enumerate(env):
        if not _NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} cannot be the name of a variable", "rename it under `env:`")
        argument = _VALUE.format(number)
        lines.append(f"ARG {argument}\nENV {name}=${{{argument}}}\n")
    return lines


def _user() -> list[str]:
    return [f"ARG {_USER}\nUSER ${{{_USER}}}\n"]


def _checked_stage(stage: str) -> str:
    if not _STAGE.fullmatch(stage):
        raise ConfigurationError(f"{stage!r} cannot be the name of a stage", "correct `stage:`")
    return stage


def _ended(text: str) -> str:
    """Return a text to which a line can be added; a sign at its end would let that go on the line before."""
    directive = next(filter(None, map(_ESCAPE.fullmatch, text.splitlines()[:10])), None)
    sign = directive["sign"] if directive else "\\"
    return text.rstrip().rstrip(sign) + "\n"
