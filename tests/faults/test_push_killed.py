"""A client that is killed while it takes an image in and pushes it: the next one finds nothing broken."""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._registry import RegistryDoor, parse_reference
from dispatch.image.content import archive
from dispatch.image.ocilayout import OciLayout
from dispatch.image.shipping import Shipping
from dispatch.testing.faults import Child
from dispatch.testing.layers import layered_archive
from dispatch.testing.registries import RealRegistry, docker_registry, no_logins
from dispatch.testing.reporting import RecordingReporter

MOMENTS = max(4, int(100 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
LAYERS = [random.Random(number).randbytes(600_000) for number in range(3)]
ARCHIVE = layered_archive("x:y", LAYERS)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that is open to everybody."""
    with docker_registry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


def _work(directory: Path, host: str, name: str) -> str:
    """Take the image in, name it, push it, and pull it into another directory; return its ID."""
    layout, other = OciLayout(directory / "oci"), OciLayout(directory / "other")
    layout.load([ARCHIVE])
    layout.tag(IMAGE, "dispatch", "t")
    record = layout.inspect_image("dispatch:t")
    assert record is not None
    shipping = Shipping(RegistryDoor(host, no_logins(directory)), directory / "cache")
    reference = parse_reference(f"{host}/{name}:t")
    shipping.push(layout.content(record), reference, RecordingReporter())
    published = shipping.find(reference)
    assert published is not None
    return shipping.pull(published, other, RecordingReporter()).id


def _image() -> str:
    with tarfile.open(fileobj=io.BytesIO(ARCHIVE)) as tar:
        config = tar.extractfile("config.json")
        assert config is not None
        return f"sha256:{hashlib.sha256(config.read()).hexdigest()}"


IMAGE = _image()


def test_a_killed_client_leaves_nothing_that_is_half_there(registry: RealRegistry, tmp_path: Path) -> None:
    """At any moment: directories hold whole images or none, and repeating the work ends it."""
    began = time.perf_counter()
    assert _work(tmp_path / "whole", registry.host, "whole/image") == IMAGE
    took = time.perf_counter() - began
    chance = random.Random(4)
    for moment in range(MOMENTS):
        directory = tmp_path / str(moment)
        directory.mkdir()
        child = Child(lambda: _work(directory, registry.host, f"killed/{moment}"))  # noqa: B023
        time.sleep(chance.uniform(0, 1.2 * took))
        child.send(signal.SIGKILL)
        child.wait()
        for name in ("oci", "other"):
            layout = OciLayout(directory / name)
            record = layout.inspect_image(IMAGE)
            if record is not None:
                assert len(b"".join(archive(layout.content(record)))) > sum(map(len, LAYERS))
        assert _work(directory, registry.host, f"killed/{moment}") == IMAGE
        assert [each for each in (directory / "cache" / "staging").iterdir() if each.is_dir()] == []
    assert registry.damaged() == []
