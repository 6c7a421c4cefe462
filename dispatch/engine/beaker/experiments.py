"""Our experiments on Beaker: found by their names, made under a name that is free, and let go.

Owns which experiment is a job's. One with the right name is ours only if we made it and its description
says so. A job is attached to one that is live, or has succeeded and is still held; one that ended otherwise
has had its turn, and the same job gets another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dispatch._beaker import (
    BeakerConflictError,
    BeakerDoor,
    BeakerNotFoundError,
    Experiment,
    Job,
    JobState,
    TaskSpec,
)
from dispatch.engine.beaker.names import Names, Story
from dispatch.errors import EngineError

# More of one name are not ours to count.
_MOST = 50


@dataclass(frozen=True)
class Found:
    """An experiment of ours, what it says of itself, and its newest job; None where it has none yet."""

    experiment: Experiment
    story: Story
    newest: Job | None

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.newest is None or self.newest.finalized is None or not self.newest.state.is_end

    @property
    def is_good(self) -> bool:
        """Whether its end, or its end to come, may count."""
        ended_well = self.newest is not None and self.newest.state is JobState.SUCCEEDED
        return self.is_live or (ended_well and self.story.held)


class Experiments:
    """Finds, makes and lets go. May be used from several threads."""

    def __init__(self, door: BeakerDoor, names: Names) -> None:
        self._door = door
        self._names = names

    def of_run(self, run: str) -> list[tuple[Experiment, Story]]:
        """Return those of a run that are still held."""
        found = []
        for experiment in self._door.experiments.search(Story.words_of(run), own=True):
            story = self._story(experiment)
            if story is not None and story.held and story.run == run:
                found.append((experiment, story))
        return found

    def of_key(self, key: str) -> list[Found]:
        """Return all of a job, newest first."""
        found = []
        for experiment in self._door.experiments.search(self._names.experiment(key), own=True):
            story = self._story(experiment)
            if story is not None and story.key == key:
                tries = self._door.experiments.jobs(experiment.task_id, 1)
                found.append(Found(experiment, story, tries[0] if tries else None))
        return found

    def make(self, key: str, bring: Callable[[], TaskSpec], asked: Callable[[], None]) -> str:
        """Attach to a job's experiment, or make one, and return its id.

        ``bring`` is called once where one is to be made, and ``asked`` before the first that may be made is.

        :raises EngineError: Beaker refuses
        """
        known = self.of_key(key)
        good = _good(known)
        if good is not None:
            return good.experiment.id
        spec = bring()
        asked()
        base = self._names.experiment(key)
        for number in range(len(known), _MOST):
            try:
                return self._door.experiments.create(f"{base}.{number + 1}" if number else base, spec)
            except BeakerConflictError:
                # Made by us after all, and only the answer was lost; or another author's.
                good = _good(self.of_key(key))
                if good is not None:
                    return good.experiment.id
        raise EngineError(
            f"experiment {base}: this name is taken, with every number", "remove those experiments"
        )

    def release(self, experiment: Experiment, story: Story) -> None:
        """End an experiment that lives, have it held no more, and remove results that were collected."""
        experiments = self._door.experiments
        try:
            tries = experiments.jobs(experiment.task_id)
            if not tries or tries[0].finalized is None:
                experiments.cancel([experiment.id])
            elif story.collected:
                self._door.datasets.delete([each.result_dataset for each in tries if each.result_dataset])
            experiments.describe(experiment.id, replace(story, held=False, secrets=()).to_text())
        except BeakerNotFoundError:
            return

    def _story(self, experiment: Experiment) -> Story | None:
        """What it says, where its name is the one that we would have given it."""
        story = Story.read(experiment.description)
        if story is None:
            return None
        pattern = re.escape(self._names.experiment(story.key)) + r"(\.[0-9]+)?"
        return story if re.fullmatch(pattern, experiment.name) else None


def _good(found: Sequence[Found]) -> Found | None:
    live = [each for each in found if each.is_live]
    return next(iter(live or [each for each in found if each.is_good]), None)
