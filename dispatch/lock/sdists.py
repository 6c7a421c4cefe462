"""Source distributions: fetched as the lock names them, and asked what builds them.

Owns the download of a locked file from the indexes that uv is told of, checked by its hash, and the reading
of ``[build-system]``. Nothing of a package is ever run here: that is done in its image (``image.wheels``).

Sources of the formats: PEP 503 and PEP 691 (the index's pages), PEP 518 and PEP 517 (``[build-system]``).
"""

from __future__ import annotations

import hashlib
import html.parser
import re
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from dispatch.errors import ImageError, LockError
from dispatch.lock.index import Indexes
from dispatch.lock.model import PipLock, PipPin
from dispatch.lock.requirements import normalise

_DEFAULT_INDEX = "https://pypi.org/simple"
_ENDINGS = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz")
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01"
_NAMED = re.compile(r"^[A-Za-z0-9_.-]+=")
_TIMEOUT = 60.0
_PIECE = 1 << 20
# What PEP 517 says of a project that says nothing.
_LEGACY = ("setuptools>=40.8.0",)
_LEGACY_BACKEND = "setuptools.build_meta:__legacy__"


@dataclass(frozen=True)
class BuildSystem:
    """How a package is built: what has to be installed, the backend, and where in the package that lies."""

    requires: tuple[str, ...] = _LEGACY
    backend: str = _LEGACY_BACKEND
    path: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sdists:
    """Fetches into ``cache``, where a file is found again by its hash. ``environ`` is the caller's."""

    environ: Mapping[str, str]
    cache: Path
    command: str = "dispatch lock"

    def requires(self, lock: PipLock) -> tuple[str, ...]:
        """Return what all packages of a lock that come from source need to be built, as requirements."""
        found: dict[str, None] = {}
        for pin in lock.pins:
            if pin.name in lock.sdists:
                found.update(dict.fromkeys(build_system(self.fetch(lock, pin)).requires))
        return tuple(found)

    def fetch(self, lock: PipLock, pin: PipPin) -> Path:
        """Return the source distribution of a locked package.

        LockError where no index has one that the lock allows, ImageError where none answers.
        """
        for known in pin.hashes:
            folder = self.cache / known.replace(":", "-")
            for path in folder.iterdir() if folder.is_dir() else ():
                if _digest(path) == known:
                    return path
        problem = ""
        for address in self._addresses(lock):
            try:
                for link in self._links(address, pin):
                    found = self._download(link, pin)
                    if found is not None:
                        return found
            except _Unavailable as error:
                problem = problem or str(error)
        what = f"the source of {pin.name} {pin.version}"
        if problem:
            raise ImageError(
                self._redacted(f"{what} cannot be fetched: {problem}", lock), "see whether the index answers"
            )
        raise LockError(
            f"{what} is not to be had: no index has a file that the lock allows",
            f"renew the lock with `{self.command}`",
        )

    def _addresses(self, lock: PipLock) -> Iterator[str]:
        """Yield the places of packages: those of indexes end in a slash, pages of links do not."""
        env = Indexes.of(self.environ).for_uv(lock.indexes, own_default=lock.own_default)
        indexes = env.get("UV_INDEX", "").split() + env.get("UV_EXTRA_INDEX_URL", "").split()
        indexes.append(env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL") or _DEFAULT_INDEX)
        for index in indexes:
            # uv lets an index have a name in front.
            yield _NAMED.sub("", index).rstrip("/") + "/"
        for links in env.get("UV_FIND_LINKS", "").split(","):
            if links:
                yield links.rstrip("/")

    def _links(self, address: str, pin: PipPin) -> Iterator[str]:
        """Yield the addresses of what may be the file: those with the right hash, else those without any."""
        if "://" not in address or address.startswith("file:"):
            folder = Path(unquote(urlsplit(address).path) if address.startswith("file:") else address)
            folder = folder / pin.name if address.endswith("/") else folder
            yield from (path.as_uri() for path in sorted(folder.glob("*")) if _is_sdist(path.name, pin))
            return
        page = f"{address}{pin.name}/" if address.endswith("/") else address
        kind, text, place = self._page(page)
        if "json" in kind:
            import json

            links = [
                f"{urljoin(place, each['url'])}#sha256={each.get('hashes', {}).get('sha256', '')}"
                for each in json.loads(text)["files"]
            ]
        else:
            parser = _Anchors()
            parser.feed(text)
            links = [urljoin(place, each) for each in parser.links]
        for link in links:
            plain, fragment = urldefrag(link)
            digest = fragment.partition("sha256=")[2]
            if _is_sdist(unquote(plain.rpartition("/")[2]), pin) and (
                not digest or f"sha256:{digest}" in pin.hashes
            ):
                yield plain

    def _page(self, address: str) -> tuple[str, str, str]:
        with self._get(address, {"Accept": _ACCEPT}) as answer:
            if answer.status_code == 404:
                return "", "", address
            _refuse(answer)
            return answer.headers.get("Content-Type", ""), answer.text, answer.url

    def _download(self, link: str, pin: PipPin) -> Path | None:
        """Return the file of an address, None if it is another than the lock allows."""
        name = unquote(link.rpartition("/")[2])
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix="new-") as folder:
            path = Path(folder) / name
            with path.open("wb") as file:
                for piece in self._pieces(link):
                    file.write(piece)
            digest = _digest(path)
            if digest not in pin.hashes:
                return None
            place = self.cache / digest.replace(":", "-") / name
            place.parent.mkdir(exist_ok=True)
            path.replace(place)
            return place

    def _pieces(self, link: str) -> Iterator[bytes]:
        if link.startswith("file:"):
            yield Path(unquote(urlsplit(link).path)).read_bytes()
            return
        with self._get(link, {"Accept-Encoding": "identity"}) as answer:
            _refuse(answer)
            yield from answer.iter_content(_PIECE)

    def _get(self, address: str, headers: Mapping[str, str]) -> Any:
        import requests

        env = Indexes.of(self.environ).for_uv()
        try:
            return requests.get(
                address,
                headers=dict(headers),
                stream=True,
                timeout=_TIMEOUT,
                verify=env.get("SSL_CERT_FILE") or True,
            )
        except requests.RequestException as error:
            raise _Unavailable(str(error)) from error

    def _redacted(self, text: str, lock: PipLock) -> str:
        return Indexes.of(self.environ).redact(text, lock.indexes)


