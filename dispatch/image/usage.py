"""When an image was last asked for on this machine, and by which declarations.

Owns one small file for each image and declaration; its modification time is the last use, so that noting one
is a single system call where nothing changed, and several processes never wait for each other. It may be
deleted at any time: images then count as used when they got their names.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch.environment import Environment, ImageRef, LocalId
from dispatch.image.atomic import write_atomically
from dispatch.image.spec import canonical_digest

_ID = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Declarer:
    """A declaration that an image was built for: its name, and the file that it stands in."""

    name: str
    origin: Path

    def __str__(self) -> str:
        gone = "" if self.origin.exists() else " (gone)"
        return f"{self.name} of {self.origin}{gone}"


@dataclass(frozen=True)
class Usage:
    """The last use of an image (seconds since the epoch, None where none is known), and by whom."""

    last: float | None = None
    by: tuple[Declarer, ...] = ()


class UsageIndex:
    """The uses of images, under one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def note(self, images: Mapping[str, ImageRef], environments: Mapping[str, Environment]) -> None:
        """Remember that images were asked for now, by name; a disk that refuses costs only an age."""
        for name, image in images.items():
            match = _ID.fullmatch(image.id) if isinstance(image, LocalId) else None
            if match is None or name not in environments:
                continue
            with contextlib.suppress(OSError):
                self._note(self._root / match[1], environments[name])

    def _note(self, place: Path, environment: Environment) -> None:
        document = {"name": environment.name, "origin": str(environment.origin)}
        file = place / f"{canonical_digest(document)}.json"
        try:
            os.utime(file)
        except FileNotFoundError:
            write_atomically(file, json.dumps(document))

    def of(self, image: str) -> Usage:
        """Return what is known of an image ID's use."""
        last: float | None = None
        found = []
        for file in sorted((self._root / image.rpartition(":")[2]).glob("*.json")):
            try:
                document = json.loads(file.read_text("ascii"))
                found.append(Declarer(str(document["name"]), Path(str(document["origin"]))))
                last = max(last or 0.0, file.stat().st_mtime)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # removed meanwhile, or not ours
        return Usage(last, tuple(sorted(found, key=lambda each: (each.name, each.origin))))

    def forget(self, image: str) -> None:
        """Drop what is known of an image that is gone."""
        place = self._root / image.rpartition(":")[2]
        with contextlib.suppress(OSError):
            for file in place.iterdir():
                file.unlink(missing_ok=True)
            place.rmdir()


def usage_of(cache: Path) -> UsageIndex:
    """Return the index that builds with this cache write."""
    return UsageIndex(cache / "usage")
