"""Blobs and images to and from a real registry: straight, and by a line on which everything goes wrong."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dispatch._registry import (
    Descriptor,
    Patience,
    RegistryAbsentError,
    RegistryBusyError,
    RegistryDamagedError,
    RegistryDoor,
    RegistryError,
    RegistryFullError,
    RegistryNotFoundError,
    RegistryUnreachableError,
    Transfer,
    parse_reference,
)
from dispatch._registry.door import next_page
from dispatch._registry.line import Answer
from dispatch._registry.manifest import CONFIG, GZIP_LAYER, digest_of, write_manifest
from dispatch.testing.registries import RealRegistry, answering, docker_registry, no_logins
from dispatch.testing.registryproxy import BadLine, Chance, Fault
from dispatch.testing.reporting import RecordingReporter

ROUNDS = max(10, int(200 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
PIECE = 64 * 1024
SIZE = 5 * PIECE + 17


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that is open to everybody."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture
def line(registry: RealRegistry) -> Iterator[BadLine]:
    """A line to it; what goes wrong is up to the test."""
    with BadLine(registry.host).serving() as line:
        yield line


@dataclass
class Client:
    """A client, and what it waited and said."""

    door: RegistryDoor
    waited: list[float]
    report: RecordingReporter


def client_of(host: str, tmp_path: Path, piece: int = PIECE) -> Client:
    """A client without a login that waits for nothing."""
    waited: list[float] = []
    report = RecordingReporter()
    patience = Patience(report, waited.append, lambda: 0.5)
    return Client(RegistryDoor(host, no_logins(tmp_path), None, patience, piece), waited, report)


def blob_of(tmp_path: Path, content: bytes, repository: str = "team/dispatch") -> Transfer:
    """A blob in a file."""
    digest = digest_of(content)
    file = tmp_path / digest[7:]
    file.write_bytes(content)
    return Transfer(repository, Descriptor(GZIP_LAYER, digest, len(content)), file)


def content_of(seed: object, size: int = SIZE) -> bytes:
    """Bytes that nothing can compress, others for each seed."""
    return random.Random(str(seed)).randbytes(size)


def once(fault: Fault, method: str, part: str = "", skip: int = 0) -> Callable[[str, str], Fault | None]:
    """A plan: the request with this method and this part in its path, after some of its like, goes wrong."""
    seen = [0]

    def choose(asked: str, path: str) -> Fault | None:
        if asked != method or part not in path:
            return None
        seen[0] += 1
        return fault if seen[0] == skip + 1 else None

    return choose


def every(fault: Fault, method: str, part: str = "") -> Callable[[str, str], Fault | None]:
    """A plan: all such requests go wrong."""
    return lambda asked, path: fault if asked == method and part in path else None


def fetched(client: Client, tmp_path: Path, sent: Transfer) -> bytes:
    """What a download gives."""
    target = tmp_path / "fetched"
    target.unlink(missing_ok=True)
    client.door.download(Transfer(sent.repository, sent.blob, target))
    return target.read_bytes()


@pytest.mark.parametrize("size", [0, 1, 2, PIECE - 1, PIECE, PIECE + 1, SIZE])
def test_a_blob_comes_back_as_it_was(registry: RealRegistry, tmp_path: Path, size: int) -> None:
    """Of any length, also where it ends with a piece; and it is sent once."""
    client = client_of(registry.host, tmp_path)
    sent = blob_of(tmp_path, content_of(("size", size), size))
    told: list[int] = []
    transfer = Transfer(sent.repository, sent.blob, sent.file, told.append)
    assert client.door.upload(transfer)
    assert sum(told) == size
    assert client.door.upload(transfer) is False
    assert fetched(client, tmp_path, sent) == sent.file.read_bytes()
    assert client.waited == []


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize(
    ("method", "part", "skip"),
    [
        ("GET", "/v2/", 0),
        ("HEAD", "/blobs/", 0),
        ("POST", "/uploads/", 0),
        ("PATCH", "/uploads/", 0),
        ("PATCH", "/uploads/", 2),
        ("PUT", "/uploads/", 0),
    ],
)
def test_one_fault_of_an_upload_is_mended(
    line: BadLine, tmp_path: Path, fault: Fault, method: str, part: str, skip: int
) -> None:
    """Whatever happens to whichever request: the blob is there in the end, and all its bytes were counted."""
    client = client_of(line.host, tmp_path)
    sent = blob_of(tmp_path, content_of((fault, skip, method)))
    told: list[int] = []
    line.choose = once(fault, method, part, skip)
    client.door.upload(Transfer(sent.repository, sent.blob, sent.file, told.append))
    line.choose = lambda *_: None
    assert client.door.has_blob(sent.repository, sent.blob.digest)
    assert fetched(client, tmp_path, sent) == sent.file.read_bytes()
    if method == "PATCH":
        assert sum(line.happened.values()) == 1
        assert sum(told) == SIZE
    if not client.waited and part != "/v2/":
        assert sum(line.happened.values()) == 0 or fault in (Fault.CUT_ANSWER, Fault.DAMAGED_ANSWER)


def test_a_blob_is_sent_in_one_piece(line: BadLine, tmp_path: Path) -> None:
    """As Docker's own client does, which every registry has to understand; a cut one is sent again."""
    client = Client(RegistryDoor(line.host, no_logins(tmp_path)), [], RecordingReporter())
    sent = blob_of(tmp_path, content_of("one piece"))
    client.door.upload(sent)
    assert [method for method, _ in line.requests] == ["GET", "HEAD", "POST", "PATCH", "PUT"]
    patience = Patience(None, lambda _: None)
    again = RegistryDoor(line.host, no_logins(tmp_path), None, patience)
    line.choose = once(Fault.CUT_REQUEST, "PATCH")
    other = blob_of(tmp_path, content_of("another piece"))
    again.upload(other)
    assert fetched(client, tmp_path, other) == other.file.read_bytes()


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ("", ""),
        ('</v2/a/tags/list?n=2&last=b>; rel="next"', "http://h.org/v2/a/tags/list?n=2&last=b"),
        ('<http://h.org/v2/a>; rel="next"', "http://h.org/v2/a"),
        ('</v2/a>; rel="prev"', ""),
    ],
)
def test_lists_of_tags_have_pages(link: str, path: str) -> None:
    """A registry says where the next one is."""
    assert next_page(Answer(200, {"link": link}, b"", "http://h.org/v2/a/tags/list")) == path


