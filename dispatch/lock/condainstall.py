"""Installs conda packages with py-rattler, as a process of its own: that library may abort when Python ends.

``python -m dispatch.lock.condainstall WORK`` reads ``request.json`` of the directory WORK and leaves
``answer.json`` there, written last by rename: it says how it went, whatever the process's exit code is. Owns
the archives of packages by their SHA-256, each checked whenever it is used. Keeps nothing unpacked: unpacked
files could not be checked, and are read only once, for a layer that is kept itself.

The request: ``{"packages": [{"file", "sha256", "size", "urls"}], "archives", "staging", "prefix",
"platform"}``. The answer: ``{"error", "file", "said", "damaged": [file]}``, where the error is null,
``hash``, ``missing``, ``download`` or ``install``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import rattler

_AT_A_TIME = 8
_TRIES = 4
_WAIT = 0.2
_LOOK = 0.2
_CHUNK = 1 << 20
_MISSING = re.compile(r"\b(404|410)\b")
# Reflinks would hide which files of a package are one.
_LINKS = "allow-ref-links = false\n"


class Problem(Exception):
    """Why it did not work: its kind, the package's file, and what was said."""

    def __init__(self, kind: str, file: str, said: str = "") -> None:
        super().__init__(kind, file, said)
        self.kind = kind
        self.file = file
        self.said = said


def copied(source: BinaryIO, target: BinaryIO | None) -> tuple[str, int]:
    """Copy a stream, if there is a target, and return the SHA-256 and the length of what went through."""
    digest = hashlib.sha256()
    size = 0
    while piece := source.read(_CHUNK):
        digest.update(piece)
        size += len(piece)
        if target is not None:
            target.write(piece)
    return digest.hexdigest(), size


class Archives:
    """The archives of packages under ``root``. ``damaged`` are those that were not what they had been.

    They come to be in ``work``, which is on the same disk and does not outlive us.
    """

    def __init__(self, root: Path, work: Path, client: rattler.Client) -> None:
        self._root = root
        self._work = work
        self._client = client
        self._gate = asyncio.Semaphore(_AT_A_TIME)
        self.damaged: list[str] = []

    async def provide(self, package: dict[str, Any]) -> Path:
        """Return the archive of a package, fetched where it is not here; Problem if it cannot be had."""
        file: str = package["file"]
        suffix = ".tar.bz2" if file.endswith(".tar.bz2") else ".conda"
        path = self._root / f"{package['sha256']}{suffix}"
        async with self._gate:
            if path.exists():
                if await asyncio.to_thread(_digest, path) == package["sha256"]:
                    return path
                self.damaged.append(file)
                path.unlink(missing_ok=True)
            problem = Problem("missing", file)
            for url in package["urls"]:
                try:
                    return await self._fetch(package, url, path)
                except Problem as found:
                    # The place that gave something else says more than one that has nothing.
                    problem = found if problem.kind == "missing" else problem
            raise problem

    async def _fetch(self, package: dict[str, Any], url: str, path: Path) -> Path:
        partial = self._work / path.name
        problem = Problem("download", package["file"])
        try:
            for attempt in range(_TRIES):
                await asyncio.sleep(_WAIT * (2**attempt - 1))
                try:
                    digest, size = await self._download(url, partial)
                except FileNotFoundError as error:
                    raise Problem("missing", package["file"], str(error)) from error
                except Exception as error:
                    if isinstance(error, OSError) and error.errno is not None:
                        raise  # the disk's; those of the line have no number
                    if _MISSING.search(str(error)):
                        raise Problem("missing", package["file"], str(error)) from error
                    problem = Problem("download", package["file"], str(error))
                    continue
                if digest == package["sha256"]:
                    partial.replace(path)
                    return path
                if not package["size"] or size >= package["size"]:
                    raise Problem("hash", package["file"], digest)
                problem = Problem("download", package["file"], f"{size} of {package['size']} bytes came")
            raise problem
        finally:
            partial.unlink(missing_ok=True)

    async def _download(self, url: str, partial: Path) -> tuple[str, int]:
        if url.startswith("file://"):
            return await asyncio.to_thread(_copy, Path(unquote(urlsplit(url).path)), partial)
        from rattler.package_streaming import download_to_path

        await download_to_path(self._client, url, partial)
        return await asyncio.to_thread(_measure, partial)


def _digest(path: Path) -> str:
    return _measure(path)[0]


def _measure(path: Path) -> tuple[str, int]:
    with path.open("rb", buffering=0) as file:
        return copied(file, None)


def _copy(source: Path, target: Path) -> tuple[str, int]:
    with source.open("rb", buffering=0) as read, target.open("wb") as written:
        return copied(read, written)


async def _all(packages: list[Any], provide: Callable[[Any], Any]) -> list[Path]:
    """Provide all archives; the problem of the first package that has one is raised, once all have ended."""
    found = await asyncio.gather(*map(provide, packages), return_exceptions=True)
    problems = [each for each in found if isinstance(each, BaseException)]
    if problems:
        # What was changed matters more than what did not come.
        raise min(problems, key=lambda each: not (isinstance(each, Problem) and each.kind == "hash"))
    return [each for each in found if isinstance(each, Path)]


async def install(request: dict[str, Any], work: Path, archives: Archives) -> None:
    """Fetch, unpack and link the packages of a request."""
    import rattler

    paths = await _all(request["packages"], archives.provide)
    records = [await rattler.RepoDataRecord.from_package_archive(path) for path in paths]
    try:
        await rattler.install(
            records,
            request["staging"],
            cache_dir=work / "unpacked",
            installed_packages=[],
            platform=rattler.Subdir(request["platform"]),
            execute_link_scripts=False,
            show_progress=False,
            alternative_target_prefix=request["prefix"],
            config=rattler.Config.from_toml(_LINKS),
        )
    except Exception as error:
        raise Problem("install", "", str(error)) from error


def _follow(parent: int) -> None:
    """End with the process that started us: what we make is removed when that one is gone."""
    while os.getppid() == parent:
        time.sleep(_LOOK)
    os._exit(1)


def main(arguments: list[str]) -> int:
    """Do what the request says, and leave the answer."""
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    import rattler

    work = Path(arguments[0])
    request = json.loads((work / "request.json").read_text("ascii"))
    answer: dict[str, Any] = {"error": None, "file": "", "said": "", "damaged": []}

    async def run() -> None:
        root = Path(request["archives"])
        root.mkdir(parents=True, exist_ok=True)
        archives = Archives(root, work, rattler.Client.default_client(max_retries=0))
        try:
            await install(request, work, archives)
        finally:
            answer["damaged"] = archives.damaged

    try:
        asyncio.run(run())
    except Problem as problem:
        answer |= {"error": problem.kind, "file": problem.file, "said": problem.said}
    except OSError as error:
        answer |= {"error": "install", "said": f"{error.filename}: {os.strerror(error.errno or 0)}"}
    partial = work / "answer.partial"
    partial.write_text(json.dumps(answer), "ascii")
    partial.replace(work / "answer.json")
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
