"""`dispatch init`: what it writes runs as it says, and nothing of the user's is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch.testing.project import COMMAND, Project


@pytest.fixture
def empty(tmp_path: Path) -> Project:
    """An empty repository, without a commit."""
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    project.git("init", "--quiet", "--template=")
    return project


def follow(project: Project, lines: str) -> None:
    """Run the commands that `dispatch init` printed, as they are."""
    project.call("sh", "-ec", lines, env={"PATH": f"{COMMAND.parent}:{project.environ({})['PATH']}"}).well()


def all_cached(project: Project) -> bool:
    """Whether another run computes nothing."""
    return {row[0] for row in project.dispatch("run", "experiment.yml").well().table().values()} == {"cached"}


def test_what_it_writes_runs_as_printed(empty: Project) -> None:
    """In an empty repository the commands that it prints succeed, and a second run has all cached."""
    follow(empty, empty.dispatch("init").well().out)
    assert all_cached(empty)
    assert (empty.workspace / "latest/report/result/report.txt").read_text() == "the mean is 28.5\n"
    assert empty.dispatch("doctor", "experiment.yml").well()
    ignored = empty.git("status", "--short", "--untracked-files=all").split()[1::2]
    assert ignored == [".gitignore", "dispatch.yml", "experiment.yml", "steps.py"]


@pytest.mark.engine
@pytest.mark.archive
def test_with_an_image(tmp_path: Path, base: str) -> None:
    """Outside of a repository and in a directory that is not there yet: lock, build and run, as printed."""
    assert base
    project = Project(tmp_path)
    done = project.dispatch("init", "new place/here", "--image").well()
    assert done.out.splitlines()[0] == f"cd '{tmp_path}/new place/here'"
    follow(project, done.out)
    inside = Project(tmp_path / "new place/here")
    assert all_cached(inside)
    assert (inside.workspace / "latest/report/result/report.txt").read_text() == "the mean is 28.50\n"
    assert inside.dispatch("doctor", "experiment.yml").well()


@pytest.mark.parametrize("name", ["dispatch.yml", "experiment.yml", "steps.py", "steps/__init__.py"])
def test_nothing_is_overwritten(name: str, empty: Project) -> None:
    """A file that is in the way is named, and nothing at all is written."""
    empty.write({name: "mine\n"})
    before = empty.files()
    done = empty.dispatch("init")
    assert (done.code, done.out) == (2, "")
    assert f"has {name.partition('/')[0]} already" in done.err
    assert empty.files() == before


def test_lines_are_added_to_what_is_ignored(empty: Project) -> None:
    """What `.gitignore` has stays, also without a newline at its end; no line is there twice."""
    empty.write({".gitignore": "*.o\n/workspace"})
    empty.dispatch("init").well()
    assert (empty.root / ".gitignore").read_text() == "*.o\n/workspace\n__pycache__/\n"


def test_a_dry_run_writes_nothing(empty: Project) -> None:
    """It prints every file that would be written."""
    before = empty.files()
    out = empty.dispatch("init", "--image", "--dry-run").well().out
    assert empty.files() == before
    for name in ("dispatch.yml", "experiment.yml", "steps.py", "requirements.in", ".gitignore (added)"):
        assert f"--- {name}\n" in out


def test_a_file_is_no_directory(empty: Project) -> None:
    """A path that leads to a file is refused."""
    empty.write({"x": ""})
    done = empty.dispatch("init", "x")
    assert (done.code, "is no directory" in done.err) == (2, True)
