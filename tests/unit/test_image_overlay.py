"""A few files on top of an image: made once, the same everywhere, and checked."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch.errors import ImageError
from dispatch.image.overlay import Overlay
from dispatch.image.spec import ImageSpec
from dispatch.image.tar import Entry
from dispatch.testing.images import FakeImageStore

FILES = (
    Entry.file("opt/tool/bin/tool", b"#!/bin/sh\n", 0o755),
    Entry.symlink("opt/tool/lib", "/opt/other/lib"),
    Entry.directory("opt/tool/empty"),
)


def base_of(store: FakeImageStore) -> ImageRecord:
    """An image that the store holds."""
    config = {"Env": ["PATH=/bin"], "Labels": {"theirs": "kept"}}
    layers = (f"sha256:{'1' * 64}",)
    return store.add(ImageRecord(f"sha256:{'0' * 64}", {"theirs": "kept"}, layers, config, ()))


def spec_of(overlay: Overlay) -> ImageSpec:
    """The specification of an overlay on that image."""
    return ImageSpec("linux/amd64", "spec:below", "lock", (overlay.recipe,), env=(("PATH", "/opt/tool/bin"),))


def test_it_is_made_once(tmp_path: Path) -> None:
    """The second time finds the first, without the order of the files mattering; other files are another."""
    store = FakeImageStore()
    base = base_of(store)
    first, again = Overlay("files", FILES), Overlay("files", reversed(FILES))
    made = first.provide(spec_of(first), base, store, tmp_path)
    assert again.provide(spec_of(again), base, store, tmp_path) == made
    assert store.loads == 1
    other = Overlay("files", FILES[1:])
    assert other.provide(spec_of(other), base, store, tmp_path).id != made.id
    assert made.diff_ids[0] == base.diff_ids[0]
    assert len(made.diff_ids) == 2


def test_what_is_below_shows_through(tmp_path: Path) -> None:
    """Foreign labels stay, variables are replaced, and the image says what it was made from."""
    store = FakeImageStore()
    overlay = Overlay("files", FILES)
    made = overlay.provide(spec_of(overlay), base_of(store), store, tmp_path)
    assert made.labels["theirs"] == "kept"
    assert made.labels["dispatch.digest"] == spec_of(overlay).digest
    assert "PATH=/opt/tool/bin" in made.config["Env"]


def test_directories_above_are_made() -> None:
    """An engine would make missing ones with a mode of its own."""
    with Overlay("files", FILES).layer() as layer:
        content = io.BytesIO(b"".join(layer.chunks()))
    with tarfile.open(fileobj=content) as archive:
        names = archive.getnames()
    assert names == ["opt", "opt/tool", "opt/tool/bin", "opt/tool/bin/tool", "opt/tool/empty", "opt/tool/lib"]


def test_a_refused_load_leaves_nothing(tmp_path: Path) -> None:
    """It is the engine's error, and the next attempt begins anew."""
    store = FakeImageStore()
    base = base_of(store)
    overlay = Overlay("files", FILES)
    store.refusal = "no space left on device"
    with pytest.raises(ImageError, match="no space left"):
        overlay.provide(spec_of(overlay), base, store, tmp_path)
    store.refusal = None
    assert overlay.provide(spec_of(overlay), base, store, tmp_path).labels
    other = replace(spec_of(overlay), labels=(("of", "another"),))
    assert overlay.provide(other, base, store, tmp_path).labels["of"] == "another"
