"""A program that builds a pip and a conda image from locks, into an engine in memory, and tells their IDs.

``python -m dispatch.testing.imageids CHANNEL WHEELS CACHE`` is run in surroundings that differ, and by other
interpreters. WHEELS are files of pure packages in version 1.0. Bytecode is left out: that is made by the
image's own interpreter, so there has to be an engine.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from dispatch.environment import CondaImage, CopiedFile, Extras, ImageDeclaration, PipImage
from dispatch.image.builder import Builder
from dispatch.image.maker import Tools
from dispatch.image.plan import plan_images
from dispatch.lock.model import Lock, PipLock, PipPin, Target
from dispatch.lock.rattler import Rattler
from dispatch.lock.uv import Uv, find_uv
from dispatch.settings.surroundings import read_environment
from dispatch.testing.catalogue import FakeLocks, debian_image, debian_lock, environments
from dispatch.testing.condapackages import locked
from dispatch.testing.images import FakeHelper, FakeImageStore, FakeRootfs
from dispatch.testing.reporting import RecordingReporter

PYTHON = "3.11"
STEMS = ("zlib-1.3-h0_0", "libtext-1.3-h1_0", "toolkit-1.0-0", "datafiles-1.0-0")


def image_ids(channel: Path, wheels: Path, cache: Path) -> dict[str, str]:
    """Build both, and return the IDs by name."""
    environ = {**read_environment().environ, "UV_CACHE_DIR": str(cache / "uv")}
    copies = (CopiedFile(wheels, "/opt/wheels"),)
    declared: dict[str, ImageDeclaration | str] = {
        "base": debian_image(),
        "pip": PipImage(Path("r.in"), Path("r.lock"), "base", bytecode=False, more=Extras(copy=copies)),
        "conda": CondaImage(Path("e.yml"), Path("e.lock"), "base", bytecode=False),
    }
    locks: dict[str, Lock] = {
        "base": debian_lock(),
        "pip": PipLock("base", Target(PYTHON, "2.36", "x86_64"), "0" * 64, tuple(_pins(wheels))),
        "conda": locked(channel, *STEMS, *(path.name.removesuffix(".conda") for path in _pythons(channel))),
    }
    tools = Tools(
        FakeImageStore(),
        FakeHelper(),
        Uv(find_uv(environ), environ),
        FakeRootfs(),
        "0:0",
        conda=Rattler(lambda _: [channel.as_uri()], cache / "conda", environ),
    )
    plan = plan_images(["pip", "conda"], environments(**declared), FakeLocks(locks), tools.store)
    report = Builder(tools, cache, clock=lambda: 0.0).build(plan, RecordingReporter())
    report.raise_failures()
    return {name: str(image) for name, image in sorted(report.images.items())}


def _pins(wheels: Path) -> list[PipPin]:
    return [
        PipPin(
            path.name.partition("-")[0], "1.0", (f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",)
        )
        for path in sorted(wheels.glob("*.whl"))
    ]


def _pythons(channel: Path) -> list[Path]:
    """Return the channel's packages of Python that is not the older one, and those that need it."""
    found = sorted((channel / "linux-64").glob("python-*-true_0.conda"))
    return [*found, channel / "noarch" / "greet-1.0-0.conda"]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(image_ids(*map(Path, sys.argv[1:]))))
