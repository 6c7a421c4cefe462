"""`BeakerExecutor` as programs use it: made with the parameters of the ancestor, and given a graph."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import beaker as beaker_py
import pytest

from dispatch import Executor, StepGraph
from dispatch.beaker import (
    DEFAULT_BEAKER_IMAGE,
    BeakerExecutor,
    BeakerScheduler,
    BeakerWorkspace,
    ResourceAssignment,
    ResourceAssignmentError,
    SimpleBeakerScheduler,
)
from dispatch.beakerd.config import ClusterConfig, Config, NodeConfig
from dispatch.errors import ConfigurationError, SourceError
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import options_of
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.project import Project
from dispatch.workspaces import LocalWorkspace, MemoryWorkspace

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("place")]

CLUSTER = "ai2/general-cirrascale"
TWO = Config(clusters=(ClusterConfig(CLUSTER, (NodeConfig("one", gpus=2, gpu_type="NVIDIA_A100_80GB"),)),))


def graph(**more: Any) -> StepGraph:
    """Two commands, the second of which reads what the first left."""
    return StepGraph.from_params(
        {
            "first": {"type": "shell", "command": 'echo hello > "$DISPATCH_OUTPUT_DIR/x"', **more},
            "second": {
                "type": "shell",
                "inputs": {"first": {"type": "ref", "ref": "first"}},
                "command": 'wc -c < "$DISPATCH_INPUT_FIRST/x" > "$DISPATCH_OUTPUT_DIR/size"',
            },
        }
    )


@pytest.fixture
def server(beaker_of: Callable[[Config], LocalBeaker]) -> LocalBeaker:
    """A Beaker with a cluster of two GPUs."""
    return beaker_of(TWO)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A repository, in which the program is called."""
    (tmp_path / "project").mkdir()
    made = Project(tmp_path / "project").write({"words.txt": "a b c\n"}).commit()
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


def kept_by(server: LocalBeaker) -> BeakerWorkspace:
    """The workspace there."""
    options: dict[str, Any] = dict(options_of(server))
    return BeakerWorkspace("ai2/my-workspace", **options)


def executor(server: LocalBeaker, workspace: Any = None, **more: Any) -> BeakerExecutor:
    options: dict[str, Any] = dict(options_of(server))
    kept = BeakerWorkspace("ai2/my-workspace", **options) if workspace is None else workspace
    given = {"docker_image": REFERENCE, "beaker_workspace": "ai2/my-workspace", **options, **more}
    return BeakerExecutor(kept, **given)


def test_a_graph_runs_and_is_cached(server: LocalBeaker) -> None:
    """All parameters of a usual program; the second time nothing runs, whatever the run is called."""
    more = {"clusters": [CLUSTER], "priority": beaker_py.BeakerJobPriority.high, "parallelism": -1}
    first = executor(server, **more).execute_step_graph(graph(), run_name="mine")
    assert (first.run, list(first.successful), first.failed, first.not_run) == (
        "mine", ["first", "second"], {}, {},
    )  # fmt: skip
    assert {each.verdict.value for each in first.successful.values()} == {"completed"}
    second = executor(server, **more).execute_step_graph(graph())
    assert {each.verdict.value for each in second.successful.values()} == {"cached"}
    workspace = kept_by(server)
    result = workspace.step_result_for_run("mine", "second")
    assert (result / "size").read_text().strip() == "6"
    workspace.close()


def test_what_fails_and_what_is_not_run_is_told(server: LocalBeaker) -> None:
    """A failed step is no error of the program; those behind it are not run."""
    failing = StepGraph.from_params(
        {
            "bad": {"type": "shell", "command": "exit 3"},
            "behind": {
                "type": "shell",
                "inputs": {"bad": {"type": "ref", "ref": "bad"}},
                "command": "true",
            },
        }
    )
    found = executor(server).execute_step_graph(failing)
    assert (list(found.failed), list(found.not_run), dict(found.successful)) == (["bad"], ["behind"], {})


