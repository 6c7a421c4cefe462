"""Push an image: from the layer cache, from an engine, or one that is made while it is sent.

    push_image.py cache HOST NAME CACHE CONFIG
    push_image.py engine HOST NAME CACHE IMAGE
    push_image.py made HOST NAME CACHE GIB
    push_image.py pulled HOST NAME CACHE DIRECTORY

Prints what it took in seconds, imports left out, and the most memory of the process in MiB.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from dispatch._docker import Door, engine_address
from dispatch._registry import RegistryDoor, docker_logins, parse_reference
from dispatch.image.content import CachedLayers, ImageContent, LayerContent, image_content
from dispatch.image.layers import LayerCache
from dispatch.image.ocilayout import OciLayout
from dispatch.image.saved import SavedImage
from dispatch.image.shipping import Shipping
from dispatch.image.staging import staging
from dispatch.reporting import Lines

GIB, MIB = 2**30, 2**20
# Layers of a gibibyte, of which a third is noise: about what gzip makes of libraries.
NOISE = os.urandom(MIB // 3)


def _block(number: int) -> bytes:
    return b"%032d" % number + NOISE + bytes(MIB - len(NOISE) - 32)


@contextmanager
def _opened(layer: int):
    yield (_block(layer * 1024 + number) for number in range(1024))


def _made(gibibytes: int) -> ImageContent:
    layers = []
    for number in range(gibibytes):
        digest = hashlib.sha256()
        with _opened(number) as chunks:
            for chunk in chunks:
                digest.update(chunk)
        layers.append(LayerContent(f"sha256:{digest.hexdigest()}", GIB, partial(_opened, number)))
    rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs})
    return ImageContent(config.encode(), tuple(layers))


def main(how: str, host: str, name: str, cache: str, what: str) -> None:
    """Push or pull it."""
    quiet = Lines(lambda _line: None)
    door = RegistryDoor(host, docker_logins(os.environ, Path.home()))
    shipping = Shipping(door, Path(cache))
    reference = parse_reference(f"{host}/{name}")
    made = _made(int(what)) if how == "made" else None
    began = time.perf_counter()
    if how == "cache":
        sources = [CachedLayers(LayerCache(Path(cache) / "layers"))]
        shipping.push(image_content(Path(what).read_bytes(), sources), reference, quiet)
    elif how == "engine":
        engine = Door(engine_address(os.environ))
        with staging(Path(cache) / "staging") as room:
            saved = SavedImage(engine, engine.inspect_image(what), room)
            shipping.push(image_content(saved.config(), [saved]), reference, quiet)
    elif how == "pulled":
        shipping.pull(shipping.find(reference), OciLayout(Path(what)), quiet)
    else:
        shipping.push(made, reference, quiet)
    took = time.perf_counter() - began
    # What getrusage tells begins with the size of the process that forked this one.
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    print(json.dumps({"seconds": took, "peak": peak / 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
