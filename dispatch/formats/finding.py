"""Which format a name, a mapping or a directory means."""

from __future__ import annotations

from dispatch.errors import ConfigurationError
from dispatch.formats.auto import AUTO
from dispatch.formats.base import Format

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping
    from typing import Any


def resolve_format(format: Format[Any] | str | Mapping[str, Any] | None) -> Format[Any]:
    """Return a format by its registered name, or made from a mapping: ``{type: json, compress: gz}``.

    A format is returned as it is, and None means ``auto``. Raises ConfigurationError for an unknown name and
    for arguments that the format does not take.
    """
    if format is None:
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
