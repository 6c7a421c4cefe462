"""gzip, bzip2 and xz around a file. Owns that equal values make equal files: no time, no name in a header."""

from __future__ import annotations

from dispatch.errors import FormatError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

_MODULES = {"gz": "gzip", "bz2": "bz2", "lzma": "lzma", "xz": "lzma"}
_LEVEL = 6


def ensure_available(compress: str) -> None:
    """Raise FormatError if this Python was built without the compression."""
    import importlib

    try:
        importlib.import_module(_MODULES[compress])
    except ImportError as error:
        raise FormatError(
            f"compress {compress!r}: this Python was built without {_MODULES[compress]}",
            "use another compression, or a Python that has it",
        ) from error


def packed(file: IO[bytes], path: str) -> Any:
    """Return a file for writing that compresses into ``file``, by the suffix of ``path``."""
    suffix = path.rpartition(".")[2]
    ensure_available(suffix)
    if suffix == "gz":
        import gzip

        return gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0)
    if suffix == "bz2":
        import bz2

        return bz2.BZ2File(file, "wb")
    import lzma

    return lzma.LZMAFile(file, "wb", preset=_LEVEL)


def unpacked(file: IO[bytes], path: str) -> Any:
    """Return a file for reading that decompresses ``file``, by the suffix of ``path``."""
    suffix = path.rpartition(".")[2]
    ensure_available(suffix)
    if suffix == "gz":
        import gzip

        return gzip.GzipFile(fileobj=file, mode="rb")
    if suffix == "bz2":
        import bz2

        return bz2.BZ2File(file, "rb")
    import lzma

    return lzma.LZMAFile(file, "rb")
