"""What our datasets on Beaker are called, and what is read from such a name.

A name on Beaker is of letters, digits, ``. - _`` and of bounded length; what is not, or is longer, is
shortened and ends in a digest, so that no two are confused.
"""

from __future__ import annotations

import hashlib
import re

STEP = "dispatch-step-"
SESSION = "dispatch-session-"

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_OTHER = re.compile(r"[^A-Za-z0-9_.-]")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_HEAD = 80


def plain(text: str) -> str:
    """Return a text as a part of a name: as it is where it can be one, else its beginning and a digest."""
    if _PLAIN.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return f"{_OTHER.sub('_', text)[:_HEAD]}-{digest}"


def attempts(unique_id: str, scope: str) -> str:
    """Return what the names of all attempts at a step begin with; ``scope`` tells workspaces apart."""
    return f"{STEP}{plain(unique_id)}.{scope}."


def numbered(name: str) -> tuple[str, int] | None:
    """Take ``<beginning>.<number>`` apart, ``<beginning>.`` with its dot; None for any other name."""
    head, dot, number = name.rpartition(".")
    if not dot or not _NUMBER.fullmatch(number):
        return None
    return f"{head}.", int(number)
