"""What may go of the images in an engine and of the caches beside them, and its removal.

Owns the rules: by age, by number, by size; never an image that a container has, that somebody gave another
name, or that another image of ours stands on; never what we did not build (``holdings``). The plan is a
value and changes nothing; carrying it out looks again before each removal.
"""

from __future__ import annotations

import enum
import fcntl
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dispatch.errors import ImageError
from dispatch.image.cachefiles import CachedFile
from dispatch.image.holdings import Held, Holdings, ImageStock
from dispatch.image.usage import UsageIndex
from dispatch.units import format_size


class Kind(enum.Enum):
    """What can go."""

    IMAGE = "image"
    LAYER = "cached layer"
    BYTECODE = "compiled package"


@dataclass(frozen=True)
class Bounds:
    """What shall stay: what was used since ``since`` (seconds since the epoch), the newest ``keep`` images of
    every name, what fits into ``max_size`` bytes. None is no bound.

    ``keep`` alone lets all others go; beside another bound it only protects.
    """

    since: float | None = None
    keep: int | None = None
    max_size: int | None = None


@dataclass(frozen=True)
class Item:
    """Something that goes. ``size`` is what that frees once all before it are gone."""

    kind: Kind
    name: str
    size: int
    last: float | None
    reason: str
    image: Held | None = None
    file: CachedFile | None = None


@dataclass(frozen=True)
class Pruning:
    """What goes, and the images that stay with why, where a bound alone would have let them go."""

    items: tuple[Item, ...]
    kept: tuple[tuple[Held, str], ...] = ()
    note: str = ""


def plan(holdings: Holdings, files: Iterable[CachedFile], bounds: Bounds) -> Pruning:
    """Say what goes."""
    selection = _Selection(holdings, list(files), bounds)
    selection.by_age_and_number()
    selection.by_size()
    return selection.pruning()


@dataclass
class _Selection:
    """Images and files while it is decided which of them go. ``going`` maps them to the reason."""

    holdings: Holdings
    files: list[CachedFile]
    bounds: Bounds
    going: dict[str, str] = field(default_factory=dict)
    order: list[Held | CachedFile] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def by_age_and_number(self) -> None:
        """Let go what no bound keeps, each image after those that stand on it."""
        bounds = self.bounds
        newest = _newest(self.holdings.images, bounds.keep)
        for image in self._upper_first():
            reason = self._unwanted(image.last, image.id not in newest)
            if not reason:
                continue
            if obstacle := self._obstacle(image, newest):
                self.kept[image.id] = obstacle
            else:
                self._let_go(image, reason)
        layers = {chain for image in self._staying() for chain in image.record.diff_ids}
        gone = {chain for image in self.holdings.images for chain in image.record.diff_ids} - layers
        for file in self.files:
            orphan = "its image goes" if file.diff_id in gone else ""
            if reason := (self._unwanted(file.last, False) or orphan):
                self._let_go(file, reason)

    def _unwanted(self, last: float | None, surplus: bool) -> str:
        bounds = self.bounds
        if bounds.since is not None:
            old = last is None or last < bounds.since
            return "not used for longer than that" if old else ""
        if bounds.keep is not None and bounds.max_size is None and surplus:
            return f"not among the newest {bounds.keep} of its name"
        return ""

    def by_size(self) -> None:
        """Let the longest unused go until the rest fits."""
        limit = self.bounds.max_size
        if limit is None:
            return
        newest = _newest(self.holdings.images, self.bounds.keep)
        all_of_them: list[Held | CachedFile] = [*self.files, *self.holdings.images]
        waiting = sorted(all_of_them, key=lambda each: each.last or 0.0)
        while (size := self._size()) > limit:
            waiting = [each for each in waiting if _key(each) not in self.going]
            oldest = next((each for each in waiting if not self._obstacle(each, newest)), None)
            if oldest is None:
                self.kept |= {image.id: self._obstacle(image, newest) for image in self._staying()}
                self.note = f"{format_size(size)} stay: nothing else may go"
                return
            self._let_go(oldest, f"more than {format_size(limit)} in all")

    def _size(self) -> int:
        files = sum(file.size for file in self.files if str(file.path) not in self.going)
        return self.holdings.total(self._staying()) + files

    def _let_go(self, what: Held | CachedFile, reason: str) -> None:
        self.going[_key(what)] = reason
        self.kept.pop(_key(what), None)
        self.order.append(what)

    def _staying(self) -> list[Held]:
        return [image for image in self.holdings.images if image.id not in self.going]

    def _obstacle(self, image: Held | CachedFile, newest: frozenset[str]) -> str:
        """Why an image must stay; empty where it need not."""
        if isinstance(image, CachedFile):
            return ""
        if image.containers:
            user = image.containers[0]
            return f"container {user.name} has it ({user.state})"
        if image.strangers:
            return f"somebody named it {image.strangers[0]}"
        if image.id in newest:
            return f"among the newest {self.bounds.keep} of its name"
        above = next((each for each in self._staying() if each.base == image.id), None)
        return f"{above.title} stands on it" if above is not None else ""

    def _upper_first(self) -> list[Held]:
        """All images, each after those that stand on it, and the longest unused first where that is free."""
        depth: dict[str, int] = {}
        known = {image.id: image for image in self.holdings.images}
        for image in self.holdings.images:
            below, height = image, 0
            while below.base in known and height < len(known):
                below, height = known[below.base], height + 1
            depth[image.id] = height
        return sorted(self.holdings.images, key=lambda each: (-depth[each.id], each.last or 0.0, each.id))

    def pruning(self) -> Pruning:
        """The outcome as a value."""
        items = []
        left = list(self.holdings.images)
        for what in self.order:
            if isinstance(what, Held):
                before = self.holdings.total(left)
                left = [image for image in left if image.id != what.id]
                size = before - self.holdings.total(left)
                items.append(Item(Kind.IMAGE, what.title, size, what.last, self.going[what.id], image=what))
            else:
                kind = Kind.LAYER if what.diff_id else Kind.BYTECODE
                reason = self.going[_key(what)]
                items.append(Item(kind, what.path.name[:16], what.size, what.last, reason, file=what))
        known = {image.id: image for image in self.holdings.images}
        return Pruning(tuple(items), tuple((known[key], why) for key, why in self.kept.items()), self.note)


