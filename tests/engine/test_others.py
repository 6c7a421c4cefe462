"""Two clients of one engine: what each knows of the other's containers, and who gets a GPU that both want."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch._docker.containers import ContainerSpec
from dispatch.engine.arbiter import Arbiter
from dispatch.engine.base import Holding, JobSpec, JobState, Network, Reason, Resources
from dispatch.engine.container import container_of
from dispatch.engine.docker import DockerEngine
from dispatch.environment import LocalId
from dispatch.testing.contracts_engine import end_of, running

pytestmark = pytest.mark.engine

RUN = f"test-others-{os.getpid()}"
# No machine has a GPU of this name, and no other test asks for it: the arbiter looks at all of the engine.
GPU = f"gpu-of-{RUN}"
LIMIT = 60.0
MIB = 1024**2

Make = Callable[..., JobSpec]


@pytest.fixture
def clients(door: Door) -> Iterator[tuple[DockerEngine, DockerEngine]]:
    """Two clients, whose containers are gone after the test."""
    engines = [DockerEngine(door, uid=os.geteuid(), gid=os.getegid()) for _ in range(2)]
    yield engines[0], engines[1]
    for engine in engines:
        engine.close()
    for row in door.containers.labelled("dispatch.run", RUN):
        door.containers.remove(row.name)


@pytest.fixture
def make(tmp_path: Path, busybox_image: ImageRecord) -> Make:
    """Makes jobs that run until they are told to stop, or another shell script in busybox."""

    def job(key: str, script: str = "trap 'exit 0' TERM; sleep 3600 & wait", **held: object) -> JobSpec:
        return JobSpec(
            key=key,
            run=RUN,
            step=key.partition(".")[0],
            attempt=1,
            image=LocalId(busybox_image.id),
            command=("/bin/sh", "-c", script),
            attempt_dir=tmp_path / key,
            working_dir="/",
            network=Network.NONE,
            resources=Resources(**held),  # type: ignore[arg-type]
        )

    return job


def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    given_up = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < given_up, "it did not come to hold"
        time.sleep(0.01)


def keys(engine: DockerEngine, tmp_path: Path) -> set[str]:
    """The keys of the jobs in this test's directory that a client counts as others'."""
    return {each.key for each in engine.others() if each.directory.startswith(f"{tmp_path}/")}


def test_what_others_run_is_known(
    clients: tuple[DockerEngine, DockerEngine], make: Make, tmp_path: Path
) -> None:
    """Containers that run before the first question are known, later ones when they start, until they end."""
    mine, theirs = clients
    before = make("before.1", cpus=0.5, memory=64 * MIB)
    handles = theirs.submit([before])
    running(theirs, "before.1")
    (known,) = [each for each in mine.others() if each.key == "before.1"]
    assert known == Holding("before.1", str(before.attempt_dir), Resources(cpus=0.5, memory=64 * MIB))
    assert mine.others() is mine.others()
    handles += theirs.submit([make("later.1", cpus=0.25)])
    until(lambda: keys(mine, tmp_path) == {"before.1", "later.1"})
    theirs.cancel(handles, grace=30)
    until(lambda: keys(mine, tmp_path) == set())


def test_our_own_are_not_others(
    clients: tuple[DockerEngine, DockerEngine], make: Make, tmp_path: Path
) -> None:
    """A client's own jobs are never among them: not running, not ended, and not when it took them over."""
    mine, theirs = clients
    mine.others()
    theirs.others()
    (own,) = mine.submit([make("own.1", "true")])
    end_of(mine, "own.1")
    assert keys(mine, tmp_path) == set()
    mine.release(own)
    left = make("left.1")
    theirs.submit([left])
    until(lambda: keys(mine, tmp_path) == {"left.1"})
    (handle,) = mine.submit([left])
    assert keys(mine, tmp_path) == set()
    running(mine, "left.1")
    assert keys(mine, tmp_path) == set()
    mine.cancel([handle], grace=30)
    end_of(mine, "left.1")
    assert keys(mine, tmp_path) == set()


