"""Ways to engines elsewhere, and what is said when one does not lead there."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import Address, Door, EngineAbsentError
from dispatch._docker.address import Tls
from dispatch._docker.bridge import Bridge
from dispatch._docker.socket import EngineSocket
from dispatch._docker.ssh import SshTransport, ssh_command
from dispatch._docker.transport import UnixTransport
from dispatch.errors import EngineError
from dispatch.testing.engine_socket import PONG, Answering, answering
from dispatch.testing.far import Relay

OPTIONS = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=30"]
OPTIONS += ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Answering]:
    """Something that answers like an engine on a unix socket."""
    with answering(tmp_path / "e.sock") as engine:
        yield engine


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://build", ["--", "build", "docker system dial-stdio"]),
        ("ssh://me@build", ["-l", "me", "--", "build", "docker system dial-stdio"]),
        ("ssh://me@b:22", ["-l", "me", "-p", "22", "--", "b", "docker system dial-stdio"]),
        ("ssh://b/run/d.sock", ["--", "b", "docker --host unix:///run/d.sock system dial-stdio"]),
        ("ssh://b/a;touch x", ["--", "b", "docker --host 'unix:///a;touch x' system dial-stdio"]),
    ],
)
def test_ssh_command(url: str, words: list[str]) -> None:
    """The user's ssh is asked for no password, and nothing of an address becomes an option or a command."""
    assert ssh_command(Address(url)) == ["ssh", "-T", *OPTIONS, *words]


