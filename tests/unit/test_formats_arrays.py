"""Arrays, tables and tensors, with the real packages: exact, without objects, without a copy too many."""

from __future__ import annotations

import importlib
import os
import pickle
import stat
import sys
import tempfile
import tracemalloc
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.errors import ConfigurationError, FormatError
from dispatch.formats import (
    AUTO,
    ArrowFormat,
    NumpyFormat,
    ParquetFormat,
    SafetensorsFormat,
    UnfitError,
    read_result,
    resolve_format,
)

# Not by an import statement: NumPy's stubs are written for newer Pythons than the oldest of ours.
np: Any = importlib.import_module("numpy")
pa: Any = importlib.import_module("pyarrow")

EXAMPLES = max(20, int(300 * float(os.environ.get("DISPATCH_STRESS", "1.0"))))
RECORD = [("a", "<i4"), ("b", "<f8", (2,)), ("é", "U3")]


def same(one: Any, other: Any) -> bool:
    """Whether two arrays are equal to the last bit of values, dtype and shape."""
    return (
        type(one) is type(other)
        and one.dtype == other.dtype
        and one.dtype.type is other.dtype.type
        and repr(one.dtype) == repr(other.dtype)
        and one.shape == other.shape
        and one.tobytes() == other.tobytes()
    )


def through(value: Any, format: Any = None) -> tuple[str, Any]:
    """Write a value, and read it without trust; return the file's name, too."""
    with tempfile.TemporaryDirectory() as directory:
        name = resolve_format(format).write(value, directory)
        assert os.listdir(directory) == [name]  # noqa: PTH208
        return name, read_result(directory)


