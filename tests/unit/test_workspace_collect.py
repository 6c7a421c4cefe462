"""What of a workspace may go, and above all what may not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from dispatch.errors import WorkspaceError
from dispatch.info import StepState
from dispatch.testing.contracts_workspace import DONE, FAILED, fill, record
from dispatch.testing.faults import Crash, CrashingDisk, FakeHost, WatchedDisk, tree
from dispatch.workspace import check, collect, repair
from dispatch.workspace.attempts import Ports
from dispatch.workspace.base import Attempt
from dispatch.workspace.collect import Collection, Kind
from dispatch.workspace.disk import Disk
from dispatch.workspaces import LocalWorkspace

MONTH = timedelta(days=30)
AFTER = datetime.now(timezone.utc) + timedelta(days=31)


def workspace(root: Path, pid: int = 1, disk: Disk | None = None) -> LocalWorkspace:
    """The workspace as a process sees it that lives alone."""
    return LocalWorkspace(root, ports=Ports(disk=disk or Disk(), host=FakeHost.process(pid)))


def complete(place: LocalWorkspace, name: str, cacheable: bool = True, replace: bool = False) -> Attempt:
    """Run a step that leaves a source tree, scratch and a log, too."""
    attempt = place.claim(record(name, cacheable), "run", replace=replace)
    litter(attempt)
    fill(attempt)
    place.commit(attempt, record(name, cacheable), DONE)
    return attempt


def litter(attempt: Attempt) -> None:
    """Leave what a job leaves, 30 bytes beside the log."""
    for folder, name in (("src", "code.py"), ("scratch", "tmp"), ("job", "job.json")):
        (attempt.directory / folder).mkdir()
        (attempt.directory / folder / name).write_text("0123456789")
    (attempt.directory / "out.log").write_text("log")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with a run of one completed step, and another completed step that no run names."""
    place = workspace(tmp_path / "ws")
    place.register_run([record("named")], "first", jobs=[record("behind")])
    for name in ("named", "behind", "lonely"):
        complete(place, name)
    return place.dir


def planned(root: Path, now: datetime = AFTER) -> Collection:
    """What would go after a month."""
    return collect.plan(workspace(root), MONTH, now)


def places(collection: Collection) -> list[tuple[Kind, str]]:
    """What goes, without reasons."""
    return [(item.kind, item.place) for item in collection.items]


def test_nothing_young_goes(root: Path) -> None:
    """What is younger than asked stays, all of it."""
    assert planned(root, datetime.now(timezone.utc)).items == ()
    assert planned(root, AFTER - timedelta(days=2)).items == ()


def test_what_no_run_names_goes(root: Path) -> None:
    """Results that no run names go, with what attempts left behind; results of runs and their logs stay."""
    collection = planned(root)
    assert places(collection) == [
        (Kind.ATTEMPT, "attempts/Made-behind.1"),
        (Kind.ATTEMPT, "attempts/Made-lonely.1"),
        (Kind.ATTEMPT, "attempts/Made-named.1"),
        (Kind.RESULT, "cache/Made-lonely"),
    ]
    assert [item.size for item in collection.items[:3]] == [30, 33, 30]
    assert collection.size == sum(item.size for item in collection.items)
    assert all(item.reason for item in collection.items)
    assert {item.unique_id for item in collection.items} == {"Made-behind", "Made-lonely", "Made-named"}
    assert collect.apply(workspace(root), collection) == collection.items
    assert planned(root).items == ()
    place = workspace(root)
    assert place.step_result_for_run("first", "named") == "value"
    assert place.log_path("Made-named") is not None
    assert place.completed(["Made-named", "Made-behind", "Made-lonely"]) == {"Made-named", "Made-behind"}
    assert place.step_info("Made-lonely").state is StepState.INCOMPLETE
    assert complete(place, "lonely").number == 2
    assert list(check.examine(place)) == []


def test_planning_changes_nothing(root: Path, tmp_path: Path) -> None:
    """A plan removes nothing."""
    before = tree(tmp_path)
    assert planned(root).items
    assert tree(tmp_path) == before


def test_ended_attempt_stays_ended(root: Path) -> None:
    """Though the process that made it lives on, an attempt whose leftovers went does not seem at work."""
    failed = workspace(root).claim(record("two"), "first")
    litter(failed)
    workspace(root).fail(failed, record("two"), FAILED)
    collect.apply(workspace(root), planned(root))
    assert [path.name for path in failed.directory.iterdir()] == ["attempt.json"]
    assert workspace(root).step_info("Made-two").state is StepState.FAILED
    assert workspace(root).claim(record("two"), "first").number == 2


def test_work_of_completed_steps_goes(root: Path) -> None:
    """What a step keeps between attempts goes when it is completed, and not before."""
    for name in ("named", "two"):
        (workspace(root).work_dir(record(name)) / "checkpoint").write_text("7")
    assert [place for kind, place in places(planned(root)) if kind is Kind.WORK] == ["work/Made-named"]


def test_set_aside_goes(root: Path) -> None:
    """Damaged results that were set aside go at last, counted from when they were set aside."""
    (root / "cache/Made-named/result/data.json").write_text("x")
    repair.apply(workspace(root), repair.plan(workspace(root)))
    found = [item for item in planned(root).items if item.kind is Kind.DAMAGED]
    assert len(found) == 1
    assert found[0].reason.startswith("was set aside on 20")
    collect.apply(workspace(root), planned(root))
    assert list((root / "damaged").iterdir()) == []


