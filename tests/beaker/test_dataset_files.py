"""Files of datasets: what is sent comes back, whole or in ranges, to who may have it, by token or by link."""

from __future__ import annotations

import hashlib
import os
import random
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest

from dispatch.beakerd.config import Config, Limits
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_rest import (
    Rest,
    Store,
    new_dataset,
    rest_of,
    tree_of,
    uploads_of,
)
from dispatch.testing.processes import until

MIB = 1 << 20


def test_folders_come_back_whole(beaker: LocalBeaker, tmp_path: Path) -> None:
    """Small, large, odd and many files: with the digests that they have, and the bytes."""
    chance = random.Random(1)
    files = {f"deep/{n % 7}/f{n}": chance.randbytes(n * 37 + 1) for n in range(200)}
    files |= {
        "größe/日本 語 +&.txt": "ünï".encode(),
        "what?.txt": b"asked",
        "a" * 255: b"long",
        "large": os.urandom(MIB) * 70 + b"end",
        "just": bytes(32 * MIB),
        "more": bytes(32 * MIB + 1),
    }
    for name, content in files.items():
        path = tmp_path / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with beaker.client() as client:
        made = client.dataset.create("one", tmp_path / "src")
        listed = {file.path: file for file in client.dataset.list_files(made)}
        assert set(listed) == set(files)
        for name, content in files.items():
            assert listed[name].size == len(content)
            assert listed[name].digest.value == hashlib.sha256(content).digest()
            got = client.dataset._stream_file(made, listed[name], chunk_size=MIB)
            assert b"".join(got) == content
        assert {f.path for f in client.dataset.list_files(made, prefix="deep/3")} == {
            name for name in files if name.startswith("deep/3")
        }
    assert tree_of(beaker, made.id) == files
    assert uploads_of(beaker) == []


def test_empty_files_and_none(beaker: LocalBeaker) -> None:
    """A dataset may have no files, and files may have no bytes."""
    with beaker.client() as client:
        assert list(client.dataset.list_files(client.dataset.create("none"))) == []
        made = client.dataset.create("one", commit=False)
        client.dataset.upload(made, b"", "pkg/__init__.py")
        made = client.dataset.commit(made)
        (file,) = client.dataset.list_files(made)
        assert (file.path, file.size) == ("pkg/__init__.py", 0)
        assert b"".join(client.dataset.stream_file(made, "pkg/__init__.py")) == b""


def test_files_past_a_page(beaker: LocalBeaker, store: Store) -> None:
    """More files than a page holds are listed once each, by path."""
    backend = beaker.server.backend
    assert backend is not None
    names = [f"f{n:05}" for n in range(2500)]
    with backend.database.write() as tx:
        tx.executemany(
            "INSERT INTO dataset_files VALUES (?, ?, 1, zeroblob(32), 1)", [(store.dataset, n) for n in names]
        )
    with beaker.client() as client:
        assert [f.path for f in client.dataset.list_files(client.dataset.get(store.dataset))] == names


RANGES = [
    ("bytes=0-0", 206, "0"),
    ("bytes=2-4", 206, "234"),
    ("bytes=7-", 206, "789"),
    ("bytes=-3", 206, "789"),
    ("bytes=-30", 206, "0123456789"),
    ("bytes=5-500", 206, "56789"),
    ("bytes=9-9", 206, "9"),
    ("bytes=10-", 416, ""),
    ("bytes=10-20", 416, ""),
    ("bytes=99999999999999999999999-", 416, ""),
]


@pytest.mark.parametrize(("asked", "status", "expected"), RANGES)
def test_ranges(store: Store, asked: str, status: int, expected: str) -> None:
    """Parts of a file, and where there is no such part."""
    assert store.put("file", b"0123456789").status == 200
    answer = store.get("file", Range=asked)
    assert answer.status == status
    if status == 206:
        begin = 10 - len(expected) if not asked.startswith("bytes=0") and asked[-1] == "-" else None
        assert answer.body == expected.encode()
        assert answer.headers["Content-Length"] == str(len(expected))
        assert answer.headers["Content-Range"].endswith("/10")
        assert begin is None or answer.headers["Content-Range"].startswith(f"bytes {begin}-")
    else:
        assert answer.headers["Content-Range"] == "bytes */10"
        assert "10 bytes" in answer.message


@pytest.mark.parametrize(
    "asked", ["nothing", "bytes", "bytes=", "bytes=b-a", "bytes=4-2", "lines=1-2", "bytes=-0"]
)
def test_ranges_that_are_none(store: Store, asked: str) -> None:
    """A range that says nothing is never a fault of the server."""
    assert store.put("file", b"0123456789").status == 200
    answer = store.get("file", Range=asked)
    assert answer.status in (200, 416)
    assert answer.status == 416 or answer.body == b"0123456789"


