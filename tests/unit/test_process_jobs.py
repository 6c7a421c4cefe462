"""From planned steps to processes of this machine and to what is recorded of them, with real ones."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from dispatch import payload
from dispatch.dispatcher import StepOutcome, Verdict
from dispatch.engine.base import Event, JobSpec, JobState
from dispatch.engine.process import ProcessEngine
from dispatch.engine.routed import RoutedEngine
from dispatch.environment import LocalId
from dispatch.errors import ConfigurationError
from dispatch.executor import DockerExecutor, LocalExecutor, Materials, ProcessJobs, ProcessMaterials
from dispatch.info import StepInfo
from dispatch.plan import RunPlan, for_run
from dispatch.schedule import LocalScheduler, ResourceAssignment
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.observer import RecordingObserver
from dispatch.testing.plans import HERE, KnownResults, plan_steps
from dispatch.workspace.base import Workspace
from dispatch.workspace.local import LocalWorkspace
from dispatch.workspace.memory import MemoryWorkspace

MODULE = """
import os, random
from dispatch import step

@step("load")
def Load(n: int) -> list:
    return list(range(n))

@step("roll")
def Roll(of: list) -> list:
    with open("rolled", "a") as file:
        print(os.environ["DISPATCH_STEP_NAME"], file=file)
    return [*of, random.random()]

@step("total")
def Total(data: list) -> float:
    return sum(data)

@step("work", bind=True)
def Work(self) -> int:
    place = self.work_dir / "count"
    count = int(place.read_text()) + 1 if place.exists() else 1
    place.write_text(str(count))
    if count < 2:
        raise RuntimeError("the first time")
    return count

@step("where")
def Where() -> list:
    env = os.environ
    return [os.getcwd(), env["SETTING"], env.get("OMP_NUM_THREADS"), env["DISPATCH_ATTEMPT"]]
"""
STEPS: dict[str, Any] = {
    "load": {"type": "load", "n": 3, "step_image": HERE},
    "total": {"type": "total", "data": {"type": "ref", "ref": "load"}, "step_image": HERE},
    "text": {
        "type": "shell",
        "command": 'cat "$DISPATCH_INPUT_X"/* > "$DISPATCH_OUTPUT_DIR/text"; pwd',
        "inputs": {"x": {"type": "ref", "ref": "total"}},
        "step_image": HERE,
    },
}


class Lab:
    """A project, a workspace and the engine of processes."""

    def __init__(self, root: Path, runtime: payload.Runtime, workspace: Workspace) -> None:
        self.project = root / "project"
        self.project.mkdir()
        (self.project / "steps.py").write_text(textwrap.dedent(MODULE))
        self.workspace = workspace
        self.materials = ProcessMaterials(
            workdir=str(self.project),
            paths=(str(self.project),),
            env={"SETTING": "1"},
            commit="commit",
            tree="tree",
            code="code",
            platform={"os": "linux"},
            environment={"python": "3"},
            python=sys.executable,
            runtime=runtime.directory,
        )
        environ = {"PATH": os.environ["PATH"]}
        self.engine = ProcessEngine(sys.executable, runtime.directory, environ)
        self.observer = RecordingObserver()

    def plan(self, steps: Mapping[str, Any], **changes: Mapping[str, Any]) -> RunPlan:
        """Plan steps against the workspace, as a run of its own."""
        infos: dict[str, StepInfo | None] = {}
        plan = plan_steps(steps, changes)
        for step in plan.steps:
            assert step.record is not None
            if step.record.cacheable and self.workspace.completed([step.record.unique_id]):
                infos[step.record.unique_id] = None
        return for_run(plan_steps(steps, changes, known=KnownResults(infos)), "run-1")

    def execute(self, plan: RunPlan, parallelism: int = 1) -> Mapping[str, StepOutcome]:
        """Run a plan."""
        records = [step.record for step in plan.steps if step.record is not None]
        self.workspace.register_run(records)
        scheduler = LocalScheduler(self.engine.capabilities(), parallelism)
        executor = LocalExecutor(
            self.engine, scheduler, self.workspace, self.materials, self.observer, time.monotonic
        )
        return executor.execute(plan, "run-1")

    def result(self, plan: RunPlan, name: str) -> Any:
        """The result of a step."""
        record = plan[name].record
        assert record is not None
        return self.workspace.step_cache[record]


@pytest.fixture(params=["local", "memory"])
def lab(tmp_path: Path, runtime: payload.Runtime, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A project with the module ``steps``, on each kind of workspace."""
    workspace = LocalWorkspace(tmp_path / "ws") if request.param == "local" else MemoryWorkspace()
    made = Lab(tmp_path, runtime, workspace)
    yield made
    made.engine.close()


