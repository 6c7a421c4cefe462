"""How a value becomes a file in a directory, and what is said if it cannot.

Owns the rule that no half file is left behind, the names that are kept for results, and compression.
"""

# Not pathlib: a step without paths of its own would pay for importing it.
# ruff: noqa: PTH108, PTH112, PTH114, PTH118, PTH123, PTH208

from __future__ import annotations

import os

from dispatch.errors import ConfigurationError, FormatError
from dispatch.formats.base import Format, UnfitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")

PREFIX = "data."
SUFFIXES = {"gz": ".gz", "bz2": ".bz2", "lzma": ".xz", "xz": ".xz"}
# Other names that begin with ``data.`` belong to formats of others, or to nobody.
READERS = {
    "data.json": "plain:JsonFormat",
    "data.txt": "plain:TextFormat",
    "data.bin": "plain:BytesFormat",
    "data.jsonl": "streams:JsonLinesFormat",
    "data.pickle": "pickles:PickleFormat",
    "data.pickles": "streams:PicklesFormat",
    "data.npy": "arrays:NumpyFormat",
    "data.npz": "arrays:NumpyArchive",
    "data.arrow": "tables:ArrowFormat",
    "data.parquet": "tables:ParquetFormat",
    "data.safetensors": "tensors:SafetensorsFormat",
    "data.files": "paths:FilesFormat",
}
_COMPRESSIBLE = ("data.json", "data.txt", "data.bin", "data.jsonl", "data.pickle", "data.pickles")


class CompressibleFormat(Format["T"]):
    """A format whose file may be compressed: ``compress`` is None, ``gz``, ``bz2`` or ``lzma`` (``.xz``).

    It does not enter the identity of a step: the value is the same.
    """

    def __init__(self, compress: str | None = None) -> None:
        if compress is not None and compress not in SUFFIXES:
            raise ConfigurationError(
                f"format {self.NAME!r}: cannot compress by {compress!r}", "say gz, bz2 or lzma, or nothing"
            )
        self.compress = compress

    @property
    def file_name(self) -> str:
        """The name of the file, with the suffix of its compression."""
        return self.FILE + SUFFIXES.get(self.compress or "", "")

    def ensure_available(self) -> None:
        """Raise FormatError if this Python was built without the compression."""
        if self.compress:
            from dispatch.formats.compression import ensure_available

            ensure_available(self.compress)

    def save(self, value: Any, path: str) -> None:
        """Make the file, compressed as its name says."""
        with open(path, "xb") as file:
            if path.endswith(tuple(SUFFIXES.values())):
                from dispatch.formats.compression import packed

                with packed(file, path) as packing:
                    self.dump(value, packing)
            else:
                self.dump(value, file)

    def restore(self, path: str) -> Any:
        """Read the file, decompressed as its name says."""
        from dispatch.formats.reading import open_regular

        with open_regular(path) as file:
            if path.endswith(tuple(SUFFIXES.values())):
                from dispatch.formats.compression import unpacked

                with unpacked(file, path) as unpacking:
                    return self.load(unpacking)
            return self.load(file)


def put(format: Format[Any], value: Any, directory: str | os.PathLike[str]) -> str:
    """Write a value that the format accepts, without leaving half a file; see ``Format.write``."""
    name = format.file_name
    path = os.path.join(directory, name)
    ensure_free(directory, name)
    try:
        format.save(value, path)
    except BaseException as error:
        discard(path)
        if isinstance(error, FormatError) or not isinstance(error, Exception):
            raise
        raise _cannot(format, value, error) from error
    return name


def ensure_free(directory: str | os.PathLike[str], name: str) -> None:
    """Raise FormatError if there is a file that would be taken for the result, or has its name."""
    for taken in os.listdir(directory):
        if taken == name or stem(taken) is not None:
            raise FormatError(
                f"{os.path.join(directory, taken)}: is there already, and the name is kept for the result",
                "let the step write its own files under other names",
            )


def stem(name: str) -> str | None:
    """Return the key of READERS that a file's name means, without its compression; None for other names."""
    if name in READERS:
        return name
    plain, _, suffix = name.rpartition(".")
    return plain if plain in _COMPRESSIBLE and f".{suffix}" in SUFFIXES.values() else None


def discard(path: str) -> None:
    """Remove a file or a directory, if there is one."""
    if os.path.isdir(path) and not os.path.islink(path):
        from shutil import rmtree

        rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)


def unfit(format: Format[Any], value: Any, fact: str = "") -> UnfitError:
    """Return the error for a value that the format would change."""
    takes = f"it takes {format.TAKES} and nothing else" if format.TAKES else "the format does not take it"
    return UnfitError(
        f"a result of type {kind_of(value)} cannot be written as {format.NAME}: {fact or takes}",
        "return what the format gives back exactly, or leave the format out: then one that fits is chosen",
    )


def _cannot(format: Format[Any], value: Any, error: Exception) -> FormatError:
    return FormatError(
        f"a result of type {kind_of(value)} cannot be written as {format.NAME}:"
        f" {type(error).__name__}: {error}",
        ""
        if isinstance(error, OSError)
        else "return plain data, or save it yourself in the output directory",
    )


def kind_of(value: Any) -> str:
    """Return the full name of a value's class."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def needed(module: str, format: str) -> Any:
    """Return a module that a format is made of. FormatError if its package is not installed."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise FormatError(
            f"format {format!r}: the package {package} is not installed"
            if isinstance(error, ModuleNotFoundError)
            else f"format {format!r}: the package {package} cannot be imported: {error}",
            f"add {package} to what the step's image installs",
        ) from error
