"""What tests of a real engine share: its address, the door to it, and an image without a registry."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch._docker import Address, Door, ImageRecord, engine_address
from dispatch.testing.busybox import REFERENCE, busybox_archive

BUSYBOX = Path("/bin/busybox")

pytest.register_assert_rewrite("dispatch.testing.contracts_engine", "dispatch.testing.contracts_workspace")


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
    if not BUSYBOX.exists():
        pytest.fail(f"{BUSYBOX} is missing: install it with `apt-get install busybox-static`", pytrace=False)
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True)
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    archive = busybox_archive(BUSYBOX.read_bytes(), listed.stdout.split(), architecture)

    def load(door: Door) -> ImageRecord:
        door.load([archive])
        record = door.inspect_image(REFERENCE)
        assert record is not None
        return record

    return load


@pytest.fixture(scope="session")
def busybox_image(door: Door, load_busybox: Callable[[Door], ImageRecord]) -> ImageRecord:
    """That image in the user's engine, kept under one name for later sessions."""
    return load_busybox(door)