def test_replaced_results_go(root: Path) -> None:
    """An old result goes once its step has another, and is kept while it is the only one."""
    complete(workspace(root), "named", replace=True)
    old = root / "attempts/Made-named.1/replaced"
    (root / "cache/Made-named").rename(root / "gone")
    collect.apply(workspace(root), planned(root))
    assert old.exists()
    (root / "gone").rename(root / "cache/Made-named")
    collect.apply(workspace(root), planned(root))
    assert not old.exists()
    assert list(check.examine(workspace(root))) == []


def test_uncacheable_results_live_as_long_as_their_run(root: Path) -> None:
    """The result of a step that is not cached stays while a run names it, and goes with its run."""
    place = workspace(root)
    place.register_run([record("dice", cacheable=False)], "second")
    complete(place, "dice", cacheable=False)
    collect.apply(place, planned(root))
    assert place.step_result_for_run("second", "dice") == "value"
    shutil.rmtree(root / "runs/second")
    collect.apply(place, planned(root))
    assert place.locate("Made-dice") is None


def test_damage_is_left_to_repair(root: Path) -> None:
    """What cannot be read is not collected, and keeps nothing else from it."""
    place = workspace(root)
    place.register_run([record("dice", cacheable=False)], "second")
    dice = complete(place, "dice", cacheable=False)
    place.work_dir(record("lonely"))
    (dice.directory / "commit/manifest.json").write_text("{")
    (root / "cache/Made-lonely/manifest.json").write_text("{")
    collect.apply(place, planned(root))
    assert (dice.directory / "commit/manifest.json").exists()
    assert (root / "cache/Made-lonely").exists()
    assert (root / "work/Made-lonely").exists()
    assert not (dice.directory / "src").exists()


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_runs_still_name_their_steps(root: Path, damage: str) -> None:
    """A run whose record cannot be read protects the results that its links lead to."""
    path = root / "runs/first/.run.json"
    path.write_text("{") if damage == "cut" else path.unlink()
    assert [place for kind, place in places(planned(root)) if kind is Kind.RESULT] == ["cache/Made-lonely"]


def test_what_is_at_work_stays(root: Path) -> None:
    """Nothing of a step goes at which somebody alive works, or may work, for all we know."""
    place = workspace(root)
    for name in ("new", "lonely"):
        litter(place.claim(record(name), "run", replace=True))
    place.work_dir(record("lonely"))
    found = places(planned(root))
    assert (Kind.ATTEMPT, "attempts/Made-new.1") not in found
    assert (Kind.ATTEMPT, "attempts/Made-lonely.2") not in found
    assert (Kind.RESULT, "cache/Made-lonely") not in found
    assert (Kind.WORK, "work/Made-lonely") not in found
    later = collect.plan(workspace(root, 2), MONTH, AFTER)
    assert (Kind.ATTEMPT, "attempts/Made-new.1") in places(later)


def test_bars_stay(root: Path) -> None:
    """The file that keeps a superseded attempt from committing outlives its leftovers."""
    late = workspace(root, 5).claim(record("two"), "first")
    litter(late)
    complete(workspace(root), "two")
    collect.apply(workspace(root), planned(root))
    assert [path.name for path in late.directory.iterdir()] == ["commit"]


MEANWHILE: list[tuple[str, Callable[[LocalWorkspace], object]]] = [
    ("named by a run", lambda place: place.register_run([record("lonely")], "second")),
    ("claimed", lambda place: place.claim(record("lonely"), "run", replace=True)),
    ("removed", lambda place: place.step_cache.__delitem__(record("lonely"))),
]


@pytest.mark.parametrize("change", [pytest.param(row[1], id=row[0]) for row in MEANWHILE])
def test_what_is_wanted_meanwhile_stays(root: Path, change: Callable[[LocalWorkspace], object]) -> None:
    """What was not needed when the plan was made and is needed now stays, and what is gone is fine."""
    collection = planned(root)
    place = workspace(root)
    change(place)
    there = place.completed(["Made-lonely"])
    gone = collect.apply(place, collection)
    assert Kind.RESULT not in [item.kind for item in gone]
    assert place.completed(["Made-lonely"]) == there


def test_run_registered_at_the_last_moment(root: Path) -> None:
    """A run that is registered between the last look and the removal gets the result back."""
    other = workspace(root, 2)

    def register(name: str, arguments: tuple[object, ...], after: bool) -> None:
        if name == "rename" and not after and str(arguments[0]).endswith("cache/Made-lonely"):
            other.register_run([record("lonely")], "second")

    collect.apply(workspace(root, disk=WatchedDisk(register)), planned(root))
    assert other.step_result_for_run("second", "lonely") == "value"


def test_any_crash_of_a_collection(root: Path, tmp_path: Path) -> None:
    """A collection that is cut off anywhere takes nothing that is needed, and the next one ends it."""
    for halves in range(1000):
        copy = tmp_path / f"copy{halves}"
        shutil.copytree(root, copy, symlinks=True)
        disk = CrashingDisk(halves)
        try:
            collect.apply(workspace(copy, disk=disk), planned(copy))
        except Crash:
            assert workspace(copy).step_result_for_run("first", "named") == "value"
        collect.apply(workspace(copy), planned(copy))
        assert workspace(copy).completed(["Made-lonely", "Made-named"]) == {"Made-named"}
        assert planned(copy).items == ()
        if not disk.crashed:
            break
    assert not disk.crashed


def test_disk_that_refuses(root: Path) -> None:
    """Where something cannot be removed, the error says what."""

    class Refusing(Disk):
        """Removes nothing."""

        def remove(self, path: Path) -> None:
            """Refuse."""
            raise PermissionError(13, "Permission denied", str(path))

    with pytest.raises(WorkspaceError, match=r"cannot be removed \(Permission denied\)") as caught:
        collect.apply(workspace(root, disk=Refusing()), planned(root))
    assert caught.value.remedy