dtypes = st.sampled_from(
    [
        "?",
        "i1",
        "<i2",
        ">i4",
        "<i8",
        "u1",
        ">u8",
        "<f2",
        "<f4",
        ">f8",
        "c8",
        "c16",
        "S3",
        "U2",
        "M8[ns]",
        "m8[D]",
        "V5",
    ]
)


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Arrays of random bytes, shape and order of memory."""
    dtype = np.dtype(draw(dtypes))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    made = np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(shape)
    kind = draw(st.sampled_from(["C", "F", "view", "back"]))
    if kind == "view" and shape:
        return np.repeat(made, 2, axis=0)[::2]
    return made[::-1] if kind == "back" and shape else np.array(made, order="F" if kind == "F" else "C")


@settings(max_examples=EXAMPLES, deadline=None)
@given(arrays())
def test_arrays_come_back_exactly(array: Any) -> None:
    """Every dtype, byte order, shape and order of memory."""
    name, found = through(array)
    assert name == "data.npy"
    assert same(array, found)
    assert found.flags.writeable


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.dictionaries(st.text(max_size=5).filter(lambda key: "\0" not in key), arrays(), min_size=1, max_size=4)
)
def test_dicts_of_arrays_come_back_exactly(value: Any) -> None:
    """In their order, under any name; ``numpy.load`` reads them, too."""
    with tempfile.TemporaryDirectory() as directory:
        assert AUTO.write(value, directory) == "data.npz"
        found = read_result(directory)
        assert [*found] == [*value]
        assert all(same(found[key], array) for key, array in value.items())
        with np.load(Path(directory, "data.npz")) as loaded:
            assert loaded.files == [*value]
            assert all(
                same(loaded[f"{key}"], array) for key, array in value.items() if array.dtype.kind != "V"
            )


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, RECORD),
        np.array("text"),
        np.array(np.datetime64("2024-01-01")),
        np.array([], "U0"),
        np.asfortranarray(np.ones((2, 3))),
        np.broadcast_to(np.arange(3), (4, 3)),
    ],
    ids=lambda array: str(array.dtype),
)
def test_special_arrays_come_back_exactly(array: Any) -> None:
    """Structured ones, single values, nothing at all."""
    assert same(through(array)[1], array)
    assert same(through({"x": array}, "numpy")[1]["x"], array)
    assert through(array)[1].flags.f_contiguous == array.flags.f_contiguous


@pytest.mark.parametrize(
    "number",
    [
        np.float16(2),
        np.float32(1.1),
        np.float64("nan"),
        np.longdouble(1) / 3,
        np.int8(-3),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.complex64(1 - 0j),
        np.datetime64("2024-01-01T00:00", "m"),
        np.timedelta64("NaT", "25s"),
    ],
    ids=repr,
)
def test_numbers_come_back_exactly(number: Any) -> None:
    """A NumPy number is no Python number; in tagged JSON, alone and inside of others."""
    for value, format in ((number, None), (number, "numpy"), ({"loss": [number, (1,)]}, None)):
        name, found = through(value, format)
        assert name == "data.json"
        found = found if value is number else found["loss"][0]
        assert type(found) is type(number)
        assert found.dtype == number.dtype
        assert repr(found) == repr(number)


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([None, "x"]),
        np.zeros(2, [("a", "O")]),
        np.ma.array([1]),
        np.zeros(2, np.dtype("i4", metadata={"a": 1})),
        np.zeros(2, np.dtype([("a", "i1"), ("b", "i4")], align=True)),
        np.rec.array([(1,)], dtype=[("a", "i4")]),
        np.zeros(2, np.dtype((np.record, [("a", "i4")]))),
        {"a": np.zeros(1), "b": [1]},
        {1: np.zeros(1)},
        {"\0": np.zeros(1)},
        {},
        [np.zeros(1)],
        3,
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_what_numpy_files_would_change_is_refused(value: Any, tmp_path: Path) -> None:
    """Objects would be pickles, and subclasses plain arrays: refused when asked for, else pickled."""
    with pytest.raises(UnfitError, match="cannot be written as numpy"):
        NumpyFormat().write(value, tmp_path)
    assert AUTO.write(value, tmp_path) in ("data.pickle", "data.json")


def test_reading_an_array_loads_no_objects(tmp_path: Path) -> None:
    """A file with objects in it is an error, even if pickles are trusted."""
    np.save(tmp_path / "data.npy", np.array([Path("x")], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"data\.npy: cannot be read as numpy: .*allow_pickle"):
        read_result(tmp_path, trust_pickle=True)
    (tmp_path / "data.npy").unlink()
    np.savez(tmp_path / "data.npz", x=np.array([Path("x")], dtype=object))
    with pytest.raises(FormatError, match="allow_pickle"):
        read_result(tmp_path, trust_pickle=True)
    np.savez_compressed(tmp_path / "data.npz", x=np.zeros(9))
    with pytest.raises(FormatError, match=r"the member 'x\.npy' is not an uncompressed array"):
        read_result(tmp_path)


@pytest.mark.parametrize("name", ["data.npy", "data.npz", "data.arrow", "data.parquet", "data.safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 200])
def test_damaged_files_are_format_errors(name: str, keep: int, tmp_path: Path) -> None:
    """A file that is cut off is an error that names it."""
    value: Any = pa.table({"x": range(9999)})
    if not name.endswith(("arrow", "parquet")):
        value = np.zeros(9999) if name.endswith("npy") else {"x": np.zeros(9999)}
    format = {"parquet": "parquet", "safetensors": "safetensors"}.get(name.split(".")[1])
    assert resolve_format(format).write(value, tmp_path) == name
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:keep])
    with pytest.raises(FormatError, match=name.replace(".", r"\.")):
        read_result(tmp_path)


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (lambda: b"x" * (1 << 24), 1.2),
        (lambda: np.zeros(1 << 21), 1.2),
        (lambda: {"a": np.zeros(1 << 20), "b": np.zeros((1 << 10, 1 << 10), order="F")}, 1.2),
    ],
    ids=["bytes", "array", "arrays"],
)
def test_memory_is_not_a_multiple_of_the_result(make: Any, limit: float, tmp_path: Path) -> None:
    """Storing makes no copy, loading one."""
    value, size = make(), 1 << 24
    tracemalloc.start()
    try:
        AUTO.write(value, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 0.2 * size
        tracemalloc.reset_peak()
        read_result(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < limit * size
    finally:
        tracemalloc.stop()


TABLES = {
    "numbers": lambda: pa.table({"a": [1, None, 3], "b": [1.5, 2.5, None]}),
    "metadata": lambda: pa.table({"a": ["x"]}, metadata={"who": "me"}),
    "field metadata": lambda: pa.table(
        [[1]], schema=pa.schema([pa.field("a", pa.int8(), False, {"u": "m"})])
    ),
    "chunks": lambda: pa.concat_tables([pa.table({"a": [1, 2]}), pa.table({"a": [3]})]),
    "nested": lambda: pa.table({"a": [{"x": [1, 2]}, None]}),
    "instants": lambda: pa.table({"a": pa.array([1], pa.timestamp("ns", "Europe/Berlin"))}),
    "times": lambda: pa.table({"a": pa.array([1], pa.time64("us"))}),
    "dictionary": lambda: pa.table({"a": pa.array(["x", "y"]).dictionary_encode()}),
    "empty": lambda: pa.table({"a": pa.array([], pa.string())}),
}


@pytest.mark.parametrize("format", [None, "arrow", "parquet"])
@pytest.mark.parametrize("name", TABLES)
def test_tables_come_back_exactly(format: str | None, name: str) -> None:
    """Values, types, metadata."""
    table = TABLES[name]()
    file, found = through(table, format)
    assert file == ("data.parquet" if format == "parquet" else "data.arrow")
    assert found.equals(table)
    assert found.schema.equals(table.schema, check_metadata=True)


def test_dictionaries_of_chunks_come_back_exactly(tmp_path: Path) -> None:
    """Where each chunk has its own dictionary Arrow's file cannot hold them, its stream can."""
    chunks = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["c", "b"]).dictionary_encode()]
    table = pa.table({"a": pa.chunked_array(chunks), "n": [1, 2, 3, 4]})
    AUTO.write(table, tmp_path)
    found = read_result(tmp_path)
    assert found.equals(table)
    assert [chunk.dictionary.to_pylist() for chunk in found["a"].chunks] == [["a", "b"], ["c", "b"]]


