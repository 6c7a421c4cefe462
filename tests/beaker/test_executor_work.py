"""Work that survives its job: a preempted step on Beaker goes on where it was, wherever results are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch import StepGraph
from dispatch._beaker import BeakerDoor
from dispatch.beakerd.config import Assumptions, Config
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_program import program
from dispatch.testing.processes import until
from dispatch.testing.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("place")]

COUNTS = """\
cd "$DISPATCH_WORK_DIR"
: > empty; ln -sf count link
echo "$DISPATCH_ATTEMPT begins with $(cat count 2>/dev/null)" >> log
while [ "$(cat link 2>/dev/null || echo 0)" -lt 40 ]; do
    echo $(($(cat count 2>/dev/null || echo 0) + 1)) > count.new && mv count.new count
    [ "$(cat count)" -lt 5 ] || echo working
    sleep 0.2
done
cp log "$DISPATCH_OUTPUT_DIR"/log
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A repository, in which the program is called."""
    (tmp_path / "project").mkdir()
    made = Project(tmp_path / "project").write({"words.txt": "a b c\n"}).commit()
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A directory that jobs may mount under its own name."""
    made = tmp_path / "drive"
    made.mkdir()
    return made


@pytest.fixture
def server(beaker_of: Callable[[Config], LocalBeaker], drive: Path) -> LocalBeaker:
    """A Beaker that can be told to preempt."""
    return beaker_of(replace(Config(), control=True, host_paths=(drive,), assume=Assumptions(grace=2.0)))


@pytest.fixture
def door(server: LocalBeaker) -> Iterator[BeakerDoor]:
    """A door of ours."""
    made = door_of(server)
    yield made
    made.close()


@pytest.mark.parametrize("where", ["beaker", "local", "drive"])
def test_a_preempted_step_goes_on(server: LocalBeaker, door: BeakerDoor, drive: Path, where: str) -> None:
    """It is submitted again with its last work, links and all, and ends with what it had done by then."""
    made = program(server, where, drive)
    steps = StepGraph.from_params({"counts": {"type": "shell", "command": COUNTS}})
    faults, preempted = Faults(server), set[str]()

    def preempt() -> bool:
        """Preempt jobs that have got somewhere, until two were."""
        for experiment in door.experiments.search(finalized=False):
            for job in door.experiments.jobs(experiment.task_id, 1):
                running = job.started and not job.exited and job.id not in preempted
                if running and any(line.text == b"working" for line in door.experiments.logs(job.id)):
                    preempted.add(job.id)
                    faults.preempt(job.id)
        return len(preempted) >= 2

    worker = threading.Thread(target=lambda: until(preempt, "two are preempted"), daemon=True)
    worker.start()
    output = made.executor(preemptible=True).execute_step_graph(steps)
    worker.join()
    assert output.successful, output
    log = (made.workspace.step_result_for_run(output.run, "counts") / "log").read_text().splitlines()
    assert len(log) == 3, log
    assert [int(line.rpartition(" ")[2] or 0) >= 5 for line in log] == [False, True, True]
