"""What is recorded of machine, process and source."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dispatch.workspace import surroundings

URL = "https://host/team/project.git"


def git(directory: Path, *arguments: str) -> str:
    """Run git with nothing of the user's."""
    command = [
        "git",
        "-c",
        "user.name=n",
        "-c",
        "user.email=e@x",
        "-c",
        "init.defaultBranch=main",
        *arguments,
    ]
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory)}
    done = subprocess.run(
        command, cwd=directory, check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit and an origin."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    git(tmp_path, "remote", "add", "other", "https://host/other.git")
    git(tmp_path, "remote", "add", "origin", URL)
    return tmp_path


def test_the_commit_and_the_origin(repository: Path) -> None:
    """They are found from any directory below, on a branch, detached, and with packed references."""
    below = repository / "a" / "b"
    below.mkdir(parents=True)
    expected = {"commit": git(repository, "rev-parse", "HEAD"), "remote": URL}
    assert surroundings.git(below) == expected
    git(repository, "pack-refs", "--all")
    assert surroundings.git(below) == expected
    git(repository, "checkout", "-q", "--detach")
    assert surroundings.git(below) == expected


def test_a_second_working_tree(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A tree that git added elsewhere has a commit of its own and the same origin."""
    place = tmp_path_factory.mktemp("trees") / "tree"
    git(repository, "worktree", "add", "-q", "-b", "side", str(place))
    git(place, "commit", "-q", "--allow-empty", "-m", "second")
    assert surroundings.git(place) == {"commit": git(place, "rev-parse", "HEAD"), "remote": URL}


@pytest.mark.parametrize(
    "url", ["https://me:secret@host/team/project.git", "https://token@host/team/project.git"]
)
def test_credentials_are_left_out(repository: Path, url: str) -> None:
    """What stands before the host of a URL is not recorded."""
    git(repository, "remote", "set-url", "origin", url)
    assert surroundings.git(repository)["remote"] == URL


def test_no_repository_and_half_of_one(tmp_path: Path) -> None:
    """What is not there is left out, and is never an error."""
    git(tmp_path, "init", "-q")
    assert surroundings.git(tmp_path) == {}
    (tmp_path / ".git" / "HEAD").write_bytes(b"\xff")
    assert surroundings.git(tmp_path) == {}
    (tmp_path / ".git" / "HEAD").unlink()
    assert surroundings.git(tmp_path) == {}


def test_machine_and_process(tmp_path: Path) -> None:
    """All that is promised is there."""
    machine = surroundings.machine()
    assert machine["host"] == os.uname().nodename
    assert machine["cpu_count"] == os.cpu_count()
    assert all(machine[name] for name in ("os", "user"))
    process = surroundings.process(["train", "it's"], tmp_path)
    assert process["command"] == """train 'it'"'"'s'"""
    assert (process["executable"], process["root"]) == (sys.executable, str(tmp_path))
    assert process["python"] == ".".join(map(str, sys.version_info[:3]))
    assert process["dispatch"]
    assert surroundings.process()["root"] == str(Path.cwd())
