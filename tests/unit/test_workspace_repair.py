"""Repairing a workspace: what is done about each damage, and that nothing is lost by it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.errors import WorkspaceError
from dispatch.info import StepState
from dispatch.testing.contracts_workspace import DONE, fill, record
from dispatch.testing.faults import Crash, CrashingDisk, FakeHost, OldDisk, tree
from dispatch.workspace import check, repair
from dispatch.workspace.attempts import Ports
from dispatch.workspace.base import Attempt
from dispatch.workspace.disk import Disk
from dispatch.workspace.repair import Action
from dispatch.workspaces import LocalWorkspace


def workspace(root: Path, pid: int = 1, disk: Disk | None = None) -> LocalWorkspace:
    """The workspace as a process sees it that lives alone."""
    return LocalWorkspace(root, ports=Ports(disk=disk or OldDisk(), host=FakeHost.process(pid)))


def complete(
    place: LocalWorkspace, name: str = "one", text: str = '"value"\n', replace: bool = False
) -> Attempt:
    """Run a step."""
    attempt = place.claim(record(name), "run", replace=replace)
    fill(attempt, text)
    place.commit(attempt, record(name), DONE)
    return attempt


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with two completed steps and a run of them."""
    place = workspace(tmp_path / "ws")
    place.register_run([record()], "first", jobs=[record("dep")])
    complete(place)
    complete(place, "dep")
    return place.dir


def mend(root: Path) -> list[tuple[Action, str]]:
    """Repair, hold that all that was planned was done and that nothing is left to do, and return it."""
    place = workspace(root)
    repairs = repair.plan(place)
    assert repair.apply(place, repairs) == repairs.actions
    assert list(check.examine(workspace(root))) == []
    assert repair.plan(workspace(root)).actions == ()
    return [(each.action, each.place) for each in repairs.actions]


RESULT = "cache/Made-one/result/data.json"
DAMAGES: list[tuple[str, Callable[[Path], object], Action, str]] = [
    ("bytes", lambda root: (root / RESULT).write_text('"other"\n'), Action.SET_ASIDE, RESULT),
    (
        "no result",
        lambda root: shutil.rmtree((root / RESULT).parent),
        Action.SET_ASIDE,
        "cache/Made-one/result",
    ),
    (
        "no manifest",
        lambda root: (root / "cache/Made-one/manifest.json").unlink(),
        Action.SET_ASIDE,
        "cache/Made-one",
    ),
    (
        "manifest cut",
        lambda root: os.truncate(root / "cache/Made-one/manifest.json", 99),
        Action.SET_ASIDE,
        "cache/Made-one/manifest.json",
    ),
    ("stray", lambda root: (root / "cache" / ("ä b" * 60)).touch(), Action.SET_ASIDE, "cache/" + "ä b" * 60),
    (
        "record gone",
        lambda root: (root / "steps/Made-one.json").unlink(),
        Action.REBUILD,
        "steps/Made-one.json",
    ),
    (
        "record cut",
        lambda root: os.truncate(root / "steps/Made-one.json", 9),
        Action.REBUILD,
        "steps/Made-one.json",
    ),
    ("record stray", lambda root: (root / "steps/x y").write_text("{}"), Action.REBUILD, "steps/x y"),
    ("run cut", lambda root: os.truncate(root / "runs/first/.run.json", 9), Action.REBUILD, "runs/first"),
    ("no run", lambda root: (root / "runs/first/.run.json").unlink(), Action.REBUILD, "runs/first"),
    ("empty run", lambda root: (root / "runs/second").mkdir(), Action.REBUILD, "runs/second"),
    ("link gone", lambda root: (root / "runs/first/one").unlink(), Action.LINK, "runs/first/one"),
    ("latest gone", lambda root: (root / "latest").unlink(), Action.LINK, "latest"),
    ("marker", lambda root: (root / "settings.json").unlink(), Action.REBUILD, "settings.json"),
    (
        "half a run",
        lambda root: (root / "runs/.a.0123456789ab").mkdir(),
        Action.REMOVE,
        "runs/.a.0123456789ab",
    ),
]


