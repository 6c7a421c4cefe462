"""A real registry (Debian's ``docker-registry``) on the loopback, in a directory of the test's own.

Owns its configuration, process and end. With :class:`TokenServer` it wants tokens, as public registries do.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from dispatch._registry import Logins
from dispatch.beakerd.authority import Certificate, certificate_for

PROGRAM = "docker-registry"
USER, PASSWORD = "ada", "let me in: ü"
# bcrypt of the password, which nothing of ours can make.
_HTPASSWD = f"{USER}:$2b$04$pgzeh0NCoLlM3HQbvk.xCOqxMyHi1TGA9FR2TWYCsxw8sgWa0iIhi\n"
_LISTENING = re.compile(r"listening on (?:\S*:)?(\d+)")
_DEADLINE = 60.0


@dataclass(frozen=True)
class RealRegistry:
    """A registry that runs: ``host`` is its address, ``root`` where its files are."""

    host: str
    root: Path

    def blobs(self) -> Mapping[str, bytes]:
        """Return all blobs that it holds, by their digests."""
        found = (self.root / "docker/registry/v2/blobs/sha256").glob("*/*/data")
        return {f"sha256:{path.parent.name}": path.read_bytes() for path in found}

    def damaged(self) -> list[str]:
        """Return the digests of blobs that are not what they should be."""
        held = self.blobs().items()
        return [name for name, data in held if f"sha256:{hashlib.sha256(data).hexdigest()}" != name]


@contextlib.contextmanager
def docker_registry(
    directory: Path,
    *,
    password: bool = False,
    certificate: Certificate | None = None,
    tokens: TokenServer | None = None,
    root: Path | None = None,
) -> Iterator[RealRegistry]:
    """Run a registry: open to everybody, or for :data:`USER`, or for who has a token; with TLS or without."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        # In memory where there is some: how long a disk takes to flush a blob is not what a test is about.
        shelf = "/dev/shm" if Path("/dev/shm").is_dir() else str(directory)
        root = root or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=shelf, prefix="registry-")))
        settings: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(root)}, "delete": {"enabled": True}},
            "http": {"addr": "127.0.0.1:0", "secret": "of the test"},
        }
        if certificate is not None:
            files = {"certificate": str(certificate.chain_path), "key": str(certificate.key_path)}
            settings["http"] = {"addr": "127.0.0.1:0", "secret": "of the test", "tls": files}
        if password:
            users = directory / "htpasswd"
            users.write_text(_HTPASSWD)
            settings["auth"] = {"htpasswd": {"realm": "test", "path": str(users)}}
        if tokens is not None:
            settings["auth"] = {"token": tokens.settings()}
        config = directory / "config.yml"
        config.write_text(json.dumps(settings))  # JSON is YAML
        log = directory / "registry.log"
        with log.open("wb") as output:
            process = subprocess.Popen([PROGRAM, "serve", str(config)], stdout=output, stderr=output)
        try:
            yield RealRegistry(f"127.0.0.1:{_port(process, log)}", root)
        finally:
            process.terminate()
            process.wait(_DEADLINE)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until the registry says where it listens."""
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        found = _LISTENING.search(log.read_text("utf-8", "replace"))
        if found:
            return int(found.group(1))
        time.sleep(0.02)
    raise AssertionError(f"{PROGRAM} does not listen: {log.read_text('utf-8', 'replace')[-2000:]}")


def certificate_of_loopback(directory: Path) -> Certificate:
    """Return a certificate for this machine, of an authority that nobody knows."""
    return certificate_for(directory, ["127.0.0.1", "localhost"], datetime.now(timezone.utc))


def no_helper(command: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    """Be asked for a login where nobody should be."""
    raise AssertionError((command, text))


def no_logins(directory: Path) -> Logins:
    """Return the logins of a user who has none."""
    return Logins(directory / "no-logins.json", no_helper)


class TokenServer:
    """Gives tokens for a registry to who knows the password, or has its identity token.

    ``scopes`` are those of every request that was answered; ``life`` is what it says that its tokens live.
    ``forget`` makes it refuse, as after a changed password.
    """

    service = "registry of the test"
    issuer = "the test"
    identity = "identity-token-of-ada"

    def __init__(self, directory: Path) -> None:
        self._certificate = certificate_of_loopback(directory)
        key = serialization.load_pem_private_key(self._certificate.key, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._serial = 0
        self.life = 300
        self.scopes: list[tuple[str, ...]] = []
        self.forget = False
        self.address = ""

    def settings(self) -> dict[str, str]:
        """Return what the registry has to be told."""
        return {
            "realm": f"http://{self.address}/token",
            "service": self.service,
            "issuer": self.issuer,
            "rootcertbundle": str(self._certificate.authority),
        }

    @contextlib.contextmanager
    def serving(self) -> Iterator[TokenServer]:
        """Serve on the loopback."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                login = self.headers.get("Authorization", "")
                known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                query = parse_qsl(urlsplit(self.path).query)
                scopes = tuple(value for name, value in query if name == "scope")
                self._reply(login in ("", f"Basic {known}"), scopes, USER if login else "")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                fields = parse_qs(body)
                good = fields["refresh_token"] == [outer.identity] and fields["service"] == [outer.service]
                self._reply(good, tuple(fields["scope"][0].split()), USER)

            def _reply(self, good: bool, scopes: tuple[str, ...], user: str) -> None:
                good = good and not outer.forget
                content = json.dumps(outer.answer(scopes, user) if good else {"details": "no"}).encode()
                self.send_response(200 if good else 401)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                return None

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.address = f"127.0.0.1:{server.server_port}"
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            yield self
            server.shutdown()

    def answer(self, scopes: tuple[str, ...], user: str) -> dict[str, object]:
        """Return a token for what was asked; strangers may do nothing."""
        self.scopes.append(scopes)
        self._serial += 1
        access = [_access(scope) for scope in scopes] if user else []
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": user,
            "aud": self.service,
            "exp": now + 600,
            "nbf": now - 60,
            "iat": now,
            "jti": str(self._serial),
            "access": access,
        }
        return {"token": self._signed(claims), "expires_in": self.life}

    def _signed(self, claims: Mapping[str, object]) -> str:
        """Return a JSON web token, signed by the key whose certificate it carries."""
        certificate = x509.load_pem_x509_certificate(self._certificate.chain)
        chain = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
        header = {"typ": "JWT", "alg": "ES256", "x5c": [chain]}
        text = f"{_part(json.dumps(header).encode())}.{_part(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_part(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _access(scope: str) -> dict[str, object]:
    kind, name, actions = scope.split(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextlib.contextmanager
def answering(
    status: int,
    body: str,
    headers: Mapping[str, str] | None = None,
    record: list[str | None] | None = None,
) -> Iterator[str]:
    """Serve one answer to everything, and give the address; ``/v2/`` itself is all right, no blob is there.

    ``record`` takes the ``Authorization`` of each request.
    """
    content = body.encode()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if record is not None:
                record.append(self.headers.get("Authorization"))
            self.send_response(200 if self.path == "/v2/" else 404 if self.command == "HEAD" else status)
            for name, value in (headers or {"Location": "http://elsewhere.invalid/"}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = _reply

        def log_message(self, *_: object) -> None:
            return None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
