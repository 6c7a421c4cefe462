"""Arrow tables: ``data.arrow`` (Arrow's own file), ``data.parquet`` where it is asked for.

Source of the formats: the Arrow columnar format, "IPC File Format" and "IPC Streaming Format"; Parquet.
"""

from __future__ import annotations

from dispatch.errors import FormatError
from dispatch.formats.base import Format
from dispatch.formats.storing import needed, unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

_FILE_MAGIC = b"ARROW1"
# Before this, reading a file could run a pickle that it contains.
_SAFE = (14, 0, 1)


class ArrowFormat(Format["Any"]):
    """A ``pyarrow.Table`` with its schema, metadata and chunks.

    The file is Arrow's random access file; where chunks have dictionaries of their own, which that cannot
    hold, Arrow's stream.
    """

    NAME = "arrow"
    FILE = "data.arrow"
    TAKES = "tables of pyarrow"
    REQUIRES = ("pyarrow",)

    def ensure_available(self) -> None:
        """Raise FormatError if pyarrow is not installed, or is one that would run what it reads."""
        _arrow(self.NAME)

    def accepts(self, value: Any) -> bool:
        """Accept tables."""
        return type(value) is _arrow(self.NAME).Table

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write the table, batch by batch."""
        arrow = _arrow(self.NAME)
        try:
            with arrow.ipc.new_file(file, value.schema) as writer:
                writer.write_table(value)
        except arrow.ArrowInvalid:
            file.seek(0)
            file.truncate()
            with arrow.ipc.new_stream(file, value.schema) as writer:
                writer.write_table(value)

    def load(self, file: IO[bytes]) -> Any:
        """Read the table into memory, and check that no part of it points out of it."""
        arrow = _arrow(self.NAME)
        magic = file.read(len(_FILE_MAGIC))
        file.seek(0)
        opened = arrow.ipc.open_file if magic == _FILE_MAGIC else arrow.ipc.open_stream
        with opened(arrow.PythonFile(file)) as reader:
            table = reader.read_all()
        # What lies outside would be read, and end the process.
        table.validate(full=True)
        return table


class ParquetFormat(Format["Any"]):
    """A ``pyarrow.Table`` as Parquet, compressed by Snappy; refused if Parquet would change its schema."""

    NAME = "parquet"
    FILE = "data.parquet"
    TAKES = "tables of pyarrow"
    REQUIRES = ("pyarrow",)

    def ensure_available(self) -> None:
        """Raise FormatError if pyarrow is not installed, or has no Parquet."""
        _parquet()

    def accepts(self, value: Any) -> bool:
        """Accept tables. Whether Parquet keeps their schema shows when it has been written."""
        return type(value) is _arrow(self.NAME).Table

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write the table. UnfitError if the schema, as it is read back, is another."""
        arrow = _arrow(self.NAME)
        parquet = _parquet()
        try:
            # Under its own names for the parts of lists, or each list would come back as another type.
            parquet.write_table(value, file, use_compliant_nested_type=False)
        except (arrow.ArrowNotImplementedError, arrow.ArrowInvalid) as error:
            raise unfit(self, value, str(error)) from error
        file.flush()
        with open(file.name, "rb") as written:  # noqa: PTH123
            read = parquet.read_schema(written)
        if not read.equals(value.schema, check_metadata=True):
            changed = [field.name for field in value.schema if not _has(read, field)]
            what = f"column {changed[0]!r}" if changed else "the schema's metadata"
            raise unfit(self, value, f"{what} would come back changed")

    def load(self, file: IO[bytes]) -> Any:
        """Read the table into memory."""
        with _parquet().ParquetFile(_arrow(self.NAME).PythonFile(file)) as opened:
            return opened.read()


def _has(schema: Any, field: Any) -> bool:
    index = schema.get_field_index(field.name)
    return index >= 0 and bool(schema.field(index).equals(field, check_metadata=True))


def _arrow(format: str) -> Any:
    arrow = needed("pyarrow", format)
    version = tuple(int(part) for part in arrow.__version__.split(".")[:3] if part.isdigit())
    if version < _SAFE:
        raise FormatError(
            f"format {format!r}: pyarrow {arrow.__version__} may run code that a file contains",
            "let the step's image install pyarrow 14.0.1 or newer",
        )
    needed("pyarrow.ipc", format)
    return arrow


def _parquet() -> Any:
    _arrow("parquet")
    return needed("pyarrow.parquet", "parquet")
