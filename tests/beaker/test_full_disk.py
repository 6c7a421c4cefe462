"""A disk that gets full under a local Beaker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_full_disk(tmp_path: Path) -> None:
    """What has no room is refused and says so, nothing half is left, and with room again all goes on."""
    unshare = (
        ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    )
    done = subprocess.run(
        [*unshare, sys.executable, str(Path(__file__).with_name("fill_disk.py")), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
