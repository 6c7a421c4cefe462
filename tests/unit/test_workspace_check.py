"""What counts as damage in a workspace, and what does not."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.errors import WorkspaceError
from dispatch.testing.contracts_workspace import DONE, fill, record
from dispatch.testing.faults import FakeHost, OldDisk, tree
from dispatch.workspace.attempts import Ports
from dispatch.workspace.base import Attempt
from dispatch.workspace.check import Kind, examine
from dispatch.workspace.disk import Disk
from dispatch.workspaces import LocalWorkspace

RESULT = "cache/Made-one/result"


def workspace(root: Path, pid: int = 1, disk: Disk | None = None) -> LocalWorkspace:
    """The workspace as a process sees it that lives alone."""
    return LocalWorkspace(root, ports=Ports(disk=disk or OldDisk(), host=FakeHost.process(pid)))


def complete(place: LocalWorkspace, name: str = "one") -> Attempt:
    """Run a step that leaves two files, a link and a directory."""
    attempt = place.claim(record(name), "run")
    fill(attempt)
    (attempt.result / "sub").mkdir()
    (attempt.result / "sub" / "part").write_text("part")
    (attempt.result / "link").symlink_to("sub/part")
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


def flip(path: Path) -> None:
    """Change one bit, and nothing else."""
    data = bytearray(path.read_bytes())
    data[1] ^= 1
    facts = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def replace_link(path: Path, target: str) -> None:
    """Let a link lead elsewhere."""
    path.unlink()
    path.symlink_to(target)


def test_a_sound_workspace(root: Path, tmp_path: Path) -> None:
    """In a workspace in use nothing is wrong: not what is running, hidden, unfinished or young."""
    place = workspace(root, disk=Disk())
    place.claim(record("running"), "first")
    (root / "steps" / ".Made-one.json.0123456789ab").write_text("")
    before = tree(tmp_path)
    assert list(examine(place)) == []
    assert tree(tmp_path) == before


def test_no_workspace(tmp_path: Path) -> None:
    """Where there is nothing, nothing is wrong, and where there is something else that is said."""
    assert list(examine(workspace(tmp_path / "none"))) == []
    (tmp_path / "settings.json").write_text('{"layout": 99}')
    with pytest.raises(WorkspaceError, match="layout 99"):
        list(examine(workspace(tmp_path)))


DAMAGES: list[tuple[str, Callable[[Path], object], Kind, str, str]] = [
    (
        "bit",
        lambda root: flip(root / RESULT / "data.json"),
        Kind.RESULT,
        f"{RESULT}/data.json",
        "other bytes",
    ),
    (
        "cut",
        lambda root: os.truncate(root / RESULT / "sub/part", 3),
        Kind.RESULT,
        f"{RESULT}/sub/part",
        "3 by",
    ),
    (
        "file gone",
        lambda root: (root / RESULT / "data.json").unlink(),
        Kind.RESULT,
        f"{RESULT}/data.json",
        "miss",
    ),
    (
        "link gone",
        lambda root: (root / RESULT / "link").unlink(),
        Kind.RESULT,
        f"{RESULT}/link",
        "is missing",
    ),
    (
        "directory gone",
        lambda root: shutil.rmtree(root / RESULT / "sub"),
        Kind.RESULT,
        f"{RESULT}/sub",
        "missing",
    ),
    ("all gone", lambda root: shutil.rmtree(root / RESULT), Kind.RESULT, RESULT, "is missing"),
    ("file more", lambda root: (root / RESULT / "x").touch(), Kind.RESULT, f"{RESULT}/x", "not part"),
    (
        "link bent",
        lambda r: replace_link(r / RESULT / "link", "/etc"),
        Kind.RESULT,
        f"{RESULT}/link",
        "'/etc'",
    ),
    (
        "link for a file",
        lambda root: replace_link(root / RESULT / "data.json", "sub/part"),
        Kind.RESULT,
        f"{RESULT}/data.json",
        "not a regular file",
    ),
    (
        "no manifest",
        lambda root: (root / "cache/Made-one/manifest.json").unlink(),
        Kind.RESULT,
        "cache/Made-one",
        "no manifest",
    ),
    (
        "manifest cut",
        lambda root: os.truncate(root / "cache/Made-one/manifest.json", 99),
        Kind.RESULT,
        "cache/Made-one/manifest.json",
        "is damaged",
    ),
    (
        "another's",
        lambda root: (root / "cache/Made-one").rename(root / "cache/Made-two"),
        Kind.RESULT,
        "cache/Made-two",
        "result of Made-one",
    ),
    ("stray", lambda root: (root / "cache" / "a b").touch(), Kind.RESULT, "cache/a b", "no manifest"),
    (
        "newer",
        lambda root: (root / "cache/Made-one/manifest.json").write_text('{"manifest": 99}'),
        Kind.UNREADABLE,
        "cache/Made-one",
        "newer version",
    ),
    (
        "record gone",
        lambda root: (root / "steps/Made-one.json").unlink(),
        Kind.RECORD,
        "steps/Made-one.json",
        "miss",
    ),
    (
        "record cut",
        lambda root: os.truncate(root / "steps/Made-dep.json", 9),
        Kind.RECORD,
        "steps/Made-dep.json",
        "cannot be read",
    ),
    (
        "record of another",
        lambda root: shutil.copy(root / "steps/Made-dep.json", root / "steps/Made-one.json"),
        Kind.RECORD,
        "steps/Made-one.json",
        "not the record",
    ),
    (
        "run cut",
        lambda root: os.truncate(root / "runs/first/.run.json", 9),
        Kind.RUN,
        "runs/first",
        "is damaged",
    ),
    ("no run", lambda root: (root / "runs/first/.run.json").unlink(), Kind.RUN, "runs/first", "no record"),
    (
        "run link gone",
        lambda root: (root / "runs/first/one").unlink(),
        Kind.LINK,
        "runs/first/one",
        "is missing",
    ),
    (
        "run link bent",
        lambda root: replace_link(root / "runs/first/dep", "../x"),
        Kind.LINK,
        "runs/first/dep",
        "'../x'",
    ),
    ("latest gone", lambda root: (root / "latest").unlink(), Kind.LINK, "latest", "is missing"),
    ("latest bent", lambda root: replace_link(root / "latest", "runs/none"), Kind.LINK, "latest", "no run"),
    ("marker", lambda root: (root / "settings.json").unlink(), Kind.MARKER, "settings.json", "is missing"),
    (
        "half a run",
        lambda root: (root / "runs/.first.0123456789ab").mkdir(),
        Kind.LEFTOVER,
        "runs/.first.0123456789ab",
        "cut off",
    ),
    (
        "half a draft",
        lambda root: (root / "attempts/Made-one.1/.attempt.json.0123456789ab").touch(),
        Kind.LEFTOVER,
        "attempts/Made-one.1/.attempt.json.0123456789ab",
        "cut off",
    ),
]


@pytest.mark.parametrize(
    ("damage", "kind", "place", "fact"), [pytest.param(*row[1:], id=row[0]) for row in DAMAGES]
)
def test_damage(root: Path, damage: Callable[[Path], object], kind: Kind, place: str, fact: str) -> None:
    """Each damage is found, alone, at its place, with the fact and a remedy; and looking changes nothing."""
    damage(root)
    before = tree(root.parent)
    found = [finding for finding in examine(workspace(root)) if finding.place != "steps/Made-two.json"]
    assert [(finding.kind, finding.place) for finding in found] == [(kind, place)]
    assert fact in found[0].fact
    assert found[0].remedy
    assert tree(root.parent) == before


def test_broken_off_attempt(root: Path) -> None:
    """An attempt of a process that is gone is found; one of a process elsewhere may be alive."""
    workspace(root, 5).claim(record("two"), "first")
    assert [(found.kind, found.place) for found in examine(workspace(root))] == [
        (Kind.ATTEMPT, "attempts/Made-two.1")
    ]
    alive = LocalWorkspace(root, ports=Ports(disk=OldDisk(), host=FakeHost.process(1, 5)))
    assert list(examine(alive)) == []


def test_results_that_are_not_cached(root: Path) -> None:
    """The result of a step that is not cached is held against its manifest, too; one in the making is not."""
    place = workspace(root)
    dice = record("dice", cacheable=False)
    attempt = place.claim(dice, "first")
    fill(attempt)
    place.commit(attempt, dice, DONE)
    assert list(examine(place)) == []
    flip(attempt.directory / "commit/result/data.json")
    assert [(found.kind, found.place) for found in examine(place)] == [
        (Kind.RESULT, "attempts/Made-dice.1/commit/result/data.json")
    ]


def test_shallow_look_reads_no_bytes(root: Path) -> None:
    """A shallow look finds what sizes and names tell, and no changed byte."""
    flip(root / RESULT / "data.json")
    os.truncate(root / "cache/Made-dep/result/data.json", 1)
    places = [finding.place for finding in examine(workspace(root), deep=False)]
    assert places == ["cache/Made-dep/result/data.json"]


def test_result_put_aside(root: Path) -> None:
    """A sound result that was put aside is found where its step has no other and nobody works at it."""
    (root / "cache/Made-one").rename(root / "attempts/Made-one.1/replaced")
    found = list(examine(workspace(root)))
    assert [(finding.kind, finding.place) for finding in found] == [
        (Kind.ASIDE, "attempts/Made-one.1/replaced")
    ]
    workspace(root).claim(record(), "first")
    assert list(examine(workspace(root))) == []


def test_results_that_come_and_go_are_no_damage(root: Path) -> None:
    """While a step's result is replaced over and over, looking at it never takes it for damaged."""
    stop, failed = threading.Event(), []

    def replace_always() -> None:
        other = workspace(root)
        try:
            while not stop.is_set():
                attempt = other.claim(record(), "first", replace=True)
                fill(attempt, os.urandom(8).hex())
                other.commit(attempt, record(), DONE)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=replace_always)
    thread.start()
    found = [finding for _ in range(20) for finding in examine(workspace(root))]
    stop.set()
    thread.join()
    assert failed == []
    assert [finding for finding in found if finding.kind is Kind.RESULT] == []


def test_unreadable_is_not_damaged(root: Path) -> None:
    """What we may not read is said to be unreadable, never damaged: it may be sound for its owner."""
    if os.getuid() == 0:
        (root / "cache/Made-one/manifest.json").unlink()
        (root / "cache/Made-one/manifest.json").symlink_to("manifest.json")
    else:
        (root / "cache/Made-one/manifest.json").chmod(0)
    found = list(examine(workspace(root)))
    assert [finding.kind for finding in found] == [Kind.UNREADABLE]
