"""The quarantine: what can be saved of a result that could not be written."""

from __future__ import annotations

import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dispatch.formats import quarantine


class Stubborn:
    """What neither pickle nor dill can take."""

    def __reduce__(self) -> Any:
        raise RuntimeError("no")


class Interrupting:
    """What is interrupted while it is pickled."""

    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def load(path: str | None) -> Any:
    """Read what was saved."""
    assert path is not None
    assert path.endswith("quarantine/data.pickle")
    return pickle.loads(Path(path).read_bytes())


def test_a_value_is_saved_as_a_pickle(tmp_path: Path) -> None:
    """In a directory that is made if need be."""
    assert load(quarantine({"a": (1, {2})}, tmp_path / "quarantine")) == {"a": (1, {2})}


def test_dill_takes_what_pickle_does_not(tmp_path: Path) -> None:
    """Where it is installed."""
    assert load(quarantine([1, lambda: 3], tmp_path / "quarantine"))[1]() == 3


def test_parts_are_saved_where_the_whole_cannot_be(tmp_path: Path) -> None:
    """What cannot be pickled is replaced by a text that says what it was."""
    value = {"epoch": 3, "weights": [1.5, Stubborn()], "deep": ({"x": Stubborn(), "y": 2},), "no": Stubborn()}
    lost = f"(not saved: a {__name__}.Stubborn)"
    assert load(quarantine(value, tmp_path / "quarantine")) == {
        "epoch": 3,
        "weights": [1.5, lost],
        "deep": [{"x": lost, "y": 2}],
        "no": lost,
    }


@pytest.mark.parametrize(
    "value",
    [Stubborn(), [Stubborn()], {"a": [Stubborn()]}, iter([1]), (i for i in [1])],
    ids=lambda v: type(v).__name__,
)
def test_nothing_to_save_leaves_nothing(value: Any, tmp_path: Path) -> None:
    """No half file and no empty directory; an iterator's items are gone."""
    assert quarantine(value, tmp_path / "quarantine") is None
    assert list(tmp_path.iterdir()) == []


def test_it_never_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not without dill, not where nothing can be written, not over a value without end."""
    monkeypatch.setitem(sys.modules, "dill", None)
    assert quarantine(threading.Lock(), tmp_path / "quarantine") is None
    (tmp_path / "file").write_text("")
    assert quarantine([1], tmp_path / "file") is None
    assert quarantine([1], tmp_path / "file/below") is None
    assert (tmp_path / "file").read_text() == ""
    endless: list[Any] = [Stubborn()]
    endless.append(endless)
    quarantine(endless, tmp_path / "quarantine")


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    """The first one stays."""
    quarantine(1, tmp_path / "quarantine")
    assert quarantine(2, tmp_path / "quarantine") is None
    assert load(str(tmp_path / "quarantine/data.pickle")) == 1


def test_being_asked_to_stop_is_passed_on(tmp_path: Path) -> None:
    """It is no fault of the value; no half file stays."""
    with pytest.raises(KeyboardInterrupt):
        quarantine(["x" * 99999, Interrupting()], tmp_path / "quarantine")
    assert not (tmp_path / "quarantine/data.pickle").exists()
