"""Images to and from a real registry: what is sent, what is not, and that the same image comes back."""

from __future__ import annotations

import hashlib
import io
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._registry import (
    Descriptor,
    Patience,
    RegistryBusyError,
    RegistryDamagedError,
    RegistryDoor,
    parse_reference,
)
from dispatch._registry.manifest import INDEX, Index, Variant, write_manifest
from dispatch.environment import RegistryDigest
from dispatch.errors import ImageError
from dispatch.image.content import CachedLayers, ImageContent, Part, archive, archive_of, image_content
from dispatch.image.layers import LayerCache
from dispatch.image.ocilayout import OciLayout
from dispatch.image.saved import SavedImage
from dispatch.image.shipping import Published, Shipping
from dispatch.image.tar import FileStream
from dispatch.testing.images import FakeImageStore
from dispatch.testing.registries import RealRegistry, docker_registry, no_logins
from dispatch.testing.registryproxy import BadLine, Fault
from dispatch.testing.reporting import RecordingReporter

BASE = random.Random(1).randbytes(100_000)
OWN = b"own layer" * 20_000


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


class Machine:
    """A client's machine: its cache, and images that are at hand."""

    def __init__(self, directory: Path, host: str) -> None:
        self.directory = directory
        self.host = host
        self.report = RecordingReporter()
        self.layout = OciLayout(directory / "oci")
        self.shipping = self.shipping_of(host)

    def shipping_of(self, host: str, wanted: object = None) -> Shipping:
        """Ships with this machine's cache."""
        patience = Patience(self.report, lambda _: None)
        door = RegistryDoor(host, no_logins(self.directory), None, patience)
        return Shipping(door, self.directory / "cache", wanted or (lambda: True))  # type: ignore[arg-type]

    def image(self, *layers: bytes, **labels: str) -> ImageContent:
        """An image that is at hand."""
        self.layout.load(_archive(config_of(layers, labels), layers))
        record = self.layout.inspect_image(digest_of(config_of(layers, labels)))
        assert record is not None
        return self.layout.content(record)

    def push(self, content: ImageContent, name: str, *origins: str) -> RegistryDigest:
        """Push to a name of the registry."""
        return self.shipping.push(content, parse_reference(f"{self.host}/{name}"), self.report, origins)

    def find(self, name: str) -> Published:
        """What the registry has."""
        found = self.shipping.find(parse_reference(f"{self.host}/{name}"))
        assert found is not None
        return found


def digest_of(content: bytes) -> str:
    """The digest of bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def config_of(layers: tuple[bytes, ...], labels: Mapping[str, str]) -> bytes:
    """The configuration of an image."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": dict(labels)},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
    }
    return json.dumps(document).encode()


def _archive(config: bytes, layers: tuple[bytes, ...]) -> Iterator[bytes]:
    parts = [Part(len(each), lambda each=each: nullcontext(iter([each]))) for each in layers]  # type: ignore[misc]
    return archive_of(config, parts)


@pytest.fixture
def here(tmp_path: Path, line: BadLine) -> Machine:
    """The machine that pushes."""
    return Machine(tmp_path / "here", line.host)


@pytest.fixture
def there(tmp_path: Path, line: BadLine) -> Machine:
    """A clean machine."""
    return Machine(tmp_path / "there", line.host)


def sent(line: BadLine) -> list[str]:
    """What was sent since this was asked last: the methods of requests that write."""
    found = [method for method, _ in line.requests if method in ("POST", "PATCH", "PUT")]
    line.requests.clear()
    return found


def test_an_image_comes_back_as_it_was(here: Machine, there: Machine) -> None:
    """Its ID, labels and layers; its reference is by the digest of its manifest; tasks tell of all bytes."""
    content = here.image(BASE, OWN, **{"dispatch.digest": "abc"})
    pushed = here.push(content, "one/dispatch:t")
    found = there.find("one/dispatch:t")
    assert found.image == pushed
    assert found.record.id == content.image_id
    assert found.record.labels == {"dispatch.digest": "abc"}
    record = there.shipping.pull(found, there.layout, there.report)
    assert record.diff_ids == (digest_of(BASE), digest_of(OWN))
    assert b"".join(archive(there.layout.content(record))) == b"".join(archive(content))
    (push,), (pull,) = here.report.tasks, there.report.tasks
    assert (push.state, pull.state) == ("done", "done")
    assert pull.bytes == pull.total == sum(layer.size for layer in found.manifest.layers)
    assert push.bytes >= pull.bytes


def test_nothing_is_sent_twice(here: Machine, line: BadLine) -> None:
    """An image that is there costs one request; another tag a manifest; another repository a mount."""
    content = here.image(BASE, b"twice")
    first = here.push(content, "two/dispatch:t")
    assert "PATCH" in sent(line)
    assert here.push(content, "two/dispatch:t") == first
    assert sent(line) == []
    here.push(content, "two/dispatch:u")
    assert sent(line) == ["PUT"]
    here.push(content, "two/elsewhere:t")
    # Two layers are mounted; the configuration, which is small, is sent.
    assert sent(line) == ["POST", "POST", "POST", "PATCH", "PUT", "PUT"]