@pytest.mark.parametrize("parallelism", [1, 3])
def test_a_graph_runs_to_its_results(lab: Lab, parallelism: int) -> None:
    """Python steps and commands give their results to each other, and a second run finds all cached."""
    plan = lab.plan(STEPS)
    outcomes = lab.execute(plan, parallelism)
    assert {name: outcome.verdict for name, outcome in outcomes.items()} == dict.fromkeys(
        STEPS, Verdict.COMPLETED
    ), [outcome.reason for outcome in outcomes.values()]
    assert lab.result(plan, "total") == 3.0
    assert (lab.result(plan, "text") / "text").read_text() == "3\n"
    assert lab.execute(lab.plan(STEPS)) == {}


def test_what_is_recorded(lab: Lab) -> None:
    """Facts say that it was this machine, and no image."""
    plan = lab.plan(STEPS)
    info = lab.execute(plan)["total"].info
    assert info is not None and info.attempt is not None
    facts = info.attempt
    assert (facts.engine, facts.image, facts.image_digest) == ("local", "", "")
    assert (facts.commit, facts.tree, facts.code) == ("commit", "tree", "code")
    assert facts.interpreter == ".".join(map(str, sys.version_info[:3]))
    assert (facts.platform, facts.environment) == ({"os": "linux"}, {"python": "3"})
    assert facts.started is not None and facts.ended is not None and facts.started <= facts.ended
    assert (facts.exit_code, facts.reason, facts.phase) == (0, "step", "run")
    log = lab.workspace.log_path(info.unique_id)
    assert log is not None and log.read_text() == ""


def test_a_step_inside_others(lab: Lab) -> None:
    """One that is not to be cached is computed in each consumer's process, once there."""
    roll = {"type": "roll", "of": {"type": "ref", "ref": "load"}, "step_image": HERE}
    total = {"type": "total", "data": {"type": "ref", "ref": "roll"}, "step_image": HERE}
    steps = {"load": STEPS["load"], "roll": roll, "one": total, "two": {**total, "cache_results": False}}
    plan = lab.plan(steps, roll={"deterministic": False})
    outcomes = lab.execute(plan, 2)
    assert set(outcomes) == {"load", "one", "two"}
    assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.COMPLETED}
    assert len((lab.project / "rolled").read_text().splitlines()) == 2
    assert 3 < lab.result(plan, "one") < 4


def test_the_work_directory_is_kept(lab: Lab) -> None:
    """What a failed attempt left there, the next one finds."""
    steps = {"work": {"type": "work", "step_image": HERE}}
    (outcome,) = lab.execute(lab.plan(steps)).values()
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILED, "RuntimeError: the first time")
    plan = lab.plan(steps)
    (outcome,) = lab.execute(plan).values()
    assert outcome.verdict is Verdict.COMPLETED
    assert lab.result(plan, "work") == 2


def test_where_a_step_runs(lab: Lab) -> None:
    """In the user's own directory, with the settings' variables, and as many threads as it asked CPUs for."""
    steps = {"where": {"type": "where", "step_image": HERE, "step_resources": {"cpu_count": 1.5}}}
    plan = lab.plan(steps)
    (outcome,) = lab.execute(plan).values()
    assert lab.result(plan, "where") == [str(lab.project), "1", "1", "1"], outcome


