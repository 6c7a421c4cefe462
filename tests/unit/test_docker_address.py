"""Where the engine is, and what is said when nobody is there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dispatch._docker import Address, Door, EngineAbsentError, engine_address
from dispatch.errors import ConfigurationError, EngineError

DEFAULT = "unix:///var/run/docker.sock"


@pytest.mark.parametrize(
    ("value", "url", "chosen"),
    [
        (None, DEFAULT, False),
        ("", DEFAULT, False),
        ("  ", DEFAULT, False),
        ("unix://", DEFAULT, False),
        ("unix:///var/run/docker.sock", DEFAULT, False),
        ("unix:///run/user/1000/docker.sock", "unix:///run/user/1000/docker.sock", True),
        ("tcp://10.0.0.1:2376", "tcp://10.0.0.1:2376", True),
        ("ssh://me@build", "ssh://me@build", True),
    ],
)
def test_address(value: str | None, url: str, chosen: bool) -> None:
    """DOCKER_HOST decides, and an empty one is as good as none."""
    environ = {} if value is None else {"DOCKER_HOST": value}
    assert engine_address(environ) == Address(url, chosen)


@pytest.mark.parametrize(
    "value", ["docker", "/var/run/docker.sock", "tcp://", "ftp://x", "unix://run/d.sock"]
)
def test_address_that_is_none(value: str) -> None:
    """What cannot be an address is refused with the variable's name."""
    with pytest.raises(ConfigurationError, match="DOCKER_HOST"):
        engine_address({"DOCKER_HOST": value})


@pytest.mark.parametrize("url", ["tcp://user:geheim@10.0.0.1:2376", "ssh://user:geheim@build"])
def test_remote_engine_is_refused(url: str) -> None:
    """A remote engine is refused by name, and its password is not repeated."""
    with pytest.raises(EngineError, match="not supported yet") as caught:
        Door(engine_address({"DOCKER_HOST": url})).ping()
    assert "geheim" not in caught.value.message + caught.value.remedy
    assert caught.value.remedy


def test_no_socket(tmp_path: Path) -> None:
    """Without a socket the error names it, and how to start an engine."""
    with pytest.raises(EngineAbsentError, match="no socket") as caught:
        Door(Address(f"unix://{tmp_path}/none.sock")).ping()
    assert "dispatch engine start" in caught.value.remedy


def test_nobody_listens(tmp_path: Path) -> None:
    """A socket that an engine left behind is told from one that is missing."""
    path = tmp_path / "left.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.close()
    with pytest.raises(EngineAbsentError, match="nobody listens"):
        Door(Address(f"unix://{path}")).ping()
