"""`dispatch beaker gc`: what our runs left on Beaker and nobody needs any more.

Owns what is of no use of what was made for jobs: experiments that are only there for people, data, secrets,
bundles, and images that never became whole. What is left of steps, runs and clients the workspace knows.
Never touched: what lives, what is a result or may become one, what another author made, and what does not
look as we make it. The plan is a value, and what it holds is removed only if it would be planned again.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dispatch.app.beakerdoor import origin_of
from dispatch.engine.beaker.names import BUNDLE, JOB, LONGEST, VERSION, Names, Story, digest_of, fitting
from dispatch.errors import ConfigurationError
from dispatch.image.beaker import begun
from dispatch.location import BeakerDataset
from dispatch.workspace.beaker import leftovers
from dispatch.workspace.beaker.lookup import Lookup
from dispatch.workspace.beaker.taking import told
from dispatch.workspace.beaker.upkeep import remove_attempt

if TYPE_CHECKING:
    from dispatch._beaker import Dataset, Experiment
    from dispatch.app import App
    from dispatch.workspace.beaker.workspace import BeakerWorkspace

# What was made no longer ago may be in the making: of a job that is being prepared nothing else tells.
FRESH = 3600.0
_DATA = re.compile(re.escape(JOB) + r".+-([0-9a-f]{8})(?:\.[0-9a-f]+)?")
_BUNDLE = re.compile(re.escape(BUNDLE) + r"[0-9a-f]{16}(?:\.[0-9a-f]+)?")
_SECRET = re.compile(r"dispatch-([0-9a-f]{8})-.+")
_NAMED = re.compile(r"(.+-([0-9a-f]{8}))(?:\.[0-9]+)?")


class Kind(enum.Enum):
    """What would go."""

    EXPERIMENT = "experiment"
    ATTEMPT = "attempt"
    JOB_DATA = "job data"
    SECRET = "secret"
    BUNDLE = "bundle"
    IMAGE = "image"
    SESSION = "session"
    RUN = "run"


@dataclass(frozen=True)
class Leftover:
    """One thing that would go; ``id`` is Beaker's, empty for a secret. One that ``closes`` is committed."""

    kind: Kind
    name: str
    id: str
    reason: str
    closes: bool = False


@dataclass(frozen=True)
class Bounds:
    """What is younger stays: experiments, attempts, bundles and images than ``old``, all else than ``fresh``.

    Both are seconds of the epoch.
    """

    old: float
    fresh: float

    @classmethod
    def at(cls, now: float, older_than: float) -> Bounds:
        """The bounds for an age, both in seconds."""
        return cls(now - older_than, now - FRESH)


def workspaces(app: App) -> list[BeakerWorkspace]:
    """Where the runs of these settings leave anything: with their results, and with their jobs.

    ConfigurationError where neither is on Beaker.
    """
    from dispatch.app.beakerdoor import options_of, workspace_of
    from dispatch.workspace.beaker.workspace import BeakerWorkspace

    found: list[BeakerWorkspace] = []
    if app.workspace.keeps is BeakerDataset:
        assert isinstance(app.workspace, BeakerWorkspace)
        found.append(app.workspace)
    if app.settings.executor.type == "beaker":
        cache = app.surroundings.cache / "beaker"
        options = dict(options_of(app.settings))
        found.append(BeakerWorkspace(workspace_of(app.settings), cache=cache, **options))
    if not found:
        raise ConfigurationError(
            f"{app.workspace.url}: nothing of it is on Beaker", "name a workspace there: -w beaker://ORG/NAME"
        )
    return list({each.site.door.account.workspace_id: each for each in reversed(found)}.values())


def plan(workspace: BeakerWorkspace, bounds: Bounds) -> tuple[Leftover, ...]:
    """Find what may go, and remove nothing."""
    return tuple(Judge(workspace, bounds).all())


def remove(workspace: BeakerWorkspace, wanted: tuple[Leftover, ...], bounds: Bounds) -> tuple[Leftover, ...]:
    """Remove what may still go, and return it."""
    judge = Judge(workspace, bounds)
    chosen = set(wanted)
    gone = []
    for each in judge.all():
        if each in chosen:
            judge.remove(each)
            gone.append(each)
    return tuple(gone)


@dataclass(frozen=True)
class _Job:
    """An experiment of ours. ``live`` is one that has not ended; ``base`` its name without a number."""

    experiment: Experiment
    story: Story
    live: bool
    base: str
    tag: str

    @property
    def is_needed(self) -> bool:
        """Whether its end is still to come, or to be recorded."""
        return self.live or self.story.held


