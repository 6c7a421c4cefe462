"""Real processes on one workspace: killed at any moment, interrupted, stopped and woken, and all at once."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from dispatch.dispatcher import Dispatcher, Pace, Work
from dispatch.info import StepState
from dispatch.step import StepResources
from dispatch.testing.contracts_workspace import DONE, fill, record
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.faults import HERE, Child, FakeClock, FakeHost, Turns, WatchedDisk
from dispatch.testing.graphs import DIAMOND, Graph, Runner, right_result, text_of
from dispatch.testing.jobs import FakeJobs
from dispatch.testing.observer import RecordingObserver
from dispatch.testing.scheduler import FakeScheduler
from dispatch.workspace import check
from dispatch.workspace.attempts import Attempts, Ports
from dispatch.workspace.base import Attempt, StepCompletedError, StepHeldError, StepSupersededError
from dispatch.workspace.layout import Layout
from dispatch.workspace.manifest import Manifest
from dispatch.workspaces import LocalWorkspace

STRESS = float(os.environ.get("DISPATCH_STRESS", "1.0"))
ID = "Made-one"

WIDE: Graph = {**DIAMOND, "e": ("a",), "f": ("d", "e"), "g": ("b",), "h": ("f", "g")}


def part(*targets: str) -> Graph:
    """The part of the wide graph that these targets need."""
    needed: set[str] = set()
    for name in reversed(list(WIDE)):
        if name in targets or any(name in WIDE[user] for user in needed):
            needed.add(name)
    return {name: needs for name, needs in WIDE.items() if name in needed}


def manifests(root: Path) -> dict[str, bytes]:
    """The results that there are, by their manifests."""
    return {path.parent.name: path.read_bytes() for path in root.glob("cache/*/manifest.json")}


def check_all(root: Path, graph: Graph) -> None:
    """Every result is right, no step was committed by two attempts, and nothing is damaged."""
    place = LocalWorkspace(root)
    for name in graph:
        assert text_of(place, f"Made-{name}") == right_result(graph, name)
    for path in root.glob("attempts/*/attempt.json"):
        unique_id, _, number = path.parent.name.rpartition(".")
        facts = json.loads(path.read_bytes())["facts"]
        manifest = Manifest.read(root / "cache" / unique_id / "manifest.json")
        assert manifest is not None
        assert facts.get("state") != "completed" or manifest.attempt == int(number)
    assert list(check.examine(place)) == []


# Killed


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """After kill -9 of two runs at a random moment a plain re-run is right and repeats nothing."""
    graphs = [WIDE, part("f")]

    def run(root: Path, graph: Graph) -> Child:
        return Child(lambda: Runner(graph, root.parent / "ledger", padding=2).run(LocalWorkspace(root)))

    started = time.monotonic()
    for child in [run(tmp_path / "first" / "ws", graph) for graph in graphs]:
        assert child.wait() == 0
    duration = time.monotonic() - started
    moments = random.Random(7)
    survived = Counter[int]()
    for number in range(max(10, int(300 * STRESS))):
        root = tmp_path / str(number) / "ws"
        root.parent.mkdir()
        children = [run(root, graph) for graph in graphs]
        time.sleep(moments.uniform(0, duration))
        for child in children:
            child.send(signal.SIGKILL)
        assert {child.wait() for child in children} <= {0, -signal.SIGKILL}
        before = manifests(root)
        survived[len(before)] += 1
        assert run(root, WIDE).wait() == 0
        after = manifests(root)
        assert {name: after[name] for name in before} == before
        check_all(root, WIDE)
        assert {path.name for path in root.parent.iterdir()} <= {"ws", "ledger"}
        shutil.rmtree(root.parent)
    # Otherwise nothing was interrupted.
    assert len(survived) > 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_lets_go(tmp_path: Path, number: signal.Signals) -> None:
    """An interrupted run records the ends of its steps; they can be claimed while its process still lives."""
    root, ready = tmp_path / "ws", tmp_path / "ready"

    def main() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        place = LocalWorkspace(root)
        place.register_run([record()], "first")
        dispatcher = Dispatcher(
            engine=FakeEngine(lambda _: Outcome(holds=True)),
            scheduler=FakeScheduler(),
            workspace=place,
            jobs=FakeJobs(lambda verb, _: ready.touch() if verb == "prepare" else None),
            observer=RecordingObserver(),
            pace=Pace(tick=0.01),
        )
        try:
            dispatcher.run([Work(record(), StepResources())], "first")
        except KeyboardInterrupt:
            place.finish_run("first", "cancelled")
        os.kill(os.getpid(), signal.SIGSTOP)

    child = Child(main)
    try:
        while not ready.exists():
            time.sleep(0.005)
        child.send(number)
        assert child.wait_until_stopped()
        place = LocalWorkspace(root)
        info = place.step_info(ID)
        assert (info.state, info.attempt and info.attempt.reason) == (StepState.FAILED, "cancelled")
        assert place.run_record("first").state == "cancelled"
        assert place.claim(record(), "second").number == 2
    finally:
        child.send(signal.SIGKILL)
        child.wait()


def test_holder_that_died_here(tmp_path: Path) -> None:
    """The lease of a process of this machine that was killed holds nobody up, buried or not."""
    root = tmp_path / "ws"

    def main() -> None:
        LocalWorkspace(root).claim(record(), "first")
        os.kill(os.getpid(), signal.SIGSTOP)

    child = Child(main)
    assert child.wait_until_stopped()
    with pytest.raises(StepHeldError, match=str(child.pid)):
        LocalWorkspace(root).claim(record(), "second")
    child.send(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert LocalWorkspace(root).claim(record(), "second").number == 2
    child.wait()


# At once


def test_eight_at_once(tmp_path: Path) -> None:
    """Eight processes that run overlapping graphs on one workspace compute each step exactly once."""
    root, ledger = tmp_path / "ws", tmp_path / "ledger"
    graphs = [part(*targets) for targets in ("h", "f", "g", "d", "bc", "fg", "e", "h")]
    reader, writer = os.pipe()

    def main(graph: Graph) -> None:
        # All start when the last one that holds the other end lets go of it.
        os.close(writer)
        os.read(reader, 1)
        assert Runner(graph, ledger).run(LocalWorkspace(root))

    children = [Child(lambda graph=graph: main(graph)) for graph in graphs]  # type: ignore[misc]
    os.close(reader)
    os.close(writer)
    assert [child.wait() for child in children] == [0] * 8
    assert Counter(ledger.read_text().split()) == Counter(f"Made-{name}.1" for name in WIDE)
    check_all(root, WIDE)
    assert len(LocalWorkspace(root).registered_runs()) == 8


def test_two_that_find_a_lease_stale(fast: Path) -> None:
    """Of two that find one lease stale, in whatever order they go on, one gets the step and one is told."""
    orders = set()
    for seed in range(max(100, int(1000 * STRESS))):
        root = fast / str(seed)
        LocalWorkspace(root, ports=Ports(host=FakeHost.process(9))).claim(record(), "old")
        turns, got = Turns(2, random.Random(seed)), dict[int, Attempt | StepHeldError]()
        order: list[int] = []

        def claim(
            player: int,
            root: Path = root,
            turns: Turns = turns,
            order: list[int] = order,
            got: dict[int, Attempt | StepHeldError] = got,
        ) -> None:
            def tell(*_: object) -> None:
                turns.step(player)
                order.append(player)

            ports = Ports(disk=WatchedDisk(tell), host=FakeHost.process(player, 1, 2))
            try:
                turns.step(player)
                got[player] = Attempts(Layout(root, ports.disk), ports).claim(record(), "new")
            except StepHeldError as error:
                got[player] = error
            finally:
                turns.leave(player)

        threads = [threading.Thread(target=claim, args=(player,)) for player in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [attempt for attempt in got.values() if isinstance(attempt, Attempt)]
        assert (len(got), len(winners)) == (2, 1)
        assert winners[0].number == 2
        orders.add(tuple(order))
        shutil.rmtree(root)
    assert len(orders) > 20


# Stopped and woken


@pytest.mark.parametrize("successor", ["claims", "commits"])
def test_stopped_and_woken(fast: Path, successor: str) -> None:
    """A process that is stopped in the middle of its commit, and woken after others took its step, commits
    nothing and leaves nothing: it learns that it was superseded, or had committed before."""
    stopped = 0
    for halves in range(1000):
        root = fast / str(halves)
        child = Child(lambda root=root, halves=halves: commit_and_stop(root, halves))  # type: ignore[misc]
        if not child.wait_until_stopped():
            break
        stopped += 1
        try:
            taken = take_over(root, successor)
        finally:
            child.send(signal.SIGCONT)
            code = child.wait()
        assert code == (SUPERSEDED if taken and successor == "claims" else code)
        assert code in (0, SUPERSEDED)
        directory = root / "cache" / ID
        if not taken:
            assert (directory / "result" / "data.json").read_text() == "late"
        elif successor == "commits":
            assert (directory / "result" / "data.json").read_text() == "next"
        else:
            assert list((root / "cache").iterdir()) == []
    assert stopped > 10


SUPERSEDED = 3


def commit_and_stop(root: Path, halves: int) -> None:
    """Claim, compute, commit, and stop after so many halves of disk calls of the commit."""
    left = halves

    def tell(*_: object) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            os.kill(os.getpid(), signal.SIGSTOP)

    attempt = LocalWorkspace(root).claim(record(), "first")
    fill(attempt, "late")
    try:
        LocalWorkspace(root, ports=Ports(disk=WatchedDisk(tell))).commit(attempt, record(), DONE)
    except StepSupersededError:
        os._exit(SUPERSEDED)


def elsewhere(root: Path, clock: FakeClock) -> LocalWorkspace:
    """The workspace as another machine sees it, on its own clock."""
    there = replace(HERE, host="there", machine="other", boot="other", namespace="pid:[9]")
    return LocalWorkspace(root, ports=Ports(host=FakeHost(there, {1: "1"}), monotonic=clock))


def take_over(root: Path, successor: str) -> bool:
    """Claim the step from another machine, after three minutes of silence. Say whether there was need."""
    clock = FakeClock()
    place = elsewhere(root, clock)
    try:
        with pytest.raises(StepHeldError):
            place.claim(record(), "second")
        clock.time += 180
        attempt = place.claim(record(), "second")
    except StepCompletedError:
        return False
    if successor == "commits":
        fill(attempt, "next")
        place.commit(attempt, record(), DONE)
    return True


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_an_hour_off(tmp_path: Path, hours: int) -> None:
    """However wrong a holder's clock and the drive's are, another machine waits three minutes of its own."""
    off = timedelta(hours=hours)
    holder = LocalWorkspace(tmp_path, ports=Ports(now=lambda: datetime.now(timezone.utc) + off))
    holder.claim(record(), "first")
    lease = tmp_path / "leases" / f"{ID}.1"
    os.utime(lease, (time.time() + off.total_seconds(),) * 2)
    clock = FakeClock()
    place = elsewhere(tmp_path, clock)
    for _ in range(3):
        with pytest.raises(StepHeldError):
            place.claim(record(), "second")
        clock.time += 59.9
    with pytest.raises(StepHeldError):
        place.claim(record(), "second")
    clock.time += 0.3
    assert place.claim(record(), "second").number == 2
