"""Registries: names for classes, and what is refused as one."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatch.errors import ConfigurationError
from dispatch.params import Params
from dispatch.place import PlaceError, PlaceImportError
from dispatch.registrable import FromParams, Registrable, UnknownNameError, modules_of


class Model(Registrable):
    """A base with a registry of its own."""

    default_implementation = "linear"


@Model.register("linear")
class Linear(Model):
    """The default."""

    def __init__(self, size: int = 1, *, bias: bool = True) -> None:
        self.size = size
        self.bias = bias

    @classmethod
    def tiny(cls) -> Linear:
        """Make the smallest."""
        return cls(0)


Model.register("linear::tiny", constructor="tiny")(Linear)


@Model.register("a-deep.one")
class Deep(Model):
    """Another."""


class Unregistered(Model):
    """Known by its place alone."""


class Other(Registrable):
    """A base in whose registry there is nothing."""


@pytest.mark.parametrize(
    ("name", "found"),
    [("linear", Linear), ("a-deep.one", Deep), (f"{__name__}.Unregistered", Unregistered)],
)
def test_names_lead_to_classes(name: str, found: type) -> None:
    """A registered name leads to its class, and so does the place of a class that is loaded."""
    assert Model.by_name(name) is found


def test_a_constructor_can_have_a_name() -> None:
    """A class method registered as a constructor is what its name leads to."""
    made = Model.by_name("linear::tiny")()
    assert isinstance(made, Linear)
    assert made.size == 0


def test_the_default_comes_first() -> None:
    """Available names are in alphabetic order behind the default."""
    assert Model.list_available() == ["linear", "a-deep.one", "linear::tiny"]


def test_registries_are_apart() -> None:
    """What is registered with one base is not known to another."""
    assert Other.list_available() == []
    with pytest.raises(UnknownNameError):
        Other.by_name("linear")


def test_a_subclass_knows_its_own_names_among_those_of_its_base() -> None:
    """Asked through a subclass, a name of the base counts only if it leads to that subclass."""
    assert Linear.by_name("linear") is Linear
    with pytest.raises(UnknownNameError):
        Linear.by_name("a-deep.one")


def test_an_unknown_name_lists_the_known_ones() -> None:
    """The error proposes the nearest name and lists all."""
    with pytest.raises(UnknownNameError, match="did you mean 'linear'") as caught:
        Model.by_name("liner")
    assert "a-deep.one" in caught.value.remedy


def test_a_name_is_taken_once() -> None:
    """A second class under a name is refused, and may replace the first where that is said."""

    class Base(Registrable):
        pass

    Base.register("x")(type("First", (Base,), {}))
    second = type("Second", (Base,), {})
    with pytest.raises(ConfigurationError, match=r"taken by .*First"):
        Base.register("x")(second)
    Base.register("x", exist_ok=True)(second)
    assert Base.by_name("x") is second


def test_a_reloaded_class_takes_its_name_again() -> None:
    """The same class defined anew, as when a module is reloaded, replaces itself."""

    class Base(Registrable):
        pass

    for _ in range(2):
        last = Base.register("x")(type("Same", (Base,), {}))
    assert Base.by_name("x") is last


@pytest.mark.parametrize("name", ["", "a b", "a/b", "../x", ":x", "a\n", "é", "x" * 201, None, 3])
def test_malformed_names_are_refused(name: Any) -> None:
    """A name that could not be written in config, or in a file's name, is refused at once."""
    with pytest.raises(ConfigurationError, match="cannot be a registered name"):
        Model.register(name)


