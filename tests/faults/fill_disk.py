"""A program that works on a workspace on a small disk of its own, which gets full, in a mount namespace.

Usage: fill_disk.py DIRECTORY. Mounts four megabytes there, and exits with 0 if all was as it should be.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

from dispatch.errors import DispatchError
from dispatch.info import StepState
from dispatch.testing.contracts_workspace import DONE, FAILED, Add, fill, record
from dispatch.testing.faults import Child
from dispatch.workspace import check
from dispatch.workspace.base import Attempt
from dispatch.workspaces import LocalWorkspace


def fill_up(directory: Path) -> Path:
    """Use up all room there is, to the last byte."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return ballast


def refused(call: object, *arguments: object) -> OSError | None:
    """Hold that a call fails for want of room, and only for that."""
    assert callable(call)
    try:
        call(*arguments)
    except (OSError, DispatchError) as error:
        chain: BaseException | None = error
        while chain is not None and not isinstance(chain, OSError):
            chain = chain.__cause__
        assert isinstance(chain, OSError)
        assert chain.errno == errno.ENOSPC
        return chain
    raise AssertionError(f"{call} did not fail on a full disk")


def full_while_committing(directory: Path, root: Path) -> None:
    """The result is written, and there is no room for its manifest."""
    place = LocalWorkspace(root)
    attempt: Attempt = place.claim(record("two"), "first")
    fill(attempt)
    before = sorted(path for path in root.rglob("*"))
    ballast = fill_up(directory)
    refused(place.commit, attempt, record("two"), DONE)
    assert place.locate("Made-two") is None
    assert place.step_cache[record()] == "value"
    assert set(root.rglob("*")) <= {*before, attempt.directory / "commit"}
    ballast.unlink()
    assert place.fail(attempt, record("two"), FAILED).state is StepState.FAILED


def full_while_writing(root: Path) -> None:
    """There is no room for a result that is stored by the program that made it."""
    step = Add(a=1)
    place = LocalWorkspace(root)
    refused(place.step_cache.__setitem__, step, os.urandom(8 << 20).hex())
    assert step not in place.step_cache
    assert place.step_cache[record()] == "value"


def full_and_killed(directory: Path, root: Path) -> None:
    """A process that can not even write down that it failed holds up nobody once it is gone."""

    def main() -> None:
        place = LocalWorkspace(root)
        attempt = place.claim(record("three"), "first")
        fill(attempt)
        fill_up(directory)
        refused(place.commit, attempt, record("three"), DONE)
        refused(place.fail, attempt, record("three"), FAILED)

    assert Child(main).wait() == 0
    (directory / "ballast").unlink()


def main(directory: Path) -> None:
    """Fill the disk in each way, and go on as if nothing had been."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(directory)], check=True)
    root = directory / "ws"
    place = LocalWorkspace(root)
    place.register_run([record()], "first")
    attempt = place.claim(record(), "first")
    fill(attempt)
    place.commit(attempt, record(), DONE)
    full_while_writing(root)
    full_while_committing(directory, root)
    full_and_killed(directory, root)
    for name in ("two", "three"):
        again = LocalWorkspace(root).claim(record(name), "first")
        assert again.number == 2
        fill(again)
        LocalWorkspace(root).commit(again, record(name), DONE)
    assert [
        finding for finding in check.examine(LocalWorkspace(root)) if finding.unique_id != Add(a=1).unique_id
    ] == []
    assert {path.name for path in directory.iterdir()} == {"ws"}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
