"""Which of many steps or runs are meant, and in which order. Decides, and looks up no more than it has to."""

from __future__ import annotations

import enum
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Optional

from dispatch.errors import WorkspaceError

if TYPE_CHECKING:
    from dispatch.info import StepInfo, StepState

    LookUp = Callable[[str], Optional[StepInfo]]


class RunSort(enum.Enum):
    """By what runs are sorted."""

    NAME = "name"
    START_DATE = "start_date"


class StepInfoSort(enum.Enum):
    """By what steps are sorted."""

    UNIQUE_ID = "unique_id"
    START_TIME = "start_time"


@dataclass(frozen=True)
class Page:
    """A part of a sorted list, as ``search_*`` of a workspace are asked for it.

    ValueError for a negative bound, which would mean one thing to a list and nothing to a page of it.
    """

    descending: bool = True
    start: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.stop is not None and self.stop < 0):
            raise ValueError(f"start {self.start} and stop {self.stop}: are counted from 0")

    def names(self, names: Iterable[str]) -> list[str]:
        """Return the page of ``names`` sorted by themselves."""
        return sorted(names, reverse=self.descending)[self.start : self.stop]

    def by_time(self, times: Mapping[str, datetime | None]) -> list[str]:
        """Return the page of the names sorted by their times; those without a time come last, always."""
        known = [name for name, time in times.items() if time is not None]
        known.sort(key=lambda name: (times[name], name), reverse=self.descending)
        rest = sorted((name for name, time in times.items() if time is None), reverse=self.descending)
        return [*known, *rest][self.start : self.stop]


def matching(names: Iterable[str], match: str | None) -> list[str]:
    """Return the names that contain ``match``; all of them without it."""
    return [name for name in names if match is None or match in name]


def find_steps(
    unique_ids: Iterable[str],
    look_up: LookUp,
    sort_by: StepInfoSort | None,
    state: StepState | None,
    page: Page,
) -> list[StepInfo]:
    """Return a page of the steps in a state.

    Sorted by unique id, no more steps are looked up than are needed to fill the page.
    """
    if sort_by is StepInfoSort.START_TIME:
        infos = {info.unique_id: info for info in in_state(unique_ids, look_up, state)}
        times = {unique_id: info.start_time for unique_id, info in infos.items()}
        return [infos[unique_id] for unique_id in page.by_time(times)]
    ordered = sorted(unique_ids, reverse=page.descending)
    return list(itertools.islice(in_state(ordered, look_up, state), page.start, page.stop))


def in_state(unique_ids: Iterable[str], look_up: LookUp, state: StepState | None) -> Iterator[StepInfo]:
    """Look steps up, and leave out those in another state and those that are gone or damaged."""
    for unique_id in unique_ids:
        info = unless_damaged(unique_id, look_up)
        if info is not None and state in (None, info.state):
            yield info


def unless_damaged(name: str, look_up: LookUp) -> StepInfo | None:
    """Look one up: None where it is gone, and with a warning where its records are damaged.

    A list that fails for one damaged entry would hide all the others.
    """
    try:
        return look_up(name)
    except KeyError:
        return None
    except WorkspaceError as error:
        warnings.warn(f"left out of the list: {error.message}; {error.remedy}", stacklevel=2)
        return None
