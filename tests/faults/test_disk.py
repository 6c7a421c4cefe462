"""Disks that are full, closed to us, or hold other bytes than were written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispatch.errors import DispatchError, WorkspaceError
from dispatch.testing.contracts_workspace import DONE, Add, fill, record
from dispatch.testing.faults import Child, tree
from dispatch.workspace import check, repair
from dispatch.workspaces import LocalWorkspace

NOBODY = 65534


def test_full_disk(tmp_path: Path) -> None:
    """A disk that gets full in the middle of a result costs that attempt alone."""
    namespace = (
        ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    )
    program = Path(__file__).with_name("fill_disk.py")
    done = subprocess.run(
        [*namespace, sys.executable, str(program), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that everybody can reach."""
    with tempfile.TemporaryDirectory(prefix="dispatch-test-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)
        for path in Path(directory).rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


def test_directory_of_another_account(public: Path) -> None:
    """Where we may only read, results are read, nothing is changed, and what cannot be done says why."""
    root = public / "ws"
    place = LocalWorkspace(root)
    place.register_run([record()], "first")
    attempt = place.claim(record(), "first")
    fill(attempt)
    place.commit(attempt, record(), DONE)
    if os.getuid() != 0:
        for path in (root, *root.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o555)
    before = tree(public)

    def stranger() -> None:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        place = LocalWorkspace(root)
        assert place.step_result_for_run("first", "one") == "value"
        assert place.latest_run() == "first"
        assert list(check.examine(place)) == []
        attempts: list[Callable[[], object]] = [
            lambda: place.claim(record("two"), "first"),
            lambda: place.register_run([record()], "second"),
            lambda: place.step_cache.__setitem__(Add(a=1), 1),
            lambda: place.remove_step("Made-one"),
        ]
        for attempt in attempts:
            with pytest.raises((PermissionError, DispatchError)) as caught:
                attempt()
            assert str(root) in str(caught.value)

    assert Child(stranger).wait() == 0
    assert tree(public) == before


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def bend(path: Path) -> None:
    """Let a link lead to nothing."""
    path.unlink()
    path.symlink_to("nothing")


DAMAGES: list[tuple[str, Callable[[Path], object]]] = [
    ("truncated", lambda directory: os.truncate(directory / "result" / "data.json", 3)),
    ("one bit", lambda directory: flip(directory / "result" / "data.json")),
    ("link broken", lambda directory: bend(directory / "result" / "link")),
    ("file gone", lambda directory: (directory / "result" / "data.json").unlink()),
    ("marker gone", lambda directory: (directory / "manifest.json").unlink()),
    ("marker cut", lambda directory: os.truncate(directory / "manifest.json", 20)),
    ("marker flipped", lambda directory: flip(directory / "manifest.json")),
]


@pytest.mark.parametrize("damage", [pytest.param(row[1], id=row[0]) for row in DAMAGES])
def test_damaged_result(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """A damaged result is never handed out; after a repair a plain re-run makes it again."""
    root = tmp_path / "ws"
    LocalWorkspace(root).register_run([record()], "first")

    def run() -> None:
        place = LocalWorkspace(root)
        attempt = place.claim(record(), "first")
        fill(attempt)
        (attempt.result / "link").symlink_to("data.json")
        place.commit(attempt, record(), DONE)

    run()
    damage(root / "cache" / "Made-one")
    place = LocalWorkspace(root)
    with pytest.raises((WorkspaceError, KeyError)) as caught:
        place.step_cache[record()]
    if isinstance(caught.value, WorkspaceError):
        assert "dispatch repair" in caught.value.remedy
    repair.apply(place, repair.plan(place))
    run()
    assert LocalWorkspace(root).step_cache[record()] == "value"
    assert list(check.examine(place)) == []


def test_moved_while_closed(tmp_path: Path) -> None:
    """A workspace that was moved in the middle of a run works where it is: results, links and leases."""
    place = LocalWorkspace(tmp_path / "ws")
    place.register_run([record()], "first")
    attempt = place.claim(record(), "first")
    fill(attempt)
    place.commit(attempt, record(), DONE)
    Child(lambda: place.claim(record("two"), "first")).wait()
    shutil.move(tmp_path / "ws", tmp_path / "elsewhere")
    moved = LocalWorkspace(tmp_path / "elsewhere")
    assert moved.step_result_for_run("first", "one") == "value"
    assert moved.claim(record("two"), "first").number == 2
    assert list(check.examine(moved)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