@pytest.mark.parametrize("fault", list(Fault))
def test_one_fault_of_a_download_is_mended(line: BadLine, tmp_path: Path, fault: Fault) -> None:
    """What has come is kept where it is right, and only the rest is asked for."""
    client = client_of(line.host, tmp_path)
    sent = blob_of(tmp_path, content_of(("down", fault)))
    client.door.upload(sent)
    told: list[int] = []
    target = tmp_path / "target"
    line.choose = once(fault, "GET", "/blobs/")
    client.door.download(Transfer(sent.repository, sent.blob, target, told.append))
    assert target.read_bytes() == sent.file.read_bytes()
    assert sum(told) == SIZE
    assert sum(line.happened.values()) == 1
    assert len(client.waited) == 1
    if fault is Fault.CUT_ANSWER:
        assert min(told) > 0
    if fault is Fault.DAMAGED_ANSWER:
        assert min(told) == -SIZE


def test_a_download_goes_on_where_a_killed_one_ended(line: BadLine, tmp_path: Path) -> None:
    """The registry is asked for the rest alone; a wrong beginning is noticed, and all of it fetched."""
    client = client_of(line.host, tmp_path)
    content = content_of("killed")
    sent = blob_of(tmp_path, content)
    client.door.upload(sent)
    target = tmp_path / "target"
    for beginning, waits in ((content[:1000], 0), (content, 0), (b"x" * 1000, 1), (content + b"y", 0)):
        client.waited.clear()
        target.write_bytes(beginning)
        client.door.download(Transfer(sent.repository, sent.blob, target))
        assert target.read_bytes() == content
        assert len(client.waited) == waits


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.RESET, Fault.LOST_ANSWER, Fault.BROKEN])
def test_a_registry_that_stays_away_is_told(line: BadLine, tmp_path: Path, fault: Fault) -> None:
    """After some patience, which is said, the error names the registry."""
    client = client_of(line.host, tmp_path)
    line.choose = every(fault, "HEAD")
    with pytest.raises(RegistryBusyError, match=rf"registry {line.host}: ") as caught:
        client.door.upload(blob_of(tmp_path, content_of("away")))
    assert caught.value.remedy
    assert len(client.waited) == len(client.report.lines) == 6
    assert client.waited == sorted(client.waited)


