"""From a planned step to a job, and from a job's end to what is recorded of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from dispatch.describe import Description
from dispatch.dispatcher import StepOutcome, Verdict
from dispatch.engine.base import Event, JobSpec, JobState, Network, Reason, Resources
from dispatch.environment import ImageRef, LocalId, RegistryDigest
from dispatch.errors import ConfigurationError, FormatError, StepError, WorkspaceError
from dispatch.executor import ContainerJobs, DockerExecutor, Materials, works
from dispatch.fingerprint import canonical
from dispatch.graph import StepGraph
from dispatch.info import AttemptFacts, StepInfo, StepRecord, StepState
from dispatch.location import HostPath
from dispatch.params import mark_references
from dispatch.plan import Identities, RunPlan, Standing, Wanted, plan_run
from dispatch.schedule import LocalScheduler, ResourceAssignment
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.observer import RecordingObserver
from dispatch.workspace.attempts import Ports
from dispatch.workspace.base import Attempt
from dispatch.workspace.local import LocalWorkspace

GIB = 1024**3
LOCAL = LocalId("sha256:1")
ENDED = 1_700_000_000.25
STEPS: dict[str, Any] = {
    "load": {"type": "load", "n": 1},
    "train": {
        "type": "train",
        "data": {"ref": "load"},
        "nested": [{"ref": "load", "key": "x"}],
        "step_env": {"SEED": 3},
        "step_resources": {"cpu_count": 1.5, "memory": "1GiB"},
        "step_network": "none",
    },
    "summary": {"type": "shell", "command": "wc -c", "inputs": {"model": {"ref": "train"}, "n": 3}},
}
OUTCOME: dict[str, Any] = {
    "contract": 1,
    "phase": "run",
    "state": "completed",
    "started": "2023-11-14T22:13:18Z",
    "ended": "2023-11-14T22:13:20Z",
    "exit_code": 0,
    "exception": None,
    "interpreter": "3.11.2",
}
EXCEPTION = {"type": "ValueError", "message": "odd\nvalue", "traceback": "Traceback …", "bases": "Exception"}


def description(type: str, arguments: Mapping[str, Any]) -> Description:
    """What a class says that takes its arguments as they are."""
    return Description(
        class_name=type.title(),
        module="digits.steps",
        qualname=type.title(),
        type=type,
        version="001",
        deterministic=True,
        cacheable=None,
        format={"name": "auto", "version": "001"},
        arguments=canonical(mark_references(dict(arguments))),
        resources=None,
    )


class Lab:
    """A plan of STEPS on a local workspace."""

    def __init__(self, directory: Path, image: ImageRef = LOCAL, **steps: Any) -> None:
        self.workspace = LocalWorkspace(directory / "ws")
        self.changes: dict[str, dict[str, Any]] = {}
        self.planned: RunPlan | None = None
        self.steps = steps or STEPS
        self.materials = Materials(
            images={"base": image},
            runtimes={"base": directory / "runtime"},
            source=directory / "source",
            workdir="/src/sub",
            paths=("/src/sub", "/src"),
            env={"SEED": "0", "SETTING": "1"},
            commit="commit",
            tree="tree",
            code="code",
        )
        self.engine = FakeEngine()
        self.observer = RecordingObserver()

    def plan(self) -> RunPlan:
        """Plan the steps, unless a plan was made by hand."""
        if self.planned is not None:
            return self.planned
        graph = StepGraph.from_params(self.steps)
        descriptions = {
            name: replace(description(node.type, node.arguments), **self.changes.get(name, {}))
            for name, node in graph.items()
            if node.type != "shell"
        }
        identities = Identities(lambda _: "image", lambda _: "tree", "code")
        images = dict.fromkeys(graph, "base")
        return plan_run(graph, images, descriptions, identities, self._completed, Wanted())

    def _completed(self, unique_ids: Any) -> Mapping[str, StepInfo | None]:
        return {found: self.workspace.step_info(found) for found in self.workspace.completed(unique_ids)}

    def jobs(self) -> ContainerJobs:
        """The job factory of the plan."""
        return ContainerJobs(self.plan(), self.materials, self.workspace, self.engine.capabilities(), "run-1")

    def record(self, name: str) -> StepRecord:
        """A step's record."""
        record = self.plan()[name].record
        assert record is not None
        return record

    def prepare(self, name: str) -> JobSpec:
        """Claim a step and make its job."""
        attempt = self.workspace.claim(self.record(name), "run-1")
        assignment = ResourceAssignment(cpus=1.5, memory=GIB, shared_memory=5, gpus=("0",))
        return self.jobs().prepare(self.record(name), attempt, assignment)

    def complete(self, name: str, file: str = "data.txt") -> None:
        """Give a step a result."""
        attempt = self.workspace.claim(self.record(name), "run-1")
        attempt.result.mkdir(parents=True)
        (attempt.result / file).write_text(name)
        self.workspace.commit(attempt, self.record(name), AttemptFacts(StepState.COMPLETED))

    def execute(self, script: Callable[[JobSpec], Outcome]) -> Mapping[str, StepOutcome]:
        """Run what has to run, on an engine of its own."""
        self.engine = FakeEngine(script)
        scheduler = LocalScheduler(self.engine.capabilities(), 2)
        executor = DockerExecutor(
            engine=self.engine,
            scheduler=scheduler,
            workspace=self.workspace,
            materials=self.materials,
            observer=self.observer,
            clock=time.monotonic,
        )
        return executor.execute(self.plan(), "run-1")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A plan of STEPS on a local workspace."""
    return Lab(tmp_path)


def mounts(job: JobSpec) -> dict[str, tuple[Path, bool]]:
    """The mounts of a job by target: source, and whether it is read-only."""
    return {m.target: (m.source.path, m.read_only) for m in job.mounts if isinstance(m.source, HostPath)}


def test_the_job_of_a_python_step(lab: Lab) -> None:
    """It has the runtime, its inputs read-only, and files that say module, arguments and places."""
    lab.complete("load")
    job = lab.prepare("train")
    record, here = lab.record("train"), job.attempt_dir
    assert (job.key, job.run, job.step, job.attempt) == (f"{record.unique_id}.1", "run-1", "train", 1)
    assert job.command == ("/bin/sh", "/dispatch/job/entrypoint.sh")
    assert lab.materials.source is not None
    assert (job.image, job.source) == (LocalId("sha256:1"), HostPath(lab.materials.source))
    assert job.resources == Resources(cpus=1.5, memory=GIB, shared_memory=5, gpus=("0",))
    assert job.network is Network.NONE
    assert mounts(job) == {
        "/dispatch/job": (here / "job", True),
        "/dispatch/output": (here / "output", False),
        "/dispatch/scratch": (here / "scratch", False),
        "/dispatch/work": (lab.workspace.work_location(record).path, False),
        "/dispatch/runtime": (lab.materials.runtimes["base"], True),
        "/dispatch/inputs/0": (lab.workspace.dir / "cache" / lab.record("load").unique_id / "result", True),
    }
    assert all(
        source.is_dir() for target, (source, _) in mounts(job).items() if target != "/dispatch/runtime"
    )
    document = json.loads((here / "job" / "job.json").read_text())
    assert document["step"] == {
        "name": "train",
        "id": record.unique_id,
        "type": "train",
        "module": "digits.steps",
        "qualname": "Train",
        "version": "001",
        "format": None,
    }
    assert document["inputs"] == {"load": "/dispatch/inputs/0"}
    assert document["arguments"] == {"data": {"ref": "load"}, "nested": [{"ref": "load", "key": "x"}]}
    assert document["paths"] == ["/src/sub", "/src"]
    assert "/src/sub" in (here / "job" / "entrypoint.sh").read_text()


def test_the_job_of_a_shell_step(lab: Lab) -> None:
    """It gets no runtime, and its inputs as variables."""
    lab.complete("load")
    lab.complete("train")
    job = lab.prepare("summary")
    assert "/dispatch/runtime" not in mounts(job)
    assert job.env["DISPATCH_INPUT_MODEL"] == "/dispatch/inputs/0"
    assert job.env["DISPATCH_INPUT_N"] == "3"
    assert job.network is Network.BRIDGE
    assert "wc -c" in (job.attempt_dir / "job" / "entrypoint.sh").read_text()


def test_the_environment_of_a_step(lab: Lab) -> None:
    """The step's own variables win over the settings', and ours are there."""
    lab.complete("load")
    env = lab.prepare("train").env
    assert (env["SEED"], env["SETTING"], env["OMP_NUM_THREADS"]) == ("3", "1", "1")
    assert env["DISPATCH_STEP_NAME"] == "train" and env["DISPATCH_ATTEMPT"] == "1"
    assert env["DISPATCH_INPUT_DATA"] == "/dispatch/inputs/0" and "DISPATCH_INPUT_NESTED" not in env


@pytest.mark.parametrize(
    ("step_format", "class_format", "default", "used"),
    [
        (None, "auto", None, None),
        (None, "auto", "json", "json"),
        (None, "dill", "json", None),
        ("pickle", "pickle", "json", "pickle"),
        ("auto", "auto", "json", "auto"),
    ],
)
def test_the_format_of_a_result(
    tmp_path: Path, step_format: str | None, class_format: str, default: str | None, used: str | None
) -> None:
    """A setting decides only where neither step nor class does: theirs is part of the identity."""
    options = {} if step_format is None else {"step_format": step_format}
    lab = Lab(tmp_path, load={"type": "load", **options})
    lab.changes["load"] = {"format": {"name": class_format, "version": "001"}}
    lab.materials = replace(lab.materials, default_format=default)
    job = lab.prepare("load")
    assert json.loads((job.attempt_dir / "job" / "job.json").read_text())["step"]["format"] == used


def test_an_input_that_vanished(lab: Lab) -> None:
    """A result that somebody removed since fails the step, naming both, before anything is written."""
    with pytest.raises(StepError, match="step 'train': the result of 'load' has vanished"):
        lab.prepare("train")
    assert not list(lab.workspace.dir.glob("attempts/*/job/*"))


def test_a_pickle_of_another_account_is_not_mounted(lab: Lab) -> None:
    """A Python step would load it: it fails by the client's own rule, before anything is written."""
    lab.complete("load", "data.pickle")
    lab.workspace = LocalWorkspace(lab.workspace.dir, ports=Ports(uid=lambda: os.getuid() + 1))
    with pytest.raises(FormatError, match="another account"):
        lab.prepare("train")
    assert not list(lab.workspace.dir.glob("attempts/*/job/*"))


