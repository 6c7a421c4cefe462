"""Helper containers: one short command in an image, its output, and no trace afterwards.

Owns the life of such a container. Refuses anything long: steps are the engine's business.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dispatch._docker.archive import CutError, Item, pack, unpack, with_parents
from dispatch._docker.containers import STDERR, STDOUT, Bind, Containers, ContainerSpec
from dispatch._docker.files import Files
from dispatch._docker.owners import helper_labels, remove_abandoned
from dispatch._docker.sight import Sight
from dispatch._docker.socket import ApiError
from dispatch.errors import EngineError, ImageError


@dataclass(frozen=True)
class OneShot:
    """A helper container without network. ``timeout`` is in seconds, ``memory`` in bytes.

    ``command`` replaces the image's entrypoint and command; ``user`` is ``uid:gid`` or empty for the image's.
    """

    image: str
    command: tuple[str, ...]
    binds: tuple[Bind, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = ""
    memory: int | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Finished:
    """The end of a helper container."""

    exit_code: int
    stdout: bytes
    stderr: bytes


def run_once(containers: Containers, files: Files, sight: Sight, shot: OneShot) -> Finished:
    """Run a helper container to its end and remove it, whatever happens.

    So are those that a killed process left behind.

    Where the engine is not to be shown our files, directories are copied into the container, and those that
    it may write are copied back when it has ended.

    :raises ImageError: when the engine does not hold the image, or the image lacks the command
    :raises EngineError: also when it has not ended after ``shot.timeout`` seconds
    """
    remove_abandoned(containers)
    copied = bool(shot.binds) and bool(sight.obstacle(Path(bind.source) for bind in shot.binds))
    owner = sight.user(*_numbers(shot.user)) if shot.user and shot.binds else (0, 0)
    spec = ContainerSpec(
        image=shot.image,
        command=shot.command,
        labels=helper_labels(),
        env=shot.env,
        user=f"{owner[0]}:{owner[1]}" if shot.user and shot.binds else shot.user,
        working_dir=shot.working_dir,
        binds=() if copied else shot.binds,
        memory=shot.memory,
        init=False,
    )
    try:
        container = containers.create(spec)
    except ApiError as error:
        if error.status != 404:
            raise
        raise _refused(shot, error) from error
    try:
        if copied:
            items = [Item(bind.target.lstrip("/"), Path(bind.source)) for bind in shot.binds]
            files.put(container, "/", pack(with_parents(items, "dispatch"), *owner))
        try:
            containers.start(container)
        except ApiError as error:
            raise _refused(shot, error) from error
        code = containers.wait(container, shot.timeout)
        frames = list(containers.logs(container))
        for bind in shot.binds if copied else ():
            if not bind.read_only:
                _copy_back(files, container, bind)
    finally:
        containers.remove(container)
    return Finished(
        code,
        b"".join(frame.data for frame in frames if frame.stream == STDOUT),
        b"".join(frame.data for frame in frames if frame.stream == STDERR),
    )


def _numbers(user: str) -> tuple[int, int]:
    uid, _, gid = user.partition(":")
    return int(uid), int(gid or uid)


def _copy_back(files: Files, container: str, bind: Bind) -> None:
    """Give a directory what the container made of it; other directories may lie in it."""
    source = Path(bind.source)
    with tempfile.TemporaryDirectory(prefix="dispatch-helper-", dir=source.parent) as beside:
        try:
            with files.get(container, bind.target) as stream:
                unpack(stream, Path(beside) / "new")
        except CutError as error:
            raise EngineError(f"{bind.target}: the engine broke off while it was copied back") from error
        shutil.copytree(Path(beside) / "new", source, symlinks=True, dirs_exist_ok=True)


def _refused(shot: OneShot, error: ApiError) -> ImageError:
    return ImageError(f"image {shot.image}: it cannot run {shot.command[0]}: {error.detail}")
