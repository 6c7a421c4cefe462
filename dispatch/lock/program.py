"""How a program that resolves or installs for us is started: with no terminal, and what it says kept as text.

Refuses to judge what it said: that is its caller's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def captured(
    run: Run, command: Sequence[str], env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with exactly these variables; OSError where it cannot be started.

    Its output is text even where it is no UTF-8. A failure is no error here.
    """
    return run(
        list(command),
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
