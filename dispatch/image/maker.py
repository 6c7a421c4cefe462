"""Makes one image that the engine does not hold: its layers, the load, and the check of what came out.

Owns the order of work, chosen so that both ends are busy: the engine unpacks what has been sent while the
next layer is still being packed, and packages are compiled meanwhile. Refuses to decide whether an image is
needed, or to do anything twice (``builder`` does).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dispatch._docker import ImageRecord
from dispatch.environment import CondaImage, PipImage
from dispatch.errors import BaseVanishedError, DispatchError, EngineError, ImageError
from dispatch.image.base import CONDA_PREFIX, Ground, refuse_misfit
from dispatch.image.below import SavedLayers, below_of
from dispatch.image.bytecode import BytecodeStream, Piece
from dispatch.image.copied import copied_files
from dispatch.image.direct import Assembly, OpenLayer
from dispatch.image.layers import CachedLayerBroken, LayerCache, LayerStream
from dispatch.image.packages import Compiling, CondaWork, PackageWork, PipWork
from dispatch.image.pip import Tree
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
    WheelBuilder,
)
from dispatch.image.spec import EPOCH
from dispatch.image.staging import staging
from dispatch.image.tar import FileStream, Stream, TarStream
from dispatch.lock.condainputs import refuse_misfit as refuse_conda_misfit
from dispatch.lock.model import CondaLock, DebianLock, PipLock
from dispatch.reporting import Reporter, Task, counted, working

Cancelled = Callable[[], bool]

_NO_ROOM = "no space left on device"


@dataclass(frozen=True)
class Tools:
    """What images are made with. ``user`` is the ``uid:gid`` by which a helper container owns its output.

    ``importer`` brings images of Beaker, ``shared`` those of a registry, ``conda`` installs conda locks,
    ``dockerfile`` builds Dockerfiles; each is needed where a plan has such images. ``saved`` gives layers
    that only the engine has.
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
    saved: SavedLayers | None = None
    wheels: WheelBuilder | None = None


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

    def conda(self, generated: Generated, base: ImageRecord, ground: Ground, report: Reporter) -> ImageRecord:
        """Make a conda environment on a base that is in the engine."""
        lock, name = generated.lock, generated.environment.name
        assert isinstance(lock, CondaLock)
        refuse_conda_misfit(name, lock, ground.facts)
        installer = self._tools.conda
        assert installer is not None, "who builds conda environments brings what installs them"

        def fill(prefix: Path) -> None:
            installer.install(lock, prefix, CONDA_PREFIX, report)

        return self._layered(generated, base, CondaWork(name, lock, fill, self._compiling(base)), report)

    def pip(self, generated: Generated, base: ImageRecord, ground: Ground, report: Reporter) -> ImageRecord:
        """Make a pip environment on a base that is in the engine."""
        lock = generated.lock
        assert isinstance(lock, PipLock)
        refuse_misfit(generated.environment.name, lock, ground.facts)

        def fill(prefix: Path) -> None:
            built = self._from_source(generated.environment.name, lock, base, ground, report)
            self._tools.installer.install(lock, prefix, lock.target.python, built)

        return self._layered(generated, base, PipWork(lock, ground, fill, self._compiling(base)), report)

    def _from_source(
        self, name: str, lock: PipLock, base: ImageRecord, ground: Ground, report: Reporter
    ) -> Mapping[str, Path]:
        """Return the wheels of the packages that no index has one of."""
        if not lock.sdists:
            return {}
        wheels = self._tools.wheels
        if wheels is None:
            raise ImageError(
                f"image {name!r}: {', '.join(lock.sdists)} come as source, and are built in an engine",
                remedy="build it in an engine, or take what has wheels",
            )
        return wheels(name, lock, base, ground.interpreter, report, self._cancelled)

    def _compiling(self, base: ImageRecord) -> Compiling:
        return Compiling(self._tools.runner, self._tools.user, self._cache / "bytecode", base)

    def _layered(
        self, generated: Generated, base: ImageRecord, job: PackageWork, report: Reporter
    ) -> ImageRecord:
        """Make an image of a layer of packages, what is compiled of them, and copied files."""
        name = generated.environment.name
        keys = {recipe.kind: job.key(recipe) for recipe in generated.spec.layers}
        missing = {kind for kind, key in keys.items() if self._layers.find(key) is None} - {"files"}
        with staging(self._cache / "staging") as work, ThreadPoolExecutor(1) as beside:
            bench = _Bench(generated)
            # While the installer works, a process of its own.
            beside.submit(self._tools.store.prepare_load)
            if missing:
                report(f"{name}: installing {job.count} packages")
                with working(report, f"{name}: installing"):
                    bench.tree = self._installed(job, work)
            if bench.tree and "bytecode" in missing:
                bench.pieces = beside.submit(job.compile, bench.tree, work)
            makers = {"files": bench.files, "bytecode": bench.bytecode}
            layers = [
                partial(self._layers.open, key, makers.get(kind, bench.packages))
                for kind, key in keys.items()
            ]
            return self._load(generated, base, layers, report)

    def _installed(self, job: PackageWork, work: Path) -> Tree:
        """Install into a staging prefix and return what its layer will hold."""
        try:
            return job.install(work)
        except ImageError as error:
            if _NO_ROOM in error.message.lower():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._cache)) from error
            raise

    def _load(
        self, generated: Generated, base: ImageRecord | None, layers: Sequence[OpenLayer], report: Reporter
    ) -> ImageRecord:
        """Send the image to the engine and return it as the engine holds it."""
        name = generated.environment.name
        report(f"{name}: loading into the engine")
        with working(report, f"{name}: loading") as task, self._below(base) as below:
            opened = _announcing([*below, *layers], task)
            upper, lower = opened[len(below) :], opened[: len(below)]
            assembly = Assembly(generated.spec, base, upper, lower)
            self._send(name, base, assembly, task)
        return assembly.check(self._tools.store)

    def _send(self, name: str, base: ImageRecord | None, assembly: Assembly, task: Task) -> None:
        feed = _Feed(assembly.chunks(), self._cancelled)
        try:
            with closing(feed.chunks()) as chunks:
                self._tools.store.load(counted(chunks, task))
        except (ImageError, EngineError) as error:
            if feed.failure is not None and not isinstance(feed.failure, ImageError):
                raise feed.failure from error
            raise self._explained(name, base, feed.failure or error) from error

    @contextmanager
    def _below(self, base: ImageRecord | None) -> Iterator[list[OpenLayer]]:
        """Give the layers of a base to be sent, too, where the engine does not find them by their digests."""
        if base is None or not base.by_manifest:
            yield []
            return
        with staging(self._cache / "staging") as room:
            yield below_of(base, LayerCache(self._cache / "layers"), self._tools.saved, room)

    def _explained(self, name: str, base: ImageRecord | None, error: DispatchError) -> DispatchError:
        """Return what is behind a load that failed, or the failure itself."""
        if base is not None and self._tools.store.inspect_image(base.id) is None:
            return BaseVanishedError(
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

    generated: Generated
    tree: Tree | None = None
    pieces: Future[list[Piece]] | None = None

    def packages(self) -> Stream:
        """The layer of packages."""
        if self.tree is None:
            raise CachedLayerBroken("the layer of packages vanished from the cache")
        return TarStream(self.tree.entries, EPOCH)

    def bytecode(self) -> Stream:
        """The bytecode layer, once all packages are compiled."""
        if self.pieces is None:
            raise CachedLayerBroken("the bytecode layer vanished from the cache")
        return BytecodeStream(self.pieces.result(), EPOCH)

    def files(self) -> Stream:
        """The layer of copied files."""
        declaration = self.generated.environment.declaration
        assert isinstance(declaration, (PipImage, CondaImage))
        return copied_files(declaration.more.copy).layer(self.generated.spec.layers[-1])
