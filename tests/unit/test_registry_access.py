"""Logging in to real registries: passwords, tokens, certificates, and whom they are shown to."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._registry import (
    Descriptor,
    Logins,
    Patience,
    RegistryBusyError,
    RegistryDeniedError,
    RegistryDoor,
    RegistryUnreachableError,
    RegistryUntrustedError,
    Transfer,
    Way,
    way_to,
)
from dispatch._registry.access import Challenge, read_challenge
from dispatch._registry.manifest import GZIP_LAYER, digest_of
from dispatch.testing.registries import (
    PASSWORD,
    USER,
    RealRegistry,
    TokenServer,
    answering,
    certificate_of_loopback,
    docker_registry,
    no_helper,
)
from dispatch.testing.registryproxy import BadLine

CONTENT = b"a layer"
BLOB = Descriptor(GZIP_LAYER, digest_of(CONTENT), len(CONTENT))


class Places:
    """Makes doors to a host with a login of one kind, or with none."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def door(self, host: str, entry: object = None, way: Way | None = None) -> RegistryDoor:
        """A door that never waits."""
        file = self._directory / "config.json"
        file.write_text(json.dumps({"auths": {host: entry}} if entry else {}))
        return RegistryDoor(host, Logins(file, no_helper), way, Patience(None, lambda _: None))

    def send(self, door: RegistryDoor, repository: str = "team/dispatch") -> bool:
        """Push a blob."""
        file = self._directory / "blob"
        file.write_bytes(CONTENT)
        return door.upload(Transfer(repository, BLOB, file))


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Where the logins are."""
    return Places(tmp_path)


def entry(password: str = PASSWORD) -> dict[str, str]:
    """A login as Docker writes it."""
    return {"auth": base64.b64encode(f"{USER}:{password}".encode()).decode()}


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """A registry that wants a password."""
    with docker_registry(tmp_path_factory.mktemp("closed"), password=True) as registry:
        yield registry


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    """A server of tokens."""
    with TokenServer(tmp_path_factory.mktemp("tokens")).serving() as tokens:
        yield tokens


@pytest.fixture
def guarded(tmp_path: Path, tokens: TokenServer) -> Iterator[RealRegistry]:
    """A registry that wants tokens."""
    tokens.scopes.clear()
    tokens.life, tokens.forget = 300, False
    with docker_registry(tmp_path / "guarded", tokens=tokens) as registry:
        yield registry


def test_a_password_opens_a_registry(closed: RealRegistry, places: Places) -> None:
    """With any character in it; it is not shown before it is asked for, and after that each time."""
    with BadLine(closed.host).serving() as line:
        door = places.door(line.host, entry())
        places.send(door)
        assert door.has_blob("team/dispatch", BLOB.digest)
    # One probe, one request that was refused, and no further one.
    assert [method for method, _ in line.requests] == ["GET", "HEAD", "HEAD", "POST", "PATCH", "PUT", "HEAD"]


@pytest.mark.parametrize(
    ("login", "fact"), [(None, "it asks for a login, and there is none"), (entry("wrong"), "does not let us")]
)
def test_no_password_or_a_wrong_one(closed: RealRegistry, places: Places, login: object, fact: str) -> None:
    """The remedy is the command that logs in to this very registry."""
    door = places.door(closed.host, login)
    with pytest.raises(RegistryDeniedError, match=fact) as caught:
        places.send(door)
    assert f"docker login {closed.host}" in caught.value.remedy
    assert "wrong" not in str(caught.value)


def test_tokens_are_asked_for_what_is_done(
    guarded: RealRegistry, tokens: TokenServer, places: Places
) -> None:
    """Each for its own repository, kept as long as it lives; mounting needs to read the other one."""
    door = places.door(guarded.host, entry())
    places.send(door)
    assert door.has_blob("team/dispatch", BLOB.digest)
    assert tokens.scopes == [("repository:team/dispatch:pull,push",)]
    assert door.mount("other/dispatch", BLOB.digest, "team/dispatch")
    assert tokens.scopes[1:] == [("repository:other/dispatch:pull,push", "repository:team/dispatch:pull")]
    assert door.tags("team/dispatch") == []
    assert tokens.scopes[2:] == [("repository:team/dispatch:pull",)]


def test_a_token_that_has_ended_is_renewed(
    guarded: RealRegistry, tokens: TokenServer, places: Places
) -> None:
    """One that says that it lives for no time at all is used once."""
    tokens.life = 0.000001  # type: ignore[assignment]
    door = places.door(guarded.host, entry())
    places.send(door)
    assert door.has_blob("team/dispatch", BLOB.digest)
    assert len(tokens.scopes) > 3


def test_a_token_that_the_registry_forgot_is_renewed(
    tmp_path: Path, tokens: TokenServer, places: Places
) -> None:
    """What was good until now may be refused: after that another one is asked for, once."""
    tokens.life, tokens.forget = 300, False
    with docker_registry(tmp_path / "first", tokens=tokens) as first, BadLine(first.host).serving() as line:
        door = places.door(line.host, entry())
        places.send(door)
        others = TokenServer(tmp_path / "authority")
        with others.serving(), docker_registry(tmp_path / "second", tokens=others) as second:
            line.target = second.host
            assert places.send(door)
            assert len(others.scopes) == 1
            line.target = first.host
            tokens.forget = True
            with pytest.raises(RegistryDeniedError, match="does not accept our login"):
                door.has_blob("team/dispatch", BLOB.digest)
    tokens.forget = False


def test_an_identity_token_is_exchanged(guarded: RealRegistry, tokens: TokenServer, places: Places) -> None:
    """As single sign-on gives it; a wrong one is refused by name."""
    door = places.door(guarded.host, {"identitytoken": TokenServer.identity})
    assert places.send(door)
    assert tokens.scopes == [("repository:team/dispatch:pull,push",)]
    with pytest.raises(RegistryDeniedError, match="does not accept our login"):
        places.send(places.door(guarded.host, {"identitytoken": "stale"}))


def test_strangers_get_a_token_that_lets_them_do_nothing(guarded: RealRegistry, places: Places) -> None:
    """Without a login the registry says no, and we say what is missing."""
    with pytest.raises(RegistryDeniedError, match="it asks for a login, and there is none"):
        places.send(places.door(guarded.host))
    with pytest.raises(RegistryDeniedError, match="does not accept our login"):
        places.send(places.door(guarded.host, entry("wrong")))


def test_many_threads_share_a_token(guarded: RealRegistry, tokens: TokenServer, places: Places) -> None:
    """The server of tokens is asked once."""
    door = places.door(guarded.host, entry())
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(door.has_blob("team/dispatch", BLOB.digest)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [False] * 8
    assert len(tokens.scopes) == 1


@pytest.mark.parametrize(
    ("text", "challenge"),
    [
        ('Basic realm="x"', Challenge("basic", {"realm": "x"})),
        ("basic", Challenge("basic", {})),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a:pull,push"',
            Challenge("bearer", {"realm": "https://a/t", "service": "s", "scope": "repository:a:pull,push"}),
        ),
        (
            "Bearer realm=https://a/t, service=s",
            Challenge("bearer", {"realm": "https://a/t", "service": "s"}),
        ),
        ('Basic realm="x", Bearer realm="y"', Challenge("bearer", {"realm": "y"})),
        (r'Bearer realm="a\"b"', Challenge("bearer", {"realm": 'a"b'})),
        ("Negotiate", None),
        ("", None),
    ],
)
def test_challenges_are_read(text: str, challenge: Challenge | None) -> None:
    """All that registries send; what we cannot answer is none."""
    assert read_challenge(text) == challenge


def test_a_login_is_not_sent_where_anybody_could_read_it(places: Places) -> None:
    """A registry that has its tokens given over plain HTTP from elsewhere gets no password of ours."""
    told = {"WWW-Authenticate": 'Bearer realm="http://tokens.example.org/t",service="s"'}
    fact = r"sends logins to 'http://tokens\.example\.org/t'"
    with answering(401, "{}", told) as host, pytest.raises(RegistryDeniedError, match=fact):
        places.door(host, entry()).tags("a/b")


def test_a_login_is_not_shown_to_whom_we_are_sent(
    closed: RealRegistry, tmp_path: Path, places: Places
) -> None:
    """Blobs often lie elsewhere: that server gets the request, and not who we are."""
    seen: list[str | None] = []
    target = tmp_path / "target"
    with answering(200, CONTENT.decode(), record=seen) as store, BadLine(closed.host).serving() as line:
        line.elsewhere = f"http://{store}/stored"
        places.door(line.host, entry()).download(Transfer("a/b", BLOB, target))
    assert target.read_bytes() == CONTENT
    assert seen == [None]


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RealRegistry, Path]]:
    """A registry with TLS, and the certificate of the authority."""
    directory = tmp_path_factory.mktemp("secure")
    certificate = certificate_of_loopback(directory / "tls")
    with docker_registry(directory, certificate=certificate) as registry:
        yield registry, certificate.authority


def test_an_unknown_authority_is_refused(secure: tuple[RealRegistry, Path], places: Places) -> None:
    """Also on the loopback; the remedy says where its certificate belongs."""
    with pytest.raises(RegistryUntrustedError, match="certificate is not trusted") as caught:
        places.send(places.door(secure[0].host))
    assert "/etc/docker/certs.d" in caught.value.remedy


def test_an_authority_may_be_named(secure: tuple[RealRegistry, Path], places: Places) -> None:
    """By its file."""
    registry, authority = secure
    assert places.send(places.door(registry.host, way=Way(authority=authority)), "named/x")


def test_docker_s_certificates_are_trusted(
    secure: tuple[RealRegistry, Path], tmp_path: Path, places: Places
) -> None:
    """Those of this registry's own directory, and of no other's."""
    registry, authority = secure
    directory = tmp_path / "certs.d" / registry.host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(authority.read_bytes())
    way = Way(certificates=(tmp_path / "certs.d",))
    assert places.send(places.door(registry.host, way=way), "docker/x")
    directory.rename(directory.with_name("other:1"))
    with pytest.raises(RegistryUntrustedError):
        places.send(places.door(registry.host, way=way))


def test_a_declared_registry_may_be_insecure(secure: tuple[RealRegistry, Path], places: Places) -> None:
    """Then any certificate will do."""
    assert places.send(places.door(secure[0].host, way=Way(insecure=True)), "insecure/x")


def test_a_registry_behind_a_proxy(secure: tuple[RealRegistry, Path], places: Places) -> None:
    """The proxy gets the line through, and reads nothing on it; one that is not there is named."""
    registry, authority = secure
    with tunnel() as (proxy, asked):
        assert places.send(
            places.door(registry.host, way=Way(authority=authority, proxy=f"http://{proxy}")), "behind/x"
        )
    assert set(asked) == {registry.host}
    with pytest.raises(RegistryBusyError, match=r"the proxy to it fails|nobody listens"):
        places.send(
            places.door(registry.host, way=Way(authority=authority, proxy="http://127.0.0.1:1")), "behind/y"
        )


@contextlib.contextmanager
def tunnel() -> Iterator[tuple[str, list[str]]]:
    """An HTTP proxy for TLS, and the hosts that it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            asked.append(self.path)
            host, _, port = self.path.partition(":")
            with socket.create_connection((host, int(port))) as there:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=copy, args=(there, self.connection))
                back.start()
                copy(self.connection, there)
                back.join()

        def log_message(self, *_: object) -> None:
            return None

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_damaged_certificate_is_named(
    secure: tuple[RealRegistry, Path], tmp_path: Path, places: Places
) -> None:
    """By its file."""
    file = tmp_path / "ca.crt"
    file.write_text("no certificate")
    with pytest.raises(RegistryUntrustedError, match=r"ca\.crt cannot be used"):
        places.send(places.door(secure[0].host, way=Way(authority=file)))