class Judge:
    """Says what of one workspace may go, from one look at all of it."""

    def __init__(self, workspace: BeakerWorkspace, bounds: Bounds) -> None:
        self._workspace = workspace
        self._door = workspace.site.door
        self._bounds = bounds
        # In this order: a secret is written after its job's data is there, and its experiment made after it.
        self._secrets = self._door.secrets.names()
        self._datasets = self._door.datasets.search("dispatch-")
        self._jobs = [*self._experiments(live=True), *self._experiments(live=False)]

    def all(self) -> Iterator[Leftover]:
        """Everything that may go."""
        yield from self._attempts()
        yield from self._ended()
        data = list(self._data())
        yield from data
        yield from self._secret(data)
        yield from self._bundles()
        for image in begun(self._door):
            if image.created < self._bounds.old:
                yield Leftover(Kind.IMAGE, image.name, image.id, "its publishing was never ended")
        for left in leftovers.of_runs(self._workspace.site, self._datasets, self._bounds.fresh):
            yield _leftover(Kind.RUN, left)
        for left in leftovers.of_sessions(self._workspace.site, self._datasets):
            yield _leftover(Kind.SESSION, left)

    def remove(self, leftover: Leftover) -> None:
        """Remove one thing; one that is gone already is fine."""
        datasets = self._door.datasets
        if leftover.kind is Kind.SECRET:
            self._door.secrets.delete(leftover.name)
        elif leftover.kind is Kind.EXPERIMENT:
            self._door.experiments.delete([leftover.id])
        elif leftover.kind is Kind.IMAGE:
            self._door.images.delete([leftover.id])
        elif leftover.closes:
            datasets.commit(leftover.id)
        elif leftover.kind is Kind.ATTEMPT and leftover.id in self._spent:
            lookup = Lookup(self._workspace.site)
            for tried in lookup.of(self._spent[leftover.id]):
                if tried.dataset.id == leftover.id:
                    remove_attempt(self._workspace, lookup, tried)
        else:
            datasets.delete([leftover.id])

    @cached_property
    def _spent(self) -> dict[str, str]:
        """The unique ids of attempts that ended, by their datasets."""
        return {each.id: str(told(each).get("step", "")) for each in self._datasets if each.committed}

    def _experiments(self, *, live: bool) -> Iterator[_Job]:
        found = self._door.experiments.search(f'"dispatch": {VERSION}', finalized=not live)
        for experiment in found:
            story, named = Story.read(experiment.description), _NAMED.fullmatch(experiment.name)
            if story is not None and named is not None:
                base = f"{fitting(story.key, LONGEST - 9)}-{named[2]}"
                if base == named[1]:
                    yield _Job(experiment, story, live, base, named[2])

    def _ended(self) -> Iterator[Leftover]:
        for job in self._jobs:
            each = job.experiment
            if job.live or each.created >= self._bounds.old or not self._is_ours(each.author_id):
                continue
            if job.story.held and not self._is_settled(job):
                continue
            tries = self._door.experiments.jobs(each.task_id, 1) if each.task_id else []
            if tries and tries[0].finalized is not None:
                yield Leftover(Kind.EXPERIMENT, each.name, each.id, "ended, and its end is recorded")

    def _is_settled(self, job: _Job) -> bool:
        """Whether the end of an experiment that is held was recorded here by somebody else."""
        names = Names(origin_of(self._workspace.url, self._door.account.user_id))
        unique_id, _, number = job.story.key.rpartition(".")
        ours = job.tag == names.tag and number.isdecimal()
        return ours and self._workspace.settled(unique_id, int(number))

    def _attempts(self) -> Iterator[Leftover]:
        keys = {job.story.key for job in self._jobs if job.is_needed}

        def has_job(unique_id: str, number: int) -> bool:
            return f"{unique_id}.{number}" in keys

        for left in leftovers.of_steps(self._workspace, self._bounds.old, has_job):
            yield _leftover(Kind.ATTEMPT, left)

    def _data(self) -> Iterator[Leftover]:
        needed = {(job.story.key, job.tag) for job in self._jobs if job.is_needed}
        for dataset, key, tag in self._of_jobs():
            old = dataset.created < self._bounds.fresh and self._is_ours(dataset.author_id)
            if old and (key, tag) not in needed:
                yield Leftover(Kind.JOB_DATA, dataset.name, dataset.id, "its job is over")

    def _of_jobs(self) -> Iterator[tuple[Dataset, str, str]]:
        for dataset in self._datasets:
            match, key = _DATA.fullmatch(dataset.name), told(dataset).get("key")
            if match is not None and isinstance(key, str):
                yield dataset, key, match[1]

    def _secret(self, going: list[Leftover]) -> Iterator[Leftover]:
        over = {each.id for each in going}
        bases = {job.base for job in self._jobs if job.is_needed}
        bases |= {
            f"{fitting(key, LONGEST - 9)}-{tag}"
            for dataset, key, tag in self._of_jobs()
            if dataset.id not in over
        }
        kept = {digest_of(base)[:8] for base in bases}
        named = {name for job in self._jobs if job.is_needed for name in job.story.secrets}
        for name in self._secrets:
            match = _SECRET.fullmatch(name)
            if match is not None and match[1] not in kept and name not in named:
                yield Leftover(Kind.SECRET, name, "", "its job is over")

    def _bundles(self) -> Iterator[Leftover]:
        if any(job.is_needed for job in self._jobs):
            # Which of them a job has mounted only its specification tells.
            return
        for each in self._datasets:
            ours = _BUNDLE.fullmatch(each.name) is not None and "bundle" in told(each)
            if ours and each.created < self._bounds.old and self._is_ours(each.author_id):
                yield Leftover(
                    Kind.BUNDLE, each.name, each.id, "no job reads it; it is sent again if need be"
                )

    def _is_ours(self, author_id: str) -> bool:
        return author_id == self._door.account.user_id


def _leftover(kind: Kind, left: leftovers.Left) -> Leftover:
    return Leftover(kind, left.dataset.name, left.dataset.id, left.reason, left.closes)
