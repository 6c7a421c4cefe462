"""A package index of this machine, with packages made on the spot.

Owns just enough of the simple repository API (PEP 503) for pip and uv to resolve and install from.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

_METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
_WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def wheel(name: str, text: str) -> bytes:
    """A wheel of one module, which holds ``text``."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
    files = {f"{module}.py": text, f"{info}/METADATA": _METADATA.format(name=name), f"{info}/WHEEL": _WHEEL}
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
    return buffer.getvalue()


def source_distribution(name: str) -> bytes:
    """A source distribution that anybody could build."""
    return packed_source(
        name,
        {
            "PKG-INFO": _METADATA.format(name=name),
            "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\n',
            "setup.py": f"from setuptools import setup\nsetup(name={name!r}, version='1.0')\n",
        },
    )


def packed_source(name: str, files: Mapping[str, str]) -> bytes:
    """A source distribution of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files quietly, and only to those who know ``credentials``, if there are any."""

    def __init__(self, *arguments: object, credentials: str, directory: str) -> None:
        self._wanted = base64.b64encode(credentials.encode()).decode()
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer a request, or ask who is there."""
        if self._wanted and self.headers.get("Authorization") != f"Basic {self._wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Index:
    """A package index of this machine: a directory, served over HTTP."""

    def __init__(self, directory: Path, address: str) -> None:
        self._directory = directory
        self.address = address

    def serve(self, name: str, filename: str, content: bytes) -> None:
        """Serve this one file for a package."""
        page = self._directory / "simple" / name
        page.mkdir(parents=True, exist_ok=True)
        (page / filename).write_bytes(content)
        (page / "index.html").write_text(f'<a href="{filename}">{filename}</a>')

    def add(self, name: str, file: Path) -> None:
        """Serve a file for a package, with its hash, beside those that are served already."""
        page = self._directory / "simple" / name
        page.mkdir(parents=True, exist_ok=True)
        (page / file.name).write_bytes(file.read_bytes())
        files = sorted(path for path in page.iterdir() if path.name != "index.html")
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        links = zip(files, hashes, strict=True)
        lines = [f'<a href="{path.name}#sha256={digest}">{path.name}</a>' for path, digest in links]
        (page / "index.html").write_text("\n".join(lines))


@contextlib.contextmanager
def serving(directory: Path, credentials: str = "") -> Iterator[Index]:
    """Serve a directory on a port of the loopback; ``credentials`` are ``user:password``, or none."""
    directory.mkdir(exist_ok=True)
    handler = partial(_Handler, directory=str(directory), credentials=credentials)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        who = f"{credentials}@" if credentials else ""
        yield Index(directory, f"http://{who}127.0.0.1:{server.server_port}/simple")
        server.shutdown()
