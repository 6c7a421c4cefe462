"""The way to a format that fits, for values and for files of others' formats.

Imports nothing to look at a value: an array can only be there if NumPy has been loaded.
"""

from __future__ import annotations

import os
import sys

from dispatch.errors import FormatError
from dispatch.formats.base import Format, UnfitError
from dispatch.formats.plain import BytesFormat, JsonFormat, TextFormat, exact_in_json, write_json
from dispatch.formats.storing import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import IO, Any


class _PlainJson(JsonFormat):
    """JSON for what has been looked through already."""

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write it."""
        write_json(value, file)


_TEXT = TextFormat()
_BYTES = BytesFormat()
_JSON = _PlainJson()


def write(value: Any, directory: Any, own: Iterable[str] = ()) -> str:
    """Write a value in the first format that gives it back exactly, in the end by pickle."""
    if exact_in_json(value):
        return put(_TEXT if type(value) is str else _JSON, value, directory)
    if type(value) is bytes:
        return put(_BYTES, value, directory)
    from dispatch.formats.streams import is_stream, write_stream

    if is_stream(value):
        return write_stream(value, directory)
    special = _special(value, directory, own)
    if special is not None:
        return special.write(value, directory, own=own)
    try:
        return put(JsonFormat(), value, directory)
    except UnfitError:
        # Pickled below: this is no part of the story, should pickle fail, too.
        pass
    from dispatch.formats.pickles import PickleFormat

    return put(PickleFormat(), value, directory)


def _special(value: Any, directory: Any, own: Iterable[str]) -> Format[Any] | None:
    """The format that was made for values of one library, if it gives this one back exactly."""
    library = type(value).__module__.partition(".")[0]
    candidates: list[Format[Any]] = []
    if library == "pathlib":
        return _files(value, directory, own)
    if library == "numpy" or (type(value) is dict and "numpy" in sys.modules):
        from dispatch.formats.arrays import NumpyFormat

        candidates.append(NumpyFormat())
    if library == "pyarrow":
        from dispatch.formats.tables import ArrowFormat

        candidates.append(ArrowFormat())
    if type(value) is dict and "torch" in sys.modules:
        from dispatch.formats.tensors import SafetensorsFormat, is_installed

        candidates += [SafetensorsFormat()] if is_installed() else []
    return next((format for format in candidates if _accepts(format, value)), None)


def _accepts(format: Format[Any], value: Any) -> bool:
    try:
        return format.accepts(value)
    except FormatError:
        # The library is not one that the format can work with; pickle asks nothing of it.
        return False


def _files(value: Any, directory: Any, own: Iterable[str]) -> Format[Any] | None:
    """The format for what a Path names, if it is the step's own: a data set of others is not to be copied."""
    from dispatch.formats.paths import FilesFormat, is_below

    format = FilesFormat()
    if not format.accepts(value):
        return None
    places = [os.path.dirname(os.path.realpath(directory)), *own]  # noqa: PTH120
    if "tempfile" in sys.modules:
        places.append(sys.modules["tempfile"].gettempdir())
    if any(is_below(value, place) for place in places):
        return format
    import warnings

    warnings.warn(
        f"the result is the path {os.fspath(value)!r} itself, and not what it names, since that is outside of"
        " the step's own directories; step_format 'files' keeps what it names",
        stacklevel=2,
    )
    return None
