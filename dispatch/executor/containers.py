"""Steps as containers: their mounts, their environment, and what is recorded of their ends."""

from __future__ import annotations

from dispatch import job as jobs
from dispatch.engine.base import Capabilities, Event, JobSpec, Mount, Network
from dispatch.environment import ImageRef, RegistryDigest
from dispatch.executor.facts import Origin, judge
from dispatch.executor.materials import Materials
from dispatch.executor.provenance import provenance_of, with_provenance, write_provenance
from dispatch.executor.tasks import attached, clone_of, inputs_of, label_of, secrets_of, task_of, variables_of
from dispatch.graph import SHELL
from dispatch.info import AttemptFacts, StepRecord
from dispatch.location import HostPath
from dispatch.plan import PlannedStep, RunPlan
from dispatch.schedule import ResourceAssignment
from dispatch.transfer import beside, mount_source
from dispatch.workspace.base import Attempt, Workspace

SCRATCH = ("home", "tmp", "cache")


class ContainerJobs:
    """The dispatcher's job factory for engines that run containers."""

    def __init__(
        self, plan: RunPlan, materials: Materials, workspace: Workspace, capabilities: Capabilities, run: str
    ) -> None:
        self._plan = plan
        self._materials = materials
        self._workspace = workspace
        self._capabilities = capabilities
        self._run = run

    def prepare(self, record: StepRecord, attempt: Attempt, assignment: ResourceAssignment) -> JobSpec:
        """Write the job's directory and say what to run; see :class:`dispatch.dispatcher.JobFactory`."""
        planned, materials = self._plan[record.name], self._materials
        secrets = secrets_of(planned, materials)
        if attempt.adopts:
            return attached(self._run, record, attempt, self._image(planned), assignment, secrets)
        given = inputs_of(self._plan, planned, self._workspace, self._capabilities)
        places = jobs.CONTAINER.inputs(given.places)
        label = label_of(record, attempt)
        results = tuple(
            Mount(mount_source(given.places[name], self._capabilities), place, content=given.contents[name])
            for name, place in places.items()
        )
        mounts = (*self._mounts(planned, attempt), *results, *self._asked(planned))
        task = task_of(self._plan, planned, places, materials)
        place = jobs.CONTAINER.secrets if secrets.values else ""
        clone = clone_of(planned, materials.clone)
        jobs.write_step_job(
            attempt.directory / "job", label, task, materials.workdir, before=jobs.Before(place, clone)
        )
        for part in SCRATCH:
            (attempt.directory / "scratch" / part).mkdir(parents=True, exist_ok=True)
        attempt.result.mkdir(parents=True, exist_ok=True)
        write_provenance(attempt.directory, provenance_of(materials, planned.image, self._digest(planned)))
        inputs = jobs.input_values(planned.node, places)
        user = variables_of(planned, materials)
        return JobSpec(
            key=attempt.job_key,
            run=self._run,
            step=record.name,
            attempt=attempt.job,
            image=self._image(planned),
            command=jobs.CONTAINER.command(),
            attempt_dir=attempt.place,
            mounts=mounts,
            source=HostPath(materials.source) if materials.source is not None else None,
            working_dir="/",
            env=jobs.environment(label, inputs, user, planned.resources.cpu_count)
            | jobs.secrets_variable(place),
            resources=assignment.resources,
            network=Network(planned.node.options.network or Network.BRIDGE.value),
            secrets=secrets.values,
            secret_variables=secrets.variables,
            brings=given.brings,
        )

    def _digest(self, planned: PlannedStep) -> str:
        return reference_of(self._image(planned))

    def _image(self, planned: PlannedStep) -> ImageRef:
        assert planned.image is not None
        return self._materials.images[planned.image]

    def _asked(self, planned: PlannedStep) -> tuple[Mount, ...]:
        return self._materials.mounts.get(planned.node.name, ())

    def _mounts(self, planned: PlannedStep, attempt: Attempt) -> list[Mount]:
        here, container = attempt.place, jobs.CONTAINER
        assert planned.image is not None
        assert planned.record is not None
        work = self._workspace.work_location(planned.record)
        mounts = [
            Mount(beside(work, here / "job"), container.job),
            Mount(beside(work, here / "output"), container.output, read_only=False),
            Mount(beside(work, here / "scratch"), container.scratch, read_only=False),
            Mount(mount_source(work, self._capabilities), container.work, read_only=False),
        ]
        if planned.node.type != SHELL:
            runtime = self._materials.runtimes[planned.image]
            mounts.append(Mount(HostPath(runtime), container.runtime, content=f"runtime.{runtime.name}"))
        if self._materials.source is None:
            # The clone's: private like a copy, and removed like one.
            (here / "src").mkdir(exist_ok=True)
            mounts.append(Mount(beside(work, here / "src"), container.source, read_only=False))
        return mounts

    def facts(self, record: StepRecord, attempt: Attempt, event: Event) -> AttemptFacts:
        """Judge an ended attempt; see :func:`dispatch.executor.facts.judge`."""
        planned = self._plan[record.name]
        origin = Origin(self._capabilities.name, self._digest(planned))
        facts = judge(planned, attempt, event, origin, self._materials)
        # The client that started an adopted job may have had another source and other images than we have.
        return with_provenance(facts, attempt.place) if attempt.adopts else facts


def reference_of(image: ImageRef) -> str:
    """What is recorded of an image: the digest or id that it is known by where it runs."""
    return image.reference if isinstance(image, RegistryDigest) else image.id
