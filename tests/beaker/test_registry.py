"""The registry, by raw HTTP: what the specification demands of it, and what it refuses."""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from dispatch.beakerd.blobs import Blobs
from dispatch.beakerd.config import Config, Limits, UserConfig, WorkspaceConfig
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.registry import LIST, Repository, digest_of, manifest_of, rest

TWO = Config(
    organizations=("ai2", "other"),
    users=(UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("other",))),
    workspaces=(
        WorkspaceConfig("ai2/my-workspace", "ai2/default"),
        WorkspaceConfig("other/theirs", "other/default"),
    ),
)
ABSENT = digest_of(b"absent")


@pytest.fixture
def repository(beaker: LocalBeaker) -> Repository:
    """An image that nothing was pushed of."""
    return Repository(beaker).make()


def code_of(answer: requests.Response) -> str:
    """The registry's code of an error, which is always there."""
    (error,) = answer.json()["errors"]
    assert set(error) == {"code", "message", "detail"} and error["message"]
    return str(error["code"])


@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/v2/x/manifests/y", "blobs/uploads/"])
@pytest.mark.parametrize("token", ["wrong", "é", "a:b"])
def test_a_wrong_token_opens_nothing(repository: Repository, path: str, token: str) -> None:
    """Every path asks for basic credentials, in the registry's form."""
    for answer in (
        repository.call("GET", path, token=token),
        requests.get(f"http://{repository.beaker.endpoint.rest}/v2/", timeout=60),
    ):
        assert answer.status_code == 401 and code_of(answer) == "UNAUTHORIZED"
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert answer.headers["Docker-Distribution-API-Version"] == "registry/2.0"


def test_the_base_says_that_the_registry_is_there(repository: Repository) -> None:
    """``/v2/`` is 200 with any token that opens something."""
    assert repository.call("GET", "/v2/").status_code == 200


def test_a_token_opens_its_own_image_only(beaker: LocalBeaker) -> None:
    """A push token of one image neither writes to another one nor reads it."""
    one, two = Repository(beaker).make(), Repository(beaker).make().fill(b"layer")
    for method, path in (("POST", "blobs/uploads/"), ("GET", "manifests/latest"), ("GET", "tags/list")):
        answer = two.call(method, path, token=one.token)
        assert answer.status_code == 403 and code_of(answer) == "DENIED"


def test_users_pull_what_they_may_see_once_it_is_committed(
    beaker_of: Callable[[Config], LocalBeaker],
) -> None:
    """A user's own token pulls committed images of the user's workspaces, and never pushes."""
    beaker = beaker_of(TWO)
    repository = Repository(beaker, "mine").make().fill(b"layer")
    tokens = {
        user: (beaker.layout.users / user / "config.yml").read_text().split("user_token: ")[1].split()[0]
        for user in ("me", "you")
    }
    assert repository.call("GET", "manifests/latest", token=tokens["me"]).status_code == 403
    assert repository.commit().status_code == 200
    assert repository.call("GET", "manifests/latest", token=tokens["me"]).status_code == 200
    assert repository.call("GET", "manifests/latest", token=tokens["you"]).status_code == 403
    assert Repository(beaker).make().call("POST", "blobs/uploads/", token=tokens["me"]).status_code == 403
    assert rest(beaker, "GET", f"/api/v3/images/{repository.image}/repository", "you").status_code == 403


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(3_000_000)], ids=["empty", "one", "large"])
@pytest.mark.parametrize("way", ["at once", "put", "chunked", "parts"])
def test_a_blob_comes_by_every_way(repository: Repository, content: bytes, way: str) -> None:
    """However it is sent, it is there afterwards, whole, and in ranges."""
    digest = digest_of(content)
    if way == "at once":
        answer = repository.call("POST", f"blobs/uploads/?digest={digest}", content)
    else:
        upload = repository.begin()
        half = len(content) // 2
        if way == "chunked":
            pieces: Iterator[bytes] = iter([content[:half] or b"", content[half:] or b""])
            repository.call("PATCH", upload, (piece for piece in pieces if piece))
        elif way == "parts" and half:
            for start, part in ((0, content[:half]), (half, content[half:])):
                headers = {"Content-Range": f"{start}-{start + len(part) - 1}"}
                answer = repository.call("PATCH", upload, part, headers)
                assert answer.status_code == 202 and answer.headers["Range"] == f"0-{start + len(part) - 1}"
        rest_of_it = content if way == "put" or (way == "parts" and not half) else b""
        answer = repository.call("PUT", f"{upload}?digest={digest}", rest_of_it)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Docker-Content-Digest"] == digest
    assert repository.call("GET", answer.headers["Location"]).content == content
    head = repository.call("HEAD", f"blobs/{digest}")
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(content)))


