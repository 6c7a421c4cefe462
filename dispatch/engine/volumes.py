"""What never changes, kept in volumes of an engine that does not see our files: filled once, mounted by many.

Owns the volumes with the label ``dispatch.content``. A volume is filled by one client, under a name that no
other knows, and is whole once its own directory has the time :data:`WHOLE`, which is given last and in a call
of its own; nobody mounts one that is not. So two clients at most fill two, and what a killed client leaves
half filled is never used. Volumes are left when a run ends, for the next one::

    docker volume ls -q -f label=dispatch.content | xargs -r docker volume rm

takes all away that no container uses; what is missing is filled again.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch._docker import ApiError
from dispatch._docker.archive import Item, pack
from dispatch._docker.containers import Containers, ContainerSpec, VolumeMount
from dispatch._docker.files import Files
from dispatch._docker.owners import helper_labels

CONTENT_LABEL = "dispatch.content"
# The time of a whole volume's directory, in seconds since the epoch: nobody else's clock shows it.
WHOLE = 981_173_106.0
_PLACE = "dispatch-volume"
_INSIDE = "content"
_TARGET = f"/{_PLACE}/{_INSIDE}"


@dataclass(frozen=True)
class Content:
    """A directory of this machine that never changes, as ``name`` says, for the user ``uid:gid``."""

    name: str
    source: Path
    uid: int
    gid: int

    @property
    def label(self) -> str:
        """What the volumes that hold it are labelled with."""
        return f"{self.name}.{self.uid}.{self.gid}"


class Volumes:
    """The volumes of one engine. Safe to share between threads; of one content, one of them fills."""

    def __init__(
        self,
        containers: Containers,
        files: Files,
        nonce: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._containers = containers
        self._files = files
        self._nonce = nonce
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._known: dict[str, str] = {}

    def mount(self, content: Content, target: str, image: str) -> VolumeMount:
        """Return the mount of a whole volume with a content, filled now where the engine has none.

        ``image`` is any image of the engine.
        """
        with self._lock:
            lock = self._locks.setdefault(content.label, threading.Lock())
        with lock:
            name = self._known.get(content.label) or self._find(content, image) or self._fill(content, image)
            self._known[content.label] = name
        return VolumeMount(name, target, labels={CONTENT_LABEL: content.label})

    def whole(self, container: str, mounts: Sequence[VolumeMount]) -> bool:
        """Whether a created container has all of these volumes whole: from now on nobody can remove them.

        Those that are not are forgotten. A volume that somebody removed in between is there again, empty.
        """
        missing = [mount for mount in mounts if not self._is_whole(container, mount.target)]
        for mount in missing:
            self._known = {label: name for label, name in self._known.items() if name != mount.name}
        return not missing

    def _find(self, content: Content, image: str) -> str | None:
        for name in self._files.volumes(CONTENT_LABEL, content.label):
            carrier = self._carrier(VolumeMount(name, _TARGET), image)
            try:
                if self._is_whole(carrier, _TARGET):
                    return name
            finally:
                self._containers.remove(carrier)
        return None

    def _fill(self, content: Content, image: str) -> str:
        name = f"dispatch-{self._nonce()}"
        mount = VolumeMount(name, _TARGET, read_only=False, labels={CONTENT_LABEL: content.label})
        carrier = self._carrier(mount, image)
        try:
            owner = content.uid, content.gid
            self._files.put(carrier, f"/{_PLACE}", pack([Item(_INSIDE, content.source)], *owner))
            facts = content.source.stat()
            seal = Item(_INSIDE, mode=facts.st_mode & 0o7777, mtime=WHOLE)
            self._files.put(carrier, f"/{_PLACE}", pack([seal], *owner))
        finally:
            self._containers.remove(carrier)
        return name

    def _carrier(self, mount: VolumeMount, image: str) -> str:
        """A container that is never started, through which the engine lets us at a volume."""
        spec = ContainerSpec(image, ("none",), labels=helper_labels(), volumes=(mount,), init=False)
        return self._containers.create(spec)

    def _is_whole(self, container: str, target: str) -> bool:
        try:
            facts = self._files.facts(container, target)
        except ApiError:
            return False
        return facts is not None and facts.is_directory and facts.mtime == WHOLE