def test_the_client_reads_parts(beaker: LocalBeaker) -> None:
    """From an offset, with a length, through the public client."""
    with beaker.client() as client:
        made = client.dataset.create("one", commit=False)
        client.dataset.upload(made, b"0123456789", "file")
        for offset, length, expected in ((3, -1, b"3456789"), (3, 4, b"3456"), (9, 10, b"9")):
            assert (
                b"".join(client.dataset.stream_file(made, "file", offset=offset, length=length)) == expected
            )


def test_what_is_said_of_a_file(store: Store) -> None:
    """Its length, its digest, when it was kept; and who has it already does not get it again."""
    store.put("file", b"x")
    answer = store.get("file")
    assert answer.headers["Digest"] == f"SHA-256={b64encode(hashlib.sha256(b'x').digest()).decode()}"
    assert answer.headers["Last-Modified"].endswith("GMT")
    assert store.get("file", If_None_Match=answer.headers["ETag"]).status == 304
    head = store.rest.ask("HEAD", f"/datasets/{store.dataset}/files/file")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", "1")
    assert store.get("other").status == 404


def test_where_storage_is_depends_on_who_asks(beaker: LocalBeaker, store: Store) -> None:
    """The address is the one that the caller used; what is no host is not repeated."""
    rest, path = rest_of(beaker), f"/api/v3/datasets/{store.dataset}"
    for host in ("host.docker.internal:8080", "172.17.0.1:1", "localhost", "[::1]:80"):
        assert rest.ask("GET", path, Host=host).value["storage"]["address"] == f"http://{host}"
    for host in ("a/b", "a b", "user@host", "x:123456"):
        answer = rest.ask("GET", path, Host=host)
        assert answer.status >= 400 or answer.value["storage"]["address"] == f"http://{beaker.endpoint.rest}"


def fetch(url: str) -> bytes:
    """Read an address as anybody would."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
    return body


def test_a_link_opens_one_file_for_a_while(beakers: Beakers) -> None:
    """A link needs no token, opens nothing else, changes nothing, and ends."""
    beaker = beakers.start(Config(limits=Limits(file_link=3.0)))
    name = "a b/ü?#.txt"
    with beaker.client() as client:
        made = client.dataset.create("one", commit=False)
        client.dataset.upload(made, b"open", quote(name))
        client.dataset.upload(made, b"closed", "other")
        link = client.dataset.get_file_link(made, name)
        assert fetch(link) == b"open"
        token = link.split("/links/")[1].split("/")[0]
        web = Rest(beaker.endpoint.rest, token)
        assert web.ask("GET", f"/links/{token}/other").status == 404
        for dataset in (made.id, f"{made.id}/{quote(name)}"):
            assert web.ask("GET", f"/datasets/{dataset}/files/other").status in (403, 404)
            assert web.ask("PUT", f"/datasets/{dataset}/files/other", b"x").status in (403, 404)
        assert web.ask("GET", f"/api/v3/datasets/{made.id}").status == 401
        assert web.ask("POST", "/uploads").status in (403, 404)

        def ended() -> bool:
            try:
                fetch(link)
            except urllib.error.HTTPError as error:
                return error.code == 401
            return False

        until(ended, "the end of the link")
        link = client.dataset.get_file_link(made, name)
        client.dataset.delete(made)
        assert ended()


def test_a_token_of_storage_opens_one_dataset(beaker: LocalBeaker, workspace: str) -> None:
    """Files of another dataset are closed to it, and so is the API; a user's token stores nothing."""
    rest = rest_of(beaker)
    first, second = (new_dataset(rest, workspace) for _ in range(2))
    for store in (first, second):
        assert store.put("file", b"x").status == 200
    crossed = Store(first.rest, second.dataset)
    assert crossed.put("file", b"y").status == 403
    assert crossed.get("file").status == 403
    assert crossed.delete("file").status == 403
    assert crossed.piece(second.begin(), b"x", 0, 1).status == 403
    assert first.rest.ask("GET", f"/api/v3/datasets/{first.dataset}").status == 401
    for token in (rest.token, "wrong", None):
        assert Store(Rest(rest.address, token), first.dataset).put("file", b"y").status == 401
    assert tree_of(beaker, second.dataset) == {"file": b"x"}


@pytest.mark.parametrize(
    "digest", ["", "x", "MD5=abc", "SHA-256=", "SHA-256=!!!!", "SHA-256=YWJj", "SHA-256=ü"]
)
def test_digests_that_are_none(store: Store, digest: str) -> None:
    """What is no digest is refused, and what is that of other bytes, too."""
    for body in (b"", b"x"):
        assert (
            store.rest.ask_as(
                "PUT",
                f"/datasets/{store.dataset}/files/f",
                body,
                {"Digest": digest.encode("utf-8").decode("latin-1")},
            ).status
            == 400
        )
    wrong = f"SHA-256={b64encode(bytes(32)).decode()}"
    assert store.put("f", b"x", Digest=wrong).status == 400
    assert store.put("f", b"", Digest=wrong).status == 400
    right = f"SHA-256={b64encode(hashlib.sha256(b'x').digest()).decode()}"
    assert store.put("f", b"x", Digest=right).status == 200
