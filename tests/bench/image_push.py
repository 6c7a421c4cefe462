"""An image to a registry on the loopback: without a daemon beside ``docker push``; memory of a large one.

Its layers hold what the libraries of this environment hold, so that compressing them costs what it does.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import MIB, RUNS, Row, answer, seconds, times

from dispatch._docker import Door, engine_address
from dispatch.image.content import CachedLayers, archive, image_content
from dispatch.image.layers import LayerCache
from dispatch.image.tar import FileStream
from dispatch.testing.registries import docker_registry

LAYERS, LAYER = 4, 125 * MIB
LARGE = 5
REFERENCE = "dispatch-bench-push:1"


def _bytes_of_libraries() -> Iterator[bytes]:
    """Yield files of this environment, again and again, each time with other bytes among them."""
    files = sorted(path for path in Path(sysconfig.get_path("platlib")).rglob("*") if path.is_file())
    for turn in itertools.count():
        for file in files:
            yield b"%d %s\n" % (turn, os.fsencode(file)) + file.read_bytes()


def _layers(cache: LayerCache, place: Path) -> bytes:
    """Fill the layer cache, and return the configuration of an image of its layers."""
    content = _bytes_of_libraries()
    diff_ids = []
    for number in range(LAYERS):
        file = place / "layer"
        with tarfile.open(file, "w") as tar:
            while tar.offset < LAYER:
                data = next(content)[: LAYER - tar.offset]
                entry = tarfile.TarInfo(f"{number}/{tar.offset}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        diff_ids.append(cache.write(f"{number:064x}", lambda: FileStream(file)).diff_id)  # noqa: B023
        file.unlink()
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()


def _docker(*words: str) -> None:
    subprocess.run(["docker", *words], check=True, stdout=subprocess.DEVNULL)


class _Pushes:
    """Pushes of one image, each to a repository that is new."""

    def __init__(self, host: str, place: Path, config: Path, image: str) -> None:
        self._host = host
        self._place = place
        self._config = config
        self._image = image
        self._number = itertools.count()
        self._last = ""

    def docker(self) -> float:
        """By the engine, each time to a new registry: from one it knows it would mount the layers."""
        place = self._place / f"docker-{next(self._number)}"
        with docker_registry(place, root=place / "held") as registry:
            name = f"{registry.host}/docker:t"
            _docker("tag", self._image, name)
            try:
                return seconds(["docker", "push", "--quiet", name])
            finally:
                _docker("image", "rm", "--no-prune", name)

    def ours(self, how: str, what: str) -> dict[str, float]:
        """By us, who remember nothing of it."""
        cache = self._place / "cache"
        shutil.rmtree(cache / "blobs", ignore_errors=True)
        self._last = f"ours/{next(self._number)}:t"
        name = self._last
        found: dict[str, float] = answer(sys.executable, "push_image", how, self._host, name, cache, what)
        return found

    def pulled(self, directory: Path) -> dict[str, float]:
        """What was pushed last, into a directory."""
        cache = self._place / "cache"
        found: dict[str, float] = answer(
            sys.executable, "push_image", "pulled", self._host, self._last, cache, directory
        )
        return found

    def from_cache(self) -> float:
        """From the layer cache."""
        return self.ours("cache", str(self._config))["seconds"]

    def from_engine(self) -> float:
        """From the engine alone."""
        return self.ours("engine", self._image)["seconds"]


def rows() -> list[Row]:
    """Push it in turn, so that a drift of the machine meets all."""
    door = Door(engine_address(os.environ))
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        with docker_registry(place / "registry", root=place / "held") as registry:
            return _measured(door, registry.host, place)


def _measured(door: Door, host: str, place: Path) -> list[Row]:
    cache = LayerCache(place / "cache" / "layers")
    config = place / "config.json"
    config.write_bytes(_layers(cache, place))
    content = image_content(config.read_bytes(), [CachedLayers(cache)])
    door.load(archive(content))
    door.tag(content.image_id, *REFERENCE.split(":"))
    pushes = _Pushes(host, place, config, content.image_id)
    ways = (pushes.docker, pushes.from_cache, pushes.from_engine)
    taken = [[way() for way in ways] for _ in range(min(RUNS, 3))]
    docker, cached, engine = (statistics.median(column) for column in zip(*taken, strict=True))
    door.remove_image(REFERENCE)
    shutil.rmtree(place / "cache")
    large = pushes.ours("made", str(LARGE))
    pulled = pushes.pulled(place / "oci")
    what = f"push of {LAYERS * LAYER // MIB} MiB to a registry on the loopback"
    return [
        Row(f"{what}: docker push", f"{docker:.1f} s"),
        Row(f"{what}: from the layer cache", f"{cached:.1f} s, {times(cached, docker)}", "≤ 1 × docker push"),
        Row(f"{what}: from the engine", f"{engine:.1f} s, {times(engine, docker)}", "≤ 1 × docker push"),
        Row(f"push of {LARGE} GiB: most memory", f"{large['peak']:.0f} MiB", "≤ 300 MB"),
        Row(f"pull of {LARGE} GiB: most memory", f"{pulled['peak']:.0f} MiB", "≤ 300 MB"),
    ]
