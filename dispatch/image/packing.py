"""Layers as registries keep them: compressed by gzip, on all cores, to bytes that zlib's version decides.

Owns the level and the blocks. Blocks are compressed by themselves and joined into one stream, as pigz does:
their edges cost a hundredth of the size, and a layer of gigabytes is not left to one core.

Source: RFC 1952.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20
LEVEL = 4
# Each holds a block, and several layers may be packed at a time.
_MOST_WORKERS = 16
# No name, no time, and "unknown" for the operating system.
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
GZIP_MAGIC = b"\x1f\x8b"
_LAST = b"\x03\0"


@dataclass(frozen=True)
class Packed:
    """A compressed layer in a file: its digest and length, and the digest of what it unpacks to."""

    file: Path
    digest: str
    size: int
    diff_id: str


def pack(chunks: Iterable[bytes], file: Path, workers: int | None = None) -> Packed:
    """Compress bytes into ``file``; the number of ``workers`` changes nothing of the result."""
    workers = workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    plain, packed = hashlib.sha256(), hashlib.sha256()
    checksum = length = size = 0
    waiting: deque[Future[bytes]] = deque()
    with file.open("wb") as target, ThreadPoolExecutor(workers, "dispatch-gzip") as pool:

        def write(piece: bytes) -> None:
            nonlocal size
            packed.update(piece)
            size += target.write(piece)

        write(_HEADER)
        for block in _blocks(chunks):
            plain.update(block)
            checksum = zlib.crc32(block, checksum)
            length += len(block)
            waiting.append(pool.submit(_deflated, block))
            if len(waiting) > workers + 1:
                write(waiting.popleft().result())
        for done in waiting:
            write(done.result())
        write(_LAST + struct.pack("<II", checksum, length & 0xFFFFFFFF))
    return Packed(file, f"sha256:{packed.hexdigest()}", size, f"sha256:{plain.hexdigest()}")


def unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what a gzip stream holds, all of its members; what is no gzip stream comes as it is.

    :raises zlib.error: when it is damaged, or ends before its end
    """
    parts = iter(chunks)
    first = b""
    while len(first) < len(GZIP_MAGIC) and (piece := next(parts, b"")):
        first += piece
    if not first.startswith(GZIP_MAGIC):
        if first:
            yield first
        yield from parts
        return
    stream = zlib.decompressobj(31)
    for piece in _with(first, parts):
        while piece:
            if stream.eof:
                stream = zlib.decompressobj(31)
            # What a small piece unpacks to may be a thousand times as long.
            if plain := stream.decompress(piece, BLOCK):
                yield plain
            piece = stream.unconsumed_tail or stream.unused_data
    if rest := stream.flush():
        yield rest
    if not stream.eof:
        raise zlib.error("the stream ends before its end")


def _with(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut bytes into blocks of one length: how they came must not show."""
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        while len(waiting) >= BLOCK:
            yield bytes(waiting[:BLOCK])
            del waiting[:BLOCK]
    if waiting:
        yield bytes(waiting)


def _deflated(block: bytes) -> bytes:
    """Return a block's own part of a deflate stream, ended at a whole byte."""
    stream = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(block) + stream.flush(zlib.Z_FULL_FLUSH)
