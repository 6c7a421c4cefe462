"""Uploads in pieces: repeated, out of order, broken off, gone on with by another server, the same at once."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.beakerd import datasets
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.config import Config, Limits
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rest import (
    Answer,
    Rest,
    Store,
    new_dataset,
    rest_of,
    storage_of,
    tree_of,
    uploads_of,
)
from dispatch.testing.processes import until

DATA = bytes(range(256)) * 40


def digest_of(data: bytes) -> str:
    """A digest as the server tells it."""
    return f"SHA-256={b64encode(hashlib.sha256(data).digest()).decode()}"


def backend_of(beaker: LocalBeaker) -> Backend:
    """The parts of a server."""
    assert beaker.server.backend is not None
    return beaker.server.backend


def send(store: Store, data: bytes, size: int, upload: str | None = None) -> Answer:
    """Send all pieces, and return the answer to the last."""
    upload = upload or store.begin()
    for offset in range(0, len(data), size):
        answer = store.piece(upload, data[offset : offset + size], offset, len(data))
        assert answer.status == 200, answer
        last = offset + size >= len(data)
        assert answer.headers.get("Digest") == (digest_of(data) if last else None)
    return answer


@pytest.mark.parametrize("size", [1, 1000, 10_239, 10_240])
def test_pieces_become_a_file(beaker: LocalBeaker, store: Store, size: int) -> None:
    """Of whatever size: the digest comes with the last alone, and the file is there once it is asked for."""
    data = DATA if size > 1 else DATA[:300]
    digest = send(store, data, size).headers["Digest"]
    assert tree_of(beaker, store.dataset) == {}
    assert store.put("a/file", b"", Digest=digest).status == 200
    assert store.get("a/file").body == data
    assert store.put("a/file", b"", Digest=digest).status == 200, "a repeated request is fine"
    assert store.put("other", b"", Digest=digest).status == 400, "the upload was used up"
    assert uploads_of(beaker) == []


def test_pieces_that_come_again(store: Store) -> None:
    """A piece whose answer was lost is sent again, the last one too, and its digest is told again."""
    upload = store.begin()
    for _ in range(3):
        answer = store.piece(upload, DATA[:4000], 0, len(DATA))
        assert (answer.status, answer.headers.get("Digest")) == (200, None)
    for _ in range(3):
        answer = store.piece(upload, DATA[4000:], 4000, len(DATA))
        assert (answer.status, answer.headers.get("Digest")) == (200, digest_of(DATA))
    assert store.piece(upload, DATA[:4000], 0, len(DATA)).headers.get("Digest") is None
    assert store.put("file", b"", Digest=digest_of(DATA)).status == 200
    assert store.get("file").body == DATA


BAD = [
    ({"Upload-Offset": "10", "Upload-Length": "1000"}, "begins there"),
    ({"Upload-Offset": "0", "Upload-Length": "50"}, "ends behind"),
    ({"Upload-Offset": "-1", "Upload-Length": "1000"}, "Upload-Offset"),
    ({"Upload-Offset": "0", "Upload-Length": "x"}, "Upload-Length"),
    ({"Upload-Offset": "0"}, "Upload-Length"),
    ({"Upload-Length": "1000"}, "Upload-Offset"),
    ({}, "Upload-Offset"),
    ({"Upload-Offset": "0", "Upload-Length": "9" * 30}, "Upload-Length"),
    ({"Upload-Offset": "0", "Upload-Length": "999999999999999999"}, "more than"),
    ({"Upload-Offset": "\xb2", "Upload-Length": "1000"}, "Upload-Offset"),
]


@pytest.mark.parametrize(("headers", "why"), BAD)
def test_pieces_that_are_none(beaker: LocalBeaker, store: Store, headers: dict[str, str], why: str) -> None:
    """A gap, a wrong length, no numbers: refused with what is the matter, and the upload goes on."""
    upload = store.begin()
    answer = store.rest.ask_as("PATCH", f"/uploads/{upload}", DATA[:100], headers)
    assert answer.status in (400, 413)
    assert why in answer.message
    assert (beaker.layout.uploads / upload).stat().st_size == 0
    assert send(store, DATA, 4000, upload).status == 200


def test_a_length_stays_what_it_was(store: Store) -> None:
    """What an upload is long is said once."""
    upload = store.begin()
    store.piece(upload, DATA[:100], 0, 1000)
    answer = store.piece(upload, DATA[100:200], 100, 1001)
    assert (answer.status, answer.message) == (400, "Upload-Length: was 1000 before")


def test_uploads_that_are_not_there(store: Store) -> None:
    """Of an upload that nobody began there are no pieces; of one that is not finished there is no file."""
    assert store.piece("01" + "0" * 24, b"x", 0, 1).status == 404
    assert store.piece("..%2Fbeaker.db", b"x", 0, 1).status == 404
    upload = store.begin()
    store.piece(upload, DATA[:100], 0, 200)
    answer = store.put("file", b"", Digest=digest_of(DATA[:100]))
    assert answer.status == 400
    assert store.get("file").status == 404


def cut(beaker: LocalBeaker, store: Store, upload: str, got: Callable[[], bool]) -> None:
    """Send half of a piece, and go, once the server has ``got`` some of it."""
    host, _, port = beaker.endpoint.rest.partition(":")
    with socket.create_connection((host, int(port)), 30) as line:
        line.sendall(
            f"PATCH /uploads/{upload} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {store.rest.token}\r\n"
            "Upload-Offset: 4000\r\nUpload-Length: 9004000\r\nContent-Length: 9000000\r\n\r\n".encode()
            + b"y" * 4_000_000
        )
        until(got, "a part of the piece")


def test_a_client_that_goes_in_the_middle(beaker: LocalBeaker, store: Store) -> None:
    """What came of a piece is forgotten, and the upload goes on from where it was; or is swept away."""
    upload, data = store.begin(), DATA[:4000] + os.urandom(9_000_000)
    file = beaker.layout.uploads / upload
    assert store.piece(upload, data[:4000], 0, len(data)).status == 200
    cut(beaker, store, upload, lambda: file.stat().st_size > 4000)
    until(lambda: file.stat().st_size == 4000, "the piece is forgotten")
    assert tree_of(beaker, store.dataset) == {}
    assert store.piece(upload, data[4000:], 4000, len(data)).headers["Digest"] == digest_of(data)
    assert store.put("file", b"", Digest=digest_of(data)).status == 200
    assert store.get("file").body == data


def test_what_nobody_goes_on_with_is_swept(beakers: Beakers) -> None:
    """An upload that was left, and what a killed server was writing, are gone after a sweep; others stay."""
    beaker = beakers.start(Config(limits=Limits(unfinished_upload=60.0)))
    backend = backend_of(beaker)
    with beaker.client() as client:
        store = storage_of(rest_of(beaker), client.dataset.create("one", commit=False).id)
    left, alive = store.begin(), store.begin()
    for upload in (left, alive):
        store.piece(upload, DATA[:100], 0, 200)
    with backend.database.write() as tx:
        tx.execute("UPDATE uploads SET created = 1")
    os.utime(backend.layout.uploads / left, (1, 1))
    (backend.layout.uploads / "killed.part").write_bytes(b"x")
    datasets.sweep(backend, starting=True)
    assert uploads_of(beaker) == [alive]
    assert store.piece(left, DATA[100:200], 100, 200).status == 404
    assert store.piece(alive, DATA[100:200], 100, 200).status == 200


def test_another_server_goes_on(beakers: Beakers) -> None:
    """A server that was ended or killed in the middle is gone on with by the next, from what is there."""
    first = beakers.start()
    with first.client() as client:
        rest, workspace = rest_of(first), client.workspace.get("ai2/my-workspace").id
    store = new_dataset(rest, workspace)
    upload = store.begin()
    assert store.piece(upload, DATA[:4000], 0, len(DATA)).status == 200
    first.stop()
    with (first.layout.uploads / upload).open("ab") as file:
        file.write(b"what was being written")
    (first.layout.uploads / "x.part").write_bytes(b"x")
    second = beakers.start()
    assert uploads_of(second) == [upload]
    again = Store(Rest(second.endpoint.rest, store.rest.token), store.dataset)
    assert again.piece(upload, DATA[5000:], 5000, len(DATA)).status == 400
    answer = again.piece(upload, DATA[4000:], 4000, len(DATA))
    assert answer.headers["Digest"] == digest_of(DATA)
    assert again.put("file", b"", Digest=digest_of(DATA)).status == 200
    assert again.get("file").body == DATA


def test_killed_between_disk_and_database(beakers: Beakers) -> None:
    """A file in its place that was not recorded is none after the commit; one that replaced another is it."""
    beaker = beakers.start()
    with beaker.client() as client:
        store = storage_of(rest_of(beaker), client.dataset.create("one", commit=False).id)
        for name in ("kept", "other"):
            assert store.put(name, b"before").status == 200
        root = beaker.layout.files(store.dataset)
        (root / "deep").mkdir()
        (root / "deep" / "stray").write_bytes(b"x")
        (root / "other").write_bytes(b"after!")
        made = client.dataset.commit(client.dataset.get(store.dataset))
        listed = {file.path: file.digest.value for file in client.dataset.list_files(made)}
        assert listed == {
            "kept": hashlib.sha256(b"before").digest(),
            "other": hashlib.sha256(b"after!").digest(),
        }
        assert b"".join(client.dataset.stream_file(made, "other")) == b"after!"
    assert tree_of(beaker, store.dataset) == {"kept": b"before", "other": b"after!"}
    assert not (root / "deep").exists()


def test_a_lost_file_is_no_commit(beaker: LocalBeaker, store: Store) -> None:
    """Where the disk no longer has a file, the dataset is not committed without it."""
    assert store.put("file", b"x").status == 200
    (beaker.layout.files(store.dataset) / "file").unlink()
    rest, path = rest_of(beaker), f"/api/v3/datasets/{store.dataset}"
    answer = rest.ask("PATCH", path, b'{"commit": true}')
    assert (answer.status, "'file' is no longer" in answer.message) == (507, True)
    assert store.put("file", b"y").status == 200
    assert (
        rest_of(beaker).ask("PATCH", f"/api/v3/datasets/{store.dataset}", b'{"commit": true}').status == 200
    )


def test_killed_for_real(beakers: Beakers) -> None:
    """After SIGKILL in the middle of a body nothing of it is anywhere, and what was accepted is there."""
    process = beakers.spawn()
    with process.client() as client:
        store = storage_of(rest_of(process), client.dataset.create("one", commit=False).id)
    assert store.put("kept", DATA).status == 200
    host, _, port = process.endpoint.rest.partition(":")
    with socket.create_connection((host, int(port)), 30) as line:
        line.sendall(
            f"PUT /datasets/{store.dataset}/files/half HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {store.rest.token}\r\nContent-Length: 9000000\r\n\r\n".encode()
            + b"y" * 4_000_000
        )
        until(lambda: uploads_of(process) != [], "the body's file")
        process.kill()
    again = beakers.start()
    assert uploads_of(again) == []
    assert tree_of(again, store.dataset) == {"kept": DATA}
    with again.client() as client:
        made = client.dataset.commit(client.dataset.get(store.dataset))
        assert [file.path for file in client.dataset.list_files(made)] == ["kept"]


def test_equal_bytes_at_once(beaker: LocalBeaker, tmp_path: Path) -> None:
    """Many large files of the same bytes, sent at the same time, are all there."""
    data = os.urandom(1 << 20) * 33
    for number in range(6):
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "src" / f"f{number}").write_bytes(data)
    with beaker.client() as client:
        made = client.dataset.create("one", tmp_path / "src", max_workers=6)
        listed = list(client.dataset.list_files(made))
    assert [file.path for file in listed] == [f"f{number}" for number in range(6)]
    assert {file.digest.value for file in listed} == {hashlib.sha256(data).digest()}
    assert set(tree_of(beaker, made.id).values()) == {data}
    assert uploads_of(beaker) == []


def test_equal_bytes_ended_at_once(beaker: LocalBeaker, store: Store) -> None:
    """Each of several requests for the same digest takes an upload of its own."""
    for _ in range(16):
        send(store, DATA, 10_240)
    start, answers = threading.Barrier(16), []

    def end(number: int) -> None:
        start.wait(60)
        answers.append(store.put(f"f{number}", b"", Digest=digest_of(DATA)).status)

    threads = [threading.Thread(target=end, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 16
    assert tree_of(beaker, store.dataset) == {f"f{number}": DATA for number in range(16)}
    assert uploads_of(beaker) == []


def test_a_repeat_without_its_bytes_is_no_empty_file(beaker: LocalBeaker, store: Store) -> None:
    """What the public client sends after a refusal, from a file that is at its end, is told why it was."""
    assert store.put("dir/file", b"x").status == 200
    assert store.put("dir", b"y").status == 400
    host, _, port = beaker.endpoint.rest.partition(":")
    with socket.create_connection((host, int(port)), 30) as line:
        line.sendall(
            f"PUT /datasets/{store.dataset}/files/dir HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Authorization: Bearer {store.rest.token}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + b"0\r\n\r\n"
        )
        with line.makefile("rb") as file:
            answer = file.read()
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"a folder of this name is there" in answer
    assert tree_of(beaker, store.dataset) == {"dir/file": b"x"}


def test_a_deleted_dataset_takes_its_uploads(beaker: LocalBeaker, store: Store) -> None:
    """With a dataset its uploads go, its files and its tokens; a file that arrives late makes nothing."""
    upload = store.begin()
    store.piece(upload, DATA[:100], 0, 200)
    store.put("file", b"x")
    with beaker.client() as client:
        client.dataset.delete(client.dataset.get(store.dataset))
    assert uploads_of(beaker) == []
    assert not beaker.layout.dataset(store.dataset).exists()
    assert store.put("file", b"y").status in (401, 404)
    assert store.piece(upload, DATA[100:200], 100, 200).status in (401, 404)
    assert not beaker.layout.dataset(store.dataset).exists()


def test_deleted_and_filled_at_once(beaker: LocalBeaker, workspace: str) -> None:
    """Whatever the order, a deleted dataset leaves nothing on the disk."""
    rest = rest_of(beaker)
    for _ in range(10):
        store = new_dataset(rest, workspace)
        threads = [threading.Thread(target=store.put, args=(f"f{n}", DATA)) for n in range(8)]
        for thread in threads:
            thread.start()
        with beaker.client() as client:
            client.dataset.delete(client.dataset.get(store.dataset))
        for thread in threads:
            thread.join()
        assert not beaker.layout.dataset(store.dataset).exists()
    assert uploads_of(beaker) == []
    assert [line for line in beaker.lines if "Traceback" in line] == []
