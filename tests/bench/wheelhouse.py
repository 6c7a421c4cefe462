"""Wheels on this machine's loopback: every contender downloads the same files from the same place.

Owns the set of packages that images are built of, fetched once from the package index into the cache of the
benchmarks. Refuses source distributions.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import environments

from dispatch.testing.index import serving

# Nineteen pins, NumPy by far the largest of them.
PINS = (
    "attrs==25.3.0",
    "certifi==2025.8.3",
    "charset-normalizer==3.4.3",
    "click==8.2.1",
    "idna==3.10",
    "jinja2==3.1.6",
    "markdown-it-py==4.0.0",
    "markupsafe==3.0.2",
    "mdurl==0.1.2",
    "numpy==2.3.2",
    "packaging==25.0",
    "pygments==2.19.2",
    "pyyaml==6.0.2",
    "requests==2.32.5",
    "rich==14.1.0",
    "six==1.17.0",
    "tqdm==4.67.1",
    "typing-extensions==4.15.0",
    "urllib3==2.5.0",
)


def fetched(pins: tuple[str, ...], extra: tuple[str, ...] = ()) -> Path:
    """The directory of the wheels for Python 3.11 on Linux; ``extra`` are fetched beside them."""
    place = environments.cache() / "wheels"
    complete = place / f"complete-{len(pins) + len(extra)}"
    if not complete.exists():
        print(f"fetching {len(pins) + len(extra)} wheels into {place} …", file=sys.stderr, flush=True)
        target = ["--only-binary", ":all:", "--no-deps", "--python-version", "3.11", "--implementation", "cp"]
        platforms = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
        target += [word for each in platforms for word in ("--platform", each)]
        command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", *target]
        subprocess.run([*command, "--dest", str(place), *pins, *extra], check=True, stdout=sys.stderr)
        complete.touch()
    return place


@contextmanager
def served(wheels: Path, directory: Path) -> Iterator[str]:
    """Serve wheels as a package index; gives its address."""
    with serving(directory) as index:
        for wheel in sorted(wheels.glob("*.whl")):
            name = re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()
            index.serve(name, wheel.name, wheel.read_bytes())
        yield index.address
