"""How results become files in a directory, and come back.

Owns the names of these files (``data.json``, ``data.txt``, ``data.bin``, ``data.pickle``) and which format
fits which value. A result is read by the file that is there, whatever format was asked for when it was
written.

JSON is used only where it gives back the very same value, types included; a value that does not fit the
format asked for is pickled, since a finished result is never lost to its serialisation. Refuses to load a
pickle without being told to trust it, because loading one runs whatever code it names.
"""

# Not pathlib: a step without paths of its own would pay for importing it.
# ruff: noqa: PTH108, PTH112, PTH118, PTH123

from __future__ import annotations

import os
import stat
from types import GenericAlias

from dispatch.errors import ConfigurationError, FormatError
from dispatch.registrable import Registrable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any, Generic, TypeVar

    T = TypeVar("T")

    class _Generic(Registrable, Generic[T]):
        """What makes ``Format[X]`` known to type checkers."""
else:

    class _Generic(Registrable):
        """What makes ``Format[X]`` an annotation that can be read."""

        __class_getitem__ = classmethod(GenericAlias)


_DEPTH = 100
_INTEGER_BITS = 2048


class Format(_Generic["T"]):
    """Writes a value as one file of a directory, and reads what any format of this module wrote there.

    ``NAME`` and ``VERSION`` are part of a step's identity. Subclasses say in ``accepts`` which values they
    give back exactly.
    """

    default_implementation = "auto"

    NAME: str
    VERSION: str = "001"
    FILE: str

    def accepts(self, value: Any) -> bool:
        """Say whether reading gives back exactly what was written."""
        raise NotImplementedError

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write an accepted value."""
        raise NotImplementedError

    def load(self, file: IO[bytes]) -> Any:
        """Read what ``dump`` wrote."""
        raise NotImplementedError

    def ensure_available(self) -> None:
        """Raise FormatError, before anything is computed, if the format lacks what it needs."""

    def write(self, value: T, directory: str | os.PathLike[str]) -> str:
        """Write ``value`` into ``directory``, which exists, and return the name of the file.

        It is ``FILE``, or that of the format that took a value this one does not accept. The file is on
        disk on return. Raises FormatError, leaving no file behind, if the value cannot be written at all.
        """
        chosen: Format[Any] = self if self.accepts(value) else _PICKLE
        _write(chosen, value, directory)
        return chosen.FILE

    def read(self, directory: str | os.PathLike[str], *, trust_pickle: bool = False) -> T:
        """Return the result in ``directory``; see ``read_result``."""
        result: T = read_result(directory, trust_pickle=trust_pickle)
        return result


@Format.register("json")
class JsonFormat(Format["Any"]):
    """JSON, for what JSON gives back exactly."""

    NAME = "json"
    FILE = "data.json"

    def accepts(self, value: Any) -> bool:
        """Accept None, booleans, integers, finite floats, texts, lists and dicts with text keys of these."""
        return _exact_in_json(value, _DEPTH)

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write UTF-8 and a line's end."""
        import json

        file.write(json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n")

    def load(self, file: IO[bytes]) -> Any:
        """Parse the whole file."""
        import json

        return json.loads(file.read())


@Format.register("text")
class TextFormat(Format[str]):
    """A text as it is, in UTF-8, line ends untouched."""

    NAME = "text"
    FILE = "data.txt"

    def accepts(self, value: Any) -> bool:
        """Accept texts that UTF-8 can hold."""
        return type(value) is str and _encodable(value)

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write the bytes of the text."""
        file.write(value.encode("utf-8"))

    def load(self, file: IO[bytes]) -> Any:
        """Decode the whole file."""
        return file.read().decode("utf-8")


@Format.register("bytes")
class BytesFormat(Format[bytes]):
    """Bytes as they are."""

    NAME = "bytes"
    FILE = "data.bin"

    def accepts(self, value: Any) -> bool:
        """Accept bytes."""
        return type(value) is bytes

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write the bytes."""
        file.write(value)

    def load(self, file: IO[bytes]) -> Any:
        """Read the whole file."""
        return file.read()


@Format.register("pickle")
class PickleFormat(Format["Any"]):
    """Pickle, for anything else. Reading it runs the code that it names."""

    NAME = "pickle"
    FILE = "data.pickle"
    # The newest that Python 3.9 reads: the step that reads may run on an older Python than the one that
    # wrote.
    PROTOCOL = 5

    def accepts(self, value: Any) -> bool:  # noqa: ARG002
        """Accept anything: whether it can be pickled shows when it is."""
        return True

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Pickle into the file."""
        import pickle

        pickle.dump(value, file, protocol=self.PROTOCOL)

    def load(self, file: IO[bytes]) -> Any:
        """Unpickle, whatever code that runs."""
        import pickle

        return pickle.load(file)


@Format.register("dill")
class DillFormat(PickleFormat):
    """Pickle as written by dill, which also takes lambdas. Reading it needs dill, too."""

    NAME = "dill"

    def ensure_available(self) -> None:
        """Raise FormatError if dill is not installed."""
        _dill()

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Pickle into the file."""
        _dill().dump(value, file, protocol=self.PROTOCOL)


@Format.register("auto")
class AutoFormat(Format["Any"]):
    """The first of text, bytes and JSON that gives the value back exactly, else pickle."""

    NAME = "auto"

    def write(self, value: Any, directory: str | os.PathLike[str]) -> str:
        """Write in the format that fits; see ``Format.write``."""
        for format in _SAFE:
            if format.accepts(value):
                return format.write(value, directory)
        return _PICKLE.write(value, directory)


_PICKLE: Format[Any] = PickleFormat()
_SAFE: tuple[Format[Any], ...] = (TextFormat(), BytesFormat(), JsonFormat())
_READERS = {format.FILE: format for format in (*_SAFE, _PICKLE)}

AUTO: Format[Any] = AutoFormat()


def resolve_format(format: Format[Any] | str | None) -> Format[Any]:
    """Return a format by its registered name; a format is returned as it is, and None means AUTO.

    Raises ConfigurationError for an unknown name.
    """
    if format is None:
        return AUTO
    if isinstance(format, Format):
        return format
    if not isinstance(format, str):
        raise ConfigurationError(
            f"format {format!r}: neither a name nor a Format", "write a name such as 'json'"
        )
    made: Format[Any] = Format.by_name(format)()
    return made


def read_result(directory: str | os.PathLike[str], *, trust_pickle: bool = False) -> Any:
    """Return the result that ``directory`` holds.

    Without any, or with several, of the files of this module the directory is not one of ours but a
    command's: its ``Path`` is the result. Raises FormatError if the file cannot be read, and for a pickle
    unless ``trust_pickle``.
    """
    found = [name for name in _READERS if os.path.lexists(os.path.join(directory, name))]
    if len(found) != 1:
        from pathlib import Path

        if not os.path.isdir(directory):
            raise FormatError(f"{os.fspath(directory)}: there is no result")
        return Path(directory)
    path = os.path.join(directory, found[0])
    format = _READERS[found[0]]
    if format is _PICKLE and not trust_pickle:
        raise FormatError(
            f"{path}: is a pickle, and loading it would run the code that it names",
            "if you trust everyone who can write to this workspace, list it under `trusted_workspaces:`;"
            " or let the step return plain data",
        )
    return _read(format, path)


def _read(format: Format[Any], path: str) -> Any:
    # A result may come from a command of any kind: a link would lead out of the result, a pipe would block.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read as a result: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FormatError(f"{path}: is not a regular file")
        try:
            return format.load(file)
        except ModuleNotFoundError as error:
            raise FormatError(
                f"{path}: needs the module {error.name!r}, which is not installed here",
                "add its package to what the image of the reading step installs",
            ) from error
        except Exception as error:
            raise FormatError(f"{path}: cannot be read as {format.NAME}: {error}") from error


def _write(format: Format[Any], value: Any, directory: str | os.PathLike[str]) -> None:
    path = os.path.join(directory, format.FILE)
    taken = [name for name in _READERS if os.path.lexists(os.path.join(directory, name))]
    if taken:
        raise FormatError(
            f"{os.path.join(directory, taken[0])}: is there already, and the name is kept for the result",
            "let the step write its own files under other names",
        )
    try:
        with open(path, "xb") as file:
            format.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        if os.path.lexists(path):
            os.unlink(path)
        if isinstance(error, FormatError) or not isinstance(error, Exception):
            raise
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise FormatError(
            f"a result of type {kind} cannot be written as {format.NAME}: {type(error).__name__}: {error}",
            ""
            if isinstance(error, OSError)
            else "return plain data, or save it yourself in the output directory",
        ) from error


def _exact_in_json(value: Any, depth: int) -> bool:
    check = _CHECKS.get(type(value))
    return check is not None and check(value, depth)


def _exact_list(value: list[Any], depth: int) -> bool:
    return depth > 0 and all(_exact_in_json(item, depth - 1) for item in value)


def _exact_dict(value: dict[Any, Any], depth: int) -> bool:
    return depth > 0 and all(
        type(key) is str and _encodable(key) and _exact_in_json(item, depth - 1)
        for key, item in value.items()
    )


_CHECKS: dict[type, Callable[[Any, int], bool]] = {
    type(None): lambda _value, _depth: True,
    bool: lambda _value, _depth: True,
    # Python may refuse to read more than 640 digits, depending on a setting.
    int: lambda value, _depth: value.bit_length() <= _INTEGER_BITS,
    float: lambda value, _depth: value - value == 0,
    str: lambda value, _depth: _encodable(value),
    list: _exact_list,
    dict: _exact_dict,
}


def _encodable(text: str) -> bool:
    """Whether UTF-8 can hold a text: lone surrogates it cannot, and JSON would join pairs of them."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _dill() -> Any:
    import importlib

    try:
        return importlib.import_module("dill")
    except ImportError as error:
        raise FormatError(
            "format 'dill': the package dill is not installed", "add dill to what the step's image installs"
        ) from error
