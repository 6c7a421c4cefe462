"""What an image has installed, as its locks tell, along the chain of images that it is made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch.app.installed import locked, packages
from dispatch.environment import CondaImage, DockerfileImage, PipImage
from dispatch.lock.model import CondaLock, CondaPackage
from dispatch.testing.catalogue import FakeLocks, debian_image, debian_lock, environments, pip_image, pip_lock

FILE = Path("/repo/environment.yml")


def conda_package(name: str, *depends: str, noarch: str = "") -> CondaPackage:
    """Return a package of a conda lock."""
    return CondaPackage(name, "1.0", "0", "c", "noarch", f"{name}-1.0-0.conda", "0" * 64, 1, noarch, depends)


CONDA = CondaLock(
    "linux-64",
    (("__glibc", "2.36"),),
    "0" * 64,
    (
        conda_package("python", "libzlib"),
        conda_package("libzlib"),
        conda_package("pytorch", "python >=3.9", "python_abi"),
        conda_package("ruamel.yaml", "python", noarch="python"),
    ),
)
CATALOGUE = environments(
    base=debian_image(),
    plain=pip_image("plain"),
    lower=CondaImage(FILE, Path("/repo/environment.linux-64.lock"), "base"),
    upper=PipImage(FILE, Path("/repo/environment.linux-64.pip.lock"), "lower"),
    steps=DockerfileImage(None, None, "upper"),
    over=pip_image("over", "steps"),
    foreign=pip_image("foreign", "python:3.11"),
    ready="busybox:1.36",
)
LOCKS = FakeLocks(
    {
        "base": debian_lock(),
        "lower": CONDA,
        **{name: pip_lock("tool==1.0") for name in ("plain", "upper", "over", "foreign")},
    }
)


@pytest.mark.parametrize(
    ("name", "installed"),
    [
        ("plain", {"tool", "python3", "libc6"}),
        ("lower", {"torch", "ruamel-yaml"}),
        ("upper", {"tool", "torch", "ruamel-yaml"}),
        ("steps", None),
        ("over", None),
        ("foreign", None),
        ("ready", None),
    ],
)
def test_what_an_image_has(name: str, installed: set[str] | None) -> None:
    """All that its Python sees, by the index's names; nothing where a step may have installed more."""
    found = locked(name, CATALOGUE, LOCKS)
    assert found == installed


def test_what_is_here() -> None:
    """The current environment is asked itself."""
    assert "pytest" in packages()
