"""A client of jobs on Beaker is killed: the next one looks after them, and results stay where they are."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch.beaker import BeakerWorkspace
from dispatch.beakerd.config import ClusterConfig, Config, NodeConfig
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_graph import CLUSTER, Graph, project_on_beaker
from dispatch.testing.beaker_program import program
from dispatch.testing.processes import until

pytestmark = pytest.mark.engine


def test_an_adopted_result_stays_on_beaker(
    beaker_of: Callable[[Config], LocalBeaker], tmp_path: Path, busybox_image: ImageRecord
) -> None:
    """It is the job's own dataset: nothing was computed twice, or carried through the client."""
    assert busybox_image
    shared = tmp_path / "shared"
    shared.mkdir()
    cluster = ClusterConfig(CLUSTER, (NodeConfig("one"),))
    server = beaker_of(replace(Config(), clusters=(cluster,), host_paths=(shared,)))
    made = project_on_beaker(server, tmp_path / "project", shared)
    graph = Graph({"only": ()})
    config = made.config(graph, "slow", "while [ ! -f /shared/go ]; do sleep 0.1; done")
    client = made.project.start("dispatch", "run", config, "-n", "mine")
    until(lambda: (shared / "only").exists(), "the job runs")
    client.signal(signal.SIGKILL, group=True)
    client.end()
    again = made.project.start("dispatch", "run", config, "-n", "mine")
    (shared / "go").touch()
    again.end().well()
    assert (shared / "only").read_text().split() == ["begun", "ended"]
    workspace = program(server).workspace
    assert isinstance(workspace, BeakerWorkspace)
    found = workspace.locate(workspace.step_of_run("mine", "only").unique_id)
    assert found is not None
    with contextlib.closing(door_of(server)) as door:
        assert not door.datasets.get(found.id).name.startswith("dispatch-")
        assert {each.path for each in door.datasets.files(found.id)} == {"outcome.json", "result/value"}
    workspace.close()
