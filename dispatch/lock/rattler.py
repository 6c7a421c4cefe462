"""The door to py-rattler's installer: a conda lock becomes files in a staging prefix.

Owns the process that does it (``condainstall``) and the words for what went wrong. That process may crash
when it ends, with its work done: what counts is the answer it leaves. Without one it is tried once more.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.errors import DispatchError, ImageError, LockError
from dispatch.lock.model import CondaLock, CondaPackage
from dispatch.lock.program import Run, captured
from dispatch.reporting import Reporter

Addresses = Callable[[str], Sequence[str]]
"""Says where a channel, as a lock calls it, is to be had: the best place first."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s`'\"<>()]+")
_TRIES = 2


@dataclass(frozen=True)
class Rattler:
    """py-rattler, as this machine's settings have it.

    ``archives`` is the directory of fetched packages; ``environ`` is the caller's environment, from which
    proxies, certificates and credentials come; ``command`` is what a message names to renew a lock.
    """

    addresses: Addresses
    archives: Path
    environ: Mapping[str, str]
    run: Run = subprocess.run
    python: str = sys.executable
    command: str = "dispatch lock"

    def install(self, lock: CondaLock, staging: Path, prefix: str, report: Reporter) -> None:
        """Fill ``staging`` with exactly the lock's packages, as they are to be at ``prefix``.

        Every package's archive is checked against its SHA-256, wherever it comes from. LockError where it
        does not match or the channel has it no more, ImageError where a channel does not answer.
        """
        request = {
            "packages": [
                {"file": each.file, "sha256": each.sha256, "size": each.size, "urls": urls}
                for each, urls in ((each, self._urls(each)) for each in lock.packages)
            ],
            "archives": str(self.archives),
            "staging": str(staging),
            "prefix": prefix,
            "platform": lock.platform,
        }
        answer = self._answer(request, staging)
        for file in answer["damaged"]:
            report(f"{file}: what was kept of it was damaged: fetched again")
        if answer["error"]:
            raise self._error(answer, lock)
        staging.mkdir(exist_ok=True)

    def _urls(self, package: CondaPackage) -> list[str]:
        places = self.addresses(package.channel)
        return [f"{place.rstrip('/')}/{package.subdir}/{package.file}" for place in places]

    def _answer(self, request: Mapping[str, object], staging: Path) -> dict[str, Any]:
        """Let the process work, and return its answer."""
        work = staging.with_name(f"{staging.name}.work")
        done = None
        for _ in range(_TRIES):
            for left in (work, staging):
                shutil.rmtree(left, ignore_errors=True)
            work.mkdir(parents=True)
            (work / "request.json").write_text(json.dumps(request), "ascii")
            try:
                done = self._process(work)
                answer: dict[str, Any] = json.loads((work / "answer.json").read_text("ascii"))
            except FileNotFoundError:
                continue
            finally:
                shutil.rmtree(work, ignore_errors=True)
            return answer
        said = (done.stderr.strip().splitlines() if done is not None else [])[-1:]
        code = done.returncode if done is not None else "nothing"
        raise ImageError(
            f"installing conda packages: py-rattler ended with {code}{': ' + said[0] if said else ''}",
            remedy="repeat the command; if it stays so, install another version of py-rattler",
        )

    def _process(self, work: Path) -> subprocess.CompletedProcess[str]:
        env = {**self.environ, "RATTLER_CACHE_DIR": str(work / "cache")}
        # In a directory of its own: Python looks for modules where it is started.
        return captured(self.run, [self.python, "-m", "dispatch.lock.condainstall", str(work)], env, work)

    def _error(self, answer: Mapping[str, Any], lock: CondaLock) -> DispatchError:
        file, said = str(answer["file"]), _ADDRESS.sub("<address>", str(answer["said"]))
        if os.strerror(errno.ENOSPC).lower() in said.lower():
            return ImageError(f"installing conda packages: {said}")
        channel = next((each.channel for each in lock.packages if each.file == file), "")
        renew = f"renew the lock with `{self.command} --upgrade`"
        if answer["error"] == "hash":
            return LockError(
                f"conda package {file}: channel {channel} gives other content than was locked"
                f" (sha256 {said[:16]})",
                remedy=f"find out why it was changed; to take it as it is now, {renew}",
            )
        if answer["error"] == "missing":
            return LockError(f"conda package {file}: channel {channel} has it no more", remedy=renew)
        if answer["error"] == "download":
            return ImageError(
                f"conda package {file}: channel {channel} does not give it: {said}",
                remedy="see that the channel can be reached (proxy, CONDA_CHANNEL_ALIAS), and try again",
            )
        return ImageError(f"installing conda packages: {said}", remedy="repeat the command")
