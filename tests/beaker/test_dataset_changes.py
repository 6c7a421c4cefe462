"""What may change in a dataset, when and where: no path leaves its tree, nothing changes after a commit."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from pathlib import Path

import pytest
from beaker.exceptions import BeakerDatasetWriteError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch.beakerd.config import Config, Limits
from dispatch.beakerd.objects import checked
from dispatch.beakerd.problems import Problem
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rest import (
    Store,
    new_dataset,
    rest_of,
    storage_of,
    tree_of,
    uploads_of,
)
from dispatch.testing.processes import until

MIB = 1 << 20


def test_nothing_changes_after_the_commit(beaker: LocalBeaker, workspace: str) -> None:
    """The server itself refuses, whatever the client believes: to write, to remove, to end an upload."""
    rest = rest_of(beaker)
    store = new_dataset(rest, workspace)
    store.put("file", b"x")
    begun, ended = store.begin(), store.begin()
    digest = store.piece(ended, b"ab", 0, 2).headers["Digest"]
    with beaker.client() as client:
        stale = client.dataset.get(store.dataset)
        client.dataset.commit(stale)
        with pytest.raises(BeakerDatasetWriteError):
            client.dataset.upload(stale, b"y", "other")
        renamed = rest.ask("PATCH", f"/api/v3/datasets/{store.dataset}", b'{"name": "n", "description": "d"}')
        assert renamed.status == 200
    for answer in (
        store.put("file", b"y"),
        store.put("file", b"", Digest=digest),
        store.put("other", b"y"),
        store.delete("file"),
        store.piece(begun, b"ab", 0, 2),
        store.rest.ask("POST", "/uploads"),
    ):
        assert answer.status == 403
        assert "committed" in answer.message
    assert tree_of(beaker, store.dataset) == {"file": b"x"}


def test_writing_and_committing_at_once(beaker: LocalBeaker, workspace: str) -> None:
    """Each file that was accepted is in the committed dataset, and no other one."""
    rest = rest_of(beaker)
    for _ in range(5):
        store = new_dataset(rest, workspace)
        accepted: dict[str, bytes] = {}

        def write(number: int, store: Store = store, accepted: dict[str, bytes] = accepted) -> None:
            for turn in range(20):
                name, body = f"{number}/{turn}", os.urandom(100)
                answer = store.put(name, body)
                assert answer.status in (200, 403), answer
                if answer.status == 200:
                    accepted[name] = body

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        until(lambda accepted=accepted: len(accepted) > 10, "files")  # type: ignore[misc]
        assert rest.ask("PATCH", f"/api/v3/datasets/{store.dataset}", b'{"commit": true}').status == 200
        now = tree_of(beaker, store.dataset)
        for thread in threads:
            thread.join()
        assert tree_of(beaker, store.dataset) == now == accepted
        with beaker.client() as client:
            listed = client.dataset.list_files(client.dataset.get(store.dataset))
            assert {f.path: f.digest.value for f in listed} == {
                name: hashlib.sha256(body).digest() for name, body in accepted.items()
            }


PATHS = [
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "./x",
    "a/./x",
    "/etc/passwd",
    "%2Fetc/passwd",
    "%2E%2E/x",
    "a/%2e%2e/%2e%2e/x",
    "a%2F..%2F..%2Fx",
    "..%2f..%2fx",
    "a//x",
    "a/",
    "%00",
    "a%00b",
    "%FF",
    "%ED%A0%80",
    "x" * 256,
    "/".join(["y" * 100] * 21),
    "",
]


@pytest.mark.parametrize("path", PATHS)
def test_paths_that_escape(beaker: LocalBeaker, store: Store, path: str) -> None:
    """No such path is one, to write, to read or to remove; nothing is anywhere."""
    before = sorted(beaker.layout.root.rglob("*"))
    for method in ("PUT", "GET", "DELETE"):
        answer = store.rest.ask(
            method, f"/datasets/{store.dataset}/files/{path}", b"x" if method == "PUT" else None
        )
        assert 400 <= answer.status < 500, answer
        assert answer.message
    assert [p for p in sorted(beaker.layout.root.rglob("*")) if p not in before] == []


@given(path=st.text(st.sampled_from("./\\ab%\x00ü:~\n"), max_size=12))
def test_a_path_that_is_taken_stays_inside(path: str) -> None:
    """Whatever is let through names something below the tree, and is its own normal form."""
    try:
        good = checked(path)
    except Problem:
        return
    assert os.path.normpath(good) == good
    assert not good.startswith("/")
    assert os.path.commonpath(["/tree", os.path.normpath(f"/tree/{good}")]) == "/tree"
    assert good != "."


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=40))
def test_any_bytes_as_a_path(beaker: LocalBeaker, store: Store, data: bytes) -> None:
    """Whatever bytes a path is of, the answer is no fault of the server, and what is kept is inside."""
    target = "".join(f"%{byte:02x}" for byte in data)
    assert store.put(target, b"x").status < 500
    inside = beaker.layout.files(store.dataset)
    strays = [p for p in beaker.layout.root.rglob("*") if p.is_file() and p.read_bytes() == b"x"]
    assert all(inside in p.parents for p in strays)


def test_links_in_a_tree_are_not_followed(beaker: LocalBeaker, store: Store, tmp_path: Path) -> None:
    """Whoever has put a link into the tree reads and writes nothing by it."""
    (tmp_path / "secret").write_text("secret")
    root = beaker.layout.files(store.dataset)
    assert store.put("file", b"x").status == 200
    (root / "out").symlink_to(tmp_path)
    (root / "file").unlink()
    (root / "file").symlink_to(tmp_path / "secret")
    assert store.get("file").status == 404
    assert store.put("out/new", b"y").status == 400
    assert store.get("out/secret").status == 404
    assert store.put("file", b"new").status == 200
    assert store.get("file").body == b"new"
    assert {p.name: p.read_text() for p in tmp_path.iterdir() if p.is_file()} == {"secret": "secret"}


def test_files_in_the_way_of_folders(beaker: LocalBeaker, store: Store) -> None:
    """A name is a file or a folder; once the one is removed it may be the other."""
    assert store.put("a/b", b"1").status == 200
    for path in ("a", "a/b/c", "a/b/c/d"):
        answer = store.put(path, b"2")
        assert (answer.status, bool(answer.message)) == (400, True)
    assert tree_of(beaker, store.dataset) == {"a/b": b"1"}
    assert store.delete("a/b").status == 204
    assert store.delete("a/b").status == 404
    assert store.put("a", b"3").status == 200
    assert store.delete("a").status == 204
    assert store.put("a/b/c", b"4").status == 200
    assert tree_of(beaker, store.dataset) == {"a/b/c": b"4"}
    assert uploads_of(beaker) == []


def test_a_file_is_replaced_whole(beaker: LocalBeaker, store: Store) -> None:
    """Who reads while a file is replaced over and over gets one of them, never a mixture."""
    bodies = [bytes([n]) * (300_000 + n) for n in range(4)]
    assert store.put("file", bodies[0]).status == 200
    done = threading.Event()

    def replace() -> None:
        for turn in range(60):
            assert store.put("file", bodies[turn % 4]).status == 200
        done.set()

    writer = threading.Thread(target=replace)
    writer.start()
    seen = 0
    while not done.is_set():
        answer = store.get("file")
        assert answer.status == 404 or answer.body in bodies
        seen += answer.status == 200
    writer.join()
    assert seen
    assert tree_of(beaker, store.dataset) == {"file": bodies[3]}


def test_a_client_that_goes_leaves_nothing(beaker: LocalBeaker, store: Store) -> None:
    """Cut in the middle of a body, a file is as it was, and no part of the new one lies about."""
    assert store.put("file", b"before").status == 200
    path = f"/datasets/{store.dataset}/files/file"
    host, _, port = beaker.endpoint.rest.partition(":")
    for head, body in (
        ("Content-Length: 9000000", b"x" * 3_000_000),
        ("Transfer-Encoding: chunked", b"200000\r\n" + b"x" * 0x200000 + b"\r\n5000\r\nxx"),
    ):
        with socket.create_connection((host, int(port)), 30) as line:
            token = f"Authorization: Bearer {store.rest.token}"
            line.sendall(f"PUT {path} HTTP/1.1\r\nHost: x\r\n{token}\r\n{head}\r\n\r\n".encode() + body)
            until(lambda: uploads_of(beaker) != [], "a part")
        until(lambda: uploads_of(beaker) == [], "nothing left")
    assert tree_of(beaker, store.dataset) == {"file": b"before"}
    with beaker.client() as client:
        (file,) = client.dataset.list_files(client.dataset.get(store.dataset))
        assert file.size == 6
    assert [line for line in beaker.lines if "Traceback" in line] == []


def test_bodies_have_a_bound(beakers: Beakers) -> None:
    """What is larger than a file sent at once may be is refused, with a length or without one."""
    beaker = beakers.start(Config(limits=Limits(file_body=1000)))
    with beaker.client() as client:
        store = storage_of(rest_of(beaker), client.dataset.create("one", commit=False).id)
    assert store.put("file", b"x" * 1000).status == 200
    assert store.put("file", b"x" * 1001).status == 413
    host, _, port = beaker.endpoint.rest.partition(":")
    with socket.create_connection((host, int(port)), 30) as line:
        head = f"PUT /datasets/{store.dataset}/files/file HTTP/1.1\r\nHost: x\r\n"
        line.sendall(
            f"{head}Authorization: Bearer {store.rest.token}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        line.sendall(b"400\r\n" + b"y" * 0x400 + b"\r\n0\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413")
    assert tree_of(beaker, store.dataset) == {"file": b"x" * 1000}
    assert uploads_of(beaker) == []