def build_system(sdist: Path) -> BuildSystem:
    """Read how a source distribution is built; ImageError where it cannot be read."""
    try:
        text = _pyproject(sdist)
        table = tomllib.loads(text).get("build-system") if text is not None else None
    except (OSError, tarfile.TarError, zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ImageError(f"{sdist.name}: it cannot be read as a source distribution: {error}") from error
    if not isinstance(table, dict):
        return BuildSystem()
    requires = table.get("requires", list(_LEGACY))
    path = table.get("backend-path", [])
    backend = table.get("build-backend", _LEGACY_BACKEND)
    if not (_texts(requires) and _texts(path) and isinstance(backend, str)):
        raise ImageError(f"{sdist.name}: its pyproject.toml has no `build-system` of PEP 518")
    return BuildSystem(tuple(requires), backend, tuple(path))


class _Unavailable(Exception):
    """An index does not answer as one."""


class _Anchors(html.parser.HTMLParser):
    """Collects the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take a link."""
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _refuse(answer: Any) -> None:
    if answer.status_code >= 400:
        raise _Unavailable(f"{answer.url} answered {answer.status_code}")


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_sdist(name: str, pin: PipPin) -> bool:
    """Whether a file's name says that it is a package's source; old ones keep the name as it is spelled."""
    ending = next((each for each in _ENDINGS if name.endswith(each)), None)
    if ending is None:
        return False
    stem, _, version = name[: -len(ending)].rpartition("-")
    return normalise(stem) == pin.name and version in (pin.version, pin.version.replace("-", "_"))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def _pyproject(sdist: Path) -> str | None:
    """Return the text of the ``pyproject.toml`` at the top of a source distribution."""
    if sdist.name.endswith(".zip"):
        with zipfile.ZipFile(sdist) as archive:
            name = next((each for each in archive.namelist() if _at_top(each)), None)
            return archive.read(name).decode("utf-8") if name is not None else None
    with tarfile.open(sdist) as archive:
        for member in archive:
            if member.isfile() and _at_top(member.name):
                file = archive.extractfile(member)
                return file.read().decode("utf-8") if file is not None else None
    return None


def _at_top(name: str) -> bool:
    parts = name.removeprefix("./").split("/")
    return len(parts) == 2 and parts[1] == "pyproject.toml"
