"""From a planned step to a job on Beaker: what it is given, and how its result and its work come back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch.engine.base import Capabilities, Event, JobSpec, JobState, Mount, Placement, Reason
from dispatch.environment import BeakerId, RegistryDigest
from dispatch.errors import ConfigurationError
from dispatch.executor import BeakerJobs, BeakerJobsExecutor, BeakerMaterials, works
from dispatch.graph import StepGraph
from dispatch.info import AttemptFacts, StepRecord, StepState
from dispatch.job import BOOTED, Clone, Setup
from dispatch.location import BeakerDataset, HostPath, Location, SharedPath
from dispatch.plan import Identities, RunPlan, Wanted, plan_run
from dispatch.schedule import LocalScheduler, ResourceAssignment
from dispatch.testing.engine import FakeEngine, Outcome
from dispatch.testing.observer import RecordingObserver
from dispatch.workspace.base import Attempt, Workspace
from dispatch.workspace.local import LocalWorkspace
from dispatch.workspace.memory import MemoryWorkspace

CAPABILITIES = Capabilities("beaker", (BeakerDataset, SharedPath), uid=0, gid=0, cpus=1, memory=1)
BOOT = BeakerDataset("01BOOT")
SOURCE = BeakerDataset("01SOURCE", "source.tar", packed=True)
STEPS: dict[str, Any] = {
    "load": {"type": "shell", "command": "load"},
    "train": {
        "type": "shell",
        "command": "train",
        "inputs": {"data": {"ref": "load"}},
        "step_timeout": "1h",
        "step_secrets": ["HF_TOKEN"],
        "step_env": {"SEED": 3},
    },
}


class OnBeaker(LocalWorkspace):
    """A workspace whose results are datasets; ``results`` says which, ``work`` where an earlier output is."""

    results: Mapping[str, BeakerDataset]
    work: BeakerDataset | None = None

    @property
    def keeps(self) -> type[Location]:
        """Datasets."""
        return BeakerDataset

    def locate(self, unique_id: str) -> Any:
        """What the test says."""
        return self.results.get(unique_id)

    def verify(self, unique_id: str, *, deep: bool) -> None:
        """All is well."""

    def work_before(self, unique_id: str) -> BeakerDataset | None:  # noqa: ARG002
        """What the test says."""
        return self.work


class Lab:
    """A plan of STEPS on a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.materials = BeakerMaterials(
            workdir="/src/sub",
            paths=("/src",),
            env={"SEED": "0", "LEVEL": "1"},
            commit="commit",
            tree="tree",
            images={"base": BeakerId("01IMAGE")},
            setups={"base": None},
            source=SOURCE,
            boot=BOOT,
            secrets={"HF_TOKEN": "sesame", "GITHUB_TOKEN": "open"},
        )
        self.plan = self._plan()

    def _plan(self) -> RunPlan:
        graph = StepGraph.from_params(STEPS)
        identities = Identities(lambda _: "image", lambda _: "tree", "code")
        return plan_run(graph, dict.fromkeys(graph, "base"), {}, identities, lambda _: {}, Wanted())

    def record(self, name: str) -> StepRecord:
        """A step's record."""
        record = self.plan[name].record
        assert record is not None
        return record

    def prepare(self, name: str) -> JobSpec:
        """Claim a step and make its job."""
        return self.make(name, self.workspace.claim(self.record(name), "run-1"))

    def make(self, name: str, attempt: Attempt) -> JobSpec:
        """Make an attempt's job."""
        assignment = ResourceAssignment(gpu_count=2, placement=Placement(("ai2/one",), "high"))
        jobs = BeakerJobs(self.plan, self.materials, self.workspace, CAPABILITIES, "run-1")
        return jobs.prepare(self.record(name), attempt, assignment)

    def complete(self, name: str) -> None:
        """Give a step a result."""
        attempt = self.workspace.claim(self.record(name), "run-1")
        attempt.result.mkdir(parents=True)
        (attempt.result / "x").write_text(name)
        self.workspace.commit(attempt, self.record(name), AttemptFacts(StepState.COMPLETED))


def mounts(job: JobSpec) -> dict[str, Mount]:
    """The mounts of a job by their targets."""
    assert len({mount.target for mount in job.mounts}) == len(job.mounts)
    return {mount.target: mount for mount in job.mounts}


def on_beaker(root: Path, **results: BeakerDataset) -> Lab:
    """A lab whose results are datasets, by step."""
    workspace = OnBeaker(root / "ws")
    workspace.results = {}
    lab = Lab(workspace)
    workspace.results = {lab.record(name).unique_id: found for name, found in results.items()}
    return lab


