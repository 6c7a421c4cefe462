"""NumPy arrays: ``data.npy``, and dicts of them as ``data.npz``.

Source of the formats: NumPy's NEP 1 and the ZIP archive of ``numpy.savez``, uncompressed. Neither writing nor
reading holds more than the arrays. Objects inside arrays are refused both ways: they would be pickles.
"""

from __future__ import annotations

import struct

from dispatch.errors import FormatError
from dispatch.formats.base import Format
from dispatch.formats.plain import JsonFormat, encodable
from dispatch.formats.storing import needed, put, unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

# NumPy refuses to read longer headers from those it does not trust.
_HEADER = 9000
_NAME = 1000
_CHUNK = 1 << 18
# Where an entry's local header says how long its name and its extra field are (APPNOTE.TXT, 4.3.7).
_NAME_LENGTHS = 26


class NumpyFormat(Format["Any"]):
    """An array, a dict of arrays with text keys, or a NumPy number (which goes into tagged JSON).

    Order of memory (C or Fortran) comes back, other strides do not: they are not part of the value.
    """

    NAME = "numpy"
    FILE = "data.npy"
    TAKES = "NumPy arrays without objects, dicts of them with text keys, and NumPy numbers,"
    REQUIRES = ("numpy",)

    def ensure_available(self) -> None:
        """Raise FormatError if NumPy is not installed."""
        needed("numpy", self.NAME)

    def accepts(self, value: Any) -> bool:
        """Accept what comes back with the very same type, dtype and shape."""
        if type(value) is dict:
            return bool(value) and all(_is_name(key) and is_exact(item) for key, item in value.items())
        return is_exact(value) or _is_number(value)

    def write(self, value: Any, directory: Any, *, own: Any = ()) -> str:  # noqa: ARG002
        """Write an array or a dict of them; see ``Format.write``."""
        if type(value) is dict and self.accepts(value):
            return put(NumpyArchive(), value, directory)
        if _is_number(value) and JsonFormat().accepts(value):
            return put(JsonFormat(), value, directory)
        if not is_exact(value):
            raise unfit(self, value)
        return put(self, value, directory)

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write the array."""
        needed("numpy", self.NAME).lib.format.write_array(file, value, allow_pickle=False)

    def load(self, file: IO[bytes]) -> Any:
        """Read the array into memory."""
        return needed("numpy", self.NAME).lib.format.read_array(file, allow_pickle=False)


class NumpyArchive(Format["Any"]):
    """A dict of arrays as an uncompressed ZIP archive, which ``numpy.load`` reads, too."""

    NAME = "numpy"
    FILE = "data.npz"
    REQUIRES = ("numpy",)

    def accepts(self, value: Any) -> bool:
        """Accept what ``NumpyFormat`` does of dicts."""
        return type(value) is dict and NumpyFormat().accepts(value)

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write one array after another."""
        import zipfile

        format = needed("numpy", self.NAME).lib.format
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for key, array in value.items():
                # A fixed time, so that equal dicts make equal files.
                entry = zipfile.ZipInfo(f"{key}.npy", (1980, 1, 1, 0, 0, 0))
                with archive.open(entry, "w", force_zip64=True) as member:
                    _write_member(member, array, format)

    def load(self, file: IO[bytes]) -> Any:
        """Read all arrays into memory."""
        import zipfile

        format = needed("numpy", self.NAME).lib.format
        found = {}
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or not entry.filename.endswith(".npy"):
                raise FormatError(f"the member {entry.filename!r} is not an uncompressed array")
            # Past the archive: its checksum costs as much as the rest, and the workspace has a better one.
            file.seek(entry.header_offset + _NAME_LENGTHS)
            lengths = struct.unpack("<HH", file.read(4))
            file.seek(sum(lengths), 1)
            found[entry.filename[: -len(".npy")]] = format.read_array(file, allow_pickle=False)
        return found


def _write_member(member: IO[bytes], array: Any, format: Any) -> None:
    """Write an array, without a copy of its parts where its memory is in order."""
    flags = array.flags
    if array.dtype.names or not array.size or not array.itemsize or not flags.forc:
        format.write_array(member, array, allow_pickle=False)
        return
    format.write_array_header_1_0(member, format.header_data_from_array_1_0(array))
    flat = memoryview(array.reshape(-1, order="C" if flags.c_contiguous else "F").view("u1"))
    for start in range(0, len(flat), _CHUNK):
        member.write(flat[start : start + _CHUNK])


def is_exact(value: Any) -> bool:
    """Whether a value is an array that its file gives back, dtype and all."""
    numpy = needed("numpy", "numpy")
    if type(value) is not numpy.ndarray or value.dtype.hasobject or _has_metadata(value.dtype):
        return False
    format = numpy.lib.format
    try:
        described = format.dtype_to_descr(value.dtype)
        return len(repr(described)) <= _HEADER and _is_same(value.dtype, format.descr_to_dtype(described))
    except (TypeError, ValueError):
        return False


def _has_metadata(dtype: Any) -> bool:
    """Whether somebody noted something on a dtype or on one inside of it, which no file keeps."""
    inner = [dtype.fields[name][0] for name in dtype.names or ()]
    if dtype.subdtype is not None:
        inner.append(dtype.subdtype[0])
    return bool(dtype.metadata) or any(map(_has_metadata, inner))


def _is_same(one: Any, other: Any) -> bool:
    """Whether two dtypes are equal to the last: ``==`` does not look at all there is."""
    if one != other or one.type is not other.type or one.isalignedstruct != other.isalignedstruct:
        return False
    if (one.names, one.shape) != (other.names, other.shape):
        return False
    if one.subdtype is not None:
        return _is_same(one.subdtype[0], other.subdtype[0])
    return all(_is_same(one.fields[name][0], other.fields[name][0]) for name in one.names or ())


def _is_number(value: Any) -> bool:
    numpy = needed("numpy", "numpy")
    return isinstance(value, numpy.generic) and JsonFormat().accepts(value)


def _is_name(key: Any) -> bool:
    return type(key) is str and "\0" not in key and len(key) <= _NAME and encodable(key)
