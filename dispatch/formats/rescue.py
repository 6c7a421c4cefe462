"""What can be saved of a result that could not be written. It is kept with the attempt, never a cache hit."""

# ruff: noqa: PTH103, PTH118, PTH106

from __future__ import annotations

import contextlib
import os

from dispatch.errors import FormatError
from dispatch.formats.pickles import PROTOCOL, DillFormat, PickleFormat
from dispatch.formats.storing import discard, kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DEPTH = 20


def quarantine(value: Any, directory: str | os.PathLike[str]) -> str | None:
    """Save what can be saved of a result in ``directory``, made if need be, and return the file's path.

    It is ``data.pickle``: by pickle, else by dill where that is installed, else by pickle with a text in the
    place of each part of a dict or list that cannot be pickled. None if nothing can be saved, as of an
    iterator, whose items are gone. Never raises an Exception, and leaves no half file.
    """
    if hasattr(type(value), "__next__"):
        return None
    path = os.path.join(directory, PickleFormat.FILE)
    if os.path.lexists(path):
        return None
    made = False
    try:
        made = not os.path.isdir(directory)  # noqa: PTH112
        os.makedirs(directory, exist_ok=True)
        for save in (PickleFormat().save, DillFormat().save, _save_parts):
            if _saved(save, value, path):
                return path
    except Exception:
        discard(path)
    if made:
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return None


def _saved(save: Any, value: Any, path: str) -> bool:
    try:
        save(value, path)
    except BaseException as error:
        discard(path)
        if not isinstance(error, Exception):
            raise
        return False
    return True


def _save_parts(value: Any, path: str) -> None:
    parts, whole = _parts(value, _DEPTH)
    if not whole:
        raise FormatError("nothing of it can be pickled")
    PickleFormat().save(parts, path)


def _parts(value: Any, depth: int) -> tuple[Any, bool]:
    """What can be pickled of a value, and whether that is anything at all."""
    if _can_be_pickled(value):
        return value, True
    if depth and isinstance(value, dict):
        found = {key: _parts(item, depth - 1) for key, item in value.items() if _can_be_pickled(key)}
        return {key: part for key, (part, _) in found.items()}, any(some for _, some in found.values())
    if depth and isinstance(value, (list, tuple)):
        items = [_parts(item, depth - 1) for item in value]
        return [part for part, _ in items], any(some for _, some in items)
    return f"(not saved: a {kind_of(value)})", False


def _can_be_pickled(value: Any) -> bool:
    import pickle

    try:
        pickle.Pickler(_Nowhere(), protocol=PROTOCOL).dump(value)
    except Exception:
        return False
    return True


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        """Take it."""
        return len(data)
