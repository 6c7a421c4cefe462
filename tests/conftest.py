"""What tests of a real engine share: its address, the door to it, and an image without a registry."""

from __future__ import annotations

import ipaddress
import json
import os
import platform
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from dispatch._docker import Address, Door, ImageRecord, engine_address
from dispatch.testing import gantry, gitimage
from dispatch.testing.busybox import REFERENCE, busybox_archive

BUSYBOX = Path("/bin/busybox")

pytest.register_assert_rewrite(
    "dispatch.testing.contracts_driving",
    "dispatch.testing.contracts_engine",
    "dispatch.testing.contracts_workspace",
)


def pytest_configure() -> None:
    """Hear Ctrl-C: what a shell puts into the background ignores it, and so would what it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def address() -> Address:
    """The address of the engine that tests use: the user's own."""
    return engine_address(os.environ)


@pytest.fixture(scope="session")
def door(address: Address) -> Iterator[Door]:
    """The door to a Docker Engine that answers."""
    door = Door(address)
    door.ping()
    yield door
    door.close()


@pytest.fixture(scope="session")
def load_busybox() -> Callable[[Door], ImageRecord]:
    """Gives an engine an image of Debian's busybox-static."""
    return lambda door: _load(door, {}, REFERENCE)


@pytest.fixture(scope="session")
def busybox_image(door: Door) -> ImageRecord:
    """An image of Debian's busybox-static, kept in the engine under one name for later sessions."""
    return _load(door, {}, REFERENCE)


@pytest.fixture(scope="session")
def git_image(door: Door) -> ImageRecord:
    """The same with this machine's git in it."""
    return _load(door, gitimage.git_files(), gitimage.REFERENCE)


@pytest.fixture(scope="session")
def gantry_image(door: Door) -> ImageRecord:
    """The same with bash, git and curl in it: what gantry's entrypoint needs."""
    return _load(door, gantry.image_files(), gantry.REFERENCE)


@pytest.fixture(scope="session")
def bridge() -> str:
    """This machine's address as containers see it."""
    words = ("docker", "network", "inspect", "bridge", "--format", "{{json (index .IPAM.Config 0)}}")
    found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    # An engine that was not told its address takes the first of the network.
    return found.get("Gateway") or str(next(ipaddress.ip_network(found["Subnet"], strict=False).hosts()))


def _load(door: Door, more: Mapping[str, bytes], reference: str) -> ImageRecord:
    if not BUSYBOX.exists():
        pytest.fail(f"{BUSYBOX} is missing: install it with `apt-get install busybox-static`", pytrace=False)
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    door.load([busybox_archive(BUSYBOX.read_bytes(), listed.stdout.split(), architecture, more, reference)])
    record = door.inspect_image(reference)
    assert record is not None
    return record