def test_a_damaged_input_is_not_mounted(lab: Lab) -> None:
    """A result whose files are not those that were committed fails the step that would read it."""
    lab.complete("load")
    unique_id = lab.record("load").unique_id
    (lab.workspace.dir / "cache" / unique_id / "result" / "data.txt").write_text("cut")
    with pytest.raises(WorkspaceError, match=r"data\.txt") as caught:
        lab.prepare("train")
    assert caught.value.remedy


def test_works_are_what_has_to_run(lab: Lab) -> None:
    """Cached steps are no works and nobody waits for them; resources go along."""
    lab.complete("load")
    train, summary = works(lab.plan())
    assert (train.name, train.needs, train.resources.memory) == ("train", (), "1GiB")
    assert (summary.name, summary.needs) == ("summary", ("train",))


def test_an_unknown_step_is_not_run(lab: Lab) -> None:
    """A plan with steps of which nobody knows what they are is refused."""
    plan = lab.plan()
    unknown = replace(plan.steps[0], standing=Standing.UNKNOWN, record=None)
    with pytest.raises(ConfigurationError, match="step 'load'"):
        works(replace(plan, steps=(unknown, *plan.steps[1:])))


def event(**changes: Any) -> Event:
    """An end that the engine has nothing to say about."""
    return replace(Event("key", JobState.EXITED, ENDED, exit_code=0), **changes)