@pytest.mark.parametrize(
    ("asked", "status", "expected"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=8-", 206, b"89"),
        ("bytes=-2", 206, b"89"),
        ("bytes=5-100", 206, b"56789"),
        ("bytes=10-", 416, None),
        ("bytes=0-1,3-4", 200, b"0123456789"),
        ("lines=0-1", 200, b"0123456789"),
        ("rubbish", 200, b"0123456789"),
    ],
)
def test_ranges_of_a_blob(repository: Repository, asked: str, status: int, expected: bytes | None) -> None:
    """One range is answered, one outside of the blob refused, and what is none is passed over."""
    digest = repository.push(b"0123456789")
    answer = repository.call("GET", f"blobs/{digest}", headers={"Range": asked})
    assert answer.status_code == status
    if expected is None:
        assert answer.headers["Content-Range"] == "bytes */10"
    else:
        assert answer.content == expected


@pytest.mark.parametrize(
    ("header", "status"),
    [("5-9", 416), ("0-3", 400), ("4-0", 400), ("x", 400), ("0-4", 202), ("bytes 0-4/5", 202)],
)
def test_a_part_begins_where_the_last_one_ended(repository: Repository, header: str, status: int) -> None:
    """Content-Range has to fit the body and what is there; a gap is refused with what is there."""
    upload = repository.begin()
    answer = repository.call("PATCH", upload, b"01234", {"Content-Range": header})
    assert answer.status_code == status
    if status == 416:
        assert answer.headers["Range"] == "0-0" and answer.headers["Location"] == upload
    there = repository.call("GET", upload)
    assert there.status_code == 204 and there.headers["Range"] == ("0-4" if status == 202 else "0-0")


def test_a_blob_of_another_digest_is_refused(repository: Repository) -> None:
    """What was sent is dropped with its upload, and nothing is there of it."""
    upload = repository.begin()
    repository.call("PATCH", upload, b"something else")
    answer = repository.call("PUT", f"{upload}?digest={ABSENT}")
    assert answer.status_code == 400 and code_of(answer) == "DIGEST_INVALID"
    assert repository.call("HEAD", f"blobs/{ABSENT}").status_code == 404
    assert repository.call("HEAD", f"blobs/{digest_of(b'something else')}").status_code == 404
    assert code_of(repository.call("GET", upload)) == "BLOB_UPLOAD_UNKNOWN"


def test_more_after_the_digest_was_known_counts(repository: Repository) -> None:
    """The digest of a first part is never taken for that of the whole."""
    upload = repository.begin()
    repository.call("PATCH", upload, b"first")
    repository.call("PATCH", upload, b" and second")
    refused = repository.call("PUT", f"{upload}?digest={digest_of(b'first')}")
    assert code_of(refused) == "DIGEST_INVALID"


def test_an_upload_can_be_given_up(repository: Repository) -> None:
    """DELETE ends it, and its file is gone."""
    upload = repository.begin()
    repository.call("PATCH", upload, b"0123")
    assert repository.call("DELETE", upload).status_code == 204
    assert repository.call("PATCH", upload, b"4").status_code == 404
    assert Blobs(repository.beaker.layout.blobs).all() == ([], [])


def test_an_upload_goes_on_after_a_restart(beakers: Beakers) -> None:
    """The server ends in the middle of an upload; the next one has what came, and takes the rest."""
    content = os.urandom(2_000_000)
    first = beakers.start()
    repository = Repository(first).make()
    upload = repository.begin()
    repository.call("PATCH", upload, content[:700_000])
    first.stop()
    repository.beaker = beakers.start()
    assert repository.call("GET", upload).headers["Range"] == "0-699999"
    repository.call("PATCH", upload, content[700_000:], {"Content-Range": "700000-1999999"})
    answer = repository.call("PUT", f"{upload}?digest={digest_of(content)}")
    assert answer.status_code == 201
    assert repository.call("GET", f"blobs/{digest_of(content)}").content == content


