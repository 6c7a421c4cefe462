"""Where the engine is, and what is said when nobody is there."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import pytest

from dispatch._docker import Address, Door, EngineAbsentError, engine_address
from dispatch._docker.address import Tls
from dispatch.errors import ConfigurationError

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
    "value",
    [
        *(
            "docker",
            "/var/run/docker.sock",
            "tcp://",
            "ftp://x",
            "unix://run/d.sock",
            "http://x",
            "npipe://x",
        ),
        *("ssh://-oProxyCommand=touch%20x", "ssh://-x", "tcp://a b", "tcp://host:99999", "ssh://host:0"),
        *("ssh://-l@host", "ssh://a b@host", "ssh://", "tcp://:2375"),
    ],
)
def test_address_that_is_none(value: str) -> None:
    """What cannot be an address is refused with the variable's name."""
    with pytest.raises(ConfigurationError, match="DOCKER_HOST"):
        engine_address({"DOCKER_HOST": value})


@pytest.mark.parametrize("url", ["tcp://user:geheim@10.0.0.1:2376", "ssh://user:geheim@build"])
def test_password_in_the_address(url: str) -> None:
    """A password has no place in an address, and is not repeated."""
    with pytest.raises(ConfigurationError, match="password") as caught:
        engine_address({"DOCKER_HOST": url})
    assert "geheim" not in caught.value.message + caught.value.remedy
    assert caught.value.remedy


def test_parts_of_an_address() -> None:
    """Host, port, user and socket are taken apart, with the ports that the docker command has."""
    address = engine_address({"DOCKER_HOST": "ssh://me@build:2222/run/user/1000/docker.sock"})
    assert (address.host, address.port, address.user) == ("build", 2222, "me")
    assert address.path == "/run/user/1000/docker.sock"
    assert engine_address({"DOCKER_HOST": "ssh://build"}).port is None
    assert engine_address({"DOCKER_HOST": "tcp://build"}).port == 2375
    assert engine_address({"DOCKER_HOST": "tcp://build", "DOCKER_TLS_VERIFY": "1"}).port == 2376
    assert engine_address({"DOCKER_HOST": "tcp://[fe80::1]:7"}).host == "fe80::1"


def test_certificates() -> None:
    """TLS is spoken when DOCKER_TLS_VERIFY is not empty, with files where DOCKER_CERT_PATH says."""
    host = {"DOCKER_HOST": "tcp://build"}
    assert engine_address({**host, "DOCKER_CERT_PATH": "/c"}).tls is None
    assert engine_address({**host, "DOCKER_TLS_VERIFY": "", "DOCKER_CERT_PATH": "/c"}).tls is None
    found = engine_address({**host, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": "/c"}).tls
    assert found == Tls(Path("/c/ca.pem"), Path("/c/cert.pem"), Path("/c/key.pem"))
    found = engine_address({**host, "DOCKER_TLS_VERIFY": "1", "HOME": "/h"}).tls
    assert found is not None and found.key == Path("/h/.docker/key.pem")


def _context(home: Path, name: str, meta: object) -> None:
    digest = hashlib.sha256(name.encode()).hexdigest()
    place = home / ".docker" / "contexts" / "meta" / digest
    place.mkdir(parents=True)
    (place / "meta.json").write_text(meta if isinstance(meta, str) else json.dumps(meta))
    tls = home / ".docker" / "contexts" / "tls" / digest / "docker"
    tls.mkdir(parents=True)
    (tls / "ca.pem").write_text("")


def test_contexts(tmp_path: Path) -> None:
    """DOCKER_HOST wins over DOCKER_CONTEXT, which wins over the configured context; ``default`` is none."""
    home = {"HOME": str(tmp_path)}
    assert engine_address(home) == Address(DEFAULT)
    for name in ("far", "near"):
        meta = {"Name": name, "Endpoints": {"docker": {"Host": f"tcp://{name}:2376", "SkipTLSVerify": False}}}
        _context(tmp_path, name, meta)
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "far"}')
    assert engine_address(home).url == "tcp://far:2376"
    found = engine_address(home).tls
    assert found is not None and found.authority is not None and found.certificate is None and found.verify
    assert engine_address({**home, "DOCKER_CONTEXT": "near"}).url == "tcp://near:2376"
    assert engine_address({**home, "DOCKER_CONTEXT": "default"}) == Address(DEFAULT)
    assert engine_address({**home, "DOCKER_HOST": "unix:///x.sock"}).url == "unix:///x.sock"
    assert engine_address({"DOCKER_CONFIG": f"{tmp_path}/.docker"}).url == "tcp://far:2376"


def test_contexts_that_are_none(tmp_path: Path) -> None:
    """A context that is named and missing or broken is an error; a broken configuration is as none."""
    home = {"HOME": str(tmp_path)}
    with pytest.raises(ConfigurationError, match="no such context"):
        engine_address({**home, "DOCKER_CONTEXT": "gone"})
    _context(tmp_path, "broken", "{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        engine_address({**home, "DOCKER_CONTEXT": "broken"})
    (tmp_path / ".docker" / "config.json").write_text("{")
    assert engine_address(home) == Address(DEFAULT)


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
