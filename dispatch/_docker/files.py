"""Files inside of containers, running or not, and volumes: what an engine holds of bytes.

Owns the Engine API's archive and volume calls. The archive calls see a container's mounts, too, whether it
runs or was only created. Refuses to know what the files are.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dispatch._docker.containers import container_path
from dispatch._docker.socket import ApiError, EngineSocket, Stream, refused

_STAT = "x-docker-container-path-stat"
EMPTY_ARCHIVE = b"\0" * 1024


@dataclass(frozen=True)
class PathFacts:
    """What there is at a path in a container."""

    is_directory: bool
    mtime: float


class Files:
    """The archive and volume calls of one engine. Errors are those of the containers' calls."""

    def __init__(self, engine: EngineSocket) -> None:
        self._engine = engine

    def facts(self, container: str, path: str) -> PathFacts | None:
        """Return what is at a path, None where there is nothing."""
        where = container_path(container, "/archive")
        reply = self._engine.call("HEAD", where, {"path": path})
        if reply.status == 404:
            return None
        if reply.status >= 400 or _STAT not in reply.headers:
            raise refused("HEAD", where, reply)
        stat: dict[str, Any] = json.loads(base64.b64decode(reply.headers[_STAT]))
        # Go's mode: the topmost bit is that of a directory.
        return PathFacts(bool(stat["mode"] >> 31), _seconds(stat["mtime"]))

    def put(self, container: str, directory: str, chunks: Iterable[bytes]) -> None:
        """Unpack an archive below a directory of the container; ApiError when the engine does not take it."""
        where = container_path(container, "/archive")
        reply = self._engine.send("PUT", where, {"path": directory}, chunks)
        if reply.status >= 400:
            raise refused("PUT", where, reply)

    @contextmanager
    def get(self, container: str, path: str) -> Iterator[Stream]:
        """Give what is at a path as an archive. ApiError with status 404 where there is nothing."""
        stream = self._engine.open(container_path(container, "/archive"), {"path": path}, timeout=900.0)
        try:
            yield stream
        finally:
            stream.close()

    def volumes(self, label: str, value: str) -> list[str]:
        """Return the names of the volumes with a label of this value."""
        query = {"filters": json.dumps({"label": [f"{label}={value}"]})}
        answer: dict[str, Any] = self._engine.ask("GET", "/volumes", query).json()
        return sorted(each["Name"] for each in answer.get("Volumes") or ())

    def remove_volume(self, name: str) -> None:
        """Remove a volume; one that is gone, or in use, is left."""
        self._engine.call("DELETE", f"/volumes/{name}")

    def import_empty(self, label: str) -> str:
        """Make an image without any file, and return its ID."""
        query = {"fromSrc": "-", "changes": f"LABEL {label}=1"}
        reply = self._engine.send("POST", "/images/create", query, [EMPTY_ARCHIVE])
        if reply.status >= 400:
            raise refused("POST", "/images/create", reply)
        for line in reply.body.splitlines():
            said = json.loads(line) if line.strip() else {}
            if str(said.get("status", "")).startswith("sha256:"):
                return str(said["status"])
        raise ApiError("Docker Engine: it made no image", reply.status, reply.body.decode("utf-8", "replace"))

    def remove_image(self, image: str) -> None:
        """Remove an image by its ID; one that is gone or in use is left."""
        self._engine.call("DELETE", f"/images/{image}", {"noprune": "1"})


def _seconds(stamp: str) -> float:
    """An RFC 3339 time with any zone, whose fraction may have nine digits."""
    text = stamp.replace("Z", "+00:00")
    head, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))] if dot else ""
    moment = datetime.fromisoformat(head + rest[len(digits) :])
    return moment.timestamp() + (float(f"0.{digits}") if digits else 0.0)
