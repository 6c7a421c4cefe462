"""The way from a declaration and its lock to a specification, and where things are in a generated image.

Owns the versions of the rules by which layers are made: whoever changes what a layer holds raises one.
"""

from __future__ import annotations

from dispatch.environment import DebianImage, PipImage
from dispatch.image.base import machine
from dispatch.image.spec import ImageSpec, LayerRecipe, canonical_digest, platform_of
from dispatch.lock.model import DebianLock, PipLock

PREFIX = "/opt/venv"
PYTHON = f"{PREFIX}/bin/python"
BYTECODE = 1
_PIP = 1
_DEBIAN = 1


def site_packages(python: str) -> str:
    """Return the path of site-packages inside the image for a minor version (``"3.11"``)."""
    return f"{PREFIX}/lib/python{python}/site-packages"


def debian_spec(declaration: DebianImage, lock: DebianLock) -> ImageSpec:
    """Return the specification of a base made of locked packages."""
    recipe = LayerRecipe("debian", _DEBIAN, (("lock", lock.digest),))
    return ImageSpec(
        platform=platform_of(machine(lock.architecture)),
        base="",
        lock=lock.digest,
        layers=(recipe,),
        env=tuple(sorted({"LANG": "C.UTF-8", **dict(declaration.env)}.items())),
        epoch=lock.epoch,
    )


def pip_spec(declaration: PipImage, lock: PipLock, base: str) -> ImageSpec:
    """Return the specification of a pip environment on the base that ``base`` identifies."""
    target = lock.target
    inputs = (
        ("lock", lock.digest),
        ("python", target.python),
        ("glibc", target.glibc),
        ("architecture", target.architecture),
        ("prefix", PREFIX),
    )
    layers = [LayerRecipe("pip", _PIP, inputs)]
    if declaration.bytecode:
        packages = canonical_digest(layers[0].document())
        layers.append(LayerRecipe("bytecode", BYTECODE, (("packages", packages),)))
    return ImageSpec(
        platform=platform_of(target.architecture),
        base=base,
        lock=lock.digest,
        layers=tuple(layers),
        path=(f"{PREFIX}/bin",),
        env=tuple(sorted({"VIRTUAL_ENV": PREFIX, **dict(declaration.env)}.items())),
    )
