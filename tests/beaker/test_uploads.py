"""Uploads: in one body and in pieces, repeated, broken off, across a restart; and paths that lead nowhere."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from beaker.exceptions import BeakerError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch.beakerd import datasets
from dispatch.beakerd.config import Config, Limits
from dispatch.beakerd.objects import Tree, checked
from dispatch.beakerd.problems import Problem
from dispatch.testing.beaker import Beakers, LocalBeaker

MIB = 1 << 20
HOUR = 3600 * 10**9


class Raw:
    """Storage of one dataset, by requests of one's own."""

    def __init__(self, beaker: Any, client: Any, name: str = "raw"):
        self.beaker = beaker
        self.dataset = client.dataset.create(name, commit=False)
        storage = client.dataset._get_storage(self.dataset)
        self.base = storage.address
        self.token = {"Authorization": f"Bearer {storage.token}"}

    def begin(self) -> str:
        """Begin an upload."""
        answer = requests.post(f"{self.base}/uploads", headers=self.token, timeout=30)
        assert answer.status_code == 200
        return str(answer.headers["Upload-ID"])

    def piece(self, upload: str, data: bytes, offset: int, total: int) -> requests.Response:
        """Send a piece."""
        headers = {**self.token, "Upload-Offset": str(offset), "Upload-Length": str(total)}
        return requests.patch(f"{self.base}/uploads/{upload}", data, headers=headers, timeout=60)

    def put(self, path: str, data: Any = b"", **headers: str) -> requests.Response:
        """Put a file; the path is quoted."""
        url = f"{self.base}/datasets/{self.dataset.id}/files/{quote(path)}"
        return requests.put(url, data, headers={**self.token, **headers}, timeout=60)

    def torn(self, method: str, path: str, sent: bytes, length: int, **headers: str) -> None:
        """Send the beginning of a body, and go."""
        host, _, port = self.beaker.endpoint.rest.partition(":")
        lines = {**self.token, **headers, "Host": f"{host}:{port}", "Content-Length": str(length)}
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
        with socket.create_connection((host, int(port)), 30) as line:
            line.sendall(head.encode() + sent)
            line.shutdown(socket.SHUT_WR)
            while line.recv(65536):
                pass


@pytest.fixture
def raw(beaker: LocalBeaker) -> Iterator[Raw]:
    """Storage of a new dataset."""
    with beaker.client() as client:
        yield Raw(beaker, client)


def leftovers(raw: Raw) -> list[Path]:
    """What lies in the directory of uploads."""
    return list(raw.beaker.layout.uploads.iterdir())


def test_in_pieces(beaker: LocalBeaker, tmp_path: Path) -> None:
    """What is larger than one request comes in pieces, two files of the same bytes at once, too."""
    data = os.urandom(MIB) * 70
    for name in ("a", "b"):
        (tmp_path / "source" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "source" / name).write_bytes(data)
    with beaker.client() as client:
        dataset = client.dataset.create("large", str(tmp_path / "source"))
        files = list(client.dataset.list_files(dataset))
        assert [(file.path, file.size) for file in files] == [("a", len(data)), ("b", len(data))]
        for file in files:
            assert b"".join(client.dataset.stream_file(dataset, file.path)) == data
    assert list(beaker.layout.uploads.iterdir()) == []


def test_pieces_repeated_and_missed(raw: Raw) -> None:
    """A piece may come again, none may be missing; the digest comes with the last one alone."""
    data = os.urandom(3000)
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    upload = raw.begin()
    assert "Digest" not in raw.piece(upload, data[:1000], 0, 3000).headers
    assert raw.piece(upload, data[2000:], 2000, 3000).status_code == 400
    assert raw.piece(upload, data[500:1500], 500, 3000).status_code == 400
    assert raw.piece(upload, data[1000:], 1000, 3001).status_code == 400
    assert raw.piece(upload, data, 1000, 3000).status_code == 400
    again = raw.piece(upload, data[:1000], 0, 3000)
    assert (again.status_code, "Digest" in again.headers) == (200, False)
    assert raw.put("f", Digest=f"SHA-256={digest}").status_code == 400
    assert "Digest" not in raw.piece(upload, data[1000:2000], 1000, 3000).headers
    for _ in range(2):
        assert raw.piece(upload, data[2000:], 2000, 3000).headers["Digest"] == f"SHA-256={digest}"
    for _ in range(2):
        assert raw.put("d/f", Digest=f"SHA-256={digest}").status_code == 200
    assert raw.put("g", Digest=f"SHA-256={digest}").status_code == 400
    assert (raw.beaker.layout.files(raw.dataset.id) / "d" / "f").read_bytes() == data
    assert leftovers(raw) == []


