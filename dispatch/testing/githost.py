"""A git host over http: real ``git http-backend`` behind a small server, with or without a password.

Owns the server and what it was asked. Refuses to serve anything that is not below its directory.
"""

from __future__ import annotations

import base64
import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from dispatch.testing.repositories import ENVIRON


@dataclass
class GitHost:
    """A host that answers at ``url``. ``password`` is asked of everybody, empty of nobody.

    ``modern`` false makes it speak the protocol of old, which gives no commit that is not a branch's tip.
    ``asked`` are the paths of all requests; ``users`` those who logged in; ``before`` is called before each
    answer.
    """

    root: Path
    password: str = ""
    modern: bool = True
    address: str = "127.0.0.1"
    port: int = 0
    asked: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    before: Callable[[], object] = lambda: None

    @property
    def url(self) -> str:
        """Where repositories are found, by their directories' names."""
        return f"http://{self.address}:{self.port}"

    def admits(self, header: str | None) -> bool:
        """Whether a request with this header may come in."""
        if not self.password:
            return True
        kind, _, rest = (header or "").partition(" ")
        with contextlib.suppress(ValueError):
            user, _, password = base64.b64decode(rest).decode().partition(":")
            if kind == "Basic" and password == self.password:
                self.users.append(user)
                return True
        return False


@contextlib.contextmanager
def hosting(host: GitHost) -> Iterator[GitHost]:
    """Serve while the context lasts."""
    handler = type("Handler", (_Handler,), {"host": host})
    server = ThreadingHTTPServer((host.address, 0), handler)
    host.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    host: GitHost

    def do_GET(self) -> None:
        """Pass a request on to git."""
        self.host.asked.append(self.path)
        self.host.before()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.host.admits(self.headers.get("Authorization")):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._relay(self._backend(body))

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _backend(self, body: bytes) -> bytes:
        path, _, query = self.path.partition("?")
        env = {
            **ENVIRON,
            "GIT_PROJECT_ROOT": str(self.host.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_CONFIG_KEY_1": "uploadpack.allowFilter",
            "GIT_CONFIG_VALUE_1": "true" if self.host.modern else "false",
        }
        if self.host.modern:
            env["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(["git", "http-backend"], env=env, input=body, capture_output=True, check=False)
        return done.stdout

    def _relay(self, answer: bytes) -> None:
        head, _, content = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