def test_a_job_is_made_of_datasets(tmp_path: Path) -> None:
    """Boot, source and inputs are mounted where they are; only the job's own files are of this machine."""
    lab = on_beaker(tmp_path, load=BeakerDataset("01LOAD", "result"))
    job = lab.prepare("train")
    assert {target: mount.source for target, mount in mounts(job).items()} == {
        "/dispatch/boot": BOOT,
        "/dispatch/job": HostPath(job.attempt_dir / "job"),
        "/dispatch/source.tar": SOURCE,
        "/dispatch/inputs/0": BeakerDataset("01LOAD", "result"),
    }
    assert job.command == ("/bin/sh", "/dispatch/boot/start.sh")
    assert job.image == BeakerId("01IMAGE")
    assert (job.source, job.brings, job.collects, job.attach) == (None, (), False, False)
    assert job.placement == Placement(("ai2/one",), "high")
    assert job.resources.gpu_count == 2
    assert job.time_limit is not None
    assert 3600 < job.time_limit < 3700


def test_its_variables_and_secrets(tmp_path: Path) -> None:
    """The step's own win over the settings'; of the secrets only those that it names are there."""
    lab = on_beaker(tmp_path, load=BeakerDataset("01LOAD", "result"))
    job = lab.prepare("train")
    assert {"SEED": "3", "LEVEL": "1", "DISPATCH_INPUT_DATA": "/dispatch/inputs/0"}.items() <= job.env.items()
    assert job.env["DISPATCH_SECRETS_DIR"] == "/dispatch/secrets"
    assert (job.secrets, job.lasting_secrets) == ({"HF_TOKEN": "sesame"}, ())
    assert "DISPATCH_SECRETS_DIR" not in lab.prepare("load").env
    assert "sesame" not in "".join(path.read_text() for path in (job.attempt_dir / "job").iterdir())


def test_a_packed_input_is_unpacked_by_the_job(tmp_path: Path) -> None:
    """An archive is mounted beside the place where the step looks for what is in it."""
    lab = on_beaker(tmp_path, load=BeakerDataset("01LOAD", "result.tar", packed=True))
    job = lab.prepare("train")
    assert mounts(job)["/dispatch/packed/0.tar"].source == BeakerDataset("01LOAD", "result.tar", packed=True)
    assert job.env["DISPATCH_INPUT_DATA"] == "/dispatch/inputs/0"


def test_earlier_work_goes_on(tmp_path: Path) -> None:
    """What an earlier attempt left on Beaker is shown to the next."""
    lab = on_beaker(tmp_path)
    assert isinstance(lab.workspace, OnBeaker)
    lab.workspace.work = BeakerDataset("01BEFORE")
    first = lab.workspace.claim(lab.record("load"), "run-1")
    assert BOOTED.before not in mounts(lab.make("load", first))
    lab.workspace.fail(first, lab.record("load"), AttemptFacts(StepState.FAILED))
    assert mounts(lab.prepare("load"))[BOOTED.before].source == BeakerDataset("01BEFORE")


def test_a_clone(tmp_path: Path) -> None:
    """Where each job clones, no source is brought; what only the clone needs is the account's and lasts."""
    lab = on_beaker(tmp_path)
    clone = Clone(
        "https://github.com/a/b", "1" * 40, token="GITHUB_TOKEN", user="x", site="https://github.com"
    )
    lab.materials = replace(lab.materials, source=None, clone=clone)
    job = lab.prepare("load")
    assert BOOTED.source_archive not in mounts(job)
    assert job.secrets == {"GITHUB_TOKEN": "open"}
    assert job.lasting_secrets == ("GITHUB_TOKEN",)
    script = (job.attempt_dir / "job" / "entrypoint.sh").read_text()
    assert "dispatch_clone_drop='GITHUB_TOKEN'" in script


def test_an_environment_to_be_made(tmp_path: Path) -> None:
    """What the settings say of an image that is not ours is in the entrypoint, quoted."""
    lab = on_beaker(tmp_path)
    setup = Setup("base", "pip install .[dev] 'x'")
    docker = RegistryDigest("ghcr.io/team/image:1")
    lab.materials = replace(lab.materials, images={"base": docker}, setups={"base": setup}, time_limit=60.0)
    job = lab.prepare("load")
    assert (job.image, job.time_limit) == (docker, 60.0)
    script = (job.attempt_dir / "job" / "entrypoint.sh").read_text()
    assert "dispatch_venv='base'" in script
    assert "dispatch_install='pip install .[dev] '\\''x'\\'''" in script


