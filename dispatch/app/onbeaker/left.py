"""What clients that died left running on Beaker for runs of one workspace: found by its names, and ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dispatch.app.beakerdoor import origin_of
from dispatch.engine.beaker.baggage import Baggage
from dispatch.engine.beaker.bundles import Bundles
from dispatch.engine.beaker.experiments import Experiments
from dispatch.engine.beaker.extras import NOTHING
from dispatch.engine.beaker.names import Names, Story
from dispatch.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path

    from dispatch._beaker import BeakerDoor, Experiment
    from dispatch.app import App
    from dispatch.app.watching import Pace

# Beaker gives a job ten seconds to end, and keeps its results then.
BEYOND = 60.0
LOOK_EVERY = 0.5


@dataclass(frozen=True)
class _Job:
    """An experiment of the workspace's, whoever of its users made it."""

    experiment: Experiment
    story: Story
    names: Names


class LeftOnBeaker:
    """The jobs of one workspace's runs. ``url`` is the workspace's; ``cache`` a directory of ours."""

    def __init__(self, door: BeakerDoor, url: str, cache: Path) -> None:
        self._door = door
        self._url = url
        self._bundles = Bundles(door, cache)

    def stop(self, run: str, unique_ids: set[str], grace: float, pace: Pace) -> None:
        """Stop the run's jobs of these steps, wait for their ends, and let them go."""
        found = [each for each in self._of(run) if each.story.key.rpartition(".")[0] in unique_ids]
        self._door.experiments.cancel([each.experiment.id for each in found])
        deadline = pace.clock() + grace + BEYOND
        while any(self._runs(each) for each in found):
            if pace.clock() > deadline:
                raise EngineError(f"run {run!r}: its jobs on Beaker do not end", f"see {self._door.address}")
            pace.sleep(LOOK_EVERY)
        for each in found:
            Experiments(self._door, each.names).release(each.experiment, each.story)
            baggage = Baggage(self._door, self._bundles, each.names, NOTHING)
            baggage.remove_left(each.story.key, each.story)

    def close(self) -> None:
        """Close the connections."""
        self._door.close()

    def _of(self, run: str) -> Iterator[_Job]:
        for experiment in self._door.experiments.search(Story.words_of(run)):
            story = Story.read(experiment.description)
            if story is None or not story.held or story.run != run:
                continue
            # Others may have runs of the same name and steps: their jobs are called otherwise.
            names = Names(origin_of(self._url, experiment.author_id))
            plain = names.experiment(story.key)
            if experiment.name == plain or experiment.name.startswith(f"{plain}."):
                yield _Job(experiment, story, names)

    def _runs(self, job: _Job) -> bool:
        tries = self._door.experiments.jobs(job.experiment.task_id, 1)
        return bool(tries) and tries[0].finalized is None


def left_on_beaker(app: App) -> LeftOnBeaker:
    """What dead clients of this application's workspace left on its executor's Beaker."""
    return LeftOnBeaker(app.beaker, app.workspace.url, app.surroundings.cache / "beaker-jobs")