def judged(
    lab: Lab, outcome: Mapping[str, Any] | str | None, end: Event, name: str = "train"
) -> AttemptFacts:
    """What is recorded of an attempt that left an outcome and ended so."""
    attempt = Attempt("id", 1, lab.workspace.dir / "attempt")
    (attempt.directory / "output").mkdir(parents=True, exist_ok=True)
    if outcome is not None:
        text = outcome if isinstance(outcome, str) else json.dumps({**OUTCOME, **outcome})
        (attempt.directory / "output" / "outcome.json").write_text(text)
    return lab.jobs().facts(lab.record(name), attempt, end)


COMPLETED, FAILED = StepState.COMPLETED, StepState.FAILED
KILLED = event(exit_code=137, reason=Reason.OOM, message="it needed more memory than it was given")
STOPPED = event(exit_code=143, reason=Reason.CANCELLED, message="cancelled")
NEVER = event(exit_code=None, reason=Reason.IMAGE, message="the engine does not hold the image: x")
DOWN = event(exit_code=137, reason=Reason.INFRA, message="the engine went down while it ran")
CHILD = event(exit_code=1, message="one of its processes was killed for want of memory")


@pytest.mark.parametrize(
    ("outcome", "end", "state", "reason", "error", "exit_code"),
    [
        ({}, event(), COMPLETED, "step", "", 0),
        ({}, replace(KILLED), COMPLETED, "oom", "", 0),
        ({}, STOPPED, COMPLETED, "cancelled", "", 0),
        ({"state": "failed", "exit_code": 3}, event(exit_code=1), FAILED, "step",
         "the step exited with code 3", 3),
        ({"state": "failed", "exit_code": 1}, CHILD, FAILED, "step",
         "the step exited with code 1: one of its processes was killed for want of memory", 1),
        ({"state": "failed", "exit_code": 1, "exception": EXCEPTION}, event(exit_code=1), FAILED, "step",
         "ValueError: odd", 1),
        ({"state": "failed", "exit_code": 1, "exception": {**EXCEPTION, "message": ""}}, event(exit_code=1),
         FAILED, "step", "ValueError", 1),
        ({"state": "failed", "exit_code": 137}, KILLED, FAILED, "oom",
         "killed for memory: its limit is 1 GiB, its peak was 1 GiB", 137),
        ({"state": "failed", "exit_code": 137}, DOWN, FAILED, "infra",
         "the engine went down while it ran", 137),
        ({"state": "failed", "phase": "source", "exit_code": 64}, event(exit_code=64), FAILED, "step",
         "failed in the phase 'source' (exit code 64)", 64),
        ({"state": "cancelled", "exit_code": 143}, event(exit_code=143), FAILED, "cancelled",
         "cancelled", 143),
        ({"state": "cancelled", "exit_code": 143}, STOPPED, FAILED, "cancelled", "cancelled", 143),
        (None, event(exit_code=0), FAILED, "step", "ended without a result (exit code 0)", 0),
        (None, event(exit_code=3), FAILED, "step", "ended without a result (exit code 3)", 3),
        (None, event(exit_code=None), FAILED, "step", "ended without a result", None),
        (None, KILLED, FAILED, "oom", "killed for memory: its limit is 1 GiB, its peak was 1 GiB", 137),
        (None, replace(KILLED, peak_memory=GIB - 2**20), FAILED, "oom",
         "killed for memory: its limit is 1 GiB, its peak was 1023 MiB", 137),
        ({"state": "failed", "phase": "secrets", "exit_code": 75}, event(exit_code=75), FAILED, "lost",
         "failed in the phase 'secrets' (exit code 75)", 75),
        ({"state": "failed", "phase": "run", "exit_code": 75}, event(exit_code=1), FAILED, "step",
         "the step exited with code 75", 75),
        (None, STOPPED, FAILED, "cancelled", "cancelled", 143),
        (None, NEVER, FAILED, "image", "the engine does not hold the image: x", None),
        (None, DOWN, FAILED, "infra", "the engine went down while it ran", 137),
    ],
)  # fmt: skip
def test_how_an_attempt_ended(
    lab: Lab,
    outcome: Mapping[str, Any] | None,
    end: Event,
    state: StepState,
    reason: str,
    error: str,
    exit_code: int | None,
) -> None:
    """The job's own outcome decides, and without one the engine's word, in a line that can be acted on."""
    facts = judged(lab, outcome, end)
    assert (facts.state, facts.reason, facts.error, facts.exit_code) == (state, reason, error, exit_code)


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"contract": 2}', '{"contract": 1}'])
def test_an_outcome_that_is_none(lab: Lab, garbage: str) -> None:
    """What cannot be read as an outcome is the step's error, however well the container ended."""
    facts = judged(lab, garbage, event())
    assert facts.state is FAILED
    assert "not an outcome" in facts.error


