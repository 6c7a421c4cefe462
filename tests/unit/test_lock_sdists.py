"""Source distributions: fetched from whichever place has the locked file, checked, asked what builds them."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from dispatch.errors import ImageError, LockError
from dispatch.lock.model import PipLock, PipPin, Target
from dispatch.lock.sdists import BuildSystem, Sdists, build_system
from dispatch.testing.index import packed_source, serving

FILES = {"PKG-INFO": "Name: thing\n", "pyproject.toml": '[build-system]\nrequires = ["a>1", "b"]\n'}
CONTENT = packed_source("thing", FILES)
NAME = "thing-1.0.tar.gz"


def digest(content: bytes) -> str:
    """Return a hash as locks have it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def lock_of(content: bytes = CONTENT, *more: str) -> PipLock:
    """A lock that has ``thing`` as source, and another package as a wheel."""
    pins = (PipPin("other", "1", (digest(b""),)), PipPin("thing", "1.0", (digest(content), *more)))
    return PipLock("base", Target("3.11", "2.36", "x86_64"), "0" * 64, pins, sdists=("thing",))


def sdists(tmp_path: Path, **variables: str) -> Sdists:
    """A fetcher that knows nothing but these variables."""
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, **variables}
    return Sdists(environ, tmp_path / "cache")


def test_a_locked_source_is_fetched_once(tmp_path: Path) -> None:
    """It comes from the index, with its hash, and is found again without one; a damaged copy is not."""
    lock = lock_of()
    with serving(tmp_path / "index", "user:secret") as index:
        index.serve("thing", NAME, CONTENT)
        fetcher = sdists(tmp_path, UV_DEFAULT_INDEX=index.address)
        path = fetcher.fetch(lock, lock.pins[1])
        assert path.read_bytes() == CONTENT
        assert fetcher.requires(lock) == ("a>1", "b")
    nobody = sdists(tmp_path, UV_DEFAULT_INDEX="http://127.0.0.1:9/simple")
    assert nobody.fetch(lock, lock.pins[1]) == path
    path.write_bytes(b"damaged")
    with pytest.raises(ImageError, match=r"the source of thing .* cannot be fetched"):
        nobody.fetch(lock, lock.pins[1])


def test_another_file_than_the_locked_one_is_refused(tmp_path: Path) -> None:
    """What an index has under the right name, with another content, is not taken, and not kept."""
    with serving(tmp_path / "index") as index:
        index.serve("thing", NAME, b"something else")
        with pytest.raises(LockError, match="no index has a file that the lock allows") as caught:
            sdists(tmp_path, UV_DEFAULT_INDEX=index.address).fetch(lock_of(), lock_of().pins[1])
    assert "dispatch lock" in caught.value.remedy
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "url", "extra"])
def test_every_place_that_uv_would_look_at(tmp_path: Path, kind: str) -> None:
    """Folders and pages of links and further indexes are asked as well, whichever has it."""
    with serving(tmp_path / "index") as index, serving(tmp_path / "empty") as empty:
        index.serve("thing", NAME, CONTENT)
        folder = tmp_path / "index" / "simple" / "thing"
        variables = {
            "folder": {"UV_FIND_LINKS": str(folder)},
            "url": {"UV_FIND_LINKS": f"{index.address}/thing/index.html"},
            "extra": {"UV_INDEX": f"mine={index.address}"},
        }[kind]
        fetcher = sdists(tmp_path, UV_DEFAULT_INDEX=empty.address, **variables)
        assert fetcher.fetch(lock_of(), lock_of().pins[1]).name == NAME


@contextmanager
def answering(pages: Mapping[str, tuple[str, bytes]]) -> Iterator[str]:
    """Serve pages by path, each with its content type; anything else is a server's error."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = pages.get(self.path, ("", b""))
            self.send_response(200 if kind else 500)
            self.send_header("Content-Type", kind or "text/plain")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_index_that_speaks_json(tmp_path: Path) -> None:
    """Files are chosen by their hash, wherever they lie and whatever else is there."""
    files = [
        {"filename": NAME, "url": "../../files/old/thing-1.0.tar.gz", "hashes": {"sha256": "0" * 64}},
        {"filename": NAME, "url": f"../../files/{NAME}", "hashes": {"sha256": digest(CONTENT)[7:]}},
        {"filename": "thing-1.0-py3-none-any.whl", "url": "x.whl", "hashes": {}},
    ]
    listing = json.dumps({"files": files}).encode()
    pages = {
        "/simple/thing/": ("application/vnd.pypi.simple.v1+json", listing),
        f"/files/{NAME}": ("application/octet-stream", CONTENT),
    }
    with answering(pages) as address:
        path = sdists(tmp_path, UV_DEFAULT_INDEX=f"{address}/simple").fetch(lock_of(), lock_of().pins[1])
    assert path.read_bytes() == CONTENT


def test_an_index_that_fails_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    """The error says that it could not be fetched, and names no address that only this machine knows."""
    with answering({}) as address, pytest.raises(ImageError, match="answered 500") as caught:
        sdists(tmp_path, UV_DEFAULT_INDEX=f"{address}/simple").fetch(lock_of(), lock_of().pins[1])
    assert "127.0.0.1" not in caught.value.message


def zipped(text: str) -> bytes:
    """A source distribution as a zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("thing-1.0/pyproject.toml", text)
        archive.writestr("thing-1.0/inner/pyproject.toml", "[build-system]\nrequires = ['wrong']\n")
    return buffer.getvalue()


LEGACY = BuildSystem()
SYSTEMS = {
    "declared": (packed_source("thing", FILES), NAME, BuildSystem(("a>1", "b"))),
    "nothing": (packed_source("thing", {"setup.py": ""}), NAME, LEGACY),
    "no table": (packed_source("thing", {"pyproject.toml": "[tool.x]\n"}), NAME, LEGACY),
    "zip": (
        zipped("[build-system]\nrequires = []\nbuild-backend = 'own:x'\nbackend-path = ['.']\n"),
        "thing-1.0.zip",
        BuildSystem((), "own:x", (".",)),
    ),
}


@pytest.mark.parametrize("case", SYSTEMS)
def test_how_a_package_is_built(tmp_path: Path, case: str) -> None:
    """What its pyproject.toml says at its top, else what PEP 517 says of one that says nothing."""
    content, name, expected = SYSTEMS[case]
    (tmp_path / name).write_bytes(content)
    assert build_system(tmp_path / name) == expected


BROKEN = {
    "no archive": b"x",
    "cut": CONTENT[: len(CONTENT) // 2],
    "no toml": packed_source("thing", {"pyproject.toml": "= ["}),
    "no list": packed_source("thing", {"pyproject.toml": "[build-system]\nrequires = 'a'\n"}),
    "no text": packed_source("thing", {"pyproject.toml": "[build-system]\nrequires = [1]\n"}),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_source_distribution_is_said_to_be_none(tmp_path: Path, case: str) -> None:
    """The error names the file."""
    (tmp_path / NAME).write_bytes(BROKEN[case])
    with pytest.raises(ImageError, match=NAME):
        build_system(tmp_path / NAME)
