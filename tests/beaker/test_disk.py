"""A disk that is full: what has no room is refused with a message, all else goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["fill_disk.py", "full_cache.py"])
def test_full_disk(tmp_path: Path, name: str) -> None:
    """Uploads, secrets, datasets and copies without room are refused; with room, all is as before."""
    namespace = (
        ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    )
    program = Path(__file__).with_name(name)
    done = subprocess.run(
        [*namespace, sys.executable, str(program), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
