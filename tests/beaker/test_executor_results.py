"""Results of jobs on Beaker: what a step leaves is what the next one finds, on Beaker and on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch import StepGraph
from dispatch._beaker import BeakerDoor
from dispatch.beakerd.config import Config
from dispatch.location import BeakerDataset
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_program import program
from dispatch.testing.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("place")]

# A file that would be lost, a right, a link, an empty directory, and so many files that they travel together.
MIXED = """\
cd "$DISPATCH_OUTPUT_DIR"
: > empty; echo '#!/bin/sh' > run; chmod +x run; ln -s run link; mkdir -p deep/none
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo $i > deep/$i; done
"""
PLAIN = 'mkdir "$DISPATCH_OUTPUT_DIR"/d; echo hello > "$DISPATCH_OUTPUT_DIR"/d/x'
SEES = """\
cd "$DISPATCH_INPUT_FIRST"
{ find . | sort; [ -x run ] && echo executable; readlink link; cat d/x deep/20; } \
    > "$DISPATCH_OUTPUT_DIR"/seen 2>/dev/null || true
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A repository, in which the program is called."""
    (tmp_path / "project").mkdir()
    made = Project(tmp_path / "project").write({"words.txt": "a b c\n"}).commit()
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    """A directory that jobs may mount under its own name."""
    made = tmp_path / "drive"
    made.mkdir()
    return made


@pytest.fixture
def server(beaker_of: Callable[[Config], LocalBeaker], drive: Path) -> LocalBeaker:
    """A Beaker whose jobs may mount the drive."""
    return beaker_of(replace(Config(), host_paths=(drive,)))


@pytest.fixture
def door(server: LocalBeaker) -> Iterator[BeakerDoor]:
    """A door of ours."""
    made = door_of(server)
    yield made
    made.close()


def graph(first: str, second: str = SEES, **more: Any) -> StepGraph:
    """Two commands, the second of which sees what the first left."""
    return StepGraph.from_params(
        {
            "first": {"type": "shell", "command": first, **more},
            "second": {
                "type": "shell",
                "inputs": {"first": {"type": "ref", "ref": "first"}},
                "command": second,
            },
        }
    )


def check_mixed(first: Path) -> None:
    """It is what the command made, in all that can be seen of it."""
    assert (first / "empty").read_bytes() == b""
    assert os.access(first / "run", os.X_OK)
    assert str((first / "link").readlink()) == "run"
    assert (first / "deep" / "none").is_dir()
    assert {path.name for path in (first / "deep").iterdir()} == {"none", *map(str, range(1, 21))}


def check_seen(second: Path) -> None:
    """The next step has found all of it."""
    words = (second / "seen").read_text().split()
    assert {"executable", "run", "./deep/none", "./empty", "20"} <= set(words)


@pytest.mark.parametrize("where", ["beaker", "local", "drive"])
def test_all_of_a_result_arrives(server: LocalBeaker, door: BeakerDoor, drive: Path, where: str) -> None:
    """Links, rights and what is empty come through, to the next step and the client, wherever results are."""
    made = program(server, where, drive)
    workspace = made.workspace
    output = made.executor().execute_step_graph(graph(MIXED))
    assert output.successful, output
    check_mixed(workspace.step_result_for_run(output.run, "first"))
    check_seen(workspace.step_result_for_run(output.run, "second"))
    if where == "beaker":
        # It stayed where the job left it: one archive, which the next job unpacked.
        found = workspace.locate(workspace.step_of_run(output.run, "first").unique_id)
        assert isinstance(found, BeakerDataset)
        assert found.packed
        assert [each.path for each in door.datasets.files(found.id)] == ["outcome.json", "result.tar"]


def test_what_needs_no_packing_stays_files(server: LocalBeaker, door: BeakerDoor) -> None:
    """A file is where a person looks for it, and is mounted as it is."""
    made = program(server)
    workspace = made.workspace
    output = made.executor().execute_step_graph(graph(PLAIN))
    found = workspace.locate(workspace.step_of_run(output.run, "first").unique_id)
    assert isinstance(found, BeakerDataset)
    assert not found.packed
    assert [each.path for each in door.datasets.files(found.id)] == ["outcome.json", "result/d/x"]
    assert "hello" in (workspace.step_result_for_run(output.run, "second") / "seen").read_text()


@pytest.mark.parametrize("where", ["beaker", "local"])
def test_nothing_is_a_result(server: LocalBeaker, drive: Path, where: str) -> None:
    """A step may be wanted for its check alone; the next one finds an empty directory."""
    made = program(server, where, drive)
    workspace = made.workspace
    output = made.executor().execute_step_graph(graph("true"))
    assert output.successful, output
    assert list(workspace.step_result_for_run(output.run, "first").iterdir()) == []
    assert (workspace.step_result_for_run(output.run, "second") / "seen").read_text().split() == ["."]


def test_a_result_that_cannot_be_one(server: LocalBeaker) -> None:
    """A link that leads out of it is the step's failure, and is named."""
    output = (
        program(server).executor().execute_step_graph(graph('ln -s /etc/passwd "$DISPATCH_OUTPUT_DIR"/mine'))
    )
    assert list(output.failed) == ["first"]
    assert "./mine" in output.failed["first"].reason
