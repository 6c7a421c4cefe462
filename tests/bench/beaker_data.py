"""Datasets of a local Beaker: pages of long lists, and a large file beside loopback and SHA-256 alone."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from beaker import beaker_pb2 as pb2
from beaker._dataset import _DatasetStorage
from harness import MIB, RUNS, Row, milliseconds

from dispatch.beakerd.store.database import Database
from dispatch.testing.beaker import BeakerProcess, Beakers

COUNT = 10_000
SIZE = int(os.environ.get("DISPATCH_BENCH_UPLOAD_MIB", "1024")) * MIB
BLOCK = MIB
Opts = pb2.ListDatasetsRequest.Opts


def rows() -> list[Row]:
    """All of it, on one server."""
    with tempfile.TemporaryDirectory() as place:
        beakers = Beakers(Path(place) / "beaker")
        beakers.prepare()
        os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(beakers.authority)
        server = beakers.spawn()
        try:
            with server.client() as client:
                return [
                    *transfers(server, client, Path(place)),
                    *folders(client, Path(place)),
                    *pages(server, client),
                ]
        finally:
            beakers.close()


def transfers(server: BeakerProcess, client: Any, place: Path) -> Iterator[Row]:
    """A large file, each way in turn with its limit."""
    source = place / "large"
    with source.open("wb") as file:
        block = os.urandom(BLOCK)
        for number in range(SIZE // BLOCK):
            file.write(number.to_bytes(8, "big") + block[8:])
    before, spent = peak(server), []
    for number in range(max(2, RUNS // 2)):
        floor = limit(source)
        began = time.perf_counter()
        made = client.dataset.create(f"large{number}", source)
        sent = time.perf_counter()
        for _ in client.dataset.stream_file(made, "large"):
            pass
        got = time.perf_counter()
        floor = (floor + limit(source)) / 2
        alone = (writing_alone(client, made, source), reading_alone(client, made, source))
        spent.append((floor, sent - began, got - sent, *alone))
        client.dataset.delete(made)
    source.unlink()
    floor, up, down, writer, reader = (statistics.median(column) for column in zip(*spent, strict=True))
    what, asked = f"{SIZE // MIB} MiB with beaker-py", "≥ 0.5 of loopback and SHA-256"
    limited = f"of the limit ({floor:.2f} s); the client alone"
    yield Row(
        f"{what}: up and committed",
        f"{up:.2f} s, {floor / up:.2f} {limited}, to a receiver that only makes the SHA-256, {writer:.2f} s",
        asked,
    )
    yield Row(
        f"{what}: down and verified",
        f"{down:.2f} s, {floor / down:.2f} {limited}, from a sender that only sends, {reader:.2f} s",
        asked,
    )
    yield Row("its server's memory at the most", f"{before >> 20} → {peak(server) >> 20} MiB", "flat")


def limit(source: Path) -> float:
    """Seconds that a file takes over loopback to a receiver that makes its SHA-256, and nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def send() -> None:
            with socket.create_connection(listening.getsockname()) as line, source.open("rb") as file:
                line.sendfile(file)

        began = time.perf_counter()
        sender = threading.Thread(target=send)
        sender.start()
        line, _ = listening.accept()
        digest, room = hashlib.sha256(), bytearray(BLOCK)
        with line:
            while count := line.recv_into(room):
                digest.update(memoryview(room)[:count])
        sender.join()
        return time.perf_counter() - began


def reading_alone(client: Any, dataset: Any, source: Path) -> float:
    """Seconds that the public client takes to read and verify, where nothing but its file is sent to it."""
    file = client.dataset.get_file_info(dataset, source.name)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def send() -> None:
            line, _ = listening.accept()
            with line, source.open("rb") as body:
                line.recv(1 << 16)
                line.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n".encode())
                line.sendfile(body)

        threading.Thread(target=send, daemon=True).start()
        known = client.config.agent_address
        client.config.agent_address = "http://{}:{}".format(*listening.getsockname())
        try:
            began = time.perf_counter()
            for _ in client.dataset._stream_file(dataset, file):
                pass
            return time.perf_counter() - began
        finally:
            client.config.agent_address = known


