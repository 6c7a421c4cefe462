"""How a step's container gets the source, as the settings say it: a word, or a mapping around it.

Owns spelling only. A secret is named here, never given.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from dispatch.settings.section import Section

_KEYS = ("mode", "remote", "user", "token", "ssh_key")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


class SourceMode(enum.Enum):
    """How a step's container gets the source."""

    AUTO = "auto"
    EXPORT = "export"
    CLONE = "clone"


@dataclass(frozen=True)
class SourceSetting:
    """How the source comes, and for a clone from where and with whose access.

    ``remote`` None is ``origin``, else the only one. ``token`` and ``ssh_key`` are names of secrets, ``user``
    is the name that goes with the token where the host wants a certain one.
    """

    mode: SourceMode = SourceMode.AUTO
    remote: str | None = None
    user: str | None = None
    token: str | None = None
    ssh_key: str | None = None


def read_source(section: Section, key: str) -> SourceSetting:
    """Read ``clone``, or ``{mode: clone, remote: NAME, token: SECRET}``."""
    modes = [mode.value for mode in SourceMode]
    if not isinstance(section.content.get(key), dict):
        return SourceSetting(SourceMode(section.choice(key, modes) or "auto"))
    mapping = section.section(key)
    assert mapping is not None
    mapping.only(_KEYS)
    mode = SourceMode(mapping.choice("mode", modes) or "auto")
    given = [name for name in _KEYS[1:] if name in mapping]
    if given and mode is not SourceMode.CLONE:
        fact = f"{key}: {given[0]!r} is for `mode: clone` alone"
        raise mapping.refusal(given[0], fact, "write `mode: clone`, or remove it")
    return SourceSetting(
        mode,
        mapping.text("remote"),
        _matching(mapping, "user", _USER, "a user's name, such as oauth2"),
        _matching(mapping, "token", _SECRET, "the name of a secret"),
        _matching(mapping, "ssh_key", _SECRET, "the name of a secret"),
    )


def _matching(mapping: Section, key: str, pattern: re.Pattern[str], expected: str) -> str | None:
    text = mapping.text(key)
    if text is not None and not pattern.fullmatch(text):
        # Who takes the key for the secret itself has written it here: it is not shown.
        raise mapping.refusal(key, f"{key}: expected {expected}", "secrets are named, not written down")
    return text
