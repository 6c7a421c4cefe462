"""What clients that are gone left in a workspace on Beaker: sessions, cut off attempts, pieces of runs.

Finds, and removes nothing. Nothing that somebody alive holds is one, nor is a result, nor what another
author made. What is younger than ``fresh`` (seconds of the epoch) may still be in the making.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatch.workspace.beaker import names
from dispatch.workspace.beaker.drives import ASK, DRIVER
from dispatch.workspace.beaker.lookup import Lookup
from dispatch.workspace.beaker.runs import RUN, SOURCE
from dispatch.workspace.beaker.taking import is_held, scope, told
from dispatch.workspace.beaker.upkeep import spent

if TYPE_CHECKING:
    from dispatch._beaker import Dataset
    from dispatch.workspace.beaker.site import Site
    from dispatch.workspace.beaker.workspace import BeakerWorkspace

_OF_ASK = re.compile(r"([1-9][0-9]{0,8})\.[0-9a-f]+")


@dataclass(frozen=True)
class Left:
    """A dataset that is of no use, and why. One that ``closes`` is to be committed, not deleted."""

    dataset: Dataset
    reason: str
    closes: bool = False


def of_sessions(site: Site, datasets: Iterable[Dataset]) -> Iterator[Left]:
    """Find the sessions of clients that are gone. One on another machine is not for a while: see Session."""
    for each in datasets:
        open_one = each.name.startswith(names.SESSION) and not each.committed and _is_ours(site, each)
        if open_one and not site.session.is_alive(each.id, told(each)):
            yield Left(each, "its client is gone")


def of_steps(workspace: BeakerWorkspace, bound: float, has_job: Callable[[str, int], bool]) -> Iterator[Left]:
    """Find attempts from before ``bound`` that gave no result, but for the newest of each step.

    ``has_job`` says whether an attempt's job is there to be looked after by whoever comes next.
    """
    site, lookup = workspace.site, Lookup(workspace.site)
    every = lookup.every()
    lookup.fetch(each for tried in every.values() for each in tried)
    for unique_id, tried in every.items():
        for each in spent(workspace, lookup, tried, bound):
            yield Left(each.dataset, "ended without a result, and was followed by another")
        newest = max(each.number for each in tried)
        for each in tried:
            old = each.is_open and each.dataset.created < bound and _is_ours(site, each.dataset)
            if old and not lookup.is_alive(each) and not has_job(unique_id, each.adopts or each.number):
                # Numbers are not used again, so the highest stays.
                yield Left(each.dataset, "its client is gone, and no job", each.number == newest)


def of_runs(site: Site, datasets: Iterable[Dataset], fresh: float) -> Iterator[Left]:
    """Find what is there of runs that are not, and what was asked of drivers that drive no more."""
    sorted_out = _Pieces(site, datasets)
    for each in sorted_out.runs.values():
        if not each.committed and _is_ours(site, each) and not is_held(site, each):
            yield Left(each, "its client died before it had stored the run")
    for run, each in sorted_out.pieces:
        if not _is_ours(site, each) or each.created >= fresh:
            continue
        if run not in sorted_out.runs:
            yield Left(each, "of a run that is gone")
        elif each.name.startswith(RUN) and not each.committed:
            yield Left(each, "an end that was never told")
    for run, number, each in sorted_out.asks:
        driver = sorted_out.drivers.get((run, number))
        over = driver is None or not is_held(site, driver)
        if over and _is_ours(site, each) and each.created < fresh:
            yield Left(each, "was asked of a driver that is gone")


class _Pieces:
    """Datasets of runs, told apart by their names."""

    def __init__(self, site: Site, datasets: Iterable[Dataset]) -> None:
        self.runs: dict[str, Dataset] = {}
        self.pieces: list[tuple[str, Dataset]] = []
        self.drivers: dict[tuple[str, int], Dataset] = {}
        self.asks: list[tuple[str, int, Dataset]] = []
        self._mark = f".{scope(site)}"
        for each in datasets:
            for kind in (RUN, SOURCE, DRIVER, ASK):
                if each.name.startswith(kind):
                    self._take(kind, each)

    def _take(self, kind: str, dataset: Dataset) -> None:
        run, mark, rest = dataset.name.removeprefix(kind).rpartition(self._mark)
        if not mark:
            return
        if kind == RUN and not rest:
            known = self.runs.setdefault(run, dataset)
            # Of two of one name the one that is a run.
            self.runs[run] = min(known, dataset, key=lambda each: (not each.committed, each.id))
            return
        ask = _OF_ASK.fullmatch(rest[1:]) if kind == ASK else None
        if ask is not None:
            self.asks.append((run, int(ask[1]), dataset))
        elif kind != ASK:
            self.pieces.append((run, dataset))
        if kind == DRIVER and rest[1:].isdecimal():
            self.drivers[run, int(rest[1:])] = dataset


def _is_ours(site: Site, dataset: Dataset) -> bool:
    return dataset.author_id == site.door.account.user_id
