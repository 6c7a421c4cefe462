"""The proxy that answers for another host: for that one, for what is mirrored, and for nobody else."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest
import requests

from dispatch.beakerd.config import Interception
from dispatch.beakerd.intercept import Interceptor, is_mirrored, mirror_mount


@pytest.fixture
def mirrors(tmp_path: Path) -> Path:
    """A directory with a mirror of acme/demo."""
    repository = tmp_path / "mirrors/acme/demo.git"
    repository.mkdir(parents=True)
    (repository / "HEAD").write_text("ref: refs/heads/main\n")
    return tmp_path / "mirrors"


@pytest.fixture
def proxy(mirrors: Path, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A proxy for github.com: its port, and the authority to trust."""
    interceptor = Interceptor(
        Interception("github.com", mirrors), tmp_path / "tls", datetime.now(timezone.utc)
    )
    yield interceptor.start(), tmp_path / "tls/ca.pem"
    interceptor.stop()


def ask(proxy: tuple[int, Path], url: str) -> requests.Response:
    """Ask through the proxy, as a tool with HTTPS_PROXY and REQUESTS_CA_BUNDLE does."""
    port, authority = proxy
    return requests.get(url, proxies={"https": f"http://127.0.0.1:{port}"}, verify=str(authority), timeout=20)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("acme/demo", 200),
        ("acme/demo.git", 200),
        ("acme/other", 404),
        ("acme", 404),
        ("acme/demo/issues", 404),
    ],
)
def test_a_repository_is_there_if_it_is_mirrored(proxy: tuple[int, Path], path: str, status: int) -> None:
    """What the host is asked for is answered from the mirrors alone."""
    assert ask(proxy, f"https://github.com/{path}").status_code == status


def test_other_hosts_are_refused(proxy: tuple[int, Path]) -> None:
    """Nothing is passed on: it is no open proxy."""
    with pytest.raises(requests.exceptions.ProxyError):
        ask(proxy, "https://example.org/acme/demo")


@pytest.mark.parametrize(
    "rubbish", [b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" * 40 + b"\r\n\r\n", b""]
)
def test_rubbish_ends_the_connection_and_nothing_else(proxy: tuple[int, Path], rubbish: bytes) -> None:
    """After whatever a stranger sends, the next one is answered."""
    with socket.create_connection(("127.0.0.1", proxy[0]), timeout=20) as line:
        line.sendall(rubbish)
        line.shutdown(socket.SHUT_WR)
        while line.recv(4096):
            pass
    assert ask(proxy, "https://github.com/acme/demo").status_code == 200


@pytest.mark.parametrize(
    "path", ["/acme/..", "/../demo", "/acme/demo.git/HEAD", "/acme/%2e%2e", "//acme/demo", ""]
)
def test_no_path_leaves_the_mirrors(mirrors: Path, path: str) -> None:
    """Only /owner/name is looked for."""
    assert not is_mirrored(mirrors, path)


def test_jobs_clone_from_the_mirrors(mirrors: Path) -> None:
    """git in a job finds the host's repositories in the mounted mirrors."""
    mount = mirror_mount(Interception("github.com", mirrors))
    assert mount.source == mirrors
    assert mount.env["GIT_CONFIG_KEY_0"] == "url.file:///run/beaker-git/.insteadOf"
    assert mount.env["GIT_CONFIG_VALUE_0"] == "https://github.com/"