def test_across_a_restart(beaker_of: Callable[..., LocalBeaker]) -> None:
    """An upload goes on after a restart; what a killed server wrote behind its last record is dropped."""
    data = os.urandom(3 * MIB)
    first = beaker_of(Config())
    with first.client() as client:
        raw = Raw(first, client)
    upload = raw.begin()
    raw.piece(upload, data[:MIB], 0, len(data))
    first.stop()
    with (first.layout.uploads / upload).open("ab") as file:
        file.write(b"torn")
    second = beaker_of(Config())
    raw.base = f"http://{second.endpoint.rest}"
    assert raw.piece(upload, data[MIB : 2 * MIB], MIB, len(data)).status_code == 200
    digest = raw.piece(upload, data[2 * MIB :], 2 * MIB, len(data)).headers["Digest"]
    assert raw.put("f", Digest=digest).status_code == 200
    assert (second.layout.files(raw.dataset.id) / "f").read_bytes() == data


def test_a_client_that_goes(raw: Raw) -> None:
    """A body that breaks off leaves nothing to see and nothing on the disk; a piece leaves what was there."""
    path = f"/datasets/{raw.dataset.id}/files/f"
    raw.put("f", b"before")
    for _ in range(5):
        raw.torn("PUT", path, b"x" * 300_000, MIB)
    assert leftovers(raw) == []
    assert (raw.beaker.layout.files(raw.dataset.id) / "f").read_bytes() == b"before"
    upload = raw.begin()
    raw.piece(upload, b"a" * 100, 0, 300)
    headers = {"Upload-Offset": "100", "Upload-Length": "300"}
    raw.torn("PATCH", f"/uploads/{upload}", b"x" * 50, 200, **headers)
    assert (raw.beaker.layout.uploads / upload).stat().st_size == 100
    digest = raw.piece(upload, b"b" * 200, 100, 300).headers["Digest"]
    assert raw.put("g", Digest=digest).status_code == 200
    assert (raw.beaker.layout.files(raw.dataset.id) / "g").read_bytes() == b"a" * 100 + b"b" * 200


def test_old_uploads_are_swept(beakers: Beakers) -> None:
    """What nobody goes on with is removed after a day; what somebody does is not."""
    ahead = [0]
    beaker = beakers.start(wall=lambda: time.time_ns() + ahead[0])
    with beaker.client() as client:
        raw = Raw(beaker, client)
        old, used = raw.begin(), raw.begin()
        raw.piece(old, b"x", 0, 2)
        (beaker.layout.uploads / "stray.part").write_bytes(b"of a killed server")
        (beaker.layout.uploads / "stray.gone").mkdir()
        ahead[0] = 25 * HOUR
        os.utime(beaker.layout.uploads / used, ns=(time.time_ns() + ahead[0],) * 2)
        raw = Raw(beaker, client, "another")
        fresh = raw.begin()
        assert {path.name for path in beaker.layout.uploads.iterdir()} == {used, fresh}
        assert raw.piece(old, b"y", 1, 2).status_code == 404


def test_uploads_go_with_their_dataset(raw: Raw) -> None:
    """Deleting a dataset removes its unfinished uploads, and ends its token."""
    upload = raw.begin()
    raw.piece(upload, b"x", 0, 2)
    with raw.beaker.client() as client:
        client.dataset.delete(raw.dataset)
    assert leftovers(raw) == []
    assert raw.piece(upload, b"y", 1, 2).status_code == 401


def test_a_token_is_for_one_dataset(raw: Raw) -> None:
    """A storage token opens neither another dataset, nor another's upload, nor the API; users' no storage."""
    with raw.beaker.client() as client:
        other = Raw(raw.beaker, client, "other")
    upload = other.begin()
    files = f"{raw.base}/datasets/{other.dataset.id}/files/f"
    api = f"{raw.base}/api/v3/datasets/{other.dataset.id}"
    user = {"Authorization": f"Bearer {raw.beaker.token()}"}
    assert requests.put(files, b"x", headers=raw.token, timeout=30).status_code == 403
    assert requests.get(files, headers=raw.token, timeout=30).status_code == 403
    assert raw.piece(upload, b"x", 0, 1).status_code == 403
    assert requests.get(api, headers=raw.token, timeout=30).status_code == 401
    assert requests.put(files, b"x", headers=user, timeout=30).status_code == 401
    assert requests.put(files, b"x", timeout=30).status_code == 401