def test_gpus_are_given_by_the_scheduler(lab: Lab) -> None:
    """A step sees the GPUs that it was given; one that asked for none is left with what the user has."""
    plan = lab.plan(STEPS)
    record = plan["load"].record
    assert record is not None
    jobs = ProcessJobs(plan, lab.materials, lab.workspace, lab.engine.capabilities(), "run-1")

    def env(assignment: ResourceAssignment) -> Mapping[str, str]:
        attempt = lab.workspace.claim(record, "run-1")
        job = jobs.prepare(record, attempt, assignment)
        end = Event(job.key, JobState.EXITED, 1.0, message="never ran")
        lab.workspace.fail(attempt, record, jobs.facts(record, attempt, end))
        return job.env

    assert env(ResourceAssignment(gpus=("1", "3")))["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert "CUDA_VISIBLE_DEVICES" not in env(ResourceAssignment())


def test_a_container_is_not_a_process(lab: Lab) -> None:
    """The local executor refuses a plan with a step that has an image, before anything starts."""
    plan = lab.plan({**STEPS, "boxed": {"type": "load", "n": 1}})
    with pytest.raises(ConfigurationError, match="step 'boxed'"):
        lab.execute(plan)
    assert lab.observer.told == []


def contained(lab: Lab, script: Any, processes: bool) -> DockerExecutor:
    """An executor of a fake container engine, beside it the real one for processes."""
    containers = FakeEngine(script)
    engine = RoutedEngine(containers, lab.engine) if processes else containers
    materials = Materials(
        images={"base": LocalId("sha256:1")},
        runtimes={"base": lab.materials.runtime},
        source=lab.project,
        workdir="/src",
        paths=("/src",),
        env={},
        commit="commit",
        tree="tree",
        processes=lab.materials if processes else None,
    )
    scheduler = LocalScheduler(engine.capabilities(), 2)
    return DockerExecutor(engine, scheduler, lab.workspace, materials, lab.observer, time.monotonic)


def test_containers_and_processes_in_one_run(lab: Lab) -> None:
    """Steps without an image, and those that must run on this machine, are processes; the rest containers."""
    steps = {
        "boxed": {"type": "load", "n": 3},
        "total": {**STEPS["total"], "data": {"type": "ref", "ref": "boxed"}},
        "near": {"type": "load", "n": 2, "step_resources": {"machine": "local"}},
        "far": {"type": "shell", "command": "true", "inputs": {"x": {"type": "ref", "ref": "total"}}},
    }
    seen: list[str] = []

    def act(job: JobSpec) -> None:
        seen.append(job.step)
        output = job.attempt_dir / "output"
        (output / "result" / "data.json").write_text("[0, 1, 2]")
        outcome = {"contract": 1, "phase": "run", "state": "completed", "started": None, "ended": None}
        outcome |= {"exit_code": 0, "exception": None, "interpreter": None}
        (output / "outcome.json").write_text(json.dumps(outcome))

    plan = lab.plan(steps)
    outcomes = contained(lab, lambda _: Outcome(action=act), True).execute(plan, "run-1")
    assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.COMPLETED}, outcomes
    assert seen == ["boxed", "far"]
    assert lab.result(plan, "total") == 3.0
    engines = {
        name: outcome.info.attempt.engine
        for name, outcome in outcomes.items()
        if outcome.info is not None and outcome.info.attempt is not None
    }
    assert engines == {"boxed": "docker", "total": "local", "near": "local", "far": "docker"}


def test_a_process_is_not_a_container(lab: Lab) -> None:
    """Without an engine for processes, a step that has no image is refused before anything starts."""
    with pytest.raises(ConfigurationError, match="step 'load'"):
        contained(lab, lambda _: Outcome(), False).execute(lab.plan(STEPS), "run-1")