def test_plain_http_is_for_this_machine(closed: RealRegistry, places: Places) -> None:
    """A name that might be anybody's is spoken to by TLS, if it was not declared insecure."""
    assert not Way().may_be_plain("registry.example.org")
    assert Way(insecure=True).may_be_plain("registry.example.org")
    port = closed.host.partition(":")[2]
    name = f"localhost.localdomain:{port}"
    with pytest.raises(RegistryUnreachableError) as caught:
        places.door(name, entry()).tags("a/b")
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "environ", "proxy"),
    [
        ("h.org", {}, ""),
        ("h.org", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("h.org:5000", {"https_proxy": "http://p:1"}, "http://p:1"),
        ("h.org:5000", {"https_proxy": "http://p:1", "no_proxy": "x.org,h.org"}, ""),
        ("a.h.org", {"https_proxy": "http://p:1", "NO_PROXY": ".h.org"}, ""),
        ("bh.org", {"https_proxy": "http://p:1", "NO_PROXY": "h.org"}, "http://p:1"),
        ("h.org", {"https_proxy": "http://p:1", "NO_PROXY": "*"}, ""),
        ("127.0.0.1:5000", {"https_proxy": "http://p:1"}, ""),
    ],
)
def test_the_way_may_lead_through_a_proxy(host: str, environ: dict[str, str], proxy: str) -> None:
    """That of the usual variables, with their exceptions; never to this machine."""
    assert way_to(host, environ, Path("/home/ada")).proxy == proxy
