"""The parts of the composition root that decide something themselves."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.app import App
from dispatch.app.engines import Engines, offering
from dispatch.app.materials import _without_values
from dispatch.app.registering import KEPT_BY_RUN, register
from dispatch.app.source import SourceTree, WorkingTree
from dispatch.engine.base import Capabilities
from dispatch.engine.gpus import Gpu
from dispatch.errors import ConfigurationError, ResourceAssignmentError
from dispatch.info import AttemptFacts, StepState
from dispatch.location import HostPath, SharedPath
from dispatch.plan import Place, Standing
from dispatch.reporting import Lines
from dispatch.source import Git
from dispatch.step import StepResources
from dispatch.testing.plans import plan_steps
from dispatch.workspaces import LocalWorkspace, MemoryWorkspace

STEPS = {"chance": {"type": "draw"}, "sum": {"type": "total", "n": 1}}
RANDOM = {"chance": {"deterministic": False}}


def test_an_invented_name_is_tried_again_when_it_is_taken() -> None:
    """Two draws of the same number give two runs of different names."""
    workspace = MemoryWorkspace()
    plan = plan_steps(STEPS)
    draws = iter([0, 0, 0, 0, 0, 0, 1, 1, 1])
    names = [register(workspace, plan, None, {}, lambda _: next(draws)).name for _ in range(2)]
    assert len(set(names)) == 2
    assert next(draws, None) is None


def test_a_run_keeps_its_own_uncacheable_results(tmp_path: Path) -> None:
    """Going on with an unfinished run finds what that run computed; another run does not."""
    workspace = LocalWorkspace(tmp_path / "ws")
    plan = plan_steps(STEPS, RANDOM)
    first = register(workspace, plan, "first", {}, lambda _: 0)
    name, record = first.name, first.plan["chance"].record
    assert record is not None
    attempt = workspace.claim(record, name)
    attempt.result.mkdir(parents=True, exist_ok=True)
    (attempt.result / "data.json").write_text("4\n")
    workspace.commit(attempt, record, AttemptFacts(StepState.COMPLETED))
    assert first.driver is not None
    first.driver.release()
    again = register(workspace, plan, "first", {}, lambda _: 0).plan
    assert (again["chance"].standing, again["chance"].reason) == (Standing.CACHED, KEPT_BY_RUN)
    assert again["sum"].standing is Standing.RUN
    other = register(workspace, plan, "second", {}, lambda _: 0).plan
    assert other["chance"].standing is Standing.RUN


@pytest.mark.parametrize("name", ["a/b", "-x", "", "a b"])
def test_a_malformed_name_is_refused(name: str) -> None:
    """The workspace's rule, as a configuration error with the remedy; nothing is registered."""
    workspace = MemoryWorkspace()
    with pytest.raises(ConfigurationError, match="name"):
        register(workspace, plan_steps(STEPS, RANDOM), name, {}, lambda _: 0)
    assert workspace.num_registered_runs() == 0


def test_a_finished_run_is_not_gone_on_with() -> None:
    """Its name is taken."""
    workspace = MemoryWorkspace()
    register(workspace, plan_steps(STEPS), "first", {}, lambda _: 0)
    workspace.finish_run("first", "completed")
    with pytest.raises(ConfigurationError, match="first"):
        register(workspace, plan_steps(STEPS), "first", {}, lambda _: 0)


def test_outside_of_a_repository_nothing_is_recorded_of_the_source(tmp_path: Path) -> None:
    """Steps run in the directory all the same, with it on the path."""
    environ = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    tree = SourceTree(tmp_path, [], [], Git(environ), tmp_path / "cache")
    here = WorkingTree(tmp_path, [tmp_path / "beside"], tree)
    assert (here.snapshot, here.code) == (None, "")
    assert here.paths == (str(tmp_path), str(tmp_path / "beside"))


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        (["-D", "key=secret"], ["-D", "key=…"]),
        (["-D", "key"], ["-D", "key"]),
        (["-Dkey=secret=x"], ["-Dkey=…"]),
        (["--ext-var", "key=secret"], ["--ext-var", "key=…"]),
        (["--ext-var=key=secret"], ["--ext-var=key=…"]),
        (["-n", "a=b"], ["-n", "a=b"]),
    ],
)
def test_no_value_of_a_variable_is_recorded(word: list[str], kept: list[str]) -> None:
    """A run's record shows the command, and of variables their names alone."""
    assert _without_values(["dispatch", "run", *word, "x.jsonnet"]) == ["dispatch", "run", *kept, "x.jsonnet"]


def test_settings_reach_the_scheduler(tmp_path: Path) -> None:
    """Groups, the number of steps at once and the GPUs to use are as the settings say."""
    text = "executor: {type: local, parallelism: 3, gpus: [5, 7]}\ngroups: {g: 1}\n"
    (tmp_path / "dispatch.yml").write_text(text)
    engines = Engines(App.open(tmp_path, None, Lines(print)), None)
    try:
        scheduler = engines.scheduler(Place.PROCESS, tmp_path)
    finally:
        engines.close()
    assert scheduler.schedule("a", StepResources(gpu_count=2), "g").gpus == ("5", "7")
    with pytest.raises(ResourceAssignmentError, match="group 'g'"):
        scheduler.schedule("b", StepResources(), "g")
    scheduler.schedule("c", StepResources())
    scheduler.schedule("d", StepResources())
    with pytest.raises(ResourceAssignmentError, match="3 steps run"):
        scheduler.schedule("e", StepResources())


def test_gpus_that_the_settings_name() -> None:
    """They take the place of those that were found, under the names that all clients use."""
    here = (Gpu("0", "A100", "GPU-aa"), Gpu("1", "H100", "GPU-bb"))
    found = Capabilities("docker", (), 0, 0, 1, 1, gpus=("0", "1"), gpu_types=("A100", "H100"))
    assert offering(found, ["GPU-bb", "1", "MIG-x"], here) == replace(
        found, gpus=("1", "MIG-x"), gpu_types=("H100", "")
    )
    assert offering(found, [], here).gpus == ()


@pytest.mark.parametrize(
    ("drive", "shared"), [("net", True), ("net/drive", True), ("other", False), ("ne", False)]
)
def test_workspace_on_a_shared_drive(tmp_path: Path, drive: str, shared: bool) -> None:
    """A workspace below a directory that the settings name is where other machines see it, too."""
    (tmp_path / "dispatch.yml").write_text(f"{{workspace: net/drive/ws, shared_dirs: [{drive}]}}")
    workspace = App.open(tmp_path, None, Lines(print)).workspace
    assert isinstance(workspace, LocalWorkspace) and workspace.is_shared is shared
    kind = SharedPath if shared else HostPath
    record = plan_steps(STEPS).steps[0].record
    assert record is not None
    assert type(workspace.work_location(record)) is kind
    again = pickle.loads(pickle.dumps(workspace))
    assert again.is_shared is shared