def test_a_registry_may_be_started_again_meanwhile(line: BadLine, tmp_path: Path) -> None:
    """It is not there for a while, in the middle of an upload: the upload ends all the same."""
    target = line.target

    def wait(_: float) -> None:
        waits.append(1)
        if len(waits) == 3:
            line.target = target

    waits: list[int] = []
    door = RegistryDoor(line.host, no_logins(tmp_path), None, Patience(None, wait), PIECE)
    sent = blob_of(tmp_path, content_of("restarted"))

    def gone(method: str, path: str) -> None:  # noqa: ARG001
        if method == "PATCH" and not waits:
            line.target = "127.0.0.1:1"

    line.choose = gone
    assert door.upload(sent)
    assert len(waits) == 3
    assert fetched(client_of(line.host, tmp_path), tmp_path, sent) == sent.file.read_bytes()


def test_patience_begins_anew_with_each_step_forward(line: BadLine, tmp_path: Path) -> None:
    """A download that breaks at every half of what is left ends all the same."""
    client = client_of(line.host, tmp_path)
    sent = blob_of(tmp_path, content_of("halves"))
    client.door.upload(sent)
    line.choose = every(Fault.CUT_ANSWER, "GET", "/blobs/")
    assert fetched(client, tmp_path, sent) == sent.file.read_bytes()
    assert line.happened[Fault.CUT_ANSWER] > 10


def test_what_always_arrives_damaged_is_given_up(line: BadLine, tmp_path: Path) -> None:
    """Nothing that does not have its digest is left in the place of what was asked for."""
    client = client_of(line.host, tmp_path)
    sent = blob_of(tmp_path, content_of("damaged"))
    client.door.upload(sent)
    line.choose = every(Fault.DAMAGED_ANSWER, "GET", "/blobs/")
    target = tmp_path / "target"
    with pytest.raises(RegistryDamagedError, match="does not have this digest"):
        client.door.download(Transfer(sent.repository, sent.blob, target))
    assert not target.exists()
    line.choose = every(Fault.DAMAGED_REQUEST, "PATCH")
    with pytest.raises(RegistryDamagedError, match="did not take the blob"):
        client.door.upload(blob_of(tmp_path, content_of("damaged on the way there")))


def test_a_registry_says_how_long_to_wait(line: BadLine, tmp_path: Path) -> None:
    """Its Retry-After is longer than our own first pause."""
    client = client_of(line.host, tmp_path)
    line.choose = once(Fault.TOO_MANY, "HEAD")
    client.door.upload(blob_of(tmp_path, content_of("too many")))
    assert client.waited == [1.0]
    assert "(429)" in client.report.lines[0]


