"""The ancestor's two examples of settings, word for word, run on a local Beaker by the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dispatch.testing.beaker_up import beaker_up
from dispatch.testing.project import Project

pytestmark = [pytest.mark.engine, pytest.mark.archive]

PIPELINES = Path(__file__).parents[1] / "pipelines"
ON_BEAKER = ("-w", "beaker://ai2/my-workspace")


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment of a user of a local Beaker."""
    with beaker_up(tmp_path_factory.mktemp("beaker")) as env:
        yield env


def project(case: str, target: Path, user: Mapping[str, str]) -> Project:
    shutil.copytree(PIPELINES / case, target, ignore=shutil.ignore_patterns("__pycache__", "workspace"))
    return Project(target, env=user).commit()


def test_the_minimal_example(user: Mapping[str, str], tmp_path: Path) -> None:
    """Results stay on Beaker and are found there: again, by another user's checkout, and one by one."""
    here = project("beaker-minimal", tmp_path / "mine", user)
    first = here.dispatch("run", "experiment.yml", *ON_BEAKER).well()
    assert {row[0] for row in first.table().values()} == {"completed"}
    assert not here.workspace.exists()
    assert json.loads(here.dispatch("result", "latest", "counts", *ON_BEAKER).well().out)["be"] == 2
    assert "counting 6 words" in here.dispatch("logs", "latest", "counts", *ON_BEAKER).well().out
    there = project("beaker-minimal", tmp_path / "theirs", user)
    again = there.dispatch("run", "experiment.yml", *ON_BEAKER).well()
    assert {row[0] for row in again.table().values()} == {"cached"}


def test_a_workspace_on_this_machine_is_warned_of_and_works(user: Mapping[str, str], tmp_path: Path) -> None:
    """Without another word in the settings results come to ./workspace, and it is said what that costs."""
    here = project("beaker-minimal", tmp_path / "mine", user)
    done = here.dispatch("run", "experiment.yml").well()
    assert "pass through it; `workspace: beaker://ORG/NAME` leaves them there" in done.err
    sizes = here.workspace / "latest" / "sizes" / "result" / "bytes.txt"
    counts = here.workspace / "latest" / "counts" / "result" / "data.json"
    assert int(sizes.read_text()) == counts.stat().st_size
    planned = here.dispatch("plan", "experiment.yml").well()
    assert {row[0] for row in planned.table().values()} == {"cached"}


def test_the_gpu_example(user: Mapping[str, str], tmp_path: Path) -> None:
    """`torch::train` runs in the image's own base environment, Python 3.9, on a GPU of the cluster."""
    here = project("beaker-gpu", tmp_path / "mine", user)
    here.dispatch("run", "experiment.jsonnet", *ON_BEAKER).well()
    found = json.loads(here.dispatch("result", "latest", "train", *ON_BEAKER).well().out)
    assert found == {"python": "3.9", "prefix": "/opt/conda", "gpus": "1"}