def test_what_was_pulled_is_known_to_be_there(here: Machine, there: Machine, line: BadLine) -> None:
    """A machine that got its base from the registry sends only what it put on it."""
    here.push(here.image(BASE), "three/base:t")
    there.shipping.pull(there.find("three/base:t"), there.layout, there.report)
    sent(line)
    there.push(there.image(BASE, b"own three"), "three/dispatch:t")
    assert sent(line).count("PATCH") == 2  # the layer and the configuration


def test_layers_are_mounted_from_an_image_that_is_named(here: Machine, there: Machine, line: BadLine) -> None:
    """What an engine pulled from this registry need not be known otherwise; other registries do not count."""
    content = here.image(BASE, b"own four")
    base = here.push(here.image(BASE), "four/base:t")
    sent(line)
    other = f"127.0.0.1:1/four/base@{'sha256:' + '0' * 64}"
    there.push(content, "four/dispatch:t", other, f"{line.host}/four/none:t", base.reference)
    assert sent(line).count("PATCH") == 2


def test_a_failed_push_is_repaired_by_the_next(here: Machine, there: Machine, line: BadLine) -> None:
    """The registry is told of an image only when all of it is there; what is there is not sent again."""
    content = here.image(BASE, b"own five")
    line.choose = lambda method, path: Fault.BUSY if method == "PUT" and "/manifests/" in path else None
    with pytest.raises(RegistryBusyError):
        here.push(content, "five/dispatch:t")
    line.choose = lambda *_: None
    assert there.shipping.find(parse_reference(f"{line.host}/five/dispatch:t")) is None
    sent(line)
    here.push(content, "five/dispatch:t")
    assert sent(line) == ["PUT"]
    assert [task.state for task in here.report.tasks] == ["broken", "done"]


def test_layers_that_the_registry_lost_are_sent_again(here: Machine, registry: RealRegistry) -> None:
    """What is remembered of layers is a hint: the registry is asked."""
    content = here.image(BASE, b"own six")
    here.push(content, "six/dispatch:t")
    for link in (registry.root / "docker/registry/v2/repositories/six").rglob("link"):
        link.unlink()
    here.push(content, "six/dispatch:t")
    assert here.find("six/dispatch:t").record.id == content.image_id


def test_lower_layers_that_are_there_are_not_pulled(here: Machine, there: Machine, line: BadLine) -> None:
    """An engine that has the base gets the rest; one that only seemed to have it gets all."""
    content = here.image(BASE, b"own seven")
    here.push(content, "seven/dispatch:t")
    found = there.find("seven/dispatch:t")
    held = (digest_of(BASE),)
    there.image(BASE)
    line.requests.clear()
    there.shipping.pull(found, there.layout, there.report, held)
    assert len([path for _, path in line.requests if "/blobs/" in path]) == 1
    other = OciLayout(there.directory / "other")
    assert there.shipping.pull(found, other, there.report, held).id == content.image_id
    # Digests that are not those of the lowest layers are no help.
    third = OciLayout(there.directory / "third")
    assert there.shipping.pull(found, third, there.report, ("sha256:" + "0" * 64,)).id == content.image_id


def test_an_engine_takes_what_was_pulled(here: Machine, there: Machine) -> None:
    """As an archive whose layers are compressed, which engines read."""
    content = here.image(BASE, b"own eight", label="x")
    here.push(content, "eight/dispatch:t")
    engine = FakeImageStore()
    record = there.shipping.pull(there.find("eight/dispatch:t"), engine, there.report)
    assert (record.id, record.labels) == (content.image_id, {"label": "x"})
    assert engine.loads == 1


def test_a_pull_that_was_killed_goes_on(here: Machine, there: Machine, line: BadLine) -> None:
    """Layers that had come are not fetched again, and nothing of them stays afterwards."""
    content = here.image(BASE, b"own nine")
    here.push(content, "nine/dispatch:t")
    found = there.find("nine/dispatch:t")
    first, second = found.manifest.layers

    def choose(method: str, path: str) -> Fault | None:  # noqa: ARG001
        if second.digest not in path:
            return None
        done = there.directory / "cache" / "downloads" / first.digest[7:]
        until(lambda: done.exists() and done.stat().st_size == first.size)
        return Fault.BUSY

    line.choose = choose
    with pytest.raises(RegistryBusyError):
        there.shipping.pull(found, there.layout, there.report)
    assert there.layout.inspect_image(content.image_id) is None
    line.choose = lambda *_: None
    line.requests.clear()
    there.shipping.pull(found, there.layout, there.report)
    assert len(line.requests) == 1
    kept = [
        path for path in (there.directory / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"
    ]
    assert {path.parent.name for path in kept} == {"blobs"}


def until(reached: Callable[[], bool]) -> None:
    """Wait for something that will be."""
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_tag_is_given_without_sending_anything(here: Machine, line: BadLine) -> None:
    """Nothing but the manifest."""
    pushed = here.push(here.image(BASE, b"own ten"), "ten/dispatch:t")
    sent(line)
    reference = parse_reference(f"{line.host}/ten/dispatch:t")
    assert here.shipping.tag(reference, "stable") == pushed
    assert sent(line) == ["PUT"]
    assert here.find("ten/dispatch:stable").image == pushed


def test_of_an_index_the_image_of_the_platform_is_taken(here: Machine, line: BadLine) -> None:
    """One for another platform alone is none."""
    pushed = here.push(here.image(BASE, b"own eleven"), "eleven/dispatch:amd")
    door = RegistryDoor(line.host, no_logins(here.directory))
    reference = parse_reference(f"{line.host}/eleven/dispatch:many")
    manifest = door.manifest(parse_reference(pushed.reference))
    assert manifest is not None
    entry = Descriptor(manifest.media_type, manifest.digest, len(manifest.body))
    for platform, expected in (("linux/amd64", pushed), ("linux/arm64", None)):
        system, _, architecture = platform.partition("/")
        listed = {**entry.to_json(), "platform": {"os": system, "architecture": architecture}}
        body = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}).encode()
        door.put_manifest(reference, Index(body, INDEX, (Variant(entry, platform),)))
        found = here.shipping.find(reference)
        assert (found.image if found else None) == expected