def test_what_is_not_there_is_said_at_once(registry: RealRegistry, tmp_path: Path) -> None:
    """Without patience: a blob, an image, a repository."""
    client = client_of(registry.host, tmp_path)
    absent = Transfer("team/none", Descriptor(GZIP_LAYER, digest_of(b"none"), 4), tmp_path / "none")
    with pytest.raises(RegistryNotFoundError, match="does not have it"):
        client.door.download(absent)
    reference = parse_reference(f"{registry.host}/team/none:t")
    assert client.door.digest(reference) is None
    assert client.door.manifest(reference) is None
    assert client.door.tags("team/none") == []
    with pytest.raises(RegistryNotFoundError):
        client.door.tag(reference, "u")
    assert client.waited == []


def test_nobody_listens(tmp_path: Path) -> None:
    """A registry that was never there is not waited for as long as one that went away."""
    client = client_of("127.0.0.1:1", tmp_path)
    with pytest.raises(RegistryAbsentError, match=r"127\.0\.0\.1:1: nobody listens"):
        client.door.tags("team/none")
    assert len(client.waited) == 3


def test_a_host_that_nobody_knows(tmp_path: Path) -> None:
    """The name is what has to be mended."""
    client = client_of("registry.invalid", tmp_path)
    with pytest.raises(RegistryUnreachableError, match=r"registry\.invalid: no host of this name") as caught:
        client.door.tags("team/none")
    assert client.waited == []
    assert caught.value.remedy == "mend its name"


def test_an_image_has_the_tags_that_it_was_given(registry: RealRegistry, tmp_path: Path) -> None:
    """Tagging sends nothing but the manifest; tags are listed in order."""
    client = client_of(registry.host, tmp_path)
    reference = push(client.door, tmp_path, registry.host, "tagged", [content_of("layer", 100)])
    digest = client.door.digest(reference)
    assert digest is not None
    assert client.door.tag(reference, "zwei") == digest
    assert client.door.tag(reference.at(digest), "drei") == digest
    assert client.door.tags("tagged/image") == ["drei", "eins", "zwei"]
    assert client.door.digest(reference.tagged("zwei")) == digest


def test_a_manifest_needs_its_parts(registry: RealRegistry, tmp_path: Path) -> None:
    """A registry that misses one says so, which is something else than any refusal."""
    client = client_of(registry.host, tmp_path)
    absent = Descriptor(CONFIG, digest_of(b"none"), 4)
    with pytest.raises(RegistryNotFoundError, match="a part of the image"):
        client.door.put_manifest(
            parse_reference(f"{registry.host}/team/none:t"), write_manifest(absent, [absent])
        )
    assert client.waited == []


def test_a_damaged_manifest_is_noticed(line: BadLine, tmp_path: Path) -> None:
    """Also one that is asked for by its tag, which may mean anything."""
    client = client_of(line.host, tmp_path)
    reference = push(client.door, tmp_path, line.host, "manifests", [content_of("layer", 100)])
    line.choose = every(Fault.DAMAGED_ANSWER, "GET", "/manifests/")
    with pytest.raises(RegistryBusyError, match="arrives damaged"):
        client.door.manifest(reference)
    line.choose = once(Fault.DAMAGED_ANSWER, "GET", "/manifests/")
    manifest = client.door.manifest(reference)
    assert manifest is not None
    assert manifest.digest == client.door.digest(reference)


def push(door: RegistryDoor, tmp_path: Path, host: str, name: str, layers: list[bytes]):  # type: ignore[no-untyped-def]
    """Push an image of raw layers."""
    config = f"config of {name} {len(layers)}".encode()
    repository = f"{name}/image"
    blobs = []
    for content in (config, *layers):
        transfer = blob_of(tmp_path, content, repository)
        door.upload(transfer)
        blobs.append(transfer.blob)
    manifest = write_manifest(Descriptor(CONFIG, blobs[0].digest, blobs[0].size), blobs[1:])
    reference = parse_reference(f"{host}/{repository}:eins")
    door.put_manifest(reference, manifest)
    return reference