def test_tokens_end(beakers: Beakers) -> None:
    """A storage token ends by itself, and who asks again is given a new one in time."""
    ahead = [0]
    beaker = beakers.start(wall=lambda: time.time_ns() + ahead[0])
    with beaker.client() as client:
        raw = Raw(beaker, client)
        assert client.dataset._get_storage(raw.dataset).token in raw.token["Authorization"]
        ahead[0] = 13 * HOUR
        assert client.dataset._get_storage(raw.dataset).token not in raw.token["Authorization"]
        assert raw.put("f", b"x").status_code == 200
        ahead[0] = 25 * HOUR
        assert raw.put("f", b"x").status_code == 401
        client.dataset.upload(raw.dataset, b"y", "f")


def test_the_address_is_the_callers(raw: Raw) -> None:
    """Storage is where the caller reached the server, by whatever name; nonsense is not repeated."""
    url = f"http://{raw.beaker.endpoint.rest}/api/v3/datasets/{raw.dataset.id}"
    port = raw.beaker.endpoint.rest.partition(":")[2]
    for host, told in (
        (f"host.docker.internal:{port}", f"http://host.docker.internal:{port}"),
        (f"172.17.0.1:{port}", f"http://172.17.0.1:{port}"),
        ("evil/path?", f"http://{raw.beaker.endpoint.rest}"),
    ):
        headers = {"Authorization": f"Bearer {raw.beaker.token()}", "Host": host}
        answer = requests.get(url, headers=headers, timeout=30)
        assert answer.json()["storage"]["address"] == told


def test_an_upload_repeated_without_its_bytes(raw: Raw) -> None:
    """The public client repeats a failed upload with a file at its end: that is no empty file."""
    assert raw.put("f", iter([b""])).status_code == 400
    assert raw.put("f", iter([b"in ", b"chunks"])).status_code == 200
    assert raw.put("empty", b"").status_code == 200
    tree = raw.beaker.layout.files(raw.dataset.id)
    assert {path.name: path.read_bytes() for path in tree.iterdir()} == {"f": b"in chunks", "empty": b""}


def test_digests_are_held(raw: Raw) -> None:
    """A body that is not what its digest says is refused, and so is what is no digest."""
    good = base64.b64encode(hashlib.sha256(b"body").digest()).decode()
    assert raw.put("f", b"body", Digest=f"SHA-256={good}").status_code == 200
    for digest in (f"sha-256={base64.b64encode(bytes(32)).decode()}", "SHA-256=x", "MD5=AAAA", "", good):
        assert raw.put("g", b"body", Digest=digest).status_code == 400
    assert raw.put("g", Digest=f"SHA-256={good}").status_code == 400
    assert [path.name for path in raw.beaker.layout.files(raw.dataset.id).iterdir()] == ["f"]
    assert leftovers(raw) == []


def test_sizes_are_bounded(beakers: Beakers) -> None:
    """A body, in one or in chunks, and an upload are no larger than the limits."""
    beaker = beakers.start(Config(limits=Limits(file_body=1000, upload=5000)))
    with beaker.client() as client:
        raw = Raw(beaker, client)
        assert raw.put("f", b"x" * 1001).status_code == 413
        assert raw.put("f", iter([b"x" * 999, b"xx"])).status_code == 413
        assert raw.put("f", b"x" * 1000).status_code == 200
        assert raw.piece(raw.begin(), b"x", 0, 5001).status_code == 413
        assert [file.size for file in client.dataset.list_files(raw.dataset)] == [1000]


def test_files_and_folders_in_each_others_way(raw: Raw) -> None:
    """A file stands in the way of a folder, and the other way round, until it is removed."""
    assert raw.put("a", b"1").status_code == 200
    assert raw.put("a/b", b"2").status_code == 400
    assert raw.put("c/d/e", b"3").status_code == 200
    assert raw.put("c/d", b"4").status_code == 400
    for path in ("a", "c/d/e"):
        url = f"{raw.base}/datasets/{raw.dataset.id}/files/{path}"
        assert requests.delete(url, headers=raw.token, timeout=30).status_code == 204
        assert requests.delete(url, headers=raw.token, timeout=30).status_code == 404
    assert list(raw.beaker.layout.files(raw.dataset.id).iterdir()) == []
    assert raw.put("a/b", b"2").status_code == 200
    assert raw.put("c", b"4").status_code == 200
    assert leftovers(raw) == []


