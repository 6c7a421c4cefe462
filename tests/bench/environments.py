"""Virtual environments of the benchmarks' own, made once below the user's cache directory.

One holds the release of Tango that is measured against, one repo2docker, one holds NumPy, which neither
dispatch nor its development needs. This checkout is in none of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TANGO = "1.3.2"
# Later releases want a plugin of the docker command even to look for an image.
REPO2DOCKER = "2024.7.0"


def tango() -> Path:
    """The ``bin`` directory of an environment with Tango."""
    return _made(f"tango-{TANGO}", f"ai2-tango=={TANGO}")


def repo2docker() -> Path:
    """The command of an environment with repo2docker."""
    wanted = (f"jupyter-repo2docker=={REPO2DOCKER}", "setuptools<81")
    return _made(f"repo2docker-{REPO2DOCKER}", *wanted) / "jupyter-repo2docker"


def numpy() -> Path:
    """The interpreter of an environment with NumPy."""
    return _made("numpy", "numpy") / "python"


def _made(name: str, *requirements: str) -> Path:
    place = cache() / name
    # Made in place, since scripts name their interpreter by its full path; the marker says that it is whole.
    complete = place / "complete"
    if not complete.exists():
        print(f"installing {', '.join(requirements)} into {place} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", *requirements]
        subprocess.run([str(place / "bin" / "python"), *install], check=True, stdout=sys.stderr)
        complete.touch()
    return place / "bin"


def cache() -> Path:
    """Where the benchmarks keep what they fetch."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "dispatch-bench"