def test_a_blob_is_mounted_from_another_repository(line: BadLine, tmp_path: Path) -> None:
    """Nothing is sent; what cannot be mounted leaves no upload behind."""
    client = client_of(line.host, tmp_path)
    sent = blob_of(tmp_path, content_of("mounted"), "one/image")
    client.door.upload(sent)
    line.requests.clear()
    assert client.door.mount("two/image", sent.blob.digest, "one/image")
    assert client.door.has_blob("two/image", sent.blob.digest)
    assert not client.door.mount("two/image", digest_of(b"nowhere"), "one/image")
    assert [method for method, _ in line.requests] == ["POST", "HEAD", "POST", "DELETE"]


def test_a_full_registry_is_told_from_a_busy_one(tmp_path: Path) -> None:
    """The answer of a real registry whose disk is full is no reason to try again."""
    detail = '{"errors":[{"code":"UNKNOWN","message":"unknown error","detail":{"DriverName":"filesystem",'
    body = detail + '"Enclosed":{"Op":"write","Path":"/x","Err":28}}}]}'
    with answering(500, body) as host:
        client = client_of(host, tmp_path)
        with pytest.raises(RegistryFullError, match="has no room"):
            client.door.upload(blob_of(tmp_path, b"x"))
    assert client.waited == []


@pytest.mark.parametrize(
    ("status", "body", "fact"),
    [
        (200, "<html>hello</html>", "cannot be read"),
        (200, "[]", "cannot be read"),
        (200, '{"mediaType": "application/x-else"}', "no image that we know"),
        (200, '{"schemaVersion": 1, "fsLayers": []}', "no image that we know"),
        (418, "no", "refuses"),
        (302, "", "without TLS"),
        (413, "", "of this size"),
    ],
)
def test_rubbish_is_no_manifest(tmp_path: Path, status: int, body: str, fact: str) -> None:
    """Whatever answers on a registry's port, the user hears who it was and what was wrong."""
    with answering(status, body) as host:
        client = client_of(host, tmp_path)
        with pytest.raises(RegistryError, match=fact) as caught:
            client.door.manifest(parse_reference(f"{host}/a/b:t"))
    assert host in caught.value.message


@pytest.mark.parametrize("percent", [0, 20])
def test_nothing_is_lost_and_nothing_is_damaged(
    registry: RealRegistry, line: BadLine, tmp_path: Path, percent: float
) -> None:
    """Many pushes and pulls, straight and by a line on which every fifth request fails in one of nine ways.

    Who gives up after some patience begins anew, as a user would.
    """
    line.choose = Chance(7, percent)
    client = client_of(line.host, tmp_path)
    common = content_of(("common", percent), 3 * PIECE)
    chance = random.Random(percent)
    for number in range(ROUNDS):
        own = [
            content_of((percent, number, n), chance.randrange(1, SIZE)) for n in range(chance.randrange(3))
        ]
        name = f"many{int(percent)}/{number % 5}"
        layers = [common, *own]
        reference = persistently(
            lambda name=name, layers=layers: push(client.door, tmp_path, line.host, name, layers)  # type: ignore[misc]
        )
        manifest = persistently(lambda reference=reference: client.door.manifest(reference))  # type: ignore[misc]
        for blob, content in zip(manifest.layers, layers, strict=True):
            target = tmp_path / "pulled"
            target.unlink(missing_ok=True)
            transfer = Transfer(reference.repository, blob, target)
            persistently(lambda transfer=transfer: client.door.download(transfer))  # type: ignore[misc]
            assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(content).digest()
    assert registry.damaged() == []
    if percent:
        assert set(line.happened) == set(Fault)
    else:
        assert client.waited == []


def persistently(work: Callable[[], object]):  # type: ignore[no-untyped-def]
    """Repeat what was given up, not for ever."""
    for _ in range(4):
        try:
            return work()
        except RegistryError:
            continue
    return work()
