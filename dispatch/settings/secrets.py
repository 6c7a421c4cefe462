"""Where the values of secrets come from, as the settings say it: ``secrets: {NAME: {env: VARIABLE}}``.

Owns spelling only. Values are never in the settings, and are not looked for here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.settings.section import Section
from dispatch.settings.values import Base

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KINDS = ("env", "file", "command")
_EXAMPLE = "{env: VARIABLE}, {file: PATH} or {command: [PROGRAM, ARGUMENT]}"


@dataclass(frozen=True)
class FromVariable:
    """The value of a variable of the client's environment."""

    variable: str

    def __str__(self) -> str:
        return f"the environment variable {self.variable}"


@dataclass(frozen=True)
class FromFile:
    """The content of a file, as it is."""

    path: Path

    def __str__(self) -> str:
        return f"the file {self.path}"


@dataclass(frozen=True)
class FromCommand:
    """What a command prints, run in ``directory``; one newline at the end is not part of it."""

    argv: tuple[str, ...]
    directory: Path

    def __str__(self) -> str:
        # Its arguments name the secret, and are no secret themselves; but one cannot know.
        return f"the command {self.argv[0]!r}"


SecretSource = FromVariable | FromFile | FromCommand


def read_secrets(section: Section, key: str, base: Base) -> Mapping[str, SecretSource]:
    """Read a mapping of names to where each value comes from."""
    mapping = section.section(key)
    if mapping is None:
        return {}
    return {name: _source(mapping, name, base) for name in mapping}


def _source(mapping: Section, name: str, base: Base) -> SecretSource:
    if not _NAME.fullmatch(name):
        raise mapping.refusal(
            name, f"{name!r} cannot be the name of a secret", "use letters, digits and _, and no digit first"
        )
    entry: Any = mapping.content[name]
    if not isinstance(entry, dict) or len(entry) != 1:
        # A text here may be the value itself, so it is not shown.
        raise mapping.refusal(
            name, f"secret {name!r}: says not where its value comes from", f"use {_EXAMPLE}"
        )
    section = mapping.section(name)
    assert section is not None
    section.only(_KINDS)
    if "env" in section:
        variable = section.text("env")
        if variable is None or not _NAME.fullmatch(variable):
            raise section.wrong("env", "the name of an environment variable", variable)
        return FromVariable(variable)
    if "file" in section:
        return FromFile(base.resolve(section.text("file") or ""))
    return FromCommand(_argv(section), base.directory)


def _argv(section: Section) -> tuple[str, ...]:
    given = section.content.get("command")
    if isinstance(given, list):
        words = section.texts("command")
    else:
        import shlex

        try:
            words = tuple(shlex.split(section.text("command") or ""))
        except ValueError as error:
            raise section.refusal("command", f"command: {error}", "close the quotes") from None
    if not words:
        raise section.wrong("command", "a program and its arguments", given)
    return words