def test_what_is_recorded_beside_the_end(lab: Lab) -> None:
    """Image, source, engine and interpreter are those of the attempt."""
    facts = judged(lab, {"exception": EXCEPTION, "state": "failed"}, event(exit_code=1))
    assert (facts.image, facts.image_digest) == ("base", "sha256:1")
    assert (facts.commit, facts.tree, facts.code) == ("commit", "tree", "code")
    assert (facts.engine, facts.interpreter, facts.phase) == ("docker", "3.11.2", "run")
    assert facts.exception == EXCEPTION


def test_an_image_of_a_registry_is_recorded_by_its_digest(tmp_path: Path) -> None:
    """A reference with a digest is what the image was."""
    lab = Lab(tmp_path, RegistryDigest("name@sha256:2"))
    assert judged(lab, {}, event()).image_digest == "name@sha256:2"


@pytest.mark.parametrize(
    ("seen", "own", "recorded"), [(None, None, None), (5, None, 5), (None, 7, 7), (5, 7, 7), (9, 7, 9)]
)
def test_peak_of_memory(lab: Lab, seen: int | None, own: int | None, recorded: int | None) -> None:
    """The larger of what the engine saw and what the step's own process says is recorded."""
    facts = judged(lab, {"peak_memory": own}, event(peak_memory=seen))
    assert (facts.state, facts.peak_memory) == (COMPLETED, recorded)