def test_lazy_names_are_imported_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lazy name is listed without its module, which is imported on the first look-up."""

    class Base(Registrable):
        pass

    (tmp_path / "late_module.py").write_text(
        f"import sys\nBase = sys.modules[{__name__!r}].HOLDER['base']\n"
        "@Base.register('late')\nclass Late(Base):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(HOLDER, "base", Base)
    Base.register_lazy("late", "late_module:Late")
    assert Base.list_available() == ["late"]
    assert "late_module" not in sys.modules
    assert Base.by_name("late").__name__ == "Late"
    monkeypatch.delitem(sys.modules, "late_module")


HOLDER: dict[str, Any] = {}


def test_a_lazy_name_that_leads_nowhere_says_so() -> None:
    """A lazy name whose module lacks the class is an error that names the place."""

    class Base(Registrable):
        pass

    Base.register_lazy("x", "dispatch.errors:Nothing")
    with pytest.raises(ConfigurationError, match=r"no class at 'dispatch\.errors:Nothing'"):
        Base.by_name("x")
    with pytest.raises(ConfigurationError, match="module:attribute"):
        Base.register_lazy("y", "dispatch.errors.Nothing")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package on the path whose modules say that they were imported; it is forgotten afterwards."""
    before = set(sys.modules)
    files = {
        "placed/__init__.py": "",
        "placed/models.py": (
            f"import {__name__} as base\nclass Big(base.Model):\n    class Inner(base.Model):\n        pass\n"
            "class Else:\n    pass\n"
        ),
        "placed/broken.py": "import no_such_library\n",
        "placed/exits.py": "import sys\nsys.exit('a page\\nof text')\n",
        "placed/neighbour.py": "raise RuntimeError('imported')\n",
        "placed/__main__.py": "raise RuntimeError('run')\n",
    }
    (tmp_path / "placed").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_place_leads_to_its_class(package: Path) -> None:  # noqa: ARG001
    """Exactly the module that the place names is imported, also for a class inside a class."""
    found: Any = Model.by_name("placed.models.Big")
    assert (found.__module__, found.__qualname__) == ("placed.models", "Big")
    assert Model.by_name("placed.models.Big.Inner") is found.Inner
    assert {name for name in sys.modules if name.startswith("placed")} == {"placed", "placed.models"}


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("placed.models.Bigg", PlaceError, "module placed.models has no 'Bigg', did you mean 'Big'?"),
        (
            "placed.models.Big.Iner",
            PlaceError,
            "class Big of placed.models has no 'Iner', did you mean 'Inner'",
        ),
        ("placed.modles.Big", PlaceError, "module placed has no 'modles', did you mean 'models'?"),
        ("placed.models.Else", PlaceError, "'placed.models.Else': is no Model, but a type"),
        ("placed.models", PlaceError, "'placed.models': is a module"),
        (
            "placed.broken.Big",
            PlaceImportError,
            "placed.broken cannot be imported: ModuleNotFoundError: No mod",
        ),
        ("placed.exits.Big", PlaceImportError, "placed.exits cannot be imported: SystemExit: of text"),
        ("placed.__main__.Big", UnknownNameError, "no 'placed.__main__.Big' is registered"),
        ("plaecd.models.Big", UnknownNameError, "is registered, and there is no module 'plaecd'"),
        ("placed.models.Big()", UnknownNameError, "no 'placed.models.Big()' is registered"),
        ("placed..Big", UnknownNameError, "no 'placed..Big' is registered"),
        ("os.system", PlaceError, "'os.system': is no Model, but a builtin_function_or_method"),
    ],
)
def test_a_place_that_leads_nowhere_says_what_was_tried(
    package: Path,  # noqa: ARG001
    name: str,
    kind: type[Exception],
    message: str,
) -> None:
    """Each part of a place that is wrong is named, with what is near; nothing is searched, no program run."""
    with pytest.raises(kind) as caught:
        Model.by_name(name)
    assert type(caught.value) is kind
    assert message in str(caught.value)
    assert "placed.neighbour" not in sys.modules


def test_colons_belong_to_names() -> None:
    """A name may say which library its class is of."""

    class Base(Registrable):
        pass

    made = Base.register("torch::Adam")(type("Adam", (Base,), {}))
    assert Base.by_name("torch::Adam") is made
    with pytest.raises(UnknownNameError, match="did you mean 'torch::Adam'"):
        Base.by_name("torch::Adm")


def test_classes_of_others_are_known_to_the_base_that_registered_them() -> None:
    """A class that is no subclass can have a name, which does not lead there from a subclass of the base."""

    class Base(Registrable):
        pass

    class Derived(Base):
        pass

    Base.register("path")(Path)
    assert Base.by_name("path") is Path
    with pytest.raises(UnknownNameError):
        Derived.by_name("path")
    assert modules_of(Base, "path") == {Path.__module__, __name__}
    assert modules_of(Base, "gone") == set()


def test_objects_remember_their_arguments_through_copies() -> None:
    """What an object was made from is kept, also by its copies and by a pickle of it."""
    made = Linear(3, bias=False)
    for same in (made, copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert same._dispatch_arguments == ((3,), {"bias": False})
        assert same.size == 3


def test_objects_of_mixed_bases_are_made_as_those_want() -> None:
    """A base that takes its arguments in __new__ still gets them."""

    class Name(FromParams, str):
        pass

    assert Name("x") == "x"


def test_from_params_makes_what_the_config_says() -> None:
    """from_params resolves the type, converts the arguments, and takes nothing but Params."""
    assert Model.from_params(Params({"type": "linear", "size": 4})).__dict__["size"] == 4
    assert isinstance(Model.from_params(Params({})), Linear)
    with pytest.raises(ConfigurationError, match="takes Params, not dict"):
        Model.from_params({"type": "linear"})  # type: ignore[arg-type]
