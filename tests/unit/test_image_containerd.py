"""An engine with the containerd image store: whole archives, images known by the digest of their manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import ImageRecord
from dispatch._docker.images import image_record
from dispatch.environment import LocalId
from dispatch.errors import ImageError
from dispatch.image.builder import Builder
from dispatch.image.content import LayerContent, LayerSource
from dispatch.image.maker import Tools
from dispatch.image.plan import Action, plan_images
from dispatch.image.report import BuildReport
from dispatch.testing.catalogue import FakeLocks, debian_image, debian_lock, environments, pip_image, pip_lock
from dispatch.testing.images import ContentStore, FakeHelper, FakeInstaller, FakeRootfs, base_image, with_tags
from dispatch.testing.reporting import RecordingReporter

BOTTOM = b"the layer of somebody's image"
THEIRS = base_image("python:3.11")
CATALOGUE = environments(
    base=debian_image(), ml=pip_image("ml"), theirs="python:3.11", upon=pip_image("upon", base="theirs")
)
LOCKS = FakeLocks({"base": debian_lock(), **dict.fromkeys(("ml", "upon"), pip_lock("numpy==2.0"))})


class Saved:
    """The layers that ``docker save`` gives of an image; ``asked`` are those that were needed."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.content = BOTTOM

    def __call__(self, record: ImageRecord, room: Path) -> LayerSource:
        """Of the image that is below."""
        assert room.is_dir() and record.by_manifest
        return self

    def find(self, diff_ids: Collection[str]) -> Mapping[str, LayerContent]:
        """One layer is all there is."""
        self.asked += diff_ids

        @contextmanager
        def opened() -> Iterator[Iterator[bytes]]:
            yield iter([self.content])

        return {each: LayerContent(each, len(BOTTOM), opened) for each in diff_ids}


class Yard:
    """A builder for such an engine, with the cache in ``cache``."""

    def __init__(self, cache: Path) -> None:
        layer = f"sha256:{hashlib.sha256(BOTTOM).hexdigest()}"
        theirs = ImageRecord(THEIRS.id, {}, (layer,), THEIRS.config, (), "amd64", "linux")
        self.store = ContentStore({"python:3.11": theirs})
        self.cache = cache
        self.saved = Saved()
        self.installer = FakeInstaller({"numpy": {"numpy/__init__.py": "x = 1\n"}})

    def build(self, name: str) -> BuildReport:
        """Plan and build."""
        tools = Tools(self.store, FakeHelper(), self.installer, FakeRootfs(), "0:0", saved=self.saved)
        plan = plan_images([name], CATALOGUE, LOCKS, self.store)
        return Builder(tools, self.cache, clock=lambda: 0.0).build(plan, RecordingReporter())


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    """An engine that holds nothing."""
    return Yard(tmp_path / "cache")


def test_the_base_comes_along(yard: Yard) -> None:
    """What is loaded is whole, with the base's layers from the cache; it is found again by what it says."""
    report = yard.build("ml")
    report.raise_failures()
    record = yard.store.inspect_image(report.references["ml"])
    assert record is not None and record.by_manifest and report.images == {"ml": LocalId(record.id)}
    assert len(record.diff_ids) == 3 and yard.saved.asked == []
    again = yard.build("ml")
    assert again.images == report.images and again.done["ml"].action is Action.PRESENT


def test_layers_that_only_the_engine_has(yard: Yard) -> None:
    """Those of an image that was pulled are saved from the engine, once."""
    report = yard.build("upon")
    report.raise_failures()
    assert len(yard.saved.asked) == 1
    assert yard.build("upon").done["upon"].action is Action.PRESENT


def test_a_layer_that_is_not_what_it_says(yard: Yard) -> None:
    """An engine that gives other bytes than its digests say is found out, and nothing is named."""
    yard.saved.content = b"the layer of anybody's image."
    report = yard.build("upon")
    assert isinstance(report.failures["upon"], ImageError)
    assert not [tag for image in yard.store.images.values() for tag in image.tags if "upon--" in tag]


def test_an_image_on_top_of_ours_is_not_ours(yard: Yard) -> None:
    """It has our labels, and one layer more."""
    first = yard.build("ml")
    record = yard.store.inspect_image(first.references["ml"])
    assert record is not None
    yard.store.images.pop(record.id)
    more = ImageRecord(
        THEIRS.id, record.labels, (*record.diff_ids, "sha256:more"), record.config, (), "amd64", "linux"
    )
    yard.store.add(with_tags(more, ("mine:1",)))
    assert yard.build("ml").done["ml"].action is Action.BUILD


@pytest.mark.parametrize(
    ("inspection", "by_manifest"),
    [
        ({"GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": "/x"}}}, False),
        ({"GraphDriver": {"Name": "overlayfs", "Data": None}}, True),
        ({"Descriptor": {"digest": "sha256:1"}, "GraphDriver": {"Name": "overlayfs"}}, True),
        ({}, False),
    ],
)
def test_how_it_is_told(inspection: dict[str, Any], by_manifest: bool) -> None:
    """What an engine's inspection shows of its store."""
    assert image_record({"Id": "sha256:1", **inspection}).by_manifest is by_manifest
