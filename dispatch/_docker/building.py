"""Builds on the engine itself: a context goes out, messages come back while it works.

Owns the Engine API's ``POST /build``. With ``version=2`` it is BuildKit's; no session is kept with it, so
that neither secrets, ssh nor credentials for registries can be had this way (``buildcli`` can). An engine
without BuildKit answers as the classic builder, and is understood. Closing the connection ends a build.
"""

from __future__ import annotations

import json
import select
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dispatch._docker.archive import CutError, unpack
from dispatch._docker.buildlog import BuildLog
from dispatch._docker.containers import Containers, ContainerSpec
from dispatch._docker.files import Files
from dispatch._docker.owners import helper_labels
from dispatch._docker.socket import ApiError, EngineSocket, Reply, Stream, refused
from dispatch._docker.transport import broken
from dispatch.errors import ImageError
from dispatch.reporting import Reporter

BUILDKIT, CLASSIC = "2", "1"
_LOOK_EVERY = 0.2
_HEAD_LIMIT = 1 << 16

Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class BuildRequest:
    """What is to be built. ``name`` and ``declared`` are for messages: the image, and the file to look at.

    ``chunks`` yields the context, a tar of ``size`` bytes, and may raise; ``dockerfile`` is a path in it. An
    empty ``stage`` is the last one, an empty ``platform`` the engine's own.
    """

    name: str
    declared: str
    size: int
    chunks: Callable[[], Iterable[bytes]]
    dockerfile: str
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    stage: str = ""
    platform: str = ""
    network: bool = True
    no_cache: bool = False
    classic: bool = False


def build(engine: EngineSocket, request: BuildRequest, report: Reporter, cancelled: Cancelled) -> str:
    """Build, and return the image's ID; the image gets no name.

    :raises ImageError: when a step fails, the Dockerfile cannot be used, or it was cancelled
    """
    log = BuildLog(request.name, report)
    stream = engine.upload("/build", _query(request), request.size, _until(request.chunks(), cancelled))
    try:
        for message in _messages(stream, engine, cancelled):
            log.take(message)
    except ApiError as error:
        # The classic builder refuses before it begins what it cannot read.
        log.error = error.detail
    finally:
        stream.close()
    if log.error:
        raise log.failure(request.declared)
    if not log.image_id:
        raise broken(engine.address, None)
    return log.image_id


def build_files(
    engine: EngineSocket,
    request: BuildRequest,
    path: str,
    target: Path,
    report: Reporter,
    cancelled: Cancelled,
) -> None:
    """Build, lay down the directory ``path`` of the image as ``target``, and remove the image.

    :raises ImageError: as :func:`build`, and when the image has no such directory
    """
    containers, files = Containers(engine), Files(engine)
    image = build(engine, request, report, cancelled)
    try:
        spec = ContainerSpec(image, ("none",), labels=helper_labels(), init=False)
        container = containers.create(spec)
        try:
            with files.get(container, path) as stream:
                unpack(stream, target)
        except ApiError as error:
            raise ImageError(f"image {request.name!r}: the build left nothing at {path}") from error
        except CutError as error:
            raise broken(engine.address, error) from error
        finally:
            containers.remove(container)
    finally:
        # Another build may have come to the same image, and use it: it is only a cache then.
        engine.call("DELETE", f"/images/{image}")


def _query(request: BuildRequest) -> dict[str, str]:
    query = {
        "version": CLASSIC if request.classic else BUILDKIT,
        "dockerfile": request.dockerfile,
        "buildargs": json.dumps(dict(request.args), sort_keys=True),
        "labels": json.dumps(dict(request.labels), sort_keys=True),
        "rm": "1",
        "forcerm": "1",
    }
    query |= {"target": request.stage} if request.stage else {}
    query |= {"platform": request.platform} if request.platform else {}
    query |= {} if request.network else {"networkmode": "none"}
    query |= {"nocache": "1"} if request.no_cache else {}
    return query


def _until(chunks: Iterable[bytes], cancelled: Cancelled) -> Iterator[bytes]:
    for chunk in chunks:
        if cancelled():
            raise ImageError("interrupted")
        yield chunk


def _messages(stream: Stream, engine: EngineSocket, cancelled: Cancelled) -> Iterator[Mapping[str, Any]]:
    """Yield what the engine tells, until it ends; ApiError where it refuses."""
    received = _received(stream, cancelled)
    status, buffer = _head(received, engine)
    if status >= 400:
        body = buffer + b"".join(received)
        raise refused("POST", "/build", Reply(status, {}, body))
    while True:
        *lines, buffer = buffer.split(b"\n")
        yield from filter(None, map(_message, lines))
        more = next(received, b"")
        if not more:
            break
        buffer += more
    if message := _message(buffer):
        yield message


def _message(line: bytes) -> Mapping[str, Any] | None:
    """A line that was cut, or is none of ours, tells nothing: the end of the build says what is missing."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, Mapping) else None


def _head(received: Iterator[bytes], engine: EngineSocket) -> tuple[int, bytes]:
    """Return the status, and what has come behind the head."""
    buffer = b""
    while b"\r\n\r\n" not in buffer:
        more = next(received, b"")
        buffer += more
        if not more or len(buffer) > _HEAD_LIMIT:
            raise broken(engine.address, None)
    head, _, rest = buffer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise broken(engine.address, None)
    return int(words[1]), rest


def _received(stream: Stream, cancelled: Cancelled) -> Iterator[bytes]:
    """Yield bytes as they come. A build may be silent for hours, and is interrupted all the same."""
    while True:
        if cancelled():
            raise ImageError("interrupted")
        if not stream.pending() and not select.select([stream.fileno()], [], [], _LOOK_EVERY)[0]:
            continue
        block = stream.receive()
        if not block:
            return
        yield block
