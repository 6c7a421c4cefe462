"""What one declaration comes to: a chain of images, each of one kind of layer on top of the one before.

Owns the names and the order of the images that a declaration implies. Planner, builder and locks see simple
environments only: ``apt`` below and ``run`` above the packages, and the pip section of an ``environment.yml``
above its conda packages, are images of their own. So a change in one part leaves those below it as they are.

An implied name has a ``+``, which no name of a user's has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dispatch.environment import (
    CondaImage,
    DebianImage,
    DockerfileImage,
    Environment,
    Extras,
    ImageDeclaration,
    PipImage,
)
from dispatch.lock.environmentfile import has_pip_section
from dispatch.settings.imagekeys import CONDA_PLATFORMS

_APT, _CONDA, _PACKAGES = "+apt", "+conda", "+packages"
_ARCHITECTURES = {"amd64": "linux/amd64", "arm64": "linux/arm64", "ppc64el": "linux/ppc64le"}


def declared_name(name: str) -> str:
    """Return the name in the declaration that implies an image: ``gpu`` for ``gpu+conda``."""
    return name.partition("+")[0]


def base_lock_command(name: str, config: str) -> str:
    """Return the command that renews the lock of a Debian image, which may be one that is implied.

    ``config`` is what `dispatch lock` is given for what declares it.
    """
    implied = declared_name(name) != name
    return f"dispatch lock {config}" if implied else f"dispatch lock --image {name}"


def expand(environment: Environment, base: ImageDeclaration | None) -> list[Environment]:
    """Return the chain of a declaration, each after its base; the last has the environment's own name.

    ``base`` is the declaration that it stands on, None for one that stands on nothing. Files are looked
    into only to see whether an ``environment.yml`` has a pip section.
    """
    declaration = environment.declaration
    if isinstance(declaration, (PipImage, CondaImage)):
        return _generated(environment, declaration, base)
    if isinstance(declaration, DockerfileImage) and declaration.file is None:
        return _rendered(environment, declaration, base)
    return [environment]


def _rendered(
    environment: Environment, declaration: DockerfileImage, base: ImageDeclaration | None
) -> list[Environment]:
    """Expand what a rendered Dockerfile makes: with packages of a locked base, these are locked, too."""
    more = declaration.more
    if not more.apt or not isinstance(base, DebianImage):
        return [environment]
    name = environment.name
    lock = environment.origin.parent / f"{name}.apt.lock"
    below = Environment(name + _APT, _with_packages(base, more.apt, lock), environment.origin)
    above = replace(declaration, base=below.name, more=replace(more, apt=()))
    return [below, replace(environment, declaration=above)]


def _generated(
    environment: Environment, declaration: PipImage | CondaImage, base: ImageDeclaration | None
) -> list[Environment]:
    name, origin, more = environment.name, environment.origin, declaration.more
    found: list[Environment] = []
    below = declaration.base
    if more.apt:
        found.append(Environment(name + _APT, _apt(name, declaration, base), origin))
        below = found[-1].name
    packages = name + _PACKAGES if more.run else name
    # The user is the last one's: what stands between still belongs to root.
    own = replace(more, apt=(), run=(), user="" if more.run else more.user)
    plain = replace(_on_platform(declaration, base), base=below, more=own)
    if isinstance(plain, CondaImage) and has_pip_section(plain.file):
        found += _with_pip(name, packages, plain, origin)
    else:
        found.append(Environment(packages, plain, origin))
    if more.run:
        last = Extras(run=more.run, env=more.env, user=more.user, platform=more.platform)
        above = DockerfileImage(file=None, context=None, base=packages, more=last)
        found.append(Environment(name, above, origin))
    return found


def _apt(
    name: str, declaration: PipImage | CondaImage, base: ImageDeclaration | None
) -> DebianImage | DockerfileImage:
    """Return the image of a declaration's base with its packages of the distribution."""
    more = declaration.more
    if isinstance(base, DebianImage):
        return _with_packages(base, more.apt, declaration.lock.with_name(f"{name}.apt.lock"))
    extras = Extras(apt=more.apt, platform=more.platform)
    return DockerfileImage(file=None, context=None, base=declaration.base, more=extras)


def _with_packages(base: DebianImage, packages: tuple[str, ...], lock: Path) -> DebianImage:
    """Add packages to a locked base: the result is locked to the last package as the base is."""
    return replace(base, packages=tuple(dict.fromkeys((*base.packages, *packages))), lock=lock)


def _with_pip(name: str, packages: str, conda: CondaImage, origin: Path) -> Iterator[Environment]:
    """Yield a conda environment without its pip section, and the pip section upon it."""
    more = conda.more
    below = replace(conda, more=Extras(env=more.env, platform=more.platform, target=more.target))
    yield Environment(name + _CONDA, below, origin)
    stem = conda.lock.name.removesuffix(".lock")
    section = PipImage(
        requirements=conda.file,
        lock=conda.lock.with_name(f"{stem}.pip.lock"),
        base=name + _CONDA,
        bytecode=conda.bytecode,
        resolver=conda.resolver,
        sdists=conda.sdists,
        more=more,
    )
    yield Environment(packages, section, origin)


def _on_platform(declaration: PipImage | CondaImage, base: ImageDeclaration | None) -> PipImage | CondaImage:
    """Name a conda lock after the platform of a locked base, where the declaration names neither."""
    if not isinstance(declaration, CondaImage) or not isinstance(base, DebianImage):
        return declaration
    platform = _ARCHITECTURES.get(base.architecture, "")
    default = f"{declaration.file.stem}.{CONDA_PLATFORMS['linux/amd64']}.lock"
    if declaration.more.platform or declaration.lock.name != default or platform not in CONDA_PLATFORMS:
        return declaration
    name = f"{declaration.file.stem}.{CONDA_PLATFORMS[platform]}.lock"
    return replace(declaration, lock=declaration.lock.with_name(name))
