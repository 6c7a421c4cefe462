"""What is recorded of the machine and the process that run a step: facts to read later, never to act on.

Owns which facts these are. Starts no process, reads no environment variable, and never fails: what cannot be
found out is left out.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_ORIGIN = re.compile(r'\[remote "origin"\][^\[]*?\n\s*url\s*=\s*(\S+)')
_CREDENTIALS = re.compile(r"//[^/@]*@")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")


def machine() -> dict[str, Any]:
    """Describe this machine and our account on it."""
    system = os.uname()
    return {
        "os": f"{system.sysname} {system.release} {system.machine}",
        "cpu_count": os.cpu_count(),
        "user": _user(),
        "host": system.nodename,
    }


def process(command: Iterable[str] = (), directory: Path | None = None) -> dict[str, Any]:
    """Describe this process: its interpreter, command (by default its own), directory and source."""
    import shlex

    root = Path.cwd() if directory is None else directory
    return {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "executable": sys.executable,
        "command": shlex.join(command or sys.argv),
        "root": str(root),
        # The package that this module is a part of; to import it by name would close a circle.
        "dispatch": sys.modules["dispatch"].__version__,
        "git": git(root),
    }


def git(directory: Path) -> dict[str, str]:
    """Return ``commit`` and ``remote`` (without credentials) of the repository around ``directory``.

    Read from its files: asking git takes longer than many a step.
    """
    found: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError, StopIteration):
        place = next(place for place in (directory, *directory.parents) if (place / ".git").exists())
        own = place / ".git"
        if own.is_file():
            own = place / own.read_text("utf-8").partition("gitdir:")[2].strip()
        shared = own / "commondir"
        common = own / shared.read_text("utf-8").strip() if shared.exists() else own
        commit = _commit(own, common)
        if commit:
            found["commit"] = commit
        remote = _ORIGIN.search((common / "config").read_text("utf-8"))
        if remote:
            found["remote"] = _CREDENTIALS.sub("//", remote[1])
    return found


def _commit(own: Path, common: Path) -> str:
    head = (own / "HEAD").read_text("ascii").strip()
    name = head.partition("ref: ")[2]
    if name:
        loose = [place / name for place in (own, common) if (place / name).exists()]
        if loose:
            head = loose[0].read_text("ascii").strip()
        else:
            packed = (common / "packed-refs").read_text("utf-8").splitlines()
            head = next((line.split()[0] for line in packed if line.endswith(f" {name}")), "")
    return head if _COMMIT.fullmatch(head) else ""


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
