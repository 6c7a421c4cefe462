"""How a step differs from the nearest one before, in words."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dispatch.fingerprint import canonical, construction, resolve, unique_id
from dispatch.info import AttemptFacts, StepInfo, StepRecord, StepState
from dispatch.params import mark_references
from dispatch.plan.difference import explain

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone.utc)


class Colour(enum.Enum):
    """A choice."""

    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Adam:
    """A dataclass among the arguments."""

    lr: float
    decay: float = 0.0


class Made:
    """What an object made from config shows of itself."""

    def __init__(self, constructor: str, **arguments: Any) -> None:
        self._tree = construction(constructor, arguments)

    def __dispatch_canonical__(self) -> Any:
        return self._tree


def ref(name: str, key: str | None = None) -> dict[str, Any]:
    """A reference as config writes it."""
    return {"type": "ref", "ref": name, **({} if key is None else {"key": key})}


def record(
    name: str, arguments: Mapping[str, Any], ids: Mapping[str, str] | None = None, **changes: Any
) -> StepRecord:
    """A step of class Train unless ``changes`` say otherwise; ``ids`` are those of its dependencies."""
    facts = {"class_name": "Train", "type": "train", "version": "001", "format": "auto", **changes}
    format_tree = canonical({"name": facts["format"], "version": "001"})
    tree = resolve(canonical(mark_references(dict(arguments))), ids or {})
    identity = {
        "type": facts["type"],
        "version": facts["version"],
        "format": format_tree,
        "arguments": tree,
    }
    own = unique_id(facts["class_name"], facts["version"], facts["type"], format_tree, tree)
    return StepRecord(
        name=name,
        unique_id=own,
        class_name=facts["class_name"],
        type=facts["type"],
        version=facts["version"],
        cacheable=facts.get("cacheable", True),
        deterministic=True,
        dependencies=tuple((ids or {}).values()),
        config={},
        identity=identity,
    )


def known(step: StepRecord, state: StepState = StepState.COMPLETED, minute: int = 0) -> StepInfo:
    """What a workspace knows of a step that ended some minutes after noon."""
    facts = AttemptFacts(state, ended=NOON + dt.timedelta(minutes=minute))
    return StepInfo(step, state, facts, "/there" if state is StepState.COMPLETED else None)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The lines between two steps that differ in arguments alone."""
    return explain(record("t", after), [known(record("t", before))]).lines()


LONG = "x" * 100
CLOCK = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"C": 0.01}, {"C": 0.1}, ["C: 0.01 → 0.1"]),
        ({"C": 1}, {"C": 1.0}, ["C: 1 → 1.0"]),
        ({"C": 1}, {"C": True}, ["C: 1 → true"]),
        ({"C": 1}, {"C": None}, ["C: 1 → null"]),
        ({"C": 1}, {"C": "1"}, ["C: 1 → '1'"]),
        ({"C": float("nan")}, {"C": float("-inf")}, ["C: nan → -inf"]),
        ({"a": 1, "b": 2}, {"a": 3, "b": 4}, ["a: 1 → 3", "b: 2 → 4"]),
        ({"a": 1}, {"a": 1, "seed": 3}, ["seed: is new: 3"]),
        ({"a": 1, "seed": 3}, {"a": 1}, ["seed: is gone: was 3"]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c: 1 → 2"]),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, ["a.b: is gone: was 1", "a.c: is new: 1"]),
        ({"a": [1, 2, 3]}, {"a": [1, 5, 3]}, ["a[1]: 2 → 5"]),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, ["a: [1, 2] → [1, 2, 3]"]),
        ({"a": [1, 2, 3, 4, 5]}, {"a": [5, 4, 2, 1, 0]}, ["a: [1, 2, 3, 4, 5] → [5, 4, 2, 1, 0]"]),
        ({"a": (1, 2)}, {"a": [1, 2]}, ["a: (1, 2) → [1, 2]"]),
        ({"a": {1, 2}}, {"a": {2, 3}}, ["a: {1, 2} → {2, 3}"]),
        ({"a": [{"n": 1}]}, {"a": [{"n": 2}]}, ["a[0].n: 1 → 2"]),
        ({"a": LONG + "1"}, {"a": LONG + "2"}, [f"a: …{'x' * 20}1' → …{'x' * 20}2'"]),
        ({"a": "one\ntwo"}, {"a": "one\nTwo"}, ["a: 'one\\ntwo' → 'one\\nTwo'"]),
        ({}, {"a": LONG}, [f"a: is new: '{'x' * 59}…"]),
        ({"a": b"abc"}, {"a": b"abd"}, ["a: 3 bytes (sha256 ba7816bf…) → 3 bytes (sha256 a52d159f…)"]),
        ({"a": Path("x/y")}, {"a": "x/y"}, ["a: x/y → 'x/y'"]),
        ({"a": Colour.RED}, {"a": Colour.BLUE}, ["a: Colour.RED → Colour.BLUE"]),
        ({"a": dt.timedelta(seconds=90)}, {"a": dt.timedelta(seconds=1.5)}, ["a: 90 s → 1.5 s"]),
        (
            {"a": CLOCK},
            {"a": CLOCK.replace(tzinfo=None)},
            ["a: 2026-01-01T12:00:00 UTC → 2026-01-01T12:00:00"],
        ),
        ({"a": dt.date(2026, 1, 1)}, {"a": dt.date(2026, 1, 2)}, ["a: 2026-01-01 → 2026-01-02"]),
        ({"a": Adam(0.1)}, {"a": Adam(0.2)}, ["a.lr: 0.1 → 0.2"]),
        (
            {"a": Made("m.Adam", lr=0.1)},
            {"a": Made("m.Sgd", lr=0.1)},
            ["a: Adam(lr=0.1) → Sgd(lr=0.1)"],
        ),
        ({"a": Made("m.Adam")}, {"a": Made("m.Adam", lr=0.1)}, ["a.lr: is new: 0.1"]),
    ],
)
def test_arguments(before: dict[str, Any], after: dict[str, Any], lines: list[str]) -> None:
    """Each argument that differs has a line: as deep as the difference, and no longer than can be read."""
    assert differences(before, after) == lines