def test_labels_of_another_version(
    clients: tuple[DockerEngine, DockerEngine], door: Door, busybox_image: ImageRecord
) -> None:
    """Labels that nobody can read count as nothing; the container itself is counted."""
    labels = {
        "dispatch.run": RUN,
        "dispatch.cpus": "many",
        "dispatch.memory": "-1",
        "dispatch.key": f"{RUN}.1",
    }
    name = f"dispatch-{RUN}"
    door.containers.create(ContainerSpec(busybox_image.id, ("sleep", "3600"), name, labels))
    door.containers.start(name)
    assert [each.resources for each in clients[0].others() if each.key == f"{RUN}.1"] == [Resources()]


# Who gets a GPU. No machine of ours has one, so containers carry the label and ask for no device.


class Claimant:
    """Wants the GPU as a client does: creates a container, asks the arbiter, and starts it."""

    def __init__(self, door: Door, image: str, number: int, gpus: tuple[str, ...] = (GPU,)) -> None:
        self._containers = door.containers
        self.name = f"dispatch-{RUN}-{number}"
        self.gpus = gpus
        labels = {"dispatch.run": RUN, "dispatch.gpus": ",".join(gpus)}
        self.spec = ContainerSpec(image, ("sleep", "3600"), self.name, labels)
        self.said = ""
        self.arbiter = Arbiter(door.containers, threading.Event().wait)

    def create(self) -> None:
        """Create the container."""
        self._containers.create(self.spec)

    def contest(self) -> str:
        """Ask the arbiter, and start the container if it may be."""
        self.said = self.arbiter.contest(self.name, self.gpus, lambda: False, self.create)
        if not self.said:
            self._containers.start(self.name)
        return self.said

    def claim(self) -> None:
        """Do all of it."""
        self.create()
        self.contest()


Claim = Callable[..., Claimant]


@pytest.fixture
def claim(door: Door, busybox_image: ImageRecord) -> Iterator[Claim]:
    """Makes claimants, whose containers are gone after the test."""

    def made(number: int, *gpus: str) -> Claimant:
        return Claimant(door, busybox_image.id, number, gpus or (GPU,))

    yield made
    for row in door.containers.labelled("dispatch.run", RUN):
        door.containers.remove(row.name)


def states(door: Door) -> Mapping[str, str]:
    """The state of each container of this test by name."""
    return {row.name: row.state for row in door.containers.labelled("dispatch.run", RUN)}


def test_a_gpu_in_use_stays_with_its_container(door: Door, claim: Claim) -> None:
    """A later claimant of any of its GPUs is told which one is taken, and its container is gone."""
    first, second, third = claim(1, GPU, f"{GPU}-b"), claim(2, f"{GPU}-b", f"{GPU}-c"), claim(3, f"{GPU}-c")
    first.claim()
    second.claim()
    third.claim()
    assert first.said == third.said == ""
    assert second.said == f"GPU {GPU}-b was taken by another client just before"
    assert states(door) == {first.name: "running", third.name: "running"}