def test_secrets_of_a_step(tmp_path: Path) -> None:
    """A step is given those that it names, in memory; what is recorded of it holds none of them."""
    uses = ["TOKEN", {"name": "KEY", "env": True}]
    lab = Lab(tmp_path, load={"type": "load", "n": 1, "step_secrets": uses}, other={"type": "load", "n": 2})
    known = {"TOKEN": "hunter2", "KEY": "key-of-all", "NOT_ASKED": "for"}
    lab.materials = replace(lab.materials, secrets=known)
    job = lab.prepare("load")
    assert (job.secrets, job.secret_variables) == ({"TOKEN": "hunter2", "KEY": "key-of-all"}, ("KEY",))
    assert job.env["DISPATCH_SECRETS_DIR"] == "/dispatch/secrets"
    for text in (
        repr(job),
        repr(lab.materials),
        *(path.read_text() for path in (job.attempt_dir / "job").iterdir()),
    ):
        assert "hunter2" not in text and "key-of-all" not in text
    assert "dispatch_secrets='/dispatch/secrets'" in (job.attempt_dir / "job" / "entrypoint.sh").read_text()
    other = lab.prepare("other")
    assert other.secrets == {} and "DISPATCH_SECRETS_DIR" not in other.env
    words = {"type": "E", "message": "no hunter2\nfor key-of-all", "traceback": "hunter2", "bases": "E"}
    facts = judged(lab, {"state": "failed", "exit_code": 1, "exception": words}, event(exit_code=1), "load")
    assert facts.error == "E: no ***"
    assert facts.exception == {"type": "E", "message": "no ***\nfor ***", "traceback": "***", "bases": "E"}