@pytest.mark.parametrize(
    ("damage", "action", "place"), [pytest.param(*row[1:], id=row[0]) for row in DAMAGES]
)
def test_repairs(root: Path, damage: Callable[[Path], object], action: Action, place: str) -> None:
    """Each damage is mended by one action, all bytes are kept, and the steps are there or computed again."""
    damage(root)
    kept = sorted(path.read_bytes() for path in (root / "cache").rglob("*") if path.is_file())
    assert mend(root) == [(action, place)]
    left = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert all(data in left for data in kept)
    again = workspace(root)
    if not again.completed(["Made-one"]):
        complete(again)
    assert again.step_result_for_run("first", "one") == "value"
    assert again.step_of_run("first", "dep") == record("dep")
    assert (root / "latest" / "one" / "result" / "data.json").exists()


def test_planning_changes_nothing(root: Path) -> None:
    """A plan tells what would be done, and does not do it."""
    (root / RESULT).write_text("x")
    (root / "latest").unlink()
    before = tree(root)
    planned = repair.plan(workspace(root)).actions
    assert [(each.action, each.unique_id) for each in planned] == [
        (Action.SET_ASIDE, "Made-one"),
        (Action.LINK, None),
    ]
    assert all(each.reason for each in planned)
    assert tree(root) == before


def test_set_aside_by_attempt(root: Path) -> None:
    """A damaged result is kept whole under ``damaged/``, named by its step and attempt."""
    (root / RESULT).write_text("x")
    mend(root)
    (aside,) = (root / "damaged").iterdir()
    assert aside.name.startswith("Made-one.1.")
    assert (aside / "result" / "data.json").read_text() == "x"
    assert workspace(root).step_info("Made-one").state is StepState.INCOMPLETE


def test_results_that_are_not_cached(root: Path) -> None:
    """The damaged result of a step that is not cached is set aside from its attempt."""
    place = workspace(root)
    dice = record("dice", cacheable=False)
    attempt = place.claim(dice, "first")
    fill(attempt)
    place.commit(attempt, dice, DONE)
    os.truncate(attempt.directory / "commit/manifest.json", 99)
    assert mend(root) == [(Action.SET_ASIDE, "attempts/Made-dice.1/commit/manifest.json")]
    assert workspace(root).locate("Made-dice") is None
    assert workspace(root).claim(dice, "first").number == 2


def test_broken_off_attempts_are_ended(root: Path) -> None:
    """An attempt whose process is gone gets its end, commits nothing more, and its step can be claimed."""
    attempt = workspace(root, 5).claim(record("two"), "first")
    assert mend(root) == [(Action.END, "attempts/Made-two.1")]
    assert (attempt.directory / "commit").is_file()
    assert complete(workspace(root), "two").number == 2


def test_replaced_result_is_put_back(root: Path) -> None:
    """A replacement that was cut off between its two renames leaves the old result to be put back."""
    (root / "cache/Made-one").rename(root / "attempts/Made-one.1/replaced")
    assert mend(root) == [(Action.PUT_BACK, "attempts/Made-one.1/replaced")]
    assert workspace(root).step_result_for_run("first", "one") == "value"


def test_newest_sound_result_is_put_back(root: Path) -> None:
    """Of several the newest sound one is put back, and a damaged result first makes room for it."""
    complete(workspace(root), text='"second"\n', replace=True)
    complete(workspace(root), text='"third"\n', replace=True)
    (root / RESULT).write_text("x")
    place = workspace(root)
    done = repair.apply(place, repair.plan(place))
    assert [(each.action, each.place) for each in done] == [
        (Action.SET_ASIDE, RESULT),
        (Action.PUT_BACK, "attempts/Made-one.2/replaced"),
    ]
    assert place.step_result_for_run("first", "one") == "second"
    (root / "cache/Made-one").rename(root / "attempts/Made-one.2/replaced")
    (root / "attempts/Made-one.2/replaced/result/data.json").write_text("x")
    assert mend(root) == [(Action.PUT_BACK, "attempts/Made-one.1/replaced")]
    assert place.step_result_for_run("first", "one") == "value"


