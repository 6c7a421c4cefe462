"""Whether an engine may be shown this machine's files, and as whom its containers act.

Owns the proof. An address proves nothing: a container with a Docker of its own, a proxy and another mount
namespace all have unix sockets. It is certain without asking where the process that made the socket is a
dockerd with our own mount namespace and root. Everywhere else the engine is asked: a container, never
started, is given a directory in which we just wrote a secret word, and has to have the same word there. A
directory of that name on the engine's machine is so never taken for ours. No answer is kept beyond the
process: what names an engine (its ID) is shared by engines that see different files.
"""

from __future__ import annotations

import os
import secrets
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, cast

from dispatch._docker.address import Address
from dispatch._docker.containers import Bind, Containers, ContainerSpec
from dispatch._docker.files import Files
from dispatch._docker.socket import ApiError
from dispatch._docker.transport import peer
from dispatch.errors import EngineError

PROBE_LABEL = "dispatch.probe"
UNSEEN = "the engine does not see this machine's files"
REMAPPED = "the engine gives containers user ids of their own"
OTHERS = "the engine belongs to another user"
_TARGET = "/dispatch-probe"
_PROGRAM = "dockerd"


class Sight:
    """What one engine may be shown. ``info`` asks for the engine's own description; safe to share.

    All methods raise EngineError when the engine does not answer.
    """

    def __init__(
        self,
        address: Address,
        containers: Containers,
        files: Files,
        info: Callable[[], Mapping[str, Any]],
        proc: Path = Path("/proc"),
        peer: Callable[[Address], tuple[int, int] | None] = peer,
    ) -> None:
        self._address = address
        self._containers = containers
        self._files = files
        self._info = info
        self._proc = proc
        self._peer = peer
        self._lock = threading.Lock()
        self._seen: dict[Path, bool] = {}
        self._here: bool | None = None
        self._facts: tuple[bool, bool] | None = None

    def user(self, uid: int, gid: int) -> tuple[int, int]:
        """Return as whom containers run so that what they make belongs to the caller ``uid:gid``.

        Where the engine maps users, root in a container is nobody's root: it is the caller (rootless), or one
        whose files are only ever copied.
        """
        return (0, 0) if any(self._mapping()) else (uid, gid)

    def obstacle(self, directories: Iterable[Path]) -> str:
        """Return why these directories cannot be mounted, empty where they can be."""
        rootless, remapped = self._mapping()
        if remapped:
            return REMAPPED
        if rootless:
            found = self._peer(self._address)
            if found is not None and found[1] != os.geteuid():
                return OTHERS
        with self._lock:
            if self._here is None:
                self._here = self._is_here()
            if self._here:
                return ""
            wanted = tuple(dict.fromkeys(directories))
            if unknown := [each for each in wanted if each not in self._seen]:
                self._seen.update(self._ask(unknown))
            return "" if all(self._seen[each] for each in wanted) else UNSEEN

    def _mapping(self) -> tuple[bool, bool]:
        if self._facts is None:
            kinds = {str(option).split(",")[0] for option in self._info().get("SecurityOptions") or ()}
            self._facts = "name=rootless" in kinds, "name=userns" in kinds
        return self._facts

    def _is_here(self) -> bool:
        """Whether the engine certainly is a process that sees what we see."""
        found = self._peer(self._address)
        if found is None:
            return False
        process, own = self._proc / str(found[0]), self._proc / "self"
        try:
            if (process / "exe").readlink().name != _PROGRAM:
                return False
            same = (process / "ns" / "mnt").readlink() == (own / "ns" / "mnt").readlink()
            return same and (process / "root").samefile(own / "root")
        except OSError:
            return False

    def _ask(self, directories: list[Path]) -> dict[Path, bool]:
        image = self._files.import_empty(PROBE_LABEL)
        try:
            return {each: self._sees(image, each) for each in directories}
        finally:
            self._files.remove_image(image)

    def _sees(self, image: str, directory: Path) -> bool:
        word = secrets.token_hex(16)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(prefix=".dispatch-probe-", dir=directory) as file:
                file.write(word.encode())
                file.flush()
                return self._reads(image, directory, Path(file.name).name) == word
        except OSError as error:
            raise EngineError(f"{directory}: it cannot be written: {error.strerror}") from error

    def _reads(self, image: str, directory: Path, name: str) -> str | None:
        """What the engine reads in that directory under that name."""
        spec = ContainerSpec(
            image=image,
            command=("none",),
            labels={PROBE_LABEL: "1"},
            binds=(Bind(str(directory), _TARGET),),
            init=False,
        )
        try:
            container = self._containers.create(spec)
        except ApiError as error:
            if error.status in (400, 404, 500):
                return None  # there is nothing of that name
            raise
        try:
            with self._files.get(container, f"{_TARGET}/{name}") as stream:
                archive = tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|")  # noqa: SIM115
                info = archive.next()
                content = archive.extractfile(info) if info is not None else None
                return content.read(64).decode("ascii", "replace") if content is not None else None
        except (ApiError, tarfile.TarError):
            return None
        finally:
            self._containers.remove(container)