def test_memory_without_a_limit_of_ours(lab: Lab) -> None:
    """A step without a limit can be killed for memory, too."""
    assert judged(lab, None, KILLED, "load").error == "killed for memory"


@pytest.mark.parametrize(
    ("phases", "started"),
    [
        ({"source": 0.25, "run": 1.5}, ENDED - 1.75),
        ({"run": 0.0}, ENDED),
        (None, 1_699_999_998),
        ("[]", 1_699_999_998),
        ("{", 1_699_999_998),
        ('{"run": "long"}', 1_699_999_998),
        ('{"run": NaN}', 1_699_999_998),
        ('{"run": -1}', 1_699_999_998),
    ],
)
def test_when_an_attempt_ran(lab: Lab, phases: dict[str, float] | str | None, started: float) -> None:
    """It ends by the engine's clock, and starts by it where the phases are known; else by its own."""
    if phases is not None:
        directory = lab.workspace.dir / "attempt"
        directory.mkdir(parents=True)
        text = phases if isinstance(phases, str) else json.dumps(phases)
        (directory / "phases.json").write_text(text)
    facts = judged(lab, {}, event())
    assert facts.ended == datetime.fromtimestamp(ENDED, timezone.utc)
    assert facts.started == datetime.fromtimestamp(started, timezone.utc)
    assert facts.duration == timedelta(seconds=ENDED - started)
    assert facts.phases == (phases if isinstance(phases, dict) else {})


@pytest.mark.parametrize(
    ("name", "outcome", "code", "error"),
    [
        ("train", {"state": "failed", "exit_code": 65}, 65,
         "the step exited with code 65: the image has no Python"),
        ("train", None, 65, "ended without a result (exit code 65): the image has no Python"),
        ("train", {"state": "failed", "phase": "source", "exit_code": 64}, 64,
         "failed in the phase 'source' (exit code 64): the image has no Python"),
        ("summary", {"state": "failed", "exit_code": 65}, 65, "the command exited with code 65"),
        ("train", {"state": "failed", "exit_code": 3}, 3, "the step exited with code 3"),
    ],
)  # fmt: skip
def test_why_the_entrypoint_gave_up(
    lab: Lab, name: str, outcome: Mapping[str, Any] | None, code: int, error: str
) -> None:
    """Its last word in the log is shown, but not where a command may have chosen the same code."""
    directory = lab.workspace.dir / "attempt"
    directory.mkdir(parents=True)
    noise = "x" * 10_000
    (directory / "out.log").write_text(
        f"{noise}\ndispatch: phase source\ndispatch: the image has no Python\ndispatch: phase run\n"
    )
    assert judged(lab, outcome, event(exit_code=code), name).error == error


def result(job: JobSpec, text: str, outcome: Mapping[str, Any] = OUTCOME) -> None:
    """Do what a container does: leave a result and an outcome."""
    output = mounts(job)["/dispatch/output"][0]
    (output / "result" / "data.txt").write_text(text)
    (output / "outcome.json").write_text(json.dumps(outcome))