def put_aside(root: Path) -> None:
    """Cut a replacement off between its two renames."""
    (root / "cache/Made-one").rename(root / "attempts/Made-one.1/replaced")


def register(root: Path) -> None:
    """Register one more run of the step."""
    workspace(root).register_run([record()], "second")


Change = Callable[[Path], object]
MEANWHILE: list[tuple[str, Change, Change]] = [
    ("result", lambda root: (root / RESULT).write_text("x"), lambda r: complete(workspace(r), replace=True)),
    ("put aside", put_aside, lambda root: complete(workspace(root), text='"new"\n')),
    ("put aside and claimed", put_aside, lambda root: workspace(root).claim(record(), "second")),
    (
        "attempt",
        lambda root: workspace(root, 5).claim(record("two"), "first"),
        lambda root: complete(workspace(root), "two"),
    ),
    ("latest", lambda root: (root / "latest").unlink(), register),
    ("record", lambda root: (root / "steps/Made-one.json").unlink(), register),
    (
        "leftover",
        lambda root: (root / "runs/.a.0123456789ab").mkdir(),
        lambda root: (root / "runs/.a.0123456789ab").rmdir(),
    ),
]


@pytest.mark.parametrize(("damage", "change"), [pytest.param(*row[1:], id=row[0]) for row in MEANWHILE])
def test_what_was_mended_meanwhile_is_left_alone(root: Path, damage: Change, change: Change) -> None:
    """A plan that comes late does nothing: not to a result that was made again, nor to what is at work."""
    damage(root)
    place = workspace(root)
    repairs = repair.plan(place)
    assert len(repairs.actions) == 1
    change(root)
    before = tree(root)
    assert repair.apply(place, repairs) == ()
    assert tree(root) == before


def test_newer_results_are_left_alone(root: Path) -> None:
    """A result of a newer version is found, and not touched."""
    (root / "cache/Made-one/manifest.json").write_text('{"manifest": 99}')
    assert repair.plan(workspace(root)).actions == ()
    assert len(list(check.examine(workspace(root)))) == 1


def test_disk_that_refuses(root: Path) -> None:
    """Where the disk refuses, the error says where."""

    class Refusing(OldDisk):
        """Renames nothing."""

        def rename(self, source: Path, target: Path) -> None:
            """Refuse."""
            raise PermissionError(13, "Permission denied", str(source), None, str(target))

    (root / RESULT).write_text("x")
    place = workspace(root, disk=Refusing())
    with pytest.raises(
        WorkspaceError, match=r"data\.json: cannot be repaired \(Permission denied\)"
    ) as caught:
        repair.apply(place, repair.plan(place))
    assert caught.value.remedy


def test_any_crash_of_a_repair(tmp_path: Path, root: Path) -> None:
    """A repair that is cut off anywhere is completed by the next one."""
    for halves in range(1000):
        copy = tmp_path / f"copy{halves}"
        shutil.copytree(root, copy, symlinks=True)
        (copy / RESULT).write_text("x")
        os.truncate(copy / "steps/Made-dep.json", 9)
        (copy / "runs/first/.run.json").unlink()
        (copy / "latest").unlink()
        (copy / "cache/Made-dep").rename(copy / "attempts/Made-dep.1/replaced")
        repairs = repair.plan(workspace(copy))
        disk = CrashingDisk(halves)
        with contextlib.suppress(Crash):
            repair.apply(workspace(copy, disk=disk), repairs)
        mend(copy)
        assert workspace(copy).completed(["Made-one", "Made-dep"]) == {"Made-dep"}
        assert workspace(copy).step_of_run("first", "dep") == record("dep")
        if not disk.crashed:
            break
    assert not disk.crashed