def test_a_table_that_parquet_would_change_is_refused(tmp_path: Path) -> None:
    """Parquet has not all of Arrow's types: what it cannot give back is not written."""
    interval = pa.array([None], pa.month_day_nano_interval())
    with pytest.raises(UnfitError, match="as parquet: "):
        ParquetFormat().write(pa.table({"a": interval}), tmp_path)
    # Parquet has no seconds; what comes back are milliseconds.
    with pytest.raises(UnfitError, match="column 'a' would come back changed"):
        ParquetFormat().write(pa.table({"b": [1], "a": pa.array([1], pa.time32("s"))}), tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnfitError, match="as parquet: it takes tables of pyarrow"):
        ParquetFormat().write([1], tmp_path)


def test_a_table_that_points_out_of_itself_is_refused(tmp_path: Path) -> None:
    """Offsets from a file that somebody made up would be followed out of the memory they are about."""
    AUTO.write(pa.table({"a": ["x" * 77, "y" * 1000, "z"]}), tmp_path)
    offsets = np.array([0, 77, 1077], "<i4").tobytes()
    content = (tmp_path / "data.arrow").read_bytes()
    assert content.count(offsets) == 1
    wrong = np.array([0, 1 << 30, 1077], "<i4").tobytes()
    (tmp_path / "data.arrow").write_bytes(content.replace(offsets, wrong))
    with pytest.raises(FormatError, match=r"data\.arrow: cannot be read"):
        read_result(tmp_path)


def test_an_old_pyarrow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 14.0.1 reading a file could run a pickle in it."""
    AUTO.write(pa.table({"a": [1]}), tmp_path)
    monkeypatch.setattr(pa, "__version__", "14.0.0")
    with pytest.raises(FormatError, match=r"data\.arrow: .*pyarrow 14\.0\.0 may run code"):
        read_result(tmp_path)
    with pytest.raises(FormatError, match="may run code"):
        ArrowFormat().ensure_available()
    (tmp_path / "data.arrow").unlink()
    assert AUTO.write(pa.table({"a": [1]}), tmp_path) == "data.pickle"


def test_tensors_of_numpy_come_back_exactly(tmp_path: Path) -> None:
    """safetensors sorts them; their order comes back, and others may read the file."""
    value = {
        "b": np.arange(3.0),
        "a": np.ones((2, 2), "f4"),
        "é": np.array(1, "i8"),
        "none": np.zeros((0, 2)),
    }
    assert SafetensorsFormat().write(value, tmp_path) == "data.safetensors"
    found = read_result(tmp_path)
    assert [*found] == [*value]
    assert all(same(found[name], array) for name, array in value.items())
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "data.safetensors").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": [1]},
        {1: np.zeros(1)},
        OrderedDict(a=np.zeros(1)),
        {"a": np.asfortranarray(np.ones((2, 2)))},
        {"a": np.zeros(1, ">f4")},
        {"a": np.zeros(1, "U1")},
        {"a": np.longlong(1)},
        np.zeros(1),
    ],
    ids=repr,
)
def test_what_safetensors_would_change_is_refused(value: Any, tmp_path: Path) -> None:
    """Other orders of memory or bytes, other types."""
    with pytest.raises(UnfitError, match="as safetensors: it takes dicts"):
        SafetensorsFormat().write(value, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_formats_say_what_reading_needs() -> None:
    """Distributions, so that a plan can look for them in the lock of each consumer."""
    needs = {
        name: resolve_format(name).REQUIRES for name in ("numpy", "arrow", "parquet", "safetensors", "auto")
    }
    assert needs == {
        "numpy": ("numpy",),
        "arrow": ("pyarrow",),
        "parquet": ("pyarrow",),
        "safetensors": ("safetensors",),
        "auto": (),
    }
    assert resolve_format({"type": "safetensors", "framework": "torch"}).REQUIRES == ("safetensors", "torch")
    with pytest.raises(ConfigurationError, match="no framework 'jax'"):
        SafetensorsFormat("jax")


@pytest.mark.parametrize("name", ["numpy", "arrow", "parquet", "safetensors"])
def test_a_missing_package_is_an_error_with_the_way_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is computed, and where the file is read; the error names package and file."""
    value: Any = pa.table({"a": [1]})
    if name in ("numpy", "safetensors"):
        value = {"a": np.zeros(1)}
    file = resolve_format(name).write(value, tmp_path)
    package = resolve_format(name).REQUIRES[0]
    resolve_format(name).ensure_available()
    for module in [*sys.modules]:
        if module.partition(".")[0] == package:
            monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FormatError, match=f"the package {package} is not installed") as caught:
        resolve_format(name).ensure_available()
    assert f"add {package}" in caught.value.remedy
    with pytest.raises(FormatError, match=rf"{file}: .*{package}"):
        read_result(tmp_path)


def test_a_program_without_torch_is_not_made_to_load_it(tmp_path: Path) -> None:
    """AUTO looks for tensors only where Torch has been loaded."""
    assert AUTO.write({"a": np.zeros(1)}, tmp_path) == "data.npz"
    assert isinstance(pickle.loads(pickle.dumps(AUTO)), type(AUTO))
    assert "torch" not in sys.modules or isinstance(sys.modules["torch"], types.ModuleType)