def _key(what: Held | CachedFile) -> str:
    return what.id if isinstance(what, Held) else str(what.path)


def _newest(images: Iterable[Held], keep: int | None) -> frozenset[str]:
    """Return the IDs of the ``keep`` last used images of each name."""
    if keep is None:
        return frozenset()
    named: dict[str, list[Held]] = defaultdict(list)
    for image in images:
        for name in image.names:
            named[name].append(image)
    found: set[str] = set()
    for those in named.values():
        found |= {image.id for image in sorted(those, key=lambda each: -(each.last or 0.0))[:keep]}
    return frozenset(found)


def carry_out(
    pruning: Pruning, stock: ImageStock, locks: Path, usage: UsageIndex
) -> tuple[list[Item], list[tuple[Item, str]]]:
    """Remove what a plan lets go; return what went, and what stayed with why.

    ``locks`` is the directory of the locks that builds hold for what they make or have just found. An image
    that a container has taken since stays; the engine itself refuses to remove one that is running.
    """
    went: list[Item] = []
    stayed: list[tuple[Item, str]] = []
    for item in pruning.items:
        try:
            if item.image is not None:
                _remove_image(item.image, stock, locks, usage)
            elif item.file is not None:
                item.file.remove()
            went.append(item)
        except ImageError as error:
            stayed.append((item, error.message))
    return went, stayed


def _remove_image(image: Held, stock: ImageStock, locks: Path, usage: UsageIndex) -> None:
    with _not_built(locks / f"{image.digest}.lock"):
        if (usage.of(image.id).last or 0.0) > (image.last or 0.0):
            raise ImageError("it has just been used")
        if any(user.image == image.id for user in stock.users()):
            raise ImageError("a container has it")
        repositories = {tag.rpartition(":")[0] for tag in image.record.tags}
        repositories |= {digest.partition("@")[0] for digest in image.record.digests}
        if len(repositories) < 2:
            # One call: the image keeps all its names where the engine refuses.
            stock.remove(image.id)
        else:
            for reference in (*image.record.digests, *image.record.tags):
                stock.remove(reference)
        usage.forget(image.id)


@contextmanager
def _not_built(lock: Path) -> Iterator[None]:
    """Hold off builds of an image; ImageError where one is at work on it."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ImageError(f"{lock}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ImageError("a build is at work on it") from error
        yield
    finally:
        os.close(descriptor)