def test_its_own_plan_is_carried_out(server: LocalBeaker) -> None:
    """It is an executor as all are: it carries out a plan, its own."""
    made = executor(server)
    assert isinstance(made, Executor)
    plan = made.plan(graph())
    assert set(made.execute(plan, "planned")) == {"first", "second"}
    with pytest.raises(ConfigurationError, match="its own plans alone"):
        made.execute(plan, "again")


def test_a_scheduler_of_ones_own(server: LocalBeaker, caplog: pytest.LogCaptureFixture) -> None:
    """It is asked for each step, again where there is no room now; clusters beside it are warned of."""
    asked = []

    class Mine(BeakerScheduler):
        def schedule(self, step: Any) -> ResourceAssignment:
            asked.append(step.name)
            if len(asked) == 1:
                raise ResourceAssignmentError("not now")
            return ResourceAssignment(CLUSTER, step.resources, "low")

    with caplog.at_level(logging.WARNING):
        made = executor(server, scheduler=Mine(), clusters=["ai2/none-such"])
    assert "'clusters' is ignored" in caplog.text
    assert len(made.execute_step_graph(graph()).successful) == 2
    assert asked == ["first", "first", "second"]


def test_the_settings_scheduler_by_name(server: LocalBeaker) -> None:
    """Both that ship are known by name, and may be given what they take."""
    for scheduler in (
        {"type": "available", "clusters": [CLUSTER]},
        {"type": "simple", "clusters": [CLUSTER], "priority": "low"},
        SimpleBeakerScheduler([CLUSTER], "normal"),
    ):
        made = executor(server, scheduler=scheduler).execute_step_graph(
            graph(step_env={"N": str(len(str(scheduler)))})
        )
        assert len(made.successful) == 2


@pytest.mark.parametrize("allowed", [False, True])
def test_uncommitted_changes(server: LocalBeaker, place: Project, allowed: bool) -> None:
    """They are refused, or what is in the working tree runs; nothing need be pushed in any case."""
    place.write({"words.txt": "changed\n"})
    reading = StepGraph.from_params(
        {
            "read": {
                "type": "shell",
                "paths": ["words.txt"],
                "command": "cat words.txt > $DISPATCH_OUTPUT_DIR/x",
            }
        }
    )
    made = executor(server, allow_dirty=allowed)
    if not allowed:
        with pytest.raises(SourceError, match="uncommitted changes"):
            made.execute_step_graph(reading)
        return
    run = made.execute_step_graph(reading).run
    workspace = kept_by(server)
    assert (workspace.step_result_for_run(run, "read") / "x").read_text() == "changed\n"
    workspace.close()


def test_results_in_memory_would_be_lost(server: LocalBeaker) -> None:
    """A workspace in memory is refused before anything is asked."""
    with pytest.raises(ConfigurationError, match="results in memory would be lost"):
        executor(server, MemoryWorkspace()).execute_step_graph(graph())


def test_a_local_workspace(server: LocalBeaker, tmp_path: Path) -> None:
    """Results come to it."""
    kept = LocalWorkspace(tmp_path / "results")
    found = executor(server, kept).execute_step_graph(graph(), "local")
    assert len(found.successful) == 2
    assert (kept.step_result_for_run("local", "second") / "size").read_text().strip() == "6"


def test_two_images_are_one_too_many(server: LocalBeaker) -> None:
    """They are refused when it is made, as in the settings."""
    with pytest.raises(ConfigurationError, match="exclude each other"):
        executor(server, beaker_image="ai2/conda")
    assert DEFAULT_BEAKER_IMAGE == "ai2/conda"


def test_it_is_registered() -> None:
    """It is found by its name, as workspace and schedulers are."""
    assert Executor.by_name("beaker") is BeakerExecutor
    assert BeakerScheduler.default_implementation == "simple"
    assert BeakerScheduler.by_name("simple") is SimpleBeakerScheduler