def test_one_layer_that_fails_ends_the_push(here: Machine, line: BadLine) -> None:
    """With its own error, and the registry has no such image."""
    content = here.image(BASE, b"own twelve")
    good, bad = content.layers
    broken = replace(bad, diff_id=digest_of(b"another"))
    with pytest.raises(ImageError, match="is not what its digest says"):
        here.push(replace(content, layers=(good, broken)), "twelve/dispatch:t")
    assert here.shipping.find(parse_reference(f"{line.host}/twelve/dispatch:t")) is None


def test_a_push_can_be_given_up(here: Machine, line: BadLine) -> None:
    """It ends at once, and nothing of it is left on the disk."""
    content = here.image(BASE, b"own thirteen")
    shipping = here.shipping_of(line.host, lambda: False)
    with pytest.raises(ImageError, match="interrupted"):
        shipping.push(content, parse_reference(f"{line.host}/thirteen/dispatch:t"), here.report)
    assert list((here.directory / "cache" / "staging").iterdir()) == []


def test_an_image_that_does_not_agree_with_itself(here: Machine, line: BadLine) -> None:
    """A manifest with fewer layers than its configuration tells is refused."""
    here.push(here.image(BASE, b"own fourteen"), "fourteen/dispatch:t")
    found = here.find("fourteen/dispatch:t")
    door = RegistryDoor(line.host, no_logins(here.directory))
    reference = found.reference.tagged("bad")
    door.put_manifest(reference, write_manifest(found.manifest.config, found.manifest.layers[:1]))
    with pytest.raises(RegistryDamagedError, match="do not agree"):
        here.shipping.find(reference)


def test_layers_are_taken_from_the_cache(here: Machine, tmp_path: Path) -> None:
    """By their digests; a damaged one is thrown away, and said."""
    cache = LayerCache(tmp_path / "layers")
    file = tmp_path / "file"
    file.write_bytes(OWN)
    layer = cache.write("key", lambda: FileStream(file))
    content = image_content(config_of((OWN,), {}), [CachedLayers(cache)])
    assert here.push(content, "cache/dispatch:t")
    layer.path.write_bytes(OWN.replace(b"o", b"O"))
    with pytest.raises(ImageError, match="damaged"):
        list(archive(content))
    assert cache.find("key") is None
    with pytest.raises(ImageError, match="1 of its 1 layers are not at hand"):
        image_content(config_of((OWN,), {}), [CachedLayers(cache)])


def test_layers_are_taken_from_an_engine(here: Machine, tmp_path: Path) -> None:
    """It is asked once, and only for what is nowhere else."""
    content = here.image(BASE, OWN)
    record = here.layout.inspect_image(content.image_id)
    assert record is not None
    engine = _SavingEngine(b"".join(archive(content)))
    room = tmp_path / "room"
    room.mkdir()
    saved = SavedImage(engine, record, room)
    assert saved.find(["sha256:" + "0" * 64]) == {}
    assert engine.asked == 0
    assert saved.config() == content.config
    again = image_content(saved.config(), [saved])
    assert b"".join(archive(again)) == b"".join(archive(content))
    with ThreadPoolExecutor(4) as pool:
        fresh = SavedImage(engine, record, room)
        found = list(pool.map(lambda _: set(fresh.find(record.diff_ids)), range(4)))
    assert found == [set(record.diff_ids)] * 4
    assert engine.asked == 2
    other = SavedImage(engine, replace(record, id="sha256:" + "0" * 64), room)
    with pytest.raises(ImageError, match="another digest"):
        other.config()


class _SavingEngine:
    """An engine that gives one archive to everybody."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.asked = 0

    def save(self, image_id: str) -> io.BytesIO:  # noqa: ARG002
        self.asked += 1
        time.sleep(0.05)  # long enough for others to come and ask, too
        return io.BytesIO(self._content)
