"""Identity, scheme 1: the golden vectors, and what they cannot show."""

from __future__ import annotations

import ast
import enum
import json
import os
import shutil
import subprocess
import sys
from collections import OrderedDict, defaultdict
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import pytest

from dispatch.errors import ConfigurationError
from dispatch.fingerprint import FingerprintError, canonical, digest, resolve, unique_id
from dispatch.params import Reference

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests/golden/identity.json").read_text(encoding="utf-8"))
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")

# Evaluates the golden file's literals and compares, in any Python: no test library is there.
REPLAY = """
import json, sys
sys.path.insert(0, sys.argv[1])
from datetime import date, datetime, time, timedelta, timezone
from pathlib import PurePosixPath as Path
from dispatch.fingerprint import canonical, digest, resolve, unique_id
from dispatch.params import Reference
golden = json.load(open(sys.argv[2], encoding="utf-8"))
for value in golden["values"]:
    tree = canonical(eval(value["python"]))
    assert tree == value["tree"] and digest(tree) == value["digest"], value
for step in golden["steps"]:
    tree = resolve(canonical(eval(step["arguments"])), golden["dependencies"])
    found = unique_id(step["class"], step["version"], step["type"], canonical(step["format"]), tree)
    assert found == step["unique_id"], (found, step)
print(len(golden["values"]) + len(golden["steps"]))
"""


class Colour(enum.Enum):
    """An enum of the test's."""

    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias is meant


class Rights(enum.Flag):
    """Flags of the test's."""

    READ = 1
    WRITE = 2


@dataclass
class Options:
    """A dataclass of the test's; ``total`` is derived, ``kind`` no field."""

    size: Any
    name: str = "x"
    kind: ClassVar[str] = "options"
    total: int = field(init=False, default=0)


@dataclass
class Hidden:
    """A dataclass whose object does not tell what it was made from."""

    seed: InitVar[int]


class Size(NamedTuple):
    """A tuple whose items have names."""

    width: int
    height: int = 1


class Floaty(float):
    """A number that may mean more than a float."""


class Array:
    """What numpy's arrays look like from the outside."""

    def __init__(self, dtype: str, shape: tuple[int, ...], content: bytes, **about: Any) -> None:
        self.dtype = type("DType", (), {"str": dtype, "hasobject": False, "names": None, **about})()
        self.shape = shape
        self._content = content

    def tobytes(self) -> bytes:
        """Return the content in C order."""
        return self._content


def _value(text: str) -> Any:
    names = {"Path": PurePosixPath, "Reference": Reference, "date": date, "datetime": datetime, "time": time}
    return eval(text, {**names, "timedelta": timedelta, "timezone": timezone})


@pytest.mark.parametrize("vector", GOLDEN["values"], ids=lambda vector: vector["python"][:40])
def test_values_keep_their_encoding(vector: dict[str, Any]) -> None:
    """The tree and the digest of a value are what they have always been."""
    tree = canonical(_value(vector["python"]))
    assert tree == vector["tree"]
    assert digest(tree) == vector["digest"]


@pytest.mark.parametrize("vector", GOLDEN["steps"], ids=lambda vector: vector["unique_id"])
def test_unique_ids_never_change(vector: dict[str, Any]) -> None:
    """The unique id of a step is what it has always been: its results are found under it."""
    tree = resolve(canonical(_value(vector["arguments"])), GOLDEN["dependencies"])
    format_tree = canonical(vector["format"])
    assert (
        unique_id(vector["class"], vector["version"], vector["type"], format_tree, tree)
        == vector["unique_id"]
    )