def test_arrays_are_shown_by_shape_and_digest() -> None:
    """An array is too long to be shown, and its digest tells it apart."""
    (line,) = differences({"a": np.zeros((2, 3))}, {"a": np.zeros((2, 3), dtype=np.float32)})
    assert line.startswith("a: array of f8, 2×3 (sha256 ")
    assert " → array of f4, 2×3 (sha256 " in line


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"version": "002"}, ["VERSION: 001 → 002"]),
        ({"version": None}, ["VERSION: 001 → none"]),
        ({"format": "json"}, ["format: 'auto' → 'json'"]),
        ({"class_name": "Trainer"}, ["class: Train → Trainer"]),
        ({"type": "my.Train"}, ["type: train → my.Train"]),
        ({"class_name": "Fit", "type": "fit"}, ["class: Train → Fit", "type: train → fit"]),
    ],
)
def test_the_step_itself(changes: dict[str, Any], lines: list[str]) -> None:
    """Class, type, version and format are named as such."""
    assert explain(record("t", {"C": 1}, **changes), [known(record("t", {"C": 1}))]).lines() == lines


SHELL: dict[str, Any] = {"class_name": "Shell", "type": "shell", "version": None}


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"command": "make all"}, ["command: 'make' → 'make all'"]),
        ({"image": "123"}, ["image: its declaration or lock differs"]),
        ({"image": None}, ["image: '012' → null"]),
        ({"tree": "abc"}, ["tree: the files under its paths differ"]),
        ({"env": {"A": "1"}}, ["env.A: is new: '1'"]),
        ({"inputs": {"n": 4}}, ["inputs.n: 3 → 4"]),
    ],
)
def test_commands(change: dict[str, Any], lines: list[str]) -> None:
    """What is a digest in the identity of a command is put into words."""
    before = {"command": "make", "image": "012", "env": {}, "inputs": {"n": 3}, "tree": "def"}
    found = explain(record("c", {**before, **change}, **SHELL), [known(record("c", before, **SHELL))])
    assert found.lines() == lines


class History:
    """Records as they were and as they are, by unique id."""

    def __init__(self, before: list[StepRecord], after: list[StepRecord]) -> None:
        self._before = {each.unique_id: each for each in before}
        self._after = {each.unique_id: each for each in after}
        self._step, self._was = after[-1], before[-1]

    def lines(self) -> list[str]:
        """Why the last step is another one."""
        return explain(self._step, [known(self._was)], self._after.get, self._before.get).lines()


def chain(names: list[str], n: int) -> list[StepRecord]:
    """Steps of which each takes the result of the one before; the first takes ``n``."""
    steps = [record(names[0], {"n": n}, class_name="Load", type="load")]
    for name in names[1:]:
        before = steps[-1]
        steps.append(record(name, {"data": ref(before.name)}, {before.name: before.unique_id}))
    return steps


def test_a_dependency_that_differs_is_gone_into() -> None:
    """The line names the dependency, and below it stands what differs there."""
    assert History(chain(["digits", "train"], 1), chain(["digits", "train"], 2)).lines() == [
        "data: result of step 'digits' differs",
        "  digits: n: 1 → 2",
    ]


