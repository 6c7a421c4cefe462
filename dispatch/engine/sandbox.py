"""A job's own place on the disk of a local engine: its name, its private source, its scratch, its user.

Owns ``src/``, ``scratch/``, ``user/`` and ``container`` below an attempt's directory; ``discard`` takes away
what nobody reads after the end. Refuses to touch output, work and logs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dispatch._docker.containers import Bind
from dispatch.engine.base import JobSpec
from dispatch.engine.copying import copy_tree

SOURCE_TARGET = "/src"
SCRATCH_TARGET = "/dispatch/scratch"
SCRATCH_PARTS = ("home", "tmp", "cache")
_NAME_FILE = "container"
_KEY_LIMIT = 180


@dataclass(frozen=True)
class Sandbox:
    """The place of one job. ``owner`` is (uid, gid) to give everything to, None where it is ours already."""

    directory: Path
    uid: int
    gid: int
    owner: tuple[int, int] | None = None

    @classmethod
    def of(cls, directory: Path, uid: int, gid: int) -> Sandbox:
        """The sandbox in an attempt's directory for a job that runs as ``uid``."""
        ours = (uid, gid) == (os.geteuid(), os.getegid())
        return cls(directory, uid, gid, None if ours else (uid, gid))

    def container_name(self, key: str, nonce: Callable[[], str]) -> str:
        """Return the name of the attempt's container: decided once, kept on disk before the engine hears it.

        The nonce keeps apart two workspaces that run the same step on one engine, and a workspace that was
        deleted and begun anew from what its former containers still hold.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / _NAME_FILE
        name = f"dispatch-{re.sub(r'[^A-Za-z0-9_.-]', '_', key)[:_KEY_LIMIT]}-{nonce()}"
        partial = path.with_name(name)
        partial.write_text(name, encoding="ascii")
        try:
            os.link(partial, path)
        except FileExistsError:
            return path.read_text(encoding="ascii")
        finally:
            partial.unlink()
        return name

    def prepare(self, job: JobSpec) -> tuple[Bind, ...]:
        """Make what the container needs of directories (the source is empty yet) and return the mounts."""
        binds = []
        taken = {mount.target for mount in job.mounts}
        if job.source is not None:
            binds.append(self._directory("src", SOURCE_TARGET))
        if SCRATCH_TARGET not in taken:
            binds.append(self._directory("scratch", SCRATCH_TARGET))
            for part in SCRATCH_PARTS:
                self._directory(f"scratch/{part}", "")
        if self.uid != 0:
            binds.extend(self._accounts())
        return tuple(binds)

    def fill_source(self, job: JobSpec) -> None:
        """Copy the job's source into its private tree, replacing whatever an interrupted start left there."""
        if job.source is None:
            return
        target = self.directory / "src"
        for entry in target.iterdir():
            _remove(entry)
        copy_tree(str(job.source.path), str(target), self.owner)

    def discard(self) -> None:
        """Remove what has no use after the job's end. What cannot be removed is left."""
        for name in ("src", "scratch", "user"):
            _remove(self.directory / name)

    def _directory(self, name: str, target: str) -> Bind:
        path = self.directory / name
        path.mkdir(exist_ok=True)
        if self.owner is not None:
            os.chown(path, *self.owner)
        return Bind(str(path), target, read_only=False)

    def _accounts(self) -> tuple[Bind, ...]:
        place = self.directory / "user"
        place.mkdir(exist_ok=True)
        texts = accounts(self.uid, self.gid)
        for name, text in texts.items():
            (place / name).write_text(text, encoding="ascii")
            (place / name).chmod(0o644)
        return tuple(Bind(str(place / name), f"/etc/{name}") for name in texts)


def accounts(uid: int, gid: int) -> dict[str, str]:
    """passwd and group with root and the job's user, so that ``getpwuid`` and ``whoami`` answer."""
    home = f"{SCRATCH_TARGET}/home"
    return {
        "passwd": f"root:x:0:0:root:/root:/bin/sh\ndispatch:x:{uid}:{gid}::{home}:/bin/sh\n",
        "group": f"root:x:0:\ndispatch:x:{gid}:\n" if gid != 0 else "root:x:0:\n",
    }


def _remove(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        _unlock(path)
        shutil.rmtree(path, ignore_errors=True)


def _unlock(directory: Path) -> None:
    """Give back the permissions that a step took off directories of its own."""
    with contextlib.suppress(OSError):
        directory.chmod(0o700)
        for entry in directory.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                _unlock(entry)