def _interpreters() -> dict[str, str]:
    """One interpreter of each version that is here; a shim in the path may lead to none."""
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    managed = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in VERSIONS:
        candidates = [
            shutil.which(f"python{version}"),
            *sorted(managed.glob(f"{version}.*/bin/python{version}")),
        ]
        for candidate in candidates:
            if candidate is not None and version not in found:
                asked = subprocess.run([candidate, "-c", "print(1)"], capture_output=True, check=False)
                if asked.returncode == 0:
                    found[version] = str(candidate)
    return found


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
@pytest.mark.parametrize(
    "python", [pytest.param(path, id=version) for version, path in _interpreters().items()]
)
def test_identity_is_the_same_in_every_python_and_under_every_hash_seed(python: str, seed: str) -> None:
    """Neither the version of Python nor its hash seed enters an identity."""
    replayed = subprocess.run(
        [python, "-c", REPLAY, str(ROOT), str(ROOT / "tests/golden/identity.json")],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert replayed.stdout.strip() == str(len(GOLDEN["values"]) + len(GOLDEN["steps"])), replayed.stderr


def test_no_two_golden_values_share_a_digest() -> None:
    """Values that differ, if only in type, differ in digest, unless the file says they are the same."""
    seen: dict[str, str] = {}
    for vector in GOLDEN["values"]:
        same_as = vector.get("same_as")
        if same_as is None:
            assert vector["digest"] not in seen, (vector["python"], seen[vector["digest"]])
            seen[vector["digest"]] = vector["python"]
        else:
            assert seen[vector["digest"]] == same_as


def test_golden_values_are_plain_expressions() -> None:
    """The golden file's Python is made of literals and calls of the types it is about."""
    for vector in GOLDEN["values"]:
        names = {node.id for node in ast.walk(ast.parse(vector["python"])) if isinstance(node, ast.Name)}
        allowed = {"Path", "date", "datetime", "time", "timedelta", "timezone", "float", "set", "frozenset"}
        assert names <= allowed, vector


@pytest.mark.parametrize(
    ("value", "tree"),
    [
        (Colour.RED, ["e", f"{__name__}.Colour", "RED"]),
        (Colour.CRIMSON, ["e", f"{__name__}.Colour", "RED"]),
        (Rights.WRITE, ["e", f"{__name__}.Rights", "WRITE"]),
        (Options(3), ["c", f"{__name__}.Options", {"name": ["s", "x"], "size": ["i", "3"]}]),
        (Size(2), ["c", f"{__name__}.Size", {"height": ["i", "1"], "width": ["i", "2"]}]),
        (Reference("a"), ["ref", "a", None]),
        (Reference("a", 0), ["ref", "a", 0]),
        (
            Array("<f8", (1, 2), b"\0" * 16),
            ["a", "<f8", [1, 2], "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb"],
        ),
    ],
)
def test_objects_are_encoded_by_what_they_are(value: object, tree: object) -> None:
    """Enums by class and name, dataclasses and named tuples by their parts, arrays by dtype and bytes."""
    assert canonical(value) == tree


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        (object(), "a value of type builtins.object"),
        (len, "builtin_function_or_method"),
        (lambda: 1, "function"),
        (OrderedDict(a=1), "OrderedDict"),
        (defaultdict(list), "defaultdict"),
        (Floaty(1), "Floaty"),
        (bytearray(b"x"), "bytearray"),
        (iter([1]), "list_iterator"),
        (1j, "complex"),
        (Rights.READ | Rights.WRITE, "combination of flags"),
        (Hidden(3), "InitVar"),
        (timezone.utc, "datetime.timezone"),
        (datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "before year 1"),
        (Array("|O", (1,), b"", hasobject=True), "an array of dtype"),
        (Array("|V8", (1,), b"", names=("x",)), "an array of dtype"),
    ],
)
def test_what_has_no_stable_encoding_is_refused(value: object, fact: str) -> None:
    """A value whose meaning may lie in its address, its order of making or its class is refused."""
    with pytest.raises(FingerprintError, match=fact):
        canonical(value)


def test_the_error_leads_to_the_place() -> None:
    """The error names the way from the outermost value to the one that cannot be encoded."""
    with pytest.raises(FingerprintError, match=r"^model\.layers\[1\]\.init: ") as caught:
        canonical({"model": {"layers": [{}, {"init": object()}]}})
    assert caught.value.path == ".model.layers[1].init"
    assert caught.value.remedy


def test_a_value_that_contains_itself_is_refused() -> None:
    """A circle ends in an error, not in a crash."""
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(FingerprintError, match="contains itself"):
        canonical(circle)


def test_integers_of_any_length_are_encoded() -> None:
    """Python's limit on the digits of integers is no limit of ours, and the digits are the plain ones."""
    for exponent in (2047, 2048, 2049, 20000):
        value = 2**exponent + 1
        tree = canonical(-value)
        text = tree[1].lstrip("-")
        assert tree[1].startswith("-")
        assert sum(int(text[::-1][i : i + 100][::-1]) * 10**i for i in range(0, len(text), 100)) == value


def test_references_are_resolved_everywhere() -> None:
    """Names become unique ids in lists, dicts, objects and sets, and what looks like a name in data stays."""
    tree = canonical(
        {
            "a": [Reference("x"), ("ref", "x", None)],
            "b": {Reference("y", "k"), "z"},
            "c": Options(Reference("x")),
        }
    )
    resolved = resolve(tree, {"x": "X-1", "y": "Y-2"})
    text = json.dumps(resolved)
    assert text.count('["step", "X-1", null]') == 2
    assert text.count('["step", "Y-2", "k"]') == 1
    assert '["ref"' not in text
    assert '[["s", "ref"], ["s", "x"], ["n"]]' in text


def test_a_sets_order_after_resolving_depends_on_unique_ids_alone() -> None:
    """Two graphs that name their steps differently give the same tree."""
    one = resolve(canonical({Reference("a"), Reference("b")}), {"a": "S-1", "b": "S-2"})
    other = resolve(canonical({Reference("z"), Reference("b")}), {"z": "S-1", "b": "S-2"})
    assert one == other


def test_an_unknown_reference_is_an_error() -> None:
    """A name without a unique id cannot enter an identity."""
    with pytest.raises(ConfigurationError, match="'x'"):
        resolve(canonical([Reference("x")]), {})


@pytest.mark.parametrize(
    ("class_name", "version"),
    [("Café", None), ("a b", None), ("", None), ("A", "1/2"), ("A", ""), ("A", "1-2")],
)
def test_names_that_could_not_be_files_are_refused(class_name: str, version: str | None) -> None:
    """A unique id is part of file and container names, so what it is made of is held to a whitelist."""
    with pytest.raises(ConfigurationError):
        unique_id(class_name, version, "t", canonical(None), canonical({}))