def test_two_that_see_each_other(door: Door, claim: Claim) -> None:
    """Of two that were created before either asked, exactly one runs, whichever asks first."""
    pair = [claim(1), claim(2)]
    for each in pair:
        each.create()
    threads = [threading.Thread(target=each.contest) for each in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [each for each in pair if not each.said]
    assert states(door) == {winner.name: "running"}


def test_a_storm_of_claimants(door: Door, claim: Claim) -> None:
    """Of many that claim one GPU at once, over and over, never two run, and each time one does."""
    for wave in range(3):
        crowd = [claim(10 * wave + number) for number in range(6)]
        threads = [threading.Thread(target=each.claim) for each in crowd]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Nobody ended meanwhile: whoever was started runs still.
        assert sorted(states(door).values()) == ["running"]
        assert [each.name for each in crowd if not each.said] == list(states(door))
        for name in states(door):
            door.containers.remove(name)


def test_a_client_that_was_killed_before_its_start(door: Door, claim: Claim) -> None:
    """What was created long ago and never started does not count; what was created just now does."""
    leftover, later = claim(1), claim(2)
    leftover.create()
    later.create()
    (row,) = [row for row in door.containers.labelled("dispatch.run", RUN) if row.name == leftover.name]
    assert row.state == "created" and 0 <= row.age < LIMIT
    stale = Arbiter(_Aged(door, leftover.name), lambda _: False)  # type: ignore[arg-type]
    assert stale.contest(later.name, later.gpus, lambda: False, later.create) == ""
    assert later.contest().startswith(f"GPU {GPU} was taken")


class _Aged:
    """The engine's containers, one of which is older than it is."""

    def __init__(self, door: Door, name: str, age: float = 61.0) -> None:
        self._containers = door.containers
        self._name = name
        self._age = age
        self.remove = self._containers.remove

    def labelled(self, label: str, value: str | None = None, states: tuple[str, ...] = ()) -> list[object]:
        """List them."""
        rows = self._containers.labelled(label, value, states)
        return [replace(row, age=self._age) if row.name == self._name else row for row in rows]


def test_a_client_that_took_long_itself(door: Door, claim: Claim) -> None:
    """Others may have given up on a container that waited for its source for long: it is created anew."""
    slow = claim(1)
    slow.create()
    before = door.containers.inspect(slow.name)
    aged = _Aged(door, slow.name, 31.0)

    def again() -> None:
        slow.create()
        aged._name = ""

    assert Arbiter(aged, lambda _: False).contest(slow.name, slow.gpus, lambda: False, again) == ""  # type: ignore[arg-type]
    after = door.containers.inspect(slow.name)
    assert before is not None and after is not None and before.id != after.id


def test_a_claimant_that_is_cancelled(door: Door, claim: Claim) -> None:
    """Whoever is cancelled while it waits for others to give way waits no longer, and is not started."""
    first, second = sorted((claim(1), claim(2)), key=lambda each: each.name)
    first.create()
    second.create()
    cancelled = threading.Event()

    def wait(_: float) -> bool:
        cancelled.set()
        return False

    arbiter = Arbiter(door.containers, wait)
    # One of them goes first, and waits for the other, which nobody takes away.
    said = [arbiter.contest(each.name, each.gpus, cancelled.is_set, each.create) for each in (first, second)]
    assert "" in said
    assert set(states(door).values()) == {"created"}


def test_a_job_that_lost_its_gpu_is_preempted(
    clients: tuple[DockerEngine, DockerEngine], door: Door, claim: Claim, make: Make
) -> None:
    """Its end is no failure but `preempted`, and says why; the engine keeps nothing of it."""
    claim(1).claim()
    job = make("loser.1", gpus=(GPU,))
    (handle,) = clients[0].submit([job])
    event = end_of(clients[0], "loser.1")
    assert (event.state, event.reason, event.exit_code) == (JobState.EXITED, Reason.PREEMPTED, None)
    assert event.message == f"GPU {GPU} was taken by another client just before"
    assert door.containers.inspect(handle.engine_id) is None
    assert clients[0].next_event(0.2) is None


def test_labels_say_what_a_container_holds(make: Make) -> None:
    """Other clients read CPUs, memory and GPUs from labels, and these are exact."""
    job = make("x.1", cpus=0.1 + 0.2, memory=3 * MIB, gpus=("0", "3"))
    labels = container_of(job, "name", "0:0", ()).labels
    assert (labels["dispatch.cpus"], labels["dispatch.memory"]) == ("0.3", str(3 * MIB))
    assert labels["dispatch.gpus"] == "0,3"