def test_a_graph_runs_to_its_results(lab: Lab) -> None:
    """Results are in the workspace, each step saw its inputs' files, and a second run finds all cached."""
    seen: list[str] = []

    def act(job: JobSpec) -> None:
        inputs = [path for target, (path, _) in mounts(job).items() if "/inputs/" in target]
        seen.append(" ".join([job.step, *[(path / "data.txt").read_text() for path in inputs]]))
        result(job, job.step)

    outcomes = lab.execute(lambda _: Outcome(action=act))
    assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.COMPLETED}
    assert seen == ["load", "train load", "summary train"]
    assert works(lab.plan()) == []
    info = outcomes["train"].info
    assert info is not None and info.attempt is not None and info.attempt.code == "code"


def test_a_step_that_is_not_to_be_cached_works(tmp_path: Path) -> None:
    """It runs each time; commands behind it read the result of the latest attempt."""
    use = {"type": "shell", "command": "true", "inputs": {"x": {"ref": "roll"}}, "cache_results": False}
    lab = Lab(tmp_path, roll={"type": "load"}, use=use)
    lab.changes["roll"] = {"deterministic": False}
    seen: list[str] = []

    def act(job: JobSpec) -> None:
        if job.step == "use":
            seen.append((mounts(job)["/dispatch/inputs/0"][0] / "data.txt").read_text())
        result(job, f"{job.step} {job.attempt}")

    lab.workspace.register_run([lab.record("use")], "run-1", jobs=[lab.record("roll")])
    for _ in range(2):
        outcomes = lab.execute(lambda _: Outcome(action=act))
        assert {outcome.verdict for outcome in outcomes.values()} == {Verdict.COMPLETED}
    assert seen == ["roll 1", "roll 2"]
    info = outcomes["use"].info
    assert info is not None and info.state is StepState.UNCACHEABLE


def test_a_step_inside_another(tmp_path: Path) -> None:
    """It gets no job: the job of its consumer says what it is, and is given what it needs."""
    lab = Lab(
        tmp_path,
        load={"type": "load", "n": 1},
        roll={"type": "roll", "of": {"ref": "load"}},
        use={"type": "train", "data": {"ref": "roll"}},
    )
    lab.changes["roll"] = {"deterministic": False}
    lab.complete("load")
    job = lab.prepare("use")
    document = json.loads((job.attempt_dir / "job" / "job.json").read_text())
    assert document["inputs"] == {"load": "/dispatch/inputs/0"}
    assert document["arguments"] == {"data": {"ref": "roll"}}
    assert document["inline"]["roll"] == {
        "module": "digits.steps",
        "qualname": "Roll",
        "type": "roll",
        "version": "001",
        "format": None,
        "id": lab.record("roll").unique_id,
        "arguments": {"of": {"ref": "load"}},
    }
    assert "DISPATCH_INPUT_DATA" not in job.env
    assert [work.name for work in works(lab.plan())] == ["use"]


def test_a_step_that_replaces_its_result(lab: Lab) -> None:
    """It is run although it has one, and the new result takes the place of the old."""
    lab.complete("load")
    plan = lab.plan()
    again = replace(plan["load"], standing=Standing.RUN, replaces=True)
    lab.planned = replace(plan, steps=(again,), targets=("load",))
    outcomes = lab.execute(lambda _: Outcome(action=lambda job: result(job, "new")))
    assert outcomes["load"].verdict is Verdict.COMPLETED
    unique_id = lab.record("load").unique_id
    assert (lab.workspace.dir / "cache" / unique_id / "result" / "data.txt").read_text() == "new"


def test_a_job_that_leaves_no_result_directory(lab: Lab) -> None:
    """An outcome that claims success without a result fails the step."""

    def act(job: JobSpec) -> None:
        result(job, "")
        output = mounts(job)["/dispatch/output"][0]
        os.rename(output / "result", output / "moved")  # noqa: PTH104

    outcomes = lab.execute(lambda _: Outcome(action=act))
    assert outcomes["load"].verdict is Verdict.FAILED
    assert "left no result" in outcomes["load"].reason
    assert outcomes["train"].verdict is Verdict.SKIPPED