@pytest.mark.parametrize("chunked", [True, False])
def test_an_upload_goes_on_after_its_connection_was_cut(repository: Repository, chunked: bool) -> None:
    """A body that breaks off leaves what came of it, never a blob, and can be gone on from."""
    content = os.urandom(1_500_000)
    upload = repository.begin()
    address, _, port = repository.beaker.endpoint.rest.partition(":")
    with socket.create_connection((address, int(port))) as connection:
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(content)}"
        login = b64encode(f"beaker:{repository.token}".encode()).decode()
        head = f"PATCH {upload} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {login}\r\n{length}\r\n\r\n"
        sent = content[:1_000_000]
        body = b"%x\r\n%s" % (len(content), sent) if chunked else sent
        connection.sendall(head.encode() + body)
    deadline = time.monotonic() + 60
    have = status = 0
    while (have < 500_000 or status != 202) and time.monotonic() < deadline:
        have = int(repository.call("GET", upload).headers["Range"].removeprefix("0-")) + 1
        if have >= 500_000:
            headers = {"Content-Range": f"{have}-1499999"}
            status = repository.call("PATCH", upload, content[have:], headers).status_code
    assert repository.call("PUT", f"{upload}?digest={digest_of(content)}").status_code == 201


def test_uploads_are_bounded(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """More than the limit is refused, whether or not the body says how long it is."""
    repository = Repository(beaker_of(Config(limits=Limits(upload=1000)))).make()
    for body in (b"x" * 1001, iter([b"x" * 600, b"x" * 600])):
        answer = repository.call("PATCH", repository.begin(), body)
        assert answer.status_code == 413 and code_of(answer) == "SIZE_INVALID"
    assert repository.put_manifest(b" " * (4 * 1024 * 1024 + 1)).status_code == 413


def test_a_full_disk_is_said(repository: Repository) -> None:
    """No room is the server's trouble, told as such, and the push can be repeated afterwards."""
    upload = repository.begin()
    (file,) = (repository.beaker.layout.blobs / "uploads").iterdir()
    file.unlink()
    file.symlink_to("/dev/full")
    answer = repository.call("PATCH", upload, b"x" * 3_000_000)
    assert answer.status_code == 507 and "full" in answer.json()["errors"][0]["message"]
    repository.push(b"later")


def test_a_blob_is_taken_from_another_image_of_the_users(beaker_of: Callable[[Config], LocalBeaker]) -> None:
    """A blob that the caller has already is not sent again; one of somebody else's stays unknown."""
    beaker = beaker_of(TWO)
    digest = Repository(beaker).make().push(b"shared")
    mine, theirs = Repository(beaker).make(), Repository(beaker, user="you").make()
    assert theirs.call("HEAD", f"blobs/{digest}").status_code == 404
    assert theirs.call("POST", f"blobs/uploads/?mount={digest}&from=x").status_code == 202
    mounted = mine.call("POST", f"blobs/uploads/?mount={digest}&from=x")
    assert mounted.status_code == 201 and mine.call("GET", mounted.headers["Location"]).content == b"shared"
    other = Repository(beaker).make()
    assert other.call("HEAD", f"blobs/{digest}").status_code == 200
    assert other.call("GET", f"blobs/{digest}").content == b"shared"


CONFIG, LAYER = b'{"architecture": "amd64"}', b"layer"


@pytest.mark.parametrize(
    ("body", "media_type", "code"),
    [
        (b"no json", "", "MANIFEST_INVALID"),
        (b"[" * 100_000, "", "MANIFEST_INVALID"),
        (b"{}", "", "MANIFEST_INVALID"),
        (b'{"schemaVersion": 1}', "", "MANIFEST_INVALID"),
        (b'{"schemaVersion": 2}', "text/plain", "MANIFEST_INVALID"),
        (manifest_of(CONFIG, LAYER), LIST, "MANIFEST_INVALID"),
        (manifest_of(CONFIG, b"missing"), "", "MANIFEST_BLOB_UNKNOWN"),
        (manifest_of(CONFIG, LAYER).replace(b'"size": 5', b'"size": 6'), "", "MANIFEST_INVALID"),
        (manifest_of(CONFIG, LAYER).replace(b'"size": 5', b'"size": true'), "", "MANIFEST_INVALID"),
        (manifest_of(CONFIG, LAYER).replace(b"sha256:", b"sha256:../"), "", "MANIFEST_INVALID"),
        (
            json.dumps(
                {"schemaVersion": 2, "mediaType": LIST, "manifests": [{"digest": ABSENT, "size": 1}]}
            ).encode(),
            LIST,
            "MANIFEST_BLOB_UNKNOWN",
        ),
    ],
)
def test_manifests_that_are_refused(repository: Repository, body: bytes, media_type: str, code: str) -> None:
    """A manifest is whole, of a known type, and all that it refers to is there, or it is refused."""
    repository.push(CONFIG)
    repository.push(LAYER)
    answer = repository.put_manifest(body, media_type=media_type)
    assert code_of(answer) == code and answer.status_code < 500
    assert repository.call("GET", "manifests/latest").status_code == 404


def test_manifests_by_tag_and_digest_and_lists_of_them(repository: Repository) -> None:
    """A manifest is given back byte for byte, with its type; a tag moves; tags are paged."""
    repository.push(CONFIG)
    repository.push(LAYER)
    body = manifest_of(CONFIG, LAYER)
    assert repository.put_manifest(body, digest_of(body)).status_code == 201
    assert code_of(repository.put_manifest(body, ABSENT)) == "DIGEST_INVALID"
    index = {"schemaVersion": 2, "manifests": [{"digest": digest_of(body), "size": len(body)}]}
    listed = json.dumps(index).encode()
    for tag, each, kind in (("a", body, ""), ("b", body, ""), ("latest", listed, LIST)):
        answer = repository.put_manifest(each, tag, kind)
        assert answer.headers["Docker-Content-Digest"] == digest_of(each)
    for reference in ("latest", digest_of(listed)):
        found = repository.call("GET", f"manifests/{reference}")
        assert (found.content, found.headers["Content-Type"]) == (listed, LIST)
        assert repository.call("HEAD", f"manifests/{reference}").headers["Content-Length"] == str(len(listed))
    first = repository.call("GET", "tags/list?n=2")
    assert first.json() == {"name": repository.image.lower(), "tags": ["a", "b"]}
    follow = first.headers["Link"].partition(">")[0].removeprefix("<")
    assert repository.call("GET", follow).json()["tags"] == ["latest"]
    assert repository.commit().status_code == 200


def test_a_committed_image_stays(repository: Repository) -> None:
    """After the commit nothing is added, the same manifest may come again, and a commit is no error."""
    repository.fill(b"one layer")
    manifest = repository.call("GET", "manifests/latest").content
    assert repository.commit().status_code == repository.commit().status_code == 200
    assert repository.put_manifest(manifest).status_code == 201
    for answer in (
        repository.call("POST", "blobs/uploads/"),
        repository.put_manifest(manifest, "other"),
        repository.put_manifest(manifest + b" "),
    ):
        assert answer.status_code == 403 and code_of(answer) == "DENIED"
    place = rest(repository.beaker, "GET", f"/api/v3/images/{repository.image}/repository?upload=True")
    assert place.status_code == 403


def test_what_is_not_whole_is_not_committed(repository: Repository) -> None:
    """Without a manifest, or without one of its blobs, there is nothing to commit, and it says what."""
    assert repository.commit().status_code == 400
    repository.fill(b"one layer")
    Blobs(repository.beaker.layout.blobs).remove(digest_of(b"one layer"))
    answer = repository.commit()
    assert answer.status_code == 400 and digest_of(b"one layer") in answer.json()["message"]
    assert repository.call("HEAD", f"blobs/{digest_of(b'one layer')}").status_code == 404
    repository.push(b"one layer")
    assert repository.commit().status_code == 200


@pytest.mark.parametrize("size", [100, 3_000_000])
def test_a_blob_that_was_damaged_on_the_disk_is_not_given_out(repository: Repository, size: int) -> None:
    """The reader gets a broken connection, never wrong bytes as a whole; the next push heals it."""
    content = os.urandom(size)
    digest = repository.fill(content).push(content)
    path = Blobs(repository.beaker.layout.blobs).path(digest)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        repository.call("GET", f"blobs/{digest}")
    assert any(digest in line and "damaged" in line for line in repository.beaker.lines)
    assert repository.call("HEAD", f"blobs/{digest}").status_code == 404
    repository.push(content)
    assert repository.call("GET", f"blobs/{digest}").content == content


def test_two_pushes_of_one_blob_at_once(beaker: LocalBeaker) -> None:
    """Both come to their end, and the blob is there once."""
    content = os.urandom(2_000_000)
    repositories = [Repository(beaker).make() for _ in range(4)]
    done: list[str] = []
    threads = [
        threading.Thread(target=lambda each=each: done.append(each.push(content))) for each in repositories
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == [digest_of(content)] * 4
    assert Blobs(beaker.layout.blobs).all() == ([digest_of(content)], [])


def test_deleted_images_leave_nothing(beaker: LocalBeaker) -> None:
    """Blobs stay as long as one image has them; uploads go with their image."""
    one, two = (Repository(beaker, name).make().fill(b"shared", name.encode()) for name in ("one", "two"))
    blobs = Blobs(beaker.layout.blobs)
    assert len(blobs.all()[0]) == 5
    with beaker.client() as client:
        client.image.delete(client.image.get(one.image))
        kept, _ = blobs.all()
        assert digest_of(b"shared") in kept and digest_of(b"one") not in kept and len(kept) == 3
        two.begin()
        client.image.delete(client.image.get(two.image))
    assert blobs.all() == ([], [])


def test_a_start_removes_what_a_killed_server_left(beakers: Beakers) -> None:
    """Files of blobs and uploads that nothing refers to are gone after the next start."""
    first = beakers.start()
    repository = Repository(first).make().fill(b"kept")
    upload = repository.begin()
    first.stop()
    stray = Blobs(first.layout.blobs).path(ABSENT)
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"?")
    (first.layout.blobs / "uploads" / "01ARZ3NDEKTSV4RRFFQ69G5FAV").write_bytes(b"?")
    repository.beaker = beakers.start()
    found, uploads = Blobs(first.layout.blobs).all()
    assert ABSENT not in found and len(found) == 2
    assert uploads == [Path(upload).name]


WORDS = (
    "..", "%2e%2e", "%00", "é", "a" * 300, "sha256:" + "0" * 64, "sha256:XYZ", "sha512:" + "0" * 128, "-1",
    "blobs", "uploads", "manifests", "tags", "list", "latest", "_catalog", "", "%2F", "referrers", "'; --",
)  # fmt: skip


QUERIES = ("", "?digest=", "?digest=x&mount=y", "?n=x", "?mount=../..&from=é", "?last=%00")
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"Content-Range": "9-"},
    {"Range": "bytes=--"},
    {"Content-Type": "\xff"},
)