def test_a_workspace_of_this_machine(tmp_path: Path) -> None:
    """Inputs and earlier work are sent from it, named by their content; result and work come back to it."""
    lab = Lab(LocalWorkspace(tmp_path / "ws"))
    lab.complete("load")
    job = lab.prepare("train")
    given = mounts(job)["/dispatch/inputs/0"]
    result = lab.workspace.locate(lab.record("load").unique_id)
    assert given.source == result
    assert given.content.startswith("result.")
    assert job.collects
    assert mounts(job)[BOOTED.work] == Mount(
        lab.workspace.work_location(lab.record("train")), BOOTED.work, read_only=False
    )
    assert json.loads((job.attempt_dir / "job" / "job.json").read_text())["packs"] is True


def test_a_workspace_on_a_drive(tmp_path: Path) -> None:
    """Jobs that see the drive write into the attempt's directory, and keep their work there."""
    lab = Lab(LocalWorkspace(tmp_path / "ws", shared=True))
    lab.complete("load")
    job = lab.prepare("train")
    seen = mounts(job)
    assert seen[BOOTED.output] == Mount(
        SharedPath(job.attempt_dir / "output"), BOOTED.output, read_only=False
    )
    assert seen[BOOTED.work].source == lab.workspace.work_location(lab.record("train"))
    assert isinstance(seen["/dispatch/inputs/0"].source, SharedPath)
    assert (job.attempt_dir / "output" / "result").is_dir()
    assert "packs" not in json.loads((job.attempt_dir / "job" / "job.json").read_text())


def test_memory_is_refused(tmp_path: Path) -> None:
    """What is only in memory no job can reach; a workspace that can be is named."""
    lab = Lab(MemoryWorkspace())
    with pytest.raises(ConfigurationError, match=r"in memory .*'beaker'") as caught:
        lab.prepare("load")
    assert "beaker://" in caught.value.remedy
    assert tmp_path


def test_a_job_that_runs_already(tmp_path: Path) -> None:
    """It is named, with its secrets, and nothing is made for it."""
    lab = on_beaker(tmp_path, load=BeakerDataset("01LOAD", "result"))
    attempt = Attempt(lab.record("train").unique_id, 3, tmp_path / "a.3", adopts=2)
    jobs = BeakerJobs(lab.plan, lab.materials, lab.workspace, CAPABILITIES, "run-1")
    job = jobs.prepare(lab.record("train"), attempt, ResourceAssignment())
    assert (job.attach, job.mounts, job.secrets) == (True, (), {"HF_TOKEN": "sesame"})
    assert not job.collects
    assert job.key.endswith(".2")
    event = Event(job.key, JobState.EXITED, 5.0, reason=Reason.LOST, message="it is gone")
    facts = jobs.facts(lab.record("train"), attempt, event)
    assert (facts.state, facts.reason, facts.error) == (StepState.FAILED, "lost", "it is gone")
    assert facts.engine == "beaker"


@pytest.mark.parametrize(("shared", "targets"), [(False, ["work"]), (True, ["output", "work"])])
def test_what_an_adopted_job_leaves_is_looked_for(tmp_path: Path, shared: bool, targets: list[str]) -> None:
    """Where its output and its work go is the same for whoever looks after it."""
    lab = Lab(LocalWorkspace(tmp_path / "ws", shared=shared))
    attempt = Attempt(lab.record("load").unique_id, 3, tmp_path / "a.3", adopts=2)
    job = lab.make("load", attempt)
    assert [mount.target for mount in job.mounts] == [f"/dispatch/{each}" for each in targets]
    assert job.collects
    if shared:
        assert job.mounts[0].source == SharedPath(attempt.place / "output")


def test_the_executor_commits_what_stays(tmp_path: Path) -> None:
    """Where the result stays is what the workspace is told; the outcome decides."""
    lab = on_beaker(tmp_path)
    told: list[object] = []

    def leaves(job: JobSpec) -> None:
        output = job.attempt_dir / "output"
        told.append(job.step)
        (output / "outcome.json").write_text(
            json.dumps(
                {
                    "contract": 1,
                    "phase": "run",
                    "state": "failed",
                    "started": None,
                    "ended": None,
                    "exit_code": 3,
                    "exception": None,
                    "interpreter": None,
                }
            )
        )

    engine = FakeEngine(lambda _: Outcome(1, action=leaves), CAPABILITIES)
    scheduler = LocalScheduler(engine.capabilities(), 2)
    executor = BeakerJobsExecutor(
        engine, scheduler, lab.workspace, lab.materials, RecordingObserver(), lambda: 0.0
    )
    assert len(works(lab.plan)) == 2
    outcomes = executor.execute(lab.plan, "run-1")
    assert told == ["load"]
    assert outcomes["load"].reason == "the command exited with code 3"
