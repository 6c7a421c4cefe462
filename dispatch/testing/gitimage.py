"""An image of busybox and this machine's own git, for jobs that clone; no registry and no package is needed.

Owns which files git consists of. Refuses to load the image.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

REFERENCE = "dispatch-test-git:1"
_PARTS = (
    "git-remote-http",
    "git-remote-https",
    "git-submodule",
    "git-sh-setup",
    "git-sh-i18n",
    "git-submodule--helper",
)
_LIBRARY = re.compile(rb"(/[^ ]+) \(0x")


def git_files() -> dict[str, bytes]:
    """Return git, its helpers for http and submodules, and the libraries of all, by absolute paths."""
    core = Path(
        subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
    )
    git = Path(
        subprocess.run(
            ["sh", "-c", "command -v git"], check=True, capture_output=True, text=True
        ).stdout.strip()
    )
    found = with_libraries([git, *(core / part for part in _PARTS if (core / part).exists())])
    # Not every part is a program of its own, and helpers of git's are looked for beside the rest.
    found[str(core / "git")] = git.read_bytes()
    return found


def with_libraries(programs: Iterable[Path]) -> dict[str, bytes]:
    """Return programs of this machine and the libraries they are linked to, by absolute paths."""
    found: dict[str, bytes] = {}
    for program in programs:
        found[str(program)] = program.read_bytes()
        listed = subprocess.run(["ldd", str(program)], check=False, capture_output=True).stdout
        for library in _LIBRARY.findall(listed):
            found[library.decode()] = Path(library.decode()).read_bytes()
    return found
