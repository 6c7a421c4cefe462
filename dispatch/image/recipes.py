"""The way from a declaration and its lock to a specification, and where things are in a generated image.

Owns the versions of the rules by which layers are made: whoever changes what a layer holds raises one.
"""

from __future__ import annotations

from dispatch.environment import CondaImage, DebianImage, DockerfileImage, PipImage
from dispatch.image.base import CONDA_PREFIX, conda_machine, machine
from dispatch.image.compat import gpu_env
from dispatch.image.context import context_recipe
from dispatch.image.copied import files_recipes
from dispatch.image.spec import ImageSpec, LayerRecipe, canonical_digest, platform_of
from dispatch.lock.model import CondaLock, DebianLock, PipLock

PREFIX = "/opt/venv"
PYTHON = f"{PREFIX}/bin/python"
BYTECODE = 2
_PIP = 1
_DEBIAN = 1
_CONDA = 1


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
    layers += files_recipes(declaration.more.copy)
    return ImageSpec(
        platform=platform_of(target.architecture),
        base=base,
        lock=lock.digest,
        layers=tuple(layers),
        path=(f"{PREFIX}/bin",),
        env=_env({"VIRTUAL_ENV": PREFIX}, declaration),
        user=declaration.more.user,
    )


def conda_spec(declaration: CondaImage, lock: CondaLock, base: str) -> ImageSpec:
    """Return the specification of a conda environment on the base that ``base`` identifies."""
    inputs = (("lock", lock.digest), ("platform", lock.platform), ("prefix", CONDA_PREFIX))
    layers = [LayerRecipe("conda", _CONDA, inputs)]
    if declaration.bytecode and lock.python is not None:
        packages = canonical_digest(layers[0].document())
        layers.append(LayerRecipe("bytecode", BYTECODE, (("packages", packages),)))
    layers += files_recipes(declaration.more.copy)
    return ImageSpec(
        platform=platform_of(conda_machine(lock.platform)),
        base=base,
        lock=lock.digest,
        layers=tuple(layers),
        path=(f"{CONDA_PREFIX}/bin",),
        env=_env({"CONDA_PREFIX": CONDA_PREFIX}, declaration),
        user=declaration.more.user,
    )


def _env(own: dict[str, str], declaration: PipImage | CondaImage) -> tuple[tuple[str, str], ...]:
    """Return the variables of a generated image; what is declared wins."""
    return tuple(sorted({**own, **gpu_env(declaration.more.target), **dict(declaration.env)}.items()))


def dockerfile_spec(declaration: DockerfileImage, base: str, platform: str) -> ImageSpec:
    """Return the specification of what steps inside of an image make, on ``platform`` (``linux/amd64``).

    Two builds of it differ in their bytes: its digest says what was asked for, not what came out.
    """
    recipe = context_recipe(declaration)
    return ImageSpec(
        platform=declaration.more.platform or platform,
        base=base,
        lock="",
        layers=(recipe,),
        env=declaration.env,
        user=declaration.more.user,
    )
