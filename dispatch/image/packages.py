"""The work that makes a layer of packages: what is installed, and what is compiled of it, by kind.

Owns what a pip and a conda environment differ in. Refuses the order of the work, and what becomes of the
layers: that is ``maker``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dispatch._docker import ImageRecord
from dispatch._docker.containers import Bind
from dispatch.image.base import CONDA_PREFIX, Ground, conda_ground
from dispatch.image.bytecode import BytecodeCache, Compiler, Piece
from dispatch.image.conda import library, normalise_conda
from dispatch.image.pip import Tree, normalise
from dispatch.image.ports import HelperRunner
from dispatch.image.recipes import PREFIX, site_packages
from dispatch.image.spec import EPOCH, LayerRecipe
from dispatch.lock.model import CondaLock, PipLock


@dataclass(frozen=True)
class Compiling:
    """How packages are compiled for ``base``: helper containers, and where what they leave is kept.

    ``user`` is the ``uid:gid`` by which a helper container owns its output.
    """

    runner: HelperRunner
    user: str
    cache: Path
    base: ImageRecord

    def pieces(self, tree: Tree, place: Place, output: Path) -> list[Piece]:
        """Return the compiled packages of a staged environment."""
        output.mkdir()
        compiler = Compiler(
            self.runner, self.base.id, place.interpreter, place.sources, place.site, self.user, place.binds
        )
        cache = BytecodeCache(self.cache, place.compiled_by, place.site)
        return cache.pieces(tree.wheels, EPOCH, compiler, output)


@dataclass(frozen=True)
class Place:
    """Where sources are: on the host, and in the image (``site``); and the interpreter that compiles them.

    ``compiled_by`` identifies that interpreter: what it leaves is used wherever it is the same.
    """

    sources: Path
    site: str
    interpreter: str
    compiled_by: str
    binds: tuple[Bind, ...] = ()


class PackageWork(Protocol):
    """One environment's packages on their way into layers."""

    @property
    def count(self) -> int:
        """The number of packages."""

    def key(self, recipe: LayerRecipe) -> str:
        """Return the name of a layer in the cache."""

    def install(self, work: Path) -> Tree:
        """Install into the directory ``work``, return what its layer will hold; LockError or ImageError."""

    def compile(self, tree: Tree, work: Path) -> list[Piece]:
        """Return what was installed in ``work``, compiled."""


@dataclass(frozen=True)
class PipWork:
    """A pip environment; ``fill`` installs its lock into a directory."""

    lock: PipLock
    ground: Ground
    fill: Callable[[Path], None]
    compiling: Compiling

    @property
    def count(self) -> int:
        """The number of packages."""
        return len(self.lock.pins)

    def key(self, recipe: LayerRecipe) -> str:
        """Return the name of a layer; the base's interpreter is in both, its release in what it compiles."""
        base = self.compiling.base.id
        if recipe.kind == "pip":
            # What is built from source is what the base's compiler makes of it.
            more = {"base": base} if self.lock.sdists else {}
            return recipe.key(interpreter=self.ground.interpreter, **more)
        return recipe.key(base=base) if recipe.kind == "bytecode" else recipe.key()

    def install(self, work: Path) -> Tree:
        """Install into a staging prefix."""
        self.fill(work / "prefix")
        return normalise(work / "prefix", self.lock.target.python, self.ground.interpreter)

    def compile(self, tree: Tree, work: Path) -> list[Piece]:
        """Compile by the base's interpreter."""
        site = site_packages(self.lock.target.python)
        sources = work / "prefix" / site[len(PREFIX) + 1 :]
        base = self.compiling.base.id
        place = Place(sources, site, self.ground.interpreter, base)
        return self.compiling.pieces(tree, place, work / "bytecode")


@dataclass(frozen=True)
class CondaWork:
    """The conda environment ``name``; ``fill`` installs its lock into a directory."""

    name: str
    lock: CondaLock
    fill: Callable[[Path], None]
    compiling: Compiling

    @property
    def count(self) -> int:
        """The number of packages."""
        return len(self.lock.packages)

    def key(self, recipe: LayerRecipe) -> str:
        """Return the name of a layer: all of it follows from the lock, whatever the base is."""
        return recipe.key()

    def install(self, work: Path) -> Tree:
        """Install into a staging prefix."""
        self.fill(work / "prefix")
        return normalise_conda(self.name, work / "prefix", self.lock)

    def compile(self, tree: Tree, work: Path) -> list[Piece]:
        """Compile by the environment's own interpreter, the standard library included."""
        python = next(each for each in self.lock.packages if each.name == "python")
        minor = self.lock.python or ""
        prefix = work / "prefix"
        place = Place(
            prefix / library(minor),
            f"{CONDA_PREFIX}/{library(minor)}",
            conda_ground(self.name, self.lock).interpreter,
            f"conda:{python.sha256}",
            (Bind(str(prefix), CONDA_PREFIX),),
        )
        return self.compiling.pieces(tree, place, work / "bytecode")
