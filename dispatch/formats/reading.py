"""Reading a result by the file that is there.

Owns which file of a directory that is, that it needs trust if it runs code, and that it is a regular file: a
result may come from a command of any kind, so a link could lead out of it and a pipe would block.
"""

# ruff: noqa: PTH112, PTH114, PTH118, PTH208

from __future__ import annotations

import os
import stat

from dispatch.errors import FormatError
from dispatch.formats.base import Format
from dispatch.formats.storing import PREFIX, READERS, stem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import IO, Any


def read(directory: str | os.PathLike[str], trust_pickle: bool, modules: Collection[str]) -> Any:
    """Return the result that ``directory`` holds; see :func:`dispatch.formats.read_result`."""
    found = _result_file(directory)
    if found is None:
        from pathlib import Path

        if not os.path.isdir(directory):
            raise FormatError(f"{os.fspath(directory)}: there is no result")
        return Path(directory)
    name, format = found
    path = os.path.join(directory, name)
    if format.RUNS_CODE and not trust_pickle:
        raise FormatError(
            f"{path}: is a pickle, and loading it would run the code that it names",
            "if you trust everyone who can write to this workspace, list it under `trusted_workspaces:`;"
            " or let the step return plain data",
        )
    format.modules = modules
    return _restore(format, path)


def runs_code(directory: str | os.PathLike[str]) -> str | None:
    """Return the name of the file in ``directory`` whose loading would run code that it names, or None."""
    found = _result_file(directory)
    return found[0] if found is not None and found[1].RUNS_CODE else None


def _restore(format: Format[Any], path: str) -> Any:
    if os.path.islink(path):
        raise FormatError(f"{path}: cannot be read as a result: it is a link")
    try:
        return format.restore(path)
    except Exception as error:
        if isinstance(error, FormatError) and error.message.startswith(path):
            raise
        raise unreadable(path, format.NAME, error) from error


def unreadable(path: str, name: str, error: Exception) -> FormatError:
    """Return the error for a file that cannot be read."""
    if isinstance(error, FormatError):
        return FormatError(f"{path}: {error.message}", error.remedy)
    if isinstance(error, ModuleNotFoundError):
        return FormatError(
            f"{path}: needs the module {error.name!r}, which is not installed here",
            "add its package to what the image of the reading step installs",
        )
    return FormatError(f"{path}: cannot be read as {name}: {error}")


def _result_file(directory: str | os.PathLike[str]) -> tuple[str, Format[Any]] | None:
    """The one file that is a result, and what reads it. Others' formats count where there is none of ours."""
    try:
        names = [name for name in os.listdir(directory) if name.startswith(PREFIX)]
    except OSError:
        return None
    ours = [(name, plain) for name in names for plain in [stem(name)] if plain is not None]
    if ours:
        return (ours[0][0], _ours(ours[0][1])) if len(ours) == 1 else None
    if not names:
        return None
    found = [(name, format) for name in names for format in [_foreign_format(name)] if format is not None]
    return found[0] if len(found) == 1 else None


def _ours(name: str) -> Format[Any]:
    import importlib

    module, _, attribute = READERS[name].partition(":")
    made: Format[Any] = getattr(importlib.import_module(f"dispatch.formats.{module}"), attribute)()
    return made


def open_regular(path: str) -> IO[bytes]:
    """Open a regular file of a result. Raises FormatError for anything else, links among it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read as a result: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FormatError(f"{path}: is not a regular file")
    return os.fdopen(descriptor, "rb")


def _foreign_format(name: str) -> Format[Any] | None:
    """Return the format of somebody else, loaded or registered here, that reads files of this name."""
    for cls in _foreign(Format):
        if _reads(cls, name):
            return cls()
    for registered in Format.list_available():
        made = Format.by_name(registered)
        loaded: Any = made if isinstance(made, type) else getattr(made, "__self__", None)
        if _reads(loaded, name):
            found: Format[Any] = loaded()
            return found
    return None


def _reads(cls: Any, name: str) -> bool:
    file = getattr(cls, "FILE", None)
    return isinstance(file, str) and name == file


def _foreign(cls: type[Format[Any]]) -> Iterator[type[Format[Any]]]:
    for subclass in cls.__subclasses__():
        if not subclass.__module__.startswith("dispatch.formats."):
            yield subclass
        yield from _foreign(subclass)
