"""Replacing a result, and fencing: what a superseded attempt can still do, wherever it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.info import StepState
from dispatch.testing.contracts_workspace import DONE, FAILED, fill, record
from dispatch.testing.faults import Crash, CrashingDisk, FakeHost, WatchedDisk, tree
from dispatch.workspace.attempts import Attempts, Ports
from dispatch.workspace.base import (
    Attempt,
    StepCompletedError,
    StepHeldError,
    StepSupersededError,
)
from dispatch.workspace.disk import Disk
from dispatch.workspace.layout import Layout
from dispatch.workspace.manifest import Manifest

ID = "Made-one"
FACTS = DONE.to_json()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the workspace is."""
    return tmp_path / "ws"


def attempts(root: Path, pid: int, *others: int, disk: Disk | None = None) -> Attempts:
    """The attempts of a workspace as a process sees them."""
    ports = Ports(disk=disk or Disk(), host=FakeHost.process(pid, *others))
    layout = Layout(root, ports.disk)
    layout.prepare()
    return Attempts(layout, ports)


def complete(made: Attempts, text: str, replace: bool = False, cacheable: bool = True) -> Attempt:
    """Run the step."""
    attempt = made.claim(record(cacheable=cacheable), "run", replace)
    fill(attempt, text)
    made.commit(attempt, record(cacheable=cacheable), FACTS, None)
    return attempt


def result(root: Path) -> str | None:
    """What the cache holds of the step, if that is a result."""
    directory = root / "cache" / ID
    return (
        (directory / "result" / "data.json").read_text() if (directory / "manifest.json").exists() else None
    )


def test_a_result_is_replaced(root: Path) -> None:
    """The new result takes the old one's place, and the old one lies whole in its attempt's directory."""
    made = attempts(root, 1)
    complete(made, "old")
    attempt = made.claim(record(), "run", replace=True)
    assert (attempt.number, attempt.replaces, result(root)) == (2, True, "old")
    fill(attempt, "new")
    made.commit(attempt, record(), FACTS, None)
    assert result(root) == "new"
    aside = root / "attempts" / f"{ID}.1" / "replaced"
    manifest = Manifest.read(aside / "manifest.json")
    assert manifest is not None
    assert (manifest.attempt, (aside / "result" / "data.json").read_text()) == (1, "old")
    assert made.standing(ID).number == 2


def test_replacing_nothing(root: Path) -> None:
    """Where there is no result the new one is simply that; without cache there is nothing to replace."""
    made = attempts(root, 1)
    assert complete(made, "new", replace=True).replaces
    assert result(root) == "new"
    assert not made.claim(record("dice", cacheable=False), "run", replace=True).replaces


def test_failed_replacement_keeps_the_result(root: Path) -> None:
    """An attempt at a new result that fails leaves the old one as it was."""
    made = attempts(root, 1)
    complete(made, "old")
    made.end(made.claim(record(), "run", replace=True), FAILED.to_json())
    assert result(root) == "old"
    with pytest.raises(StepCompletedError):
        made.claim(record(), "run")


def test_a_replacement_is_held(root: Path) -> None:
    """While one replaces, another one cannot."""
    complete(attempts(root, 1), "old")
    attempts(root, 1).claim(record(), "run", replace=True)
    with pytest.raises(StepHeldError):
        attempts(root, 2, 1).claim(record(), "run", replace=True)


def test_second_commit_of_a_replacement(root: Path) -> None:
    """Committing a replacement again changes nothing, also when its result directory is there again."""
    made = attempts(root, 1)
    complete(made, "old")
    attempt = complete(made, "new", replace=True)
    fill(attempt, "other")
    made.commit(attempt, record(), FACTS, None)
    assert result(root) == "new"


def test_replacing_what_nobody_can_read(root: Path) -> None:
    """A result with a damaged manifest is replaced, too, and kept with the attempt that replaced it."""
    made = attempts(root, 1)
    complete(made, "old")
    (root / "cache" / ID / "manifest.json").write_text("{")
    attempt = complete(made, "new", replace=True)
    assert result(root) == "new"
    assert (attempt.directory / "replaced" / "result" / "data.json").read_text() == "old"


def test_any_crash_of_a_replacement(tmp_path: Path) -> None:
    """After a crash anywhere in a replacement the step has its old or its new result, or can be run again;
    and the interrupted commit can be repeated."""
    ends = set()
    for halves in range(2000):
        root = tmp_path / str(halves)
        complete(attempts(root, 1), "old")
        disk = CrashingDisk(halves)
        attempt = None
        try:
            made = attempts(root, 1, disk=disk)
            attempt = made.claim(record(), "run", replace=True)
            fill(attempt, "new")
            made.commit(attempt, record(), FACTS, None)
        except Crash:
            pass
        ends.add(result(root))
        assert result(root) in ("old", "new", None)
        if attempt is not None and (attempt.result.exists() or (attempt.directory / "commit").exists()):
            attempts(root, 2).commit(attempt, record(), FACTS, None)
            assert result(root) == "new"
        elif result(root) is None:
            complete(attempts(root, 2), "new")
        complete(attempts(root, 3), "newest", replace=True)
        assert result(root) == "newest"
        if not disk.crashed:
            break
    assert not disk.crashed
    assert ends == {"old", "new", None}


