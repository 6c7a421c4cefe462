"""How results become files in a directory, and come back.

Owns the names of these files (``data.json``, ``data.npy``, ``data.files``, …) and which format fits which
value. A result is read by the file that is there, whatever format was asked for when it was written.

What a format gives back is what it was given, types included: a format that was asked for by name refuses a
value that it would change, saying which and where, and only ``auto`` picks another one, in the end pickle.
Refuses to run code while it reads: a pickle is not loaded without being told to trust it, arrays are read
without objects, and classes that JSON names are those that the reader has loaded.

Only ``base``, ``auto`` and ``finding`` are loaded by each step's start; everything else is when a value or a
file needs it, and no package but the standard library before that.
"""

from __future__ import annotations

from dispatch.formats.auto import AUTO, AutoFormat
from dispatch.formats.base import Format, UnfitError
from dispatch.formats.finding import read_result, resolve_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dispatch.formats.arrays import NumpyFormat
    from dispatch.formats.paths import FilesFormat
    from dispatch.formats.pickles import DillFormat, PickleFormat
    from dispatch.formats.plain import BytesFormat, JsonFormat, TextFormat
    from dispatch.formats.reading import runs_code
    from dispatch.formats.rescue import quarantine
    from dispatch.formats.storing import CompressibleFormat
    from dispatch.formats.streams import JsonLinesFormat
    from dispatch.formats.tables import ArrowFormat, ParquetFormat
    from dispatch.formats.tensors import SafetensorsFormat

__all__ = [
    "AUTO",
    "ArrowFormat",
    "AutoFormat",
    "BytesFormat",
    "CompressibleFormat",
    "DillFormat",
    "FilesFormat",
    "Format",
    "JsonFormat",
    "JsonLinesFormat",
    "NumpyFormat",
    "ParquetFormat",
    "PickleFormat",
    "SafetensorsFormat",
    "TextFormat",
    "UnfitError",
    "quarantine",
    "read_result",
    "resolve_format",
    "runs_code",
]

_LATER = {
    "json": "plain:JsonFormat",
    "text": "plain:TextFormat",
    "bytes": "plain:BytesFormat",
    "jsonl": "streams:JsonLinesFormat",
    "numpy": "arrays:NumpyFormat",
    "arrow": "tables:ArrowFormat",
    "parquet": "tables:ParquetFormat",
    "safetensors": "tensors:SafetensorsFormat",
    "files": "paths:FilesFormat",
    "pickle": "pickles:PickleFormat",
    "dill": "pickles:DillFormat",
}
_ALSO = ("rescue:quarantine", "reading:runs_code", "storing:CompressibleFormat")
for _name, _target in _LATER.items():
    Format.register_lazy(_name, f"{__name__}.{_target}")


def __getattr__(name: str) -> Any:
    import importlib

    for target in (*_LATER.values(), *_ALSO):
        module, _, attribute = target.partition(":")
        if attribute == name:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
