"""How long an image takes into a local Beaker with the real client, again, and back into the engine.

Its layers do not compress: the engine, which does that on its own on the way, is the least part of it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from beaker import beaker_pb2 as pb2
from harness import MIB, Row

from dispatch._docker import Credentials, Door, engine_address
from dispatch.reporting import Lines
from dispatch.testing.beaker import Beakers
from dispatch.testing.layers import layered_archive
from dispatch.testing.registry import rest, workspace_of

LAYERS, LAYER = 4, 100 * MIB
REFERENCE = "dispatch-bench-images:1"


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _forget(door: Door, image: str) -> None:
    while (record := door.inspect_image(image)) is not None:
        door.remove_image((*record.tags, *record.digests, image)[0])


def rows() -> list[Row]:
    """One image, there and back."""
    door = Door(engine_address(os.environ))
    door.load([layered_archive(REFERENCE, [os.urandom(LAYER) for _ in range(LAYERS)])])
    with tempfile.TemporaryDirectory() as place:
        beakers = Beakers(Path(place))
        beakers.prepare()
        os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(beakers.authority)
        beaker = beakers.start()
        workspace = pb2.Workspace(id=workspace_of(beaker))
        with beaker.client() as client:
            first, image = _timed(lambda: client.image.create("one", REFERENCE, workspace=workspace))
            again, _ = _timed(lambda: client.image.create("two", REFERENCE, workspace=workspace))
        _forget(door, image.docker_id)
        auth = rest(beaker, "GET", f"/api/v3/images/{image.id}/repository").json()["auth"]
        key = Credentials(auth["user"], auth["password"])
        pulled, record = _timed(lambda: door.pull(image.docker_tag, Lines(lambda _line: None), key))
        same = "" if record.id == image.docker_id else " (ANOTHER IMAGE)"
        _forget(door, record.id)
        beakers.close()
    what = f"image of {LAYERS * LAYER // MIB} MiB in {LAYERS} layers, local Beaker"
    return [
        Row(f"{what}: image.create", f"{first:.1f} s", "≤ 16 s"),
        Row(f"{what}: image.create again", f"{again:.2f} s", "no byte is sent"),
        Row(f"{what}: pulled into the engine", f"{pulled:.1f} s{same}"),
    ]