@pytest.mark.parametrize("replaces", [False, True], ids=["first", "replacing"])
@pytest.mark.parametrize("successor", ["claims", "commits", "replaces"])
def test_stopped_anywhere_and_superseded(tmp_path: Path, replaces: bool, successor: str) -> None:
    """Whenever a committing process is stopped, taken for lost and woken again, it commits nothing more.

    Either it had its result in the cache before, or its commit is refused, and what its successor made stays.
    """
    stopped = 0
    for halves in range(2000):
        root = tmp_path / str(halves)
        if replaces:
            complete(attempts(root, 1), "old")
        attempt = attempts(root, 1).claim(record(), "run", replace=replaces)
        fill(attempt, "late")
        woken = False

        def interrupt(root: Path = root) -> None:
            nonlocal woken
            woken = True
            supersede(root, successor)

        disk = WatchedDisk(after_halves(halves, interrupt))
        try:
            attempts(root, 1, disk=disk).commit(attempt, record(), FACTS, None)
            refused = False
        except StepSupersededError:
            refused = True
        if not woken:
            break
        stopped += 1
        check_superseded(root, attempt, successor, refused)
    assert stopped > 10


def after_halves(halves: int, then: Callable[[], None]) -> Callable[[str, tuple[object, ...], bool], None]:
    """Do something once, after so many halves of calls."""
    left = halves

    def tell(name: str, arguments: tuple[object, ...], after: bool) -> None:  # noqa: ARG001
        nonlocal left
        left -= 1
        if left == -1:
            then()

    return tell


def supersede(root: Path, successor: str) -> None:
    """Find the holder gone, and go on in its place, as far as it goes."""
    other = attempts(root, 2)
    try:
        attempt = other.claim(record(), "run", replace=successor == "replaces")
    except StepCompletedError:
        return
    if successor != "claims":
        fill(attempt, "next")
        other.commit(attempt, record(), FACTS, None)


def check_superseded(root: Path, late: Attempt, successor: str, refused: bool) -> None:
    """Hold what there is after the late one went on."""
    found = result(root)
    number = len(list((root / "leases").iterdir()))
    superseded = number > late.number
    if successor == "replaces":
        assert superseded
        assert found == "next"
    elif superseded and successor == "commits":
        assert found == "next"
    elif superseded:
        assert refused
        assert found in (None, "old")
    else:
        assert found == "late"
    if superseded and not (late.directory / "attempt.json").exists():
        assert (late.directory / "commit").is_file()
    assert [path.name for path in (root / "cache").iterdir()] in ([ID], [])
    assert not list((root / "cache").glob(".*"))


def test_holder_of_a_mere_lease_gets_no_directory(root: Path) -> None:
    """A process that is stopped between its lease and its directory begins nothing once it was superseded."""
    complete(attempts(root, 1), "old")

    def tell(name: str, arguments: tuple[object, ...], after: bool) -> None:
        if name == "make_new_dir" and not after and str(arguments[0]).endswith(f"{ID}.2"):
            supersede(root, "claims")

    (root / "cache" / ID / "manifest.json").unlink()
    with pytest.raises(StepHeldError):
        attempts(root, 1, 2, disk=WatchedDisk(tell)).claim(record(), "run")
    assert attempts(root, 3, 2).standing(ID).number == 3


def test_completed_is_seen_only_after_it_is_durable(root: Path) -> None:
    """Before the rename that makes a result visible, its files, directories and manifest are on the disk."""
    calls: list[tuple[str, str]] = []

    def tell(name: str, arguments: tuple[object, ...], after: bool) -> None:
        if after and name == "flush":
            handle = arguments[0]
            assert isinstance(handle, int)
            where = Path(f"/proc/self/fd/{handle}").readlink()
            calls.append((name, str(where.relative_to(root))))
        elif after and name in ("rename", "rename_dir"):
            assert isinstance(arguments[1], Path)
            calls.append((name, str(arguments[1].relative_to(root))))

    made = attempts(root, 1, disk=WatchedDisk(tell))
    attempt = made.claim(record(), "run")
    fill(attempt)
    (attempt.result / "sub").mkdir()
    (attempt.result / "sub" / "part").write_text("x")
    made.commit(attempt, record(), FACTS, None)
    adopted = calls.index(("rename_dir", f"cache/{ID}"))
    before, after = calls[:adopted], calls[adopted + 1 :]
    draft = f"attempts/{ID}.1/commit"
    assert before[0] == ("rename", f"{draft}/result")
    flushed = {path.removeprefix(f"{draft}/").rstrip("/") for _, path in before[1:]}
    assert flushed == {"result/data.json", "result/sub/part", "result/sub", "result", "manifest.json", draft}
    assert before[-1] == ("flush", draft)
    assert after[0] == ("flush", "cache")


def test_nothing_else_is_touched(root: Path, tmp_path: Path) -> None:
    """A replacement changes the cache, its own attempt and the replaced one's, and nothing beside."""
    made = attempts(root, 1)
    complete(made, "old")
    before = tree(tmp_path)
    complete(made, "new", replace=True)
    changed = {path for path, text in tree(tmp_path).items() if before.get(path) != text}
    allowed = (f"ws/cache/{ID}/", f"ws/attempts/{ID}.1/replaced", f"ws/attempts/{ID}.2", f"ws/leases/{ID}.2")
    assert all(path.startswith(allowed) for path in changed)
    assert json.loads((root / "attempts" / f"{ID}.2" / "attempt.json").read_text())["attempt"] == 2
    assert made.standing(ID).facts == FACTS
    assert StepState(str(FACTS["state"])) is StepState.COMPLETED
