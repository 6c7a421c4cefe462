"""What an image's digest, tag, labels and configuration follow from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dispatch.image.config import image_config, image_id, is_image_of
from dispatch.image.spec import ImageSpec, LayerRecipe, differences
from dispatch.testing.images import base_image, with_tags

RECIPE = LayerRecipe("pip", 1, (("lock", "1" * 64), ("python", "3.11")))
SPEC = ImageSpec(
    platform="linux/amd64",
    base="spec:" + "0" * 64,
    lock="1" * 64,
    layers=(RECIPE,),
    path=("/opt/venv/bin",),
    env=(("VIRTUAL_ENV", "/opt/venv"),),
)


def test_the_digest_is_fixed() -> None:
    """The digest of a specification never changes by itself: images in the field would all be built again."""
    assert SPEC.digest == "e5523d1b79e58e7a3178c003e28e216b000616c13a61af27877438dc53b752a1"


@pytest.mark.parametrize(
    "change",
    [
        {"platform": "linux/arm64"},
        {"base": "spec:" + "2" * 64},
        {"lock": "3" * 64},
        {"layers": ()},
        {"layers": (replace(RECIPE, version=2),)},
        {"layers": (replace(RECIPE, inputs=(("lock", "1" * 64), ("python", "3.12"))),)},
        {"layers": (RECIPE, LayerRecipe("bytecode", 1, ()))},
        {"path": ()},
        {"env": (("VIRTUAL_ENV", "/opt/venv"), ("X", "1"))},
        {"user": "1000"},
        {"labels": (("a", "b"),)},
        {"epoch": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_enters_the_digest(change: dict[str, Any]) -> None:
    """Each field changes digest and tag, and is named when two specifications are compared."""
    other = replace(SPEC, **change)
    assert other.digest != SPEC.digest
    assert other.tag("x") != SPEC.tag("x")
    lines = differences(SPEC.document(), other.document())
    assert lines and all(line.startswith(next(iter(change))) for line in lines)


def test_no_difference() -> None:
    """Two equal specifications differ in nothing."""
    assert differences(SPEC.document(), replace(SPEC).document()) == []


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("sklearn", "sklearn"),
        ("My Image!", "my-image"),
        ("a" * 60, "a" * 40),
        ("-.x.-", "x"),
        ("größe", "gr-e"),
        ("日本", "image"),
        ("a" * 39 + "-b", "a" * 39),
    ],
)
def test_tags(name: str, readable: str) -> None:
    """A tag starts with what is readable of the name and ends in sixteen characters of the digest."""
    assert SPEC.tag(name) == f"{readable}--{SPEC.digest[:16]}"


def test_configuration() -> None:
    """What containers need of the base is inherited, what the base says of itself is not."""
    base = base_image("base:1")
    document = json.loads(image_config(SPEC, base, [*base.diff_ids, "sha256:" + "a" * 64]))
    config = document["config"]
    assert config["Env"] == ["PATH=/opt/venv/bin:/usr/bin:/bin", "BASE=1", "VIRTUAL_ENV=/opt/venv"]
    assert (config["Entrypoint"], config["Cmd"]) == ([], None)
    assert config["Labels"] == {
        "maintainer": "base:1",
        "dispatch.digest": SPEC.digest,
        "dispatch.lock.sha256": SPEC.lock,
        "org.opencontainers.image.created": "1980-01-01T00:00:00Z",
        "org.opencontainers.image.base.digest": base.id,
    }
    assert document["created"] == "1980-01-01T00:00:00Z"
    assert len(document["history"]) == len(document["rootfs"]["diff_ids"]) == 2


def test_reuse_is_exact() -> None:
    """An image that only inherited our labels is not taken for ours while its base is there."""
    base = base_image("base:1")
    layers = (*base.diff_ids, "sha256:" + "a" * 64)
    config = image_config(SPEC, base, layers)
    ours = replace(
        with_tags(base, ()),
        id=image_id(config),
        diff_ids=layers,
        config=json.loads(config)["config"],
        labels=json.loads(config)["config"]["Labels"],
    )
    derived = replace(ours, id="sha256:" + "d" * 64)
    foreign = replace(ours, labels={**ours.labels, "dispatch.lock.sha256": "9" * 64})
    assert is_image_of(ours, SPEC, base)
    assert not is_image_of(derived, SPEC, base)
    assert is_image_of(ours, SPEC, None)
    assert not is_image_of(foreign, SPEC, None)
