"""The real client at a local Beaker's datasets: lists, small files, a large one. Prints seconds as JSON."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from beaker import Beaker, BeakerSortOrder
from beaker import beaker_pb2 as pb2
from beaker._dataset import _DatasetStorage

PIECE = 1 << 20
PAGE = 50


def lists(beaker: Beaker) -> dict[str, tuple[float, float]]:
    """Median and worst time of a page, of several lists."""
    asked: dict[str, dict[str, Any]] = {
        "by name": {},
        "by time, downward": {"sort_field": "created", "sort_order": BeakerSortOrder.descending},
        "committed": {"committed": True},
        "part of a name": {"name_or_description": "set-09"},
        "part of a description, few": {"name_or_description": "number 77"},
        "found nowhere": {"name_or_description": "nowhere"},
    }
    return {what: pages(beaker.dataset.list(**options)) for what, options in asked.items()}


def pages(found: Iterator[Any]) -> tuple[float, float]:
    """Walk through a list; a page is what its first row has to wait for."""
    times = []
    while True:
        began = time.perf_counter()
        first = next(found, None)
        times.append(time.perf_counter() - began)
        if first is None or sum(1 for _, _ in zip(range(PAGE - 1), found, strict=False)) < PAGE - 1:
            return statistics.median(times), max(times)


def small(beaker: Beaker, place: Path) -> dict[int, float]:
    """Median time of creating and committing a dataset of so many small files."""
    taken = {}
    for count in (2, 200):
        source = place / f"small-{count}"
        source.mkdir()
        for number in range(count):
            (source / str(number)).write_bytes(os.urandom(1000))
        times = []
        for run in range(4):
            began = time.perf_counter()
            beaker.dataset.create(f"small-{count}-{run}", str(source))
            times.append(time.perf_counter() - began)
        taken[count] = statistics.median(times[1:])
    return taken


def large(beaker: Beaker, place: Path, size: int) -> dict[str, float]:
    """A large file up and down, each beside the limit: the best of some, in turn.

    Each leaves before the next comes, so that it is written to memory that the system has had before.
    """
    source = place / "large"
    block = os.urandom(PIECE)
    with source.open("wb") as file:
        for _ in range(size // PIECE):
            file.write(block)
    known = pb2.DatasetFile(path="f", size=size)
    known.digest.algorithm = pb2.DatasetFile.AlgorithmType.ALGORITHM_TYPE_SHA256
    known.digest.value = hashlib.sha256(source.read_bytes()).digest()
    taken: dict[str, list[float]] = {
        "upload": [],
        "download": [],
        "limit": [],
        "client": [],
        "sink": [],
        "copy": [],
    }
    for run in range(4):
        dataset = beaker.dataset.create(f"large-{run}", commit=False)
        taken["limit"].append(timed(lambda: transfer(size)))
        taken["upload"].append(timed(lambda at=dataset: beaker.dataset.upload(at, source, "f")))
        taken["download"].append(timed(lambda at=dataset: drain(beaker.dataset.stream_file(at, "f"))))
        taken["client"].append(timed(lambda: from_sender(beaker, known, block)))
        beaker.dataset.delete(dataset)
        taken["sink"].append(timed(lambda: to_receiver(beaker, source)))
        taken["copy"].append(timed(lambda: copy(source, place / "copy")))
    source.unlink()
    return {what: min(times[1:]) for what, times in taken.items()}


def copy(source: Path, target: Path) -> None:
    """What the disk alone takes for a file, hashed."""
    digest, room = hashlib.sha256(), bytearray(PIECE)
    with source.open("rb", buffering=0) as old, target.open("wb", buffering=0) as new:
        while got := old.readinto(room):
            digest.update(memoryview(room)[:got])
            new.write(memoryview(room)[:got])
    target.unlink()


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def drain(found: Iterator[bytes]) -> None:
    """Take all of it."""
    for _ in found:
        pass


def sending(size: int, block: bytes, head: bytes) -> int:
    """A process that answers one connection with so many bytes; return its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        line, _ = listener.accept()
        if head:
            line.recv(1 << 16)
            line.sendall(head)
        for _ in range(size // len(block)):
            line.sendall(block)
        line.close()
        os._exit(0)
    port: int = listener.getsockname()[1]
    listener.close()
    return port


def transfer(size: int) -> None:
    """The limit: bytes over a socket from another process, hashed."""
    line = socket.create_connection(("127.0.0.1", sending(size, bytes(PIECE), b"")))
    digest, room = hashlib.sha256(), bytearray(PIECE)
    while got := line.recv_into(room):
        digest.update(memoryview(room)[:got])
    os.wait()


def from_sender(beaker: Beaker, file: pb2.DatasetFile, block: bytes) -> None:
    """The client's own download, from a sender that does nothing else."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {file.size}\r\n\r\n".encode()
    client = beaker.dataset
    base, client._base_url = client._base_url, f"http://127.0.0.1:{sending(file.size, block, head)}"
    try:
        drain(client._stream_file(pb2.Dataset(id="x"), file))
    finally:
        client._base_url = base
    os.wait()


def receiving() -> int:
    """A process that takes the requests of one upload, hashes their bodies and says yes; return its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    if os.fork() == 0:
        line, _ = listener.accept()
        digest, room, more = hashlib.sha256(), memoryview(bytearray(PIECE)), True
        while more:
            head = b""
            while b"\r\n\r\n" not in head:
                head += line.recv(1 << 16)
            head, _, begun = head.partition(b"\r\n\r\n")
            left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) - len(begun)
            digest.update(begun)
            while left:
                got = line.recv_into(room[: min(left, PIECE)])
                digest.update(room[:got])
                left -= got
            more = not head.startswith(b"PUT")
            line.sendall(b"HTTP/1.1 200 OK\r\nUpload-ID: x\r\nContent-Length: 0\r\n\r\n")
        os._exit(0)
    port: int = listener.getsockname()[1]
    listener.close()
    return port


def to_receiver(beaker: Beaker, source: Path) -> None:
    """The client's own upload, to a receiver that does nothing but hash."""
    storage = _DatasetStorage("x", "t", datetime.now(timezone.utc), address=f"http://127.0.0.1:{receiving()}")
    size = source.stat().st_size
    beaker.dataset._upload_file(pb2.Dataset(id="x"), storage=storage, size=size, source=source, target="f")
    os.wait()


def main(what: str, *arguments: str) -> None:
    """Measure one thing."""
    with Beaker.from_env(check_for_upgrades=False) as beaker:
        if what == "lists":
            found: Any = lists(beaker)
        elif what == "small":
            found = small(beaker, Path(arguments[0]))
        else:
            found = large(beaker, Path(arguments[0]), int(arguments[1]))
    print(json.dumps(found))


main(*sys.argv[1:])