def _ssh(script: str) -> Callable[..., subprocess.Popen[bytes]]:
    """An ssh client that is a script."""

    def launch(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        assert command[0] == "ssh"
        return subprocess.Popen(["/bin/sh", "-c", script], **options)

    return launch


@pytest.mark.parametrize(
    ("script", "fact", "remedy"),
    [
        (
            "echo 'ssh: Could not resolve hostname build' >&2; exit 255",
            "ended with 255: ssh: Could not resolve hostname build",
            "ssh -o BatchMode=yes -- build true",
        ),
        ("echo 'Permission denied (publickey).' >&2; exit 255", "publickey", "by a key"),
        ("echo 'sh: docker: not found' >&2; exit 127", "docker: not found", "install the docker command"),
        (
            "echo 'permission denied while trying to connect to the Docker daemon socket' >&2; exit 1",
            "permission denied",
            "group `docker` on build",
        ),
        ("exit 3", "ended with 3: it said nothing", "runs on build"),
    ],
)
def test_ssh_that_fails(script: str, fact: str, remedy: str) -> None:
    """The last words of ssh are the fact, and what to do follows from how it ended."""
    address = Address("ssh://build", chosen=True)
    with pytest.raises(EngineError, match=fact) as caught:
        EngineSocket(address, SshTransport(address, _ssh(script))).ask("GET", "/_ping")
    assert re.search(remedy, caught.value.remedy)


def test_no_ssh() -> None:
    """Where there is no ssh client, that is said."""

    def launch(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory")

    address = Address("ssh://build", chosen=True)
    with pytest.raises(EngineError, match="ssh cannot be started"):
        EngineSocket(address, SshTransport(address, launch)).ask("GET", "/_ping")


def test_ssh_that_works(engine: Answering) -> None:
    """What goes into the client comes out over there, and back."""
    script = f"exec {engine.netcat}"
    address = Address("ssh://build", chosen=True)
    reply = EngineSocket(address, SshTransport(address, _ssh(script))).ask("GET", "/_ping")
    assert reply.body == PONG


def test_tcp(engine: Answering) -> None:
    """An engine behind a TCP port is asked like any other."""
    relay = Relay(engine.path)
    assert Door(Address(f"tcp://127.0.0.1:{relay.port}", chosen=True)).ping().server == "Docker/1"
    relay.close()


def test_tcp_that_nobody_listens_to() -> None:
    """Nobody there is told from an engine that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EngineAbsentError, match=f"nobody listens at tcp://127.0.0.1:{port}") as caught:
        Door(Address(f"tcp://127.0.0.1:{port}", chosen=True)).ping()
    assert "DOCKER_HOST" in caught.value.remedy


def test_unknown_host() -> None:
    """A host that no name service knows is named."""
    with pytest.raises(EngineError, match=r"host 'no-such-host\.invalid'"):
        Door(Address("tcp://no-such-host.invalid:2375", chosen=True)).ping()


class Authority:
    """A certificate authority in a directory of its own, and what it signed."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.place = place
        self.ca = place / "ca.pem"
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ca", "-days", "2")

    def _openssl(self, *words: str, out: str = "ca") -> None:
        command = ["openssl", *words, "-keyout", f"{out}-key.pem", "-out", f"{out}.pem"]
        subprocess.run(command, cwd=self.place, check=True, capture_output=True)

    def sign(self, name: str) -> tuple[Path, Path]:
        """Certificate and key for 127.0.0.1."""
        new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-days", "2")
        signed = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-addext", "subjectAltName=IP:127.0.0.1")
        self._openssl(*new, *signed, out=name)
        return self.place / f"{name}.pem", self.place / f"{name}-key.pem"

    def server(self) -> ssl.SSLContext:
        """What a server speaks that wants certificates of its clients."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
        # As an engine: its authorities need not say what they may be used for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.load_cert_chain(*self.sign("server"))
        context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that engine and client trust."""
    return Authority(tmp_path_factory.mktemp("tls") / "good")


def test_tls(engine: Answering, authority: Authority) -> None:
    """With certificates on both sides the engine is asked like any other."""
    relay = Relay(engine.path, authority.server())
    tls = Tls(authority.ca, *authority.sign("client"))
    assert Door(Address(f"tcp://127.0.0.1:{relay.port}", True, tls)).ping().server == "Docker/1"
    relay.close()


def test_tls_that_is_not_trusted(engine: Answering, authority: Authority, tmp_path: Path) -> None:
    """Each certificate that is wrong, missing or not asked for is said to be, with the variable to mend."""
    other = Authority(tmp_path / "other")
    relay = Relay(engine.path, authority.server())
    plain = Relay(engine.path)
    client = authority.sign("client")
    gone = tmp_path / "gone.pem"
    for port, tls, words in (
        (relay.port, Tls(other.ca, *client), "is not trusted"),
        (relay.port, Tls(gone, *client), "gone.pem"),
        (relay.port, Tls(authority.ca, gone, gone), "certificates that cannot be used"),
        (relay.port, Tls(authority.ca, *other.sign("client")), "TLS|broke off"),
        (relay.port, None, "broke off"),
        (plain.port, Tls(authority.ca, *client), "no TLS connection"),
    ):
        with pytest.raises(EngineError, match=words):
            Door(Address(f"tcp://127.0.0.1:{port}", True, tls)).ping()
    relay.close()
    plain.close()


def test_bridge(engine: Answering) -> None:
    """A socket of ours leads where the transport leads, time and again, and is gone when it is closed."""
    bridge = Bridge(UnixTransport(Address(f"unix://{engine.path}")))
    near = Address(f"unix://{bridge.path}")
    for _ in range(3):
        assert EngineSocket(near).ask("GET", "/_ping").body == PONG
    assert bridge.path.parent.stat().st_mode & 0o077 == 0
    bridge.close()
    assert not bridge.path.exists()
    with pytest.raises(EngineAbsentError):
        EngineSocket(near).ask("GET", "/_ping")


def test_body_that_is_made_while_it_goes_out(engine: Answering) -> None:
    """A body arrives whole in chunks; one that breaks off does not arrive as a whole one."""
    socket_ = EngineSocket(Address(f"unix://{engine.path}"))
    blocks = [bytes([number]) * 100_000 for number in range(50)]
    assert socket_.send("PUT", "/x", {"path": "/"}, iter([blocks[0], b"", *blocks[1:]])).status == 200
    assert engine.bodies[-1] == b"".join(blocks)

    def breaks() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("no more")

    before = len(engine.bodies)
    with pytest.raises(ValueError, match="no more"):
        socket_.send("PUT", "/x", {}, breaks())
    assert socket_.ask("GET", "/_ping").body == PONG
    assert len(engine.bodies) == before