def test_dependencies_of_dependencies() -> None:
    """It goes down to the cause; far down, those that only pass it on are left out."""
    names = ["raw", "a", "b", "c", "d", "e", "f"]
    assert History(chain(names, 1), chain(names, 2)).lines() == [
        "data: result of step 'e' differs",
        "  e: data: result of step 'd' differs",
        "    d: data: result of step 'c' differs",
        "      raw: n: 1 → 2",
    ]


def test_a_long_chain_needs_no_depth() -> None:
    """Ten thousand steps between cause and effect are followed without recursion."""
    names = [f"s{number}" for number in range(10_000)]
    lines = History(chain(names, 1), chain(names, 2)).lines()
    assert len(lines) == 4
    assert lines[-1] == "      s0: n: 1 → 2"


def test_a_dependency_is_gone_into_once() -> None:
    """What two inputs share is explained under the first."""
    before, after = (
        [
            *(digits := chain(["digits"], n)),
            record("train", {"a": ref("digits"), "b": [ref("digits", "x")]}, {"digits": digits[0].unique_id}),
        ]
        for n in (1, 2)
    )
    assert History(before, after).lines() == [
        "a: result of step 'digits' differs",
        "  digits: n: 1 → 2",
        "b[0]: result of step 'digits' differs",
    ]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (ref("small"), ref("large"), ["data: result of step 'small' → of step 'large'", "  large: n: 1 → 2"]),
        (ref("small", "x"), ref("small", "y"), ["data: item 'x' of step 'small' → item 'y' of step 'small'"]),
        (ref("small"), ref("small", "y"), ["data: step 'small' → item 'y' of step 'small'"]),
        (3, ref("large"), ["data: 3 → step 'large'"]),
    ],
)
def test_references_that_lead_elsewhere(before: Any, after: Any, lines: list[str]) -> None:
    """Another step, or another item of its result, is said by name."""
    others = [record("small", {"n": 1}), record("large", {"n": 2})]
    ids = {each.name: each.unique_id for each in others}
    was, is_ = record("t", {"data": before}, ids), record("t", {"data": after}, ids)
    assert History([*others, was], [*others, is_]).lines() == lines


def test_a_dependency_of_which_nothing_is_recorded() -> None:
    """Where the earlier record is gone, that is said."""
    before, after = chain(["digits", "train"], 1), chain(["digits", "train"], 2)
    assert History(before[1:], after).lines() == [
        "data: result of step 'digits' differs; nothing is recorded of the earlier one"
    ]


def test_the_nearest_is_that_with_the_fewest_differences() -> None:
    """Then the one of the same name, then the newest."""
    step = record("t", {"a": 1, "b": 1})
    near, far = record("t", {"a": 1, "b": 2}), record("t", {"a": 2, "b": 2})
    assert explain(step, [known(far, minute=9), known(near)]).nearest == known(near)
    other = record("other", {"a": 1, "b": 3})
    assert explain(step, [known(other, minute=9), known(near)]).nearest == known(near)
    newer = record("t", {"a": 1, "b": 4})
    assert explain(step, [known(newer, minute=1), known(near)]).nearest == known(newer, minute=1)


@pytest.mark.parametrize(
    ("candidate", "state", "counts"),
    [
        (record("t", {"a": 2}), StepState.COMPLETED, True),
        (record("t", {"a": 2}), StepState.FAILED, True),
        (record("t", {"a": 2}), StepState.RUNNING, False),
        (record("t", {"a": 2}), StepState.INCOMPLETE, False),
        (record("t", {"a": 1}), StepState.FAILED, False),
        (record("x", {"a": 2}), StepState.COMPLETED, True),
        (record("x", {"a": 2}, type="other"), StepState.COMPLETED, True),
        (record("x", {"a": 2}, class_name="Other"), StepState.COMPLETED, True),
        (record("t", {"a": 2}, class_name="Other", type="other"), StepState.COMPLETED, True),
        (record("x", {"a": 2}, class_name="Other", type="other"), StepState.COMPLETED, False),
        (replace(record("t", {"a": 2}), identity={}), StepState.COMPLETED, False),
    ],
)
def test_what_can_be_compared(candidate: StepRecord, state: StepState, counts: bool) -> None:
    """A step of the same name, class or type that has a result or failed; not the step itself."""
    found = explain(record("t", {"a": 1}), [known(candidate, state)])
    assert (found.nearest is not None) is counts
    assert bool(found.changes) is counts


def test_commands_are_alike_by_name_only() -> None:
    """Every command is of one class: to be near, it must be the same step of the config."""
    step, other = record("c", {"command": "a"}, **SHELL), record("d", {"command": "b"}, **SHELL)
    assert explain(step, [known(other)]).nearest is None
