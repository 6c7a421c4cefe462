"""The layer cache: whole or not at all."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch.errors import ImageError
from dispatch.image.layers import CachedLayerBroken, LayerCache

CONTENT = [b"first", b"second"]
DIFF_ID = f"sha256:{hashlib.sha256(b''.join(CONTENT)).hexdigest()}"


class Pieces:
    """A stream of given pieces; ``made`` counts how often it was read."""

    def __init__(
        self, pieces: list[bytes], size: int | None = None, failure: Exception | None = None
    ) -> None:
        self._pieces = pieces
        self.size = sum(map(len, pieces)) if size is None else size
        self._failure = failure
        self.made = 0

    def chunks(self) -> Iterator[bytes]:
        """Yield the pieces, then fail if that is wanted."""
        self.made += 1
        yield from self._pieces
        if self._failure is not None:
            raise self._failure


def left_in(root: Path) -> list[str]:
    """What is in the cache, apart from locks."""
    return sorted(path.name for path in root.iterdir() if path.suffix != ".lock")


def test_filled_while_it_is_used(tmp_path: Path) -> None:
    """The first reader gets the bytes as they are made, the second from the cache, with the same digest."""
    cache, pieces = LayerCache(tmp_path), Pieces(CONTENT)
    for _ in range(2):
        with cache.open("key", lambda: pieces) as stream:
            assert b"".join(stream.chunks()) == b"firstsecond"
        assert (stream.diff_id, stream.size) == (DIFF_ID, 11)
    assert pieces.made == 1
    assert left_in(tmp_path) == ["key.json", "key.tar"]


@pytest.mark.parametrize(
    "pieces",
    [
        Pieces(CONTENT, failure=OSError(28, "No space left on device")),
        Pieces(CONTENT, failure=ImageError("broken")),
        Pieces(CONTENT, size=99),
    ],
    ids=["disk full", "maker fails", "other length than announced"],
)
def test_failure_leaves_nothing(tmp_path: Path, pieces: Pieces) -> None:
    """A layer that fails half-way is not in the cache, and the next one is made from the start."""
    cache = LayerCache(tmp_path)
    with pytest.raises((OSError, ImageError)):
        cache.write("key", lambda: pieces)
    assert left_in(tmp_path) == []
    assert cache.write("key", lambda: Pieces(CONTENT)).diff_id == DIFF_ID


def test_reader_that_leaves(tmp_path: Path) -> None:
    """A reader that goes away half-way leaves nothing and gives the lock back."""
    cache = LayerCache(tmp_path)
    with cache.open("key", lambda: Pieces(CONTENT)) as stream:
        next(stream.chunks())
    assert cache.find("key") is None
    assert left_in(tmp_path) == []
    assert cache.write("key", lambda: Pieces(CONTENT)).size == 11


@pytest.mark.parametrize(
    ("name", "content", "noticed"),
    [("key.tar", b"short", "find"), ("key.json", b"{", "find"), ("key.tar", b"otherbytes!", "read")],
)
def test_damage_is_noticed(tmp_path: Path, name: str, content: bytes, noticed: str) -> None:
    """A layer of another length is missing; one with other bytes is thrown away when it is read."""
    cache = LayerCache(tmp_path)
    cache.write("key", lambda: Pieces(CONTENT))
    (tmp_path / name).write_bytes(content)
    if noticed == "read":
        with pytest.raises(CachedLayerBroken):
            cache.write("key", lambda: Pieces(CONTENT))
    assert cache.find("key") is None
    assert cache.write("key", lambda: Pieces(CONTENT)).diff_id == DIFF_ID


def test_left_by_a_kill(tmp_path: Path) -> None:
    """What a killed process left half-written is overwritten."""
    (tmp_path / "key.partial").write_bytes(b"fir")
    (tmp_path / "key.tar").write_bytes(b"firstsecond")
    assert LayerCache(tmp_path).find("key") is None
    assert LayerCache(tmp_path).write("key", lambda: Pieces(CONTENT)).size == 11
    assert left_in(tmp_path) == ["key.json", "key.tar"]


def test_two_at_once_make_one(tmp_path: Path) -> None:
    """While one reader fills a layer the other waits for it, and then reads it."""
    cache, pieces = LayerCache(tmp_path), Pieces(CONTENT)
    second = threading.Thread(target=cache.write, args=("key", lambda: pieces))
    with cache.open("key", lambda: pieces) as stream:
        chunks = stream.chunks()
        next(chunks)
        second.start()
        assert list(chunks) == [b"second"]
    second.join(30)
    assert not second.is_alive()
    assert pieces.made == 1


def test_pruned_between_look_and_reading(tmp_path: Path) -> None:
    """A layer that is removed once it was found counts as broken, so that whoever wants it makes it again."""
    cache = LayerCache(tmp_path)
    cache.write("key", lambda: Pieces(CONTENT))
    with cache.open("key", lambda: Pieces(CONTENT)) as stream:
        (tmp_path / "key.json").unlink()
        (tmp_path / "key.tar").unlink()
        with pytest.raises(CachedLayerBroken):
            next(iter(stream.chunks()))
    assert cache.write("key", lambda: Pieces(CONTENT)).diff_id == DIFF_ID
