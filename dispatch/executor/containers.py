"""Steps as containers: their mounts, their environment, and what is recorded of their ends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from dispatch import job as jobs
from dispatch.engine.base import Capabilities, Event, JobSpec, Mount, Network
from dispatch.environment import ImageRef, RegistryDigest
from dispatch.executor.facts import Origin, judge
from dispatch.executor.materials import Materials
from dispatch.executor.provenance import provenance_of, with_provenance, write_provenance
from dispatch.executor.tasks import clone_of, inputs_of, label_of, secrets_of, task_of, variables_of
from dispatch.graph import SHELL
from dispatch.info import AttemptFacts, StepRecord
from dispatch.location import HostPath, Location, SharedPath, Spool
from dispatch.plan import PlannedStep, RunPlan
from dispatch.schedule import ResourceAssignment
from dispatch.transfer import beside, mount_source
from dispatch.workspace import manifest as manifests
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
        if attempt.adopts:
            return self._attached(record, attempt, planned, assignment)
        results = inputs_of(self._plan, planned, self._workspace)
        places = jobs.CONTAINER.inputs(results)
        label = label_of(record, attempt)
        mounts = tuple(self._mounts(planned, attempt, {places[name]: results[name] for name in places}))
        task = task_of(self._plan, planned, places, materials)
        secrets = secrets_of(planned, materials)
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
        )

    def _attached(
        self, record: StepRecord, attempt: Attempt, planned: PlannedStep, assignment: ResourceAssignment
    ) -> JobSpec:
        """Name a job that runs already. How it was started is not known here, and does not matter.

        Its secrets are named so that its log is kept free of them.
        """
        return JobSpec(
            key=attempt.job_key,
            run=self._run,
            step=record.name,
            attempt=attempt.job,
            image=self._image(planned),
            command=jobs.CONTAINER.command(),
            attempt_dir=attempt.place,
            resources=assignment.resources,
            secrets=secrets_of(planned, self._materials).values,
            attach=True,
        )

    def _digest(self, planned: PlannedStep) -> str:
        image = self._image(planned)
        return image.reference if isinstance(image, RegistryDigest) else image.id

    def _image(self, planned: PlannedStep) -> ImageRef:
        assert planned.image is not None
        return self._materials.images[planned.image]

    def _mounts(self, planned: PlannedStep, attempt: Attempt, results: Mapping[str, Location]) -> list[Mount]:
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
        for place, location in results.items():
            source = mount_source(location, self._capabilities)
            mounts.append(Mount(source, place, content=_content(location)))
        mounts.extend(self._materials.mounts.get(planned.node.name, ()))
        return mounts

    def facts(self, record: StepRecord, attempt: Attempt, event: Event) -> AttemptFacts:
        """Judge an ended attempt; see :func:`dispatch.executor.facts.judge`."""
        planned = self._plan[record.name]
        origin = Origin(self._capabilities.name, self._digest(planned))
        facts = judge(planned, attempt, event, origin, self._materials)
        # The client that started an adopted job may have had another source and other images than we have.
        return with_provenance(facts, attempt.place) if attempt.adopts else facts


def _content(location: Location) -> str:
    """What names a result for ever, wherever it is: its manifest. Empty for one that has none beside it."""
    if not isinstance(location, (HostPath, SharedPath, Spool)):
        return ""
    try:
        manifest = (location.path.parent / manifests.NAME).read_bytes()
    except OSError:
        return ""
    return f"result.{hashlib.sha256(manifest).hexdigest()}"
