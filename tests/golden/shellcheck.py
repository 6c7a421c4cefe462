"""Gives every rendered variant of the entrypoint to shellcheck. Part of ``make check``; needs no engine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from render_entrypoints import main as render_into


def main() -> int:
    """Render afresh, so that a template is checked even before its golden file is renewed."""
    with tempfile.TemporaryDirectory() as scratch:
        render_into(Path(scratch))
        scripts = sorted(map(str, Path(scratch).iterdir()))
        return subprocess.run(["shellcheck", "--shell=sh", *scripts]).returncode


if __name__ == "__main__":
    sys.exit(main())
