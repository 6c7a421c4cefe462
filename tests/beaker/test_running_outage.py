"""The engine goes away and comes back while jobs run: a second dockerd of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch.beakerd.config import Config
from dispatch.beakerd.store.lifecycle import Code, Status
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_runs import Rig
from dispatch.testing.dockerd import OwnEngine, own_engine, until_answers

pytestmark = pytest.mark.engine

COUNT = "i=0; while [ $i -lt {} ]; do i=$((i+1)); echo $i; sleep 0.1; done"


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, load_busybox: Callable[[Door], ImageRecord]
) -> Iterator[OwnEngine]:
    """An engine that may be stopped."""
    with own_engine(tmp_path_factory.mktemp("engine")) as made:
        load_busybox(made.door)
        yield made
        for row in made.door.containers.labelled("dispatch.beaker"):
            made.door.containers.remove(row.name)


@pytest.fixture
def rig_on(engine: OwnEngine, authority: Path, tmp_path: Path) -> Iterator[Callable[[Config], Rig]]:
    """A rig whose jobs run there; they share the host's network, for this engine has none of its own."""
    beakers = Beakers(tmp_path / "beaker", tls=authority / "tls", engine=engine.address)
    beakers.prepare()
    made: list[Rig] = []

    def make(config: Config) -> Rig:
        made.append(Rig(beakers, config))
        return made[-1]

    yield make
    for rig in made:
        rig.close()
    beakers.close()


def successors(rig: Rig, job: str) -> list[str]:
    """The jobs of the same task that came after it."""
    with rig.backend.database.read() as tx:
        rows = tx.execute(
            "SELECT id FROM jobs WHERE task_id = (SELECT task_id FROM jobs WHERE id = ?1) AND id > ?1", (job,)
        ).fetchall()
    return [row[0] for row in rows]


def prints(rig: Rig, job: str) -> None:
    """Wait until a job has printed something."""
    rig.jobs.until(job, lambda _: bool(rig.jobs.log(job)), 60)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_job_is_lost_with_the_engine(engine: OwnEngine, rig_on: Callable[[Config], Rig], how: str) -> None:
    """What the engine took with it is resumed as a new job of the same task; log and result of the lost one
    are kept."""
    rig = rig_on(Config())
    job = rig.run(f"echo kept > /results/x; {COUNT.format(600)}", host_networking=True)
    prints(rig, job)
    engine.kill() if how == "kill" else engine.stop()
    rig.jobs.until(job, lambda _: "engine" in dict(rig.jobs.events(job)), 60)
    until_answers(engine)
    row = rig.jobs.end(job)
    assert (row["status"], row["canceled_code"]) == (Status.CANCELED, Code.NODE_UNAVAILABLE)
    lines = rig.jobs.log(job)
    assert lines == [b"%d" % (number + 1) for number in range(len(lines))]
    assert rig.jobs.result(job) == {"x": b"kept\n"}
    (next_job,) = successors(rig, job)
    assert rig.jobs.running(next_job)["node_id"] == row["node_id"]


def test_a_job_fails_with_the_engine(engine: OwnEngine, rig_on: Callable[[Config], Rig]) -> None:
    """By the switch a lost job fails instead."""
    rig = rig_on(Config(assume=replace(Config().assume, node_loss_resumes=False)))
    job = rig.run(COUNT.format(600), host_networking=True)
    prints(rig, job)
    engine.kill()
    until_answers(engine)
    row = rig.jobs.end(job)
    assert (row["status"], row["canceled_code"]) == (Status.FAILED, None)
    assert successors(rig, job) == []


def test_a_job_that_begins_without_an_engine(engine: OwnEngine, rig_on: Callable[[Config], Rig]) -> None:
    """It waits, says why, and runs when the engine is there."""
    rig = rig_on(Config())
    engine.stop()
    job = rig.run("echo ran", host_networking=True)
    rig.jobs.until(job, lambda _: "engine" in dict(rig.jobs.events(job)), 60)
    assert rig.jobs.row(job)["status"] == Status.INITIALIZING
    until_answers(engine)
    assert rig.jobs.end(job)["status"] == Status.SUCCEEDED
    assert rig.jobs.log(job) == [b"ran"]


def test_a_stop_while_the_engine_is_away(engine: OwnEngine, rig_on: Callable[[Config], Rig]) -> None:
    """The wish is kept, and the job is canceled by it, not lost."""
    rig = rig_on(Config())
    job = rig.run(COUNT.format(600), host_networking=True)
    prints(rig, job)
    engine.kill()
    rig.stop(job)
    until_answers(engine)
    row = rig.jobs.end(job)
    assert (row["status"], row["canceled_code"]) == (Status.CANCELED, Code.MANUAL)
    assert successors(rig, job) == []


def test_a_job_that_outlives_the_engine(
    tmp_path_factory: pytest.TempPathFactory, authority: Path, load_busybox: Callable[[Door], ImageRecord]
) -> None:
    """With an engine whose containers go on without it, a job is followed as if nothing had been."""
    root = tmp_path_factory.mktemp("live")
    with own_engine(root / "e", "--live-restore") as engine:
        load_busybox(engine.door)
        beakers = Beakers(root / "beaker", tls=authority / "tls", engine=engine.address)
        beakers.prepare()
        rig = Rig(beakers)
        try:
            job = rig.run(COUNT.format(150), host_networking=True)
            prints(rig, job)
            engine.stop()
            rig.jobs.until(job, lambda _: "engine" in dict(rig.jobs.events(job)), 60)
            until_answers(engine)
            row = rig.jobs.end(job)
            assert (row["status"], row["exit_code"]) == (Status.SUCCEEDED, 0), rig.jobs.events(job)
            assert rig.jobs.log(job) == [b"%d" % number for number in range(1, 151)]
        finally:
            rig.close()
