"""Makes one image that the engine does not hold: its layers, the load, and the check of what came out.

Owns the order of work, chosen so that both ends are busy: the engine unpacks what has been sent while the
next layer is still being packed, and packages are compiled meanwhile. Refuses to decide whether an image is
needed, or to do anything twice (``builder`` does).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dispatch._docker import ImageRecord
from dispatch.errors import DispatchError, EngineError, ImageError
from dispatch.image.base import Ground, refuse_misfit
from dispatch.image.bytecode import BytecodeCache, BytecodeStream, Compiler, Piece
from dispatch.image.direct import Assembly, OpenLayer
from dispatch.image.layers import CachedLayerBroken, LayerCache, LayerStream
from dispatch.image.pip import Tree, normalise
from dispatch.image.plan import Generated
from dispatch.image.ports import (
    BeakerImages,
    CondaInstaller,
    DockerfileBuilder,
    HelperRunner,
    ImageStore,
    Installer,
    RootfsMaker,
    SharedImages,
)
from dispatch.image.recipes import PREFIX, site_packages
from dispatch.image.spec import EPOCH
from dispatch.image.staging import staging
from dispatch.image.tar import FileStream, Stream, TarStream
from dispatch.lock.model import DebianLock, PipLock
from dispatch.reporting import Reporter, Task, counted, working

Cancelled = Callable[[], bool]

_NO_ROOM = "no space left on device"


@dataclass(frozen=True)
class Tools:
    """What images are made with. ``user`` is the ``uid:gid`` by which a helper container owns its output.

    ``importer`` brings images of Beaker, ``shared`` those of a registry, ``conda`` installs conda locks,
    ``dockerfile`` builds Dockerfiles; each is needed where a plan has such images.
    """

    store: ImageStore
    runner: HelperRunner
    installer: Installer
    rootfs: RootfsMaker
    user: str
    importer: BeakerImages | None = None
    conda: CondaInstaller | None = None
    dockerfile: DockerfileBuilder | None = None
    shared: SharedImages | None = None


class ImageMaker:
    """Makes images with ``tools``, keeping layers and compiled packages under ``cache``.

    A ``fresh`` one makes all layers itself.
    """

    def __init__(self, tools: Tools, cache: Path, cancelled: Cancelled, fresh: bool = False) -> None:
        self._tools = tools
        self._cache = cache
        self._layers = LayerCache(cache / "layers", fresh)
        self._cancelled = cancelled

    def debian(self, generated: Generated, report: Reporter) -> ImageRecord:
        """Make a base from its lock."""
        lock = generated.lock
        assert isinstance(lock, DebianLock)
        with staging(self._cache / "staging") as work:
            rootfs = work / "rootfs.tar"

            def make() -> Stream:
                self._tools.rootfs(generated.environment.name, lock, rootfs, report)
                return FileStream(rootfs)

            key = generated.spec.layers[0].key()
            self._layers.write(key, make)
            return self._load(generated, None, [partial(self._layers.open, key, make)], report)

    def conda(self, generated: Generated, base: ImageRecord, report: Reporter) -> ImageRecord:
        """Make a conda environment on a base that is in the engine."""
        raise NotImplementedError

    def pip(self, generated: Generated, base: ImageRecord, ground: Ground, report: Reporter) -> ImageRecord:
        """Make a pip environment on a base that is in the engine."""
        lock = generated.lock
        assert isinstance(lock, PipLock)
        refuse_misfit(generated.environment.name, lock, ground.facts)
        recipe, *compiled = generated.spec.layers
        keys = [recipe.key(interpreter=ground.interpreter)]
        keys += [recipe.key(base=base.id) for recipe in compiled]
        missing = [key for key in keys if self._layers.find(key) is None]
        with staging(self._cache / "staging") as work, ThreadPoolExecutor(1) as beside:
            bench = _Bench()
            # While the installer works, a process of its own.
            beside.submit(self._tools.store.prepare_load)
            if missing:
                report(f"{generated.environment.name}: installing {len(lock.pins)} packages")
                with working(report, f"{generated.environment.name}: installing"):
                    bench.tree = self._install(lock, ground, work)
            if bench.tree and missing[-1:] == keys[1:]:
                bench.pieces = beside.submit(self._compile, bench.tree, base, ground, work)
            makers = [bench.packages, bench.bytecode]
            layers = [partial(self._layers.open, key, make) for key, make in zip(keys, makers, strict=False)]
            return self._load(generated, base, layers, report)

    def _install(self, lock: PipLock, ground: Ground, work: Path) -> Tree:
        """Install a lock into a staging prefix and return what its layer will hold."""
        prefix = work / "prefix"
        try:
            self._tools.installer.install(lock, prefix, lock.target.python)
        except ImageError as error:
            if _NO_ROOM in error.message.lower():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._cache)) from error
            raise
        return normalise(prefix, lock.target.python, ground.interpreter)

    def _compile(self, tree: Tree, base: ImageRecord, ground: Ground, work: Path) -> list[Piece]:
        """Return the compiled packages of a staged environment."""
        site = site_packages(ground.facts.python or "")
        output = work / "bytecode"
        output.mkdir()
        sources = work / "prefix" / site[len(PREFIX) + 1 :]
        tools = self._tools
        compiler = Compiler(tools.runner, base.id, ground.interpreter, sources, site, tools.user)
        return BytecodeCache(self._cache / "bytecode", base.id, site).pieces(
            tree.wheels, EPOCH, compiler, output
        )

    def _load(
        self, generated: Generated, base: ImageRecord | None, layers: Sequence[OpenLayer], report: Reporter
    ) -> ImageRecord:
        """Send the image to the engine and return it as the engine holds it."""
        name = generated.environment.name
        report(f"{name}: loading into the engine")
        with working(report, f"{name}: loading") as task:
            assembly = Assembly(generated.spec, base, _announcing(layers, task))
            feed = _Feed(assembly.chunks(), self._cancelled)
            try:
                with closing(feed.chunks()) as chunks:
                    self._tools.store.load(counted(chunks, task))
            except (ImageError, EngineError) as error:
                if feed.failure is not None:
                    raise feed.failure from error
                raise self._explained(name, base, error) from error
        return assembly.check(self._tools.store.inspect_image(assembly.image_id))

    def _explained(self, name: str, base: ImageRecord | None, error: DispatchError) -> DispatchError:
        """Return what is behind a refused load, or the refusal itself."""
        if base is not None and self._tools.store.inspect_image(base.id) is None:
            return ImageError(
                f"image {name!r}: its base {base.id[:19]} was removed while it was being made",
                remedy="repeat the command",
            )
        if _NO_ROOM in error.message.lower():
            return ImageError(
                f"image {name!r}: the engine has no room left on its disk",
                remedy="remove images that are not needed (`docker image prune`) and repeat the command",
            )
        return error


def _announcing(layers: Sequence[OpenLayer], task: Task) -> list[OpenLayer]:
    """Return layers of which the task is told the size when they are opened: many are only made then."""
    total = 0

    @contextmanager
    def opened(layer: OpenLayer) -> Iterator[LayerStream]:
        nonlocal total
        with layer() as stream:
            total += stream.size
            task.expect(total)
            yield stream

    return [partial(opened, layer) for layer in layers]


class _Feed:
    """An archive while it is sent. ``failure`` is what stopped it on our side.

    The engine's client may take an error of ours for one of the connection.
    """

    def __init__(self, chunks: Iterator[bytes], cancelled: Cancelled) -> None:
        self._chunks = chunks
        self._cancelled = cancelled
        self.failure: Exception | None = None

    def chunks(self) -> Generator[bytes, None, None]:
        """Yield the archive until it ends or the build is cancelled."""
        try:
            for chunk in self._chunks:
                if self._cancelled():
                    raise ImageError("interrupted")
                yield chunk
        except Exception as error:
            self.failure = error
            raise


@dataclass
class _Bench:
    """What the layers of one environment are made from, where they are not all in the cache."""

    tree: Tree | None = None
    pieces: Future[list[Piece]] | None = None

    def packages(self) -> Stream:
        """The pip layer."""
        if self.tree is None:
            raise CachedLayerBroken("the pip layer vanished from the cache")
        return TarStream(self.tree.entries, EPOCH)

    def bytecode(self) -> Stream:
        """The bytecode layer, once all packages are compiled."""
        if self.pieces is None:
            raise CachedLayerBroken("the bytecode layer vanished from the cache")
        return BytecodeStream(self.pieces.result(), EPOCH)
