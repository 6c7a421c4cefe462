"""Drivers of runs on disk: who is alive, who gets a run, and what a crash anywhere leaves."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.testing.contracts_workspace import record
from dispatch.testing.faults import HERE, Crash, CrashingDisk, FakeClock, FakeHost, OldDisk
from dispatch.workspace import check, repair
from dispatch.workspace.attempts import Ports
from dispatch.workspace.disk import Disk
from dispatch.workspace.driving import Driver, Request, RunCompletedError, RunHeldError
from dispatch.workspace.journal import Entry, Kind
from dispatch.workspaces import LocalWorkspace


def as_process(root: Path, pid: int, *others: int, disk: Disk | None = None) -> LocalWorkspace:
    """The workspace as a process sees it that lives beside some others."""
    return LocalWorkspace(root, ports=Ports(disk=disk or Disk(), host=FakeHost.process(pid, *others)))


def as_machine(root: Path, name: str, clock: Callable[[], float]) -> LocalWorkspace:
    """The workspace as another machine sees it."""
    holder = replace(HERE, host=name, machine=name, boot=name)
    return LocalWorkspace(root, ports=Ports(host=FakeHost(holder, {1: "1"}), monotonic=clock))


def test_a_dead_driver_is_known_at_once(tmp_path: Path) -> None:
    """Its run has no driver on the same machine, is still listed as unfinished, and is anybody's to drive."""
    as_process(tmp_path, 1).open_run([record()], "first")
    with pytest.raises(RunHeldError, match="process 1 on here"):
        as_process(tmp_path, 2, 1).drive("first")
    alone = as_process(tmp_path, 2)
    driving = alone.driver_of("first")
    assert driving is not None
    assert (driving.pid, driving.host, driving.alive) == (1, "here", False)
    assert alone.open_runs() == ["first"]
    assert alone.drive("first").number == 2


def test_a_driver_elsewhere_is_given_three_minutes(tmp_path: Path) -> None:
    """Nothing is known of it but that it renews; its own clock is never asked."""
    ours, theirs = FakeClock(), FakeClock()
    there = as_machine(tmp_path, "there", theirs)
    driver = there.open_run([record()], "first")
    here = as_machine(tmp_path, "here", ours)
    for _ in range(5):
        driving = here.driver_of("first")
        assert driving is not None
        assert driving.alive
        ours.time += 100
        theirs.time += 100
        there.renew()
    with pytest.raises(RunHeldError, match="there"):
        here.drive("first")
    ours.time += 179
    with pytest.raises(RunHeldError, match="there"):
        here.drive("first")
    ours.time += 2
    assert here.drive("first").number == 2
    theirs.time += 100
    there.renew()
    assert driver.is_lost


def test_a_superseded_driver_changes_nothing(tmp_path: Path) -> None:
    """Once it knows, it writes nothing more; and its end of the run is never the run's."""
    first = as_process(tmp_path, 1).open_run([record()], "first")
    second = as_process(tmp_path, 2).drive("first")
    first.finish("completed")
    assert first.is_lost
    first.write(Entry(Kind.SAID, 1.0, reason="from the grave"))
    first.release()
    third = as_process(tmp_path, 3, 2)
    assert third.run_record("first").state == ""
    assert third.journal("first").read() == []
    with pytest.raises(RunHeldError, match="process 2"):
        third.drive("first")
    second.finish("failed")
    assert third.run_record("first").state == "failed"


def test_one_of_many_gets_it(tmp_path: Path) -> None:
    """Of clients that try at the same moment one drives, again and again."""
    as_process(tmp_path, 1).open_run([record()], "first").release()
    for turn in range(20):
        got: list[Driver] = []
        barrier = threading.Barrier(8)
        everybody = range(10, 18)

        def attempt(pid: int, got: list[Driver] = got, barrier: threading.Barrier = barrier) -> None:
            place = as_process(tmp_path, pid, *range(10, 18))
            barrier.wait()
            try:
                got.append(place.drive("first"))
            except RunHeldError:
                return

        threads = [threading.Thread(target=attempt, args=(pid,)) for pid in everybody]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1, turn
        assert got[0].number == turn + 2
        got[0].release()


def test_requests_that_say_nothing_are_forgotten(tmp_path: Path) -> None:
    """Rubbish in the folder is neither heard nor in the way of what is asked."""
    place = as_process(tmp_path, 1)
    driver = place.open_run([record()], "first")
    folder = tmp_path / "runs" / "first" / ".requests"
    for number, text in enumerate(
        ("", "{", "[]", '{"request": "dance"}', '{"request": "cancel", "steps": 3}')
    ):
        (folder / f"{number % 2}.{number}.json").write_text(text)
        (folder / f"x{number}.json").write_text(text)
    (folder / ".half.json.abc").write_text("{")
    place.ask("first", Request(("one",), None, "me"))
    (folder / "2.later.json").write_text("")
    assert driver.requests() == [Request(("one",), None, "me")]
    assert sorted(path.name for path in folder.iterdir()) == [".half.json.abc", "2.later.json"]


def story(place: LocalWorkspace) -> None:
    """A run that fails and is gone on with, is asked something and is completed."""
    driver = place.open_run([record()], "first")
    driver.write(Entry(Kind.OPENED, 1.0, driver=1))
    driver.finish("failed")
    driver.release()
    again = place.drive("first")
    place.ask("first", Request(None, None, "me"))
    again.requests()
    again.write(Entry(Kind.OPENED, 2.0, driver=2))
    again.finish("completed")
    again.release()


def test_any_crash_leaves_a_run_to_go_on_with(tmp_path: Path) -> None:
    """Cut off anywhere: the run is not there, or whole and ours to drive, or completed; nothing stays."""
    for halves in range(1000):
        root = tmp_path / str(halves)
        disk = CrashingDisk(halves)
        place = as_process(root, 1, disk=disk)
        with contextlib.suppress(Crash):
            story(place)
        after = as_process(root, 2)
        names = list(after.registered_runs())
        assert names in ([], ["first"])
        if names and after.run_record("first").state != "completed":
            driver = after.drive("first")
            assert after.open_runs() == ["first"]
            driver.finish("completed")
            driver.release()
        elif not names:
            after.open_run([record()], "first").finish("completed")
        with pytest.raises(RunCompletedError):
            as_process(root, 3).drive("first")
        kinds = {finding.kind for finding in check.examine(as_process(root, 3))}
        assert kinds <= {check.Kind.LEFTOVER, check.Kind.LINK}
        old = LocalWorkspace(root, ports=Ports(OldDisk(), FakeHost.process(3)))
        repair.apply(old, repair.plan(old))
        assert [path for path in root.rglob(".*") if check.TEMPORARY.fullmatch(path.name)] == []
        if not disk.crashed:
            break
    assert not disk.crashed
    assert halves > 40


def test_an_unfinished_run_is_found_after_any_crash(tmp_path: Path) -> None:
    """Wherever its client died, a run without an end is among those to go on with."""
    for halves in range(1000):
        root = tmp_path / str(halves)
        disk = CrashingDisk(halves)
        with contextlib.suppress(Crash):
            place = as_process(root, 1, disk=disk)
            driver = place.open_run([record()], "first")
            driver.finish("failed")
            driver.release()
            place.drive("first")
        after = as_process(root, 2)
        unfinished = [name for name in after.registered_runs() if after.run_record(name).ended is None]
        assert after.open_runs() == unfinished
        for name in unfinished:
            driving = after.driver_of(name)
            assert driving is not None
            assert not driving.alive
        if not disk.crashed:
            break
    assert not disk.crashed