def test_links_in_the_tree_lead_nowhere(raw: Raw, tmp_path: Path) -> None:
    """No file is written or read through a link, should one be in the tree."""
    (tmp_path / "secret").write_bytes(b"secret")
    raw.put("x", b"x")
    tree = raw.beaker.layout.files(raw.dataset.id)
    (tree / "out").symlink_to(tmp_path)
    (tree / "x").unlink()
    (tree / "x").symlink_to(tmp_path / "secret")
    assert raw.put("out/written", b"x").status_code == 400
    url = f"{raw.base}/datasets/{raw.dataset.id}/files/x"
    assert requests.get(url, headers=raw.token, timeout=30).status_code == 404
    assert raw.put("x", b"replaced").status_code == 200
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["secret"]


ESCAPES = [
    "../x",
    "a/../../x",
    "..",
    ".",
    "a/./b",
    "/etc/passwd",
    "a//b",
    "a/",
    "%2e%2e/x",
    "%2e%2e%2fx",
    "a%00b",
    "%2fetc%2fpasswd",
    "%ff",
    "x" * 256,
    "/".join(["y" * 200] * 12),
]


@pytest.mark.parametrize("path", ESCAPES, ids=range(len(ESCAPES)))
def test_paths_do_not_escape(raw: Raw, path: str) -> None:
    """A path as an attacker sends it, raw, is refused, and nothing is written anywhere."""
    before = {each for each in raw.beaker.layout.root.rglob("*") if each.name != "server.log"}
    line = http.client.HTTPConnection(*raw.beaker.endpoint.rest.split(":"), timeout=30)
    line.request("PUT", f"/datasets/{raw.dataset.id}/files/{path}", b"x", raw.token)
    answer = line.getresponse()
    assert 400 <= answer.status < 500
    assert b"message" in answer.read()
    line.close()
    assert {each for each in raw.beaker.layout.root.rglob("*") if each.name != "server.log"} == before


NAMES = st.text(st.sampled_from("ab./\\ \x00é\ud800\U0010ffff~-%?#"), max_size=12) | st.text(max_size=20)


@given(path=NAMES, other=NAMES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_path_is_inside_or_refused(tmp_path: Path, path: str, other: str) -> None:
    """Whatever the paths, files are inside the tree, at just these paths, or refused."""
    root = tmp_path / os.urandom(8).hex()
    tree, written = Tree(root / "tree" / "files"), {}
    for number, name in enumerate((path, other)):
        staged = root / f"staged-{number}"
        root.mkdir(exist_ok=True)
        staged.write_bytes(b"%d" % number)
        try:
            tree.move_in(staged, checked(name))
        except Problem:
            continue
        written[name] = b"%d" % number
        assert not staged.exists()
    found = {name: tree.open(name).read() for name, _ in tree.files()}
    assert found == written
    staged_left = {each.name for each in root.iterdir()} if root.exists() else set()
    assert staged_left <= {"tree", "staged-0", "staged-1"}


def test_the_clients_own_errors_name_the_cause(raw: Raw) -> None:
    """A path that the server refuses is named to the client's user."""
    with raw.beaker.client() as client, pytest.raises(BeakerError, match="too long"):
        client.dataset.upload(raw.dataset, b"x", "x" * 300)


def test_many_uploads_of_one_path(raw: Raw) -> None:
    """Of many at once one is kept, whole."""
    bodies = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        assert {answer.status_code for answer in pool.map(lambda data: raw.put("f", data), bodies)} == {200}
    data = (raw.beaker.layout.files(raw.dataset.id) / "f").read_bytes()
    assert data in bodies
    with raw.beaker.client() as client:
        (file,) = client.dataset.list_files(raw.dataset)
    assert file.digest.value == hashlib.sha256(data).digest()
    assert raw.beaker.server.backend is not None
    tree = Tree(raw.beaker.layout.files(raw.dataset.id))
    assert datasets.measured(tree, "f") == (100_000, file.digest.value)
