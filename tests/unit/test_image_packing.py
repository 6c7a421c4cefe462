"""Compressed layers: the same bytes however they came, and back again."""

from __future__ import annotations

import gzip
import hashlib
import random
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch.image.packing import BLOCK, pack, unpacked

TEXT = b"".join(b"line %d of a file that compresses\n" % number for number in range(120_000))


def cut(content: bytes, seed: int) -> Iterator[bytes]:
    """Cut bytes into chunks of any length."""
    chance = random.Random(seed)
    while content:
        length = chance.choice([1, 7, 4096, BLOCK - 1, BLOCK, 3 * BLOCK])
        yield content[:length]
        content = content[length:]


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, len(TEXT)])
def test_what_is_packed_comes_back(tmp_path: Path, size: int) -> None:
    """Ours, Python's and gzip's own reader see the same bytes; both digests are true."""
    content = TEXT[:size]
    packed = pack(iter([content] if content else []), tmp_path / "layer.gz")
    held = packed.file.read_bytes()
    assert gzip.decompress(held) == content
    assert subprocess.run(["gzip", "-dc"], input=held, capture_output=True, check=True).stdout == content
    assert b"".join(unpacked(cut(held, size))) == content
    assert (packed.size, packed.digest) == (len(held), f"sha256:{hashlib.sha256(held).hexdigest()}")
    assert packed.diff_id == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_packing_depends_on_the_bytes_alone(tmp_path: Path) -> None:
    """Not on how they came, nor on how many worked on them."""
    digests = {
        pack(cut(TEXT, seed), tmp_path / f"{seed}.gz", workers).digest
        for seed, workers in ((1, 1), (2, 2), (3, 7))
    }
    assert len(digests) == 1


def test_packing_in_blocks_costs_little(tmp_path: Path) -> None:
    """At most a hundredth more than in one piece."""
    packed = pack(iter([TEXT]), tmp_path / "layer.gz")
    assert packed.size < 1.01 * len(zlib.compress(TEXT, 4))


def test_other_gzip_streams_are_unpacked() -> None:
    """Several members in a row, and what unpacks to a thousand times its length, in pieces that fit."""
    held = gzip.compress(TEXT) + gzip.compress(b"") + gzip.compress(bytes(20 * BLOCK))
    pieces = list(unpacked(cut(held, 1)))
    assert b"".join(pieces) == TEXT + bytes(20 * BLOCK)
    assert max(map(len, pieces)) <= BLOCK


@pytest.mark.parametrize("content", [b"", b"\x1f", b"plain", TEXT])
def test_what_is_not_compressed_comes_as_it_is(content: bytes) -> None:
    """Tars are told from gzip streams by their first two bytes."""
    assert b"".join(unpacked(cut(content, 1))) == content


@pytest.mark.parametrize("damage", ["cut", "flipped", "rubbish"])
def test_a_damaged_stream_is_noticed(damage: str) -> None:
    """Cut at its end, or changed in the middle, or followed by something else."""
    held = gzip.compress(TEXT)
    middle = len(held) // 2
    damaged = {
        "cut": held[:-1],
        "flipped": held[:middle] + bytes([held[middle] ^ 1]) + held[middle + 1 :],
        "rubbish": held + b"\0\0\0\0",
    }[damage]
    with pytest.raises(zlib.error):
        list(unpacked(cut(damaged, 1)))