def test_rubbish_is_refused_and_never_breaks_the_server(repository: Repository) -> None:
    """Whatever path, query, headers and body: an answer below 500, JSON where it has a body of an error."""
    chance = random.Random(5)
    upload = repository.begin()
    for _ in range(400):
        parts = [chance.choice((*WORDS, repository.image.lower(), Path(upload).name)) for _ in range(4)]
        path = chance.choice(("/v2/" + "/".join(parts), f"{repository.path}/{'/'.join(parts[:3])}", upload))
        query = chance.choice(
            ("", "?digest=", "?digest=x&mount=y", "?n=x", "?mount=../..&from=é", "?last=%00")
        )
        headers = chance.choice(
            ({}, {"Content-Range": "9-"}, {"Range": "bytes=--"}, {"Content-Type": "\xff"})
        )
        method = chance.choice(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"))
        answer = repository.call(method, path + query, chance.choice((None, b"x", iter([b"y"]))), headers)
        assert answer.status_code < 500, (method, path, query, answer.text)
        if answer.status_code >= 400 and method != "HEAD":
            assert answer.json().keys() <= {"errors", "message"}, (method, path, query)
    assert not [line for line in repository.beaker.lines if "Traceback" in line]
    assert repository.call("GET", "/v2/").status_code == 200
