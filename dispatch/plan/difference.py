"""Why a step is not what it was: the nearest earlier step, and what of its identity differs, input by input.

Compares what unique ids were made of, so it says everything that makes them differ and nothing else. Follows
dependencies from record to record. Reads no workspace: records come by callables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from dispatch.graph import SHELL
from dispatch.info import StepInfo, StepRecord, StepState
from dispatch.plan.model import unscoped
from dispatch.plan.shown import key_of, shortened, show, show_change

# More than so many items of a list that differ, and the list is shown instead of them.
_MANY_ITEMS = 4
_DEEP = 3
_LONG_AGO = datetime.min.replace(tzinfo=timezone.utc)
_ENDED = (StepState.COMPLETED, StepState.FAILED, StepState.UNCACHEABLE)

RecordOf = Callable[[str], "StepRecord | None"]


@dataclass(frozen=True)
class Change:
    """One input of ``step`` that differs: the ``place`` inside its arguments, and how.

    ``depth`` counts the dependencies between the step that was asked about and this one.
    """

    step: str
    place: str
    text: str
    depth: int = 0

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@dataclass(frozen=True)
class Explanation:
    """The nearest earlier step (None: there is none), and how the step differs from it."""

    nearest: StepInfo | None
    changes: tuple[Change, ...] = ()

    def lines(self) -> list[str]:
        """What differs, a line each. What makes a dependency differ is indented below it, after its name."""
        return [
            f"{'  ' * change.depth}{f'{change.step}: ' if change.depth else ''}{change}"
            for change in self.changes
        ]


def explain(
    record: StepRecord,
    candidates: Iterable[StepInfo],
    current: RecordOf = lambda _: None,
    previous: RecordOf = lambda _: None,
) -> Explanation:
    """Compare a step with the nearest of the ``candidates``: that with the fewest inputs that differ.

    Only those of its name, class or type count that have a result or failed. Among equals the one of the same
    name wins, then the newest. ``current`` and ``previous`` give the records of dependencies by unique id, as
    they are now and as the workspace has them, or None.
    """
    nearest: StepInfo | None = None
    best: tuple[int, bool, datetime] | None = None
    for info in candidates:
        if not _is_comparable(record, info):
            continue
        count = sum(1 for _ in _compare(info.record, record))
        when = info.end_time or info.start_time or _LONG_AGO
        rank = (-count, info.step_name == record.name, when)
        if best is None or rank > best:
            nearest, best = info, rank
    if nearest is None:
        return Explanation(None)
    return Explanation(nearest, tuple(_walk(nearest.record, record, current, previous)))


def _is_comparable(record: StepRecord, info: StepInfo) -> bool:
    other = info.record
    akin = record.name == other.name or record.class_name == other.class_name or record.type == other.type
    # Two shell steps have their kind in common and nothing else: a name makes them the same thing.
    if record.type == SHELL == other.type:
        akin = record.name == other.name
    return (
        akin
        and info.state in _ENDED
        and bool(other.identity)
        and unscoped(other) != unscoped(record)
        and (info.result_location is not None or info.attempt is not None)
    )


@dataclass(frozen=True)
class _Difference:
    """Two trees at one place; None where there is nothing."""

    place: str
    before: Any
    after: Any

    @property
    def is_of_dependency(self) -> bool:
        """Whether both are results of steps, and the same item of them."""
        before, after = self.before, self.after
        return bool(before and after and before[0] == after[0] == "step" and before[2] == after[2])


def _compare(before: StepRecord, after: StepRecord) -> Iterator[_Difference]:
    """Find what differs between two steps themselves."""
    for place, was, is_ in (
        ("class", before.class_name, after.class_name),
        ("type", before.identity["type"], after.identity["type"]),
        ("VERSION", before.identity["version"], after.identity["version"]),
    ):
        if was != is_:
            yield _Difference(place, ["word", was], ["word", is_])
    for found in _compare_trees(before.identity["format"], after.identity["format"], "format"):
        yield replace(found, place="format") if found.place == "format.name" else found
    yield from _compare_trees(before.identity["arguments"], after.identity["arguments"], "")


def _compare_trees(before: Any, after: Any, place: str) -> Iterator[_Difference]:
    if before == after:
        return
    tag = before[0]
    if tag == after[0] == "d":
        yield from _compare_items(_pairs(before), _pairs(after), place)
    elif tag == after[0] and tag in ("c", "L") and before[1] == after[1]:
        yield from _compare_items(before[2], after[2], place)
    elif tag == after[0] and tag in ("l", "t") and len(before[1]) == len(after[1]):
        found: list[_Difference] = []
        for index, (was, is_) in enumerate(zip(before[1], after[1], strict=True)):
            found += _compare_trees(was, is_, f"{place}[{index}]")
        yield from found if len(found) <= _MANY_ITEMS else [_Difference(place, before, after)]
    else:
        yield _Difference(place, before, after)


def _compare_items(before: dict[str, Any], after: dict[str, Any], place: str) -> Iterator[_Difference]:
    for key in {**before, **after}:
        inner = f"{place}.{key}" if place else key
        if key in before and key in after:
            yield from _compare_trees(before[key], after[key], inner)
        else:
            yield _Difference(inner, before.get(key), after.get(key))


def _pairs(tree: Any) -> dict[str, Any]:
    return {key_of(key, str): item for key, item in tree[1]}


def _walk(before: StepRecord, after: StepRecord, current: RecordOf, previous: RecordOf) -> Iterator[Change]:
    """Yield the differences, and below each dependency its own. No recursion: chains may be of any length.

    A dependency that differs is gone into once. Far down, steps that only pass a difference on are left out.
    """
    words = _Words(current, previous)
    seen = {(before.unique_id, after.unique_id)}
    todo = [(after, 0, iter(list(_compare(before, after))))]
    while todo:
        step, depth, rest = todo[-1]
        difference = next(rest, None)
        if difference is None:
            todo.pop()
            continue
        pair = _dependencies(difference, current, previous)
        if pair is None or depth < _DEEP:
            yield Change(step.name, difference.place, words.of(difference, step.type), depth)
        if pair is None:
            continue
        was, is_ = pair
        if (was.unique_id, is_.unique_id) not in seen:
            seen.add((was.unique_id, is_.unique_id))
            todo.append((is_, min(depth + 1, _DEEP), iter(list(_compare(was, is_)))))


def _dependencies(
    difference: _Difference, current: RecordOf, previous: RecordOf
) -> tuple[StepRecord, StepRecord] | None:
    """Return the two steps behind a difference that can be compared in turn."""
    if not difference.is_of_dependency:
        return None
    was, is_ = previous(difference.before[1]), current(difference.after[1])
    if was is None or is_ is None or not was.identity or not is_.identity:
        return None
    return (was, is_) if was.name == is_.name or was.type == is_.type != SHELL else None


class _Words:
    """Puts differences into words."""

    def __init__(self, current: RecordOf, previous: RecordOf) -> None:
        self._current = current
        self._previous = previous

    def of(self, difference: _Difference, type: str) -> str:
        """How a place differs, in a step of some type."""
        place, before, after = difference.place, difference.before, difference.after
        if before is None:
            return f"is new: {shortened(self._shown(after, self._current))}"
        if after is None:
            return f"is gone: was {shortened(self._shown(before, self._previous))}"
        if difference.is_of_dependency:
            return self._of_dependency(before[1], after[1])
        if type == SHELL and place == "image" and before[0] == after[0] == "s":
            return "its declaration or lock differs"
        if type == SHELL and place == "tree" and before[0] == after[0] == "s":
            return "the files under its paths differ"
        return show_change(self._shown(before, self._previous), self._shown(after, self._current))

    def _of_dependency(self, before: str, after: str) -> str:
        was, is_ = self._previous(before), self._current(after)
        name = is_.name if is_ is not None else after
        if was is None:
            return f"result of step {name!r} differs; nothing is recorded of the earlier one"
        if was.name != name:
            return f"result of step {was.name!r} → of step {name!r}"
        return f"result of step {name!r} differs"

    def _shown(self, tree: Any, records: RecordOf) -> str:
        if tree[0] == "word":
            return "none" if tree[1] is None else str(tree[1])

        def name_of(unique_id: str) -> str:
            record = records(unique_id)
            return record.name if record is not None else unique_id

        return show(tree, name_of)
