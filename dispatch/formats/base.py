"""What a format is. Knows no particular one, and is all that a step's start loads of them.

``storing`` has how a value comes into a directory, ``reading`` how it comes back.
"""

# ruff: noqa: PTH123

from __future__ import annotations

from types import GenericAlias

from dispatch.errors import ConfigurationError, FormatError
from dispatch.registrable import Registrable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable, Mapping
    from typing import IO, Any, Generic, TypeVar

    T = TypeVar("T")

    class _Generic(Registrable, Generic[T]):
        """What makes ``Format[X]`` known to type checkers."""
else:

    class _Generic(Registrable):
        """What makes ``Format[X]`` an annotation that can be read."""

        __class_getitem__ = classmethod(GenericAlias)


class UnfitError(FormatError):
    """The value is not one that the format gives back exactly. Nothing of it was written."""


class Format(_Generic["T"]):
    """Writes a value as one file (or directory) inside a result's directory, and reads it back.

    A format of your own has a ``NAME`` and a ``VERSION``, which are part of a step's identity; a ``FILE``
    that begins with ``data.`` and is no other format's; ``accepts``, ``dump`` and ``load``; and it is
    registered: ``@Format.register("wav")``. A result is read by it wherever its module has been imported or
    it is registered; elsewhere the result is the directory's path. Reading makes an object without
    arguments. For a directory override ``save`` and ``restore`` in place of ``dump`` and ``load``.

    ``REQUIRES`` names the distributions that reading needs, as package indices know them. ``RUNS_CODE`` says
    that reading may run code that the file names, and so needs trust in who wrote it. ``modules``, which the
    reader sets, names packages (and what is below them) whose classes data may have imported.
    """

    default_implementation = "auto"

    NAME: str
    VERSION: str = "001"
    FILE: str
    TAKES: str = ""
    REQUIRES: tuple[str, ...] = ()
    RUNS_CODE: bool = False

    modules: Collection[str] = ()

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

    @property
    def file_name(self) -> str:
        """The name of the file that ``write`` makes."""
        return self.FILE

    def save(self, value: Any, path: str) -> None:
        """Make the file ``path``, which is not there, of an accepted value."""
        with open(path, "xb") as file:
            self.dump(value, file)

    def restore(self, path: str) -> Any:
        """Read the file ``path`` that ``save`` made. Any exception means that it cannot be read."""
        from dispatch.formats.reading import open_regular

        with open_regular(path) as file:
            return self.load(file)

    def write(self, value: T, directory: str | os.PathLike[str], *, own: Iterable[str] = ()) -> str:  # noqa: ARG002
        """Write ``value`` into ``directory``, which exists, and return the name of the file.

        ``own`` are directories of the step's own: where a Path is the result, what it names may be moved out
        of them, and is copied from anywhere else. Whoever commits the result brings it to the disk.

        Raises UnfitError for a value that the format would change, FormatError if it cannot be written, and
        leaves no file behind then; what an iterator raises is passed on as it is.
        """
        from dispatch.formats.storing import put, unfit

        if not self.accepts(value):
            raise unfit(self, value)
        return put(self, value, directory)

    def read(
        self,
        directory: str | os.PathLike[str],
        *,
        trust_pickle: bool = False,
        modules: Collection[str] = (),
    ) -> T:
        """Return the result in ``directory``; see ``read_result``."""
        result: T = read_result(directory, trust_pickle=trust_pickle, modules=modules)
        return result


def resolve_format(format: Format[Any] | str | Mapping[str, Any] | None) -> Format[Any]:
    """Return a format by its registered name, or made from a mapping: ``{type: json, compress: gz}``.

    A format is returned as it is, and None means ``auto``. Raises ConfigurationError for an unknown name and
    for arguments that the format does not take.
    """
    if format is None:
        from dispatch.formats.auto import AUTO

        return AUTO
    if isinstance(format, Format):
        return format
    if isinstance(format, str):
        named: Format[Any] = Format.by_name(format)()
        return named
    if hasattr(format, "keys"):
        from dispatch.params import Params

        made: Format[Any] = Format.from_params(Params(format))
        return made
    raise ConfigurationError(
        f"format {format!r}: neither a name nor a mapping nor a Format", "write a name such as 'json'"
    )


def read_result(
    directory: str | os.PathLike[str], *, trust_pickle: bool = False, modules: Collection[str] = ()
) -> Any:
    """Return the result that ``directory`` holds.

    A result that was an iterator is one again, fresh with each call, reading as it goes: it can be gone
    through once. One that was a Path is the path of the file or directory in the result. Without any, or with
    several, of the files of this package the directory is not one of ours but a command's: its ``Path`` is
    the result.

    Raises FormatError if the file cannot be read, and for a pickle unless ``trust_pickle``. ``modules`` names
    packages whose classes may be imported if the result names them: those of the reading step. Every other
    class must have been imported already.
    """
    from dispatch.formats.reading import read

    return read(directory, trust_pickle, modules)