def writing_alone(client: Any, dataset: Any, source: Path) -> float:
    """Seconds that the public client takes to send, where its pieces are hashed, and kept nowhere."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=take_pieces, args=(listening,), daemon=True).start()
        where = "http://{}:{}".format(*listening.getsockname())
        storage = _DatasetStorage(dataset.id, "token", "", address=where)
        began = time.perf_counter()
        client.dataset._upload_file(dataset, storage=storage, size=SIZE, source=source, target="large")
        return time.perf_counter() - began


def take_pieces(listening: socket.socket) -> None:
    """Answer as storage does, connection after connection, until the listening ends."""
    digest, room = hashlib.sha256(), bytearray(BLOCK)
    with suppress(OSError):
        while True:
            line, _ = listening.accept()
            with line, line.makefile("rb") as file:
                while head := b"".join(iter(file.readline, b"\r\n") if file.peek() else ()):
                    found = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
                    left = int(found[1]) if found else 0
                    while left:
                        count = file.readinto(memoryview(room)[:left])
                        digest.update(memoryview(room)[:count])
                        left -= count
                    line.sendall(b"HTTP/1.1 200 OK\r\nUpload-ID: one\r\nContent-Length: 0\r\n\r\n")


def peak(server: BeakerProcess) -> int:
    """The most memory that a server had, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def folders(client: Any, place: Path) -> Iterator[Row]:
    """Datasets of few and of many small files, made and committed."""
    for count in (2, 200):
        root = place / f"of{count}"
        root.mkdir()
        for number in range(count):
            (root / f"f{number}").write_bytes(os.urandom(1000))
        found = []
        for number in range(RUNS):
            began = time.perf_counter()
            client.dataset.create(f"small{count}-{number}", root)
            found.append(time.perf_counter() - began)
        yield Row(f"dataset of {count} files: made and committed", milliseconds(statistics.median(found)))


def pages(server: BeakerProcess, client: Any) -> Iterator[Row]:
    """Pages of 50 of a long list: each order, each kind of filter, and all of them to the end."""
    fill(server)
    names, times = Opts.SortClause(name={}), Opts.SortClause(created={})
    author, workspace = client.user.get().id, client.workspace.get("ai2/my-workspace").id
    for what, options in (
        ("by name", Opts(sort_clause=names)),
        ("by time", Opts(sort_clause=times)),
        ("by name, of an author", Opts(sort_clause=names, author_id=author, workspace_id=workspace)),
        ("by time, those committed", Opts(sort_clause=times, committed_status=1)),
        ("by name, with a text", Opts(sort_clause=names, name_or_description_substring="number 5003 ")),
        ("by time, with a text of none", Opts(sort_clause=times, name_or_description_substring="x")),
    ):
        options.page_size = 50
        found = walked(server, client, options)
        slowest = max(statistics.quantiles(found, n=20)[18:] if len(found) > 1 else found)
        yield Row(
            f"page of 50 of {COUNT} datasets, {what}",
            f"{milliseconds(statistics.median(found))}, 95th percentile {milliseconds(slowest)}",
            "≤ 30 ms",
        )


def walked(server: BeakerProcess, client: Any, options: Any) -> list[float]:
    """Seconds of each page; a list of few pages is walked several times."""
    found: list[float] = []
    bearer = [("authorization", f"bearer {server.token()}")]
    while len(found) < 20:
        request = pb2.ListDatasetsRequest(options=options)
        while True:
            began = time.perf_counter()
            answer = client.service.ListDatasets(request, metadata=bearer)
            found.append(time.perf_counter() - began)
            if not answer.next_page_token:
                break
            request = pb2.ListDatasetsRequest(next_page_token=answer.next_page_token)
    return found


def fill(server: BeakerProcess) -> None:
    """Write many datasets straight into the server's tables."""
    database = Database(server.layout.database)
    with database.write() as tx:
        author = tx.execute("SELECT id FROM users LIMIT 1").fetchone()[0]
        workspace = tx.execute("SELECT id FROM workspaces LIMIT 1").fetchone()[0]
        tx.executemany(
            "INSERT INTO datasets (id, name, name_key, description, created, committed, author_id,"
            " workspace_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            ((*dataset(number), author, workspace) for number in range(COUNT)),
        )
    database.close()


def dataset(number: int) -> tuple[Any, ...]:
    """One of many, whose name has nothing to do with its age."""
    name = f"d{number * 7919 % COUNT:05}"
    return f"{number:026}", name, f"bench/{number}", f"number {number} of many", number, number % 2 or None
