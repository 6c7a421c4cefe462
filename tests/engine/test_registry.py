"""Images between an engine and a registry, by us and by the engine itself: they are the same images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._docker import Credentials, Door, ImageRecord
from dispatch._registry import Patience, RegistryDoor, parse_reference
from dispatch.image.content import image_content
from dispatch.image.saved import SavedImage
from dispatch.image.shipping import Shipping
from dispatch.testing.layers import layered_archive
from dispatch.testing.registries import RealRegistry, docker_registry, no_logins
from dispatch.testing.reporting import RecordingReporter

pytestmark = pytest.mark.engine

NAME = "dispatch-test-registry"
BASE, WHOLE = f"{NAME}:base", f"{NAME}:whole"
FILES = (b"lower layer" * 10_000, b"upper layer" * 5_000)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RealRegistry]:
    """A registry that is open to everybody."""
    with docker_registry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def shipping(registry: RealRegistry, tmp_path: Path) -> Shipping:
    """Ships to and from it."""
    door = RegistryDoor(registry.host, no_logins(tmp_path), None, Patience(None, lambda _: None))
    return Shipping(door, tmp_path / "cache")


@pytest.fixture
def image(door: Door) -> Iterator[ImageRecord]:
    """An image of two layers, which goes when the test ends."""
    yield _loaded(door, WHOLE, FILES)
    _forget(door)


def _loaded(door: Door, name: str, files: tuple[bytes, ...]) -> ImageRecord:
    door.load([layered_archive(name, files)])
    record = door.inspect_image(name)
    assert record is not None
    return record


def _forget(door: Door) -> None:
    for name in (BASE, WHOLE):
        while (record := door.inspect_image(name)) is not None:
            for each in (*record.tags, *record.digests):
                door.remove_image(each)


def _pushed(door: Door, image: ImageRecord, shipping: Shipping, host: str, room: Path) -> str:
    room.mkdir()
    saved = SavedImage(door, image, room)
    reference = parse_reference(f"{host}/{NAME}:t")
    return shipping.push(image_content(saved.config(), [saved]), reference, RecordingReporter()).reference


def test_an_engine_pulls_what_we_pushed(
    door: Door, image: ImageRecord, shipping: Shipping, registry: RealRegistry, tmp_path: Path
) -> None:
    """By the digest that we name; it is the image that it was."""
    reference = _pushed(door, image, shipping, registry.host, tmp_path / "room")
    _forget(door)
    assert door.inspect_image(image.id) is None
    pulled = door.pull(reference, RecordingReporter())
    door.tag(pulled.id, *WHOLE.split(":"))
    assert (pulled.id, pulled.diff_ids) == (image.id, image.diff_ids)


@pytest.mark.parametrize("base", ["absent", "there"])
def test_we_pull_what_an_engine_lost(
    door: Door, image: ImageRecord, shipping: Shipping, registry: RealRegistry, tmp_path: Path, base: str
) -> None:
    """Whole, or without the layers of a base that the engine has; without any name of the registry."""
    _pushed(door, image, shipping, registry.host, tmp_path / "room")
    _forget(door)
    if base == "there":
        _loaded(door, BASE, FILES[:1])
    found = shipping.find(parse_reference(f"{registry.host}/{NAME}:t"))
    assert found is not None
    # A base that is not there at all is noticed, and all of it is brought.
    record = shipping.pull(found, door, RecordingReporter(), image.diff_ids[:1])
    assert (record.id, record.diff_ids, record.tags) == (image.id, image.diff_ids, ())
    door.tag(record.id, *WHOLE.split(":"))


def test_what_an_engine_pushed_is_found_and_mounted(
    door: Door, image: ImageRecord, shipping: Shipping, registry: RealRegistry, tmp_path: Path
) -> None:
    """Docker's manifests are read like ours; an engine's name for what it pushed says where layers lie."""
    name = f"{registry.host}/by-docker"
    door.tag(image.id, name, "t")
    door.push(f"{name}:t", RecordingReporter(), Credentials("nobody", "nothing"))
    found = shipping.find(parse_reference(f"{name}:t"))
    assert found is not None
    assert found.record.id == image.id
    record = door.inspect_image(image.id)
    assert record is not None
    assert found.image.reference in record.digests
    before = set(registry.blobs())
    reference = parse_reference(f"{registry.host}/{NAME}/mounted:t")
    room = tmp_path / "room"
    room.mkdir()
    saved = SavedImage(door, image, room)
    shipping.push(
        image_content(saved.config(), [saved]), reference, RecordingReporter(), tuple(record.digests)
    )
    (new,) = set(registry.blobs()) - before
    assert json.loads(registry.blobs()[new])["config"]["digest"] == image.id
