"""Steps as processes of this machine: files and facts as for containers, at the client's own paths."""

from __future__ import annotations

from dispatch import job as jobs
from dispatch.engine.base import Capabilities, Event, JobSpec, Network
from dispatch.engine.gpus import VISIBLE_DEVICES
from dispatch.engine.process import runner
from dispatch.executor.facts import Origin, judge
from dispatch.executor.materials import ProcessMaterials
from dispatch.executor.tasks import inputs_of, label_of, secrets_of, task_of, variables_of
from dispatch.graph import SHELL
from dispatch.info import AttemptFacts, StepRecord
from dispatch.plan import RunPlan
from dispatch.schedule import ResourceAssignment
from dispatch.transfer import place
from dispatch.workspace.base import Attempt, Workspace


class ProcessJobs:
    """The dispatcher's job factory for processes of this machine."""

    def __init__(
        self,
        plan: RunPlan,
        materials: ProcessMaterials,
        workspace: Workspace,
        capabilities: Capabilities,
        run: str,
    ) -> None:
        self._plan = plan
        self._materials = materials
        self._workspace = workspace
        self._capabilities = capabilities
        self._run = run

    def prepare(self, record: StepRecord, attempt: Attempt, assignment: ResourceAssignment) -> JobSpec:
        """Write the job's files and say what to run; see :class:`dispatch.dispatcher.JobFactory`.

        A Python step begins in the working directory; a command goes there by itself, so that a directory
        which is gone is told in the same way as in a container.
        """
        planned, materials = self._plan[record.name], self._materials
        given = inputs_of(self._plan, planned, self._workspace, self._capabilities)
        results = {name: str(place(location, self._capabilities)) for name, location in given.places.items()}
        here = attempt.directory
        places = jobs.HostPlaces(
            runtime=str(materials.runtime),
            job=str(here),
            output=str(here / "output"),
            work=str(place(self._workspace.work_location(record), self._capabilities)),
        )
        label = label_of(record, attempt)
        task = task_of(self._plan, planned, results, materials)
        files = jobs.write_process_job(here, label, task, materials.workdir, places)
        # Directories are what costs most of a short step: the job's files lie in the attempt's own.
        attempt.result.mkdir(exist_ok=True)
        shell = planned.node.type == SHELL
        secrets = secrets_of(planned, materials)
        inputs = jobs.input_values(planned.node, results)
        user = {**variables_of(planned, materials)}
        if assignment.gpus:
            user[VISIBLE_DEVICES] = ",".join(assignment.gpus)
        return JobSpec(
            key=attempt.job_key,
            run=self._run,
            step=record.name,
            attempt=attempt.job,
            image=None,
            command=("/bin/sh", str(files.entrypoint))
            if shell
            else runner(materials.python, materials.runtime, files.document),
            attempt_dir=here,
            working_dir="/" if shell else materials.workdir,
            env=jobs.process_environment(label, inputs, user, planned.resources.cpu_count, places),
            resources=assignment.resources,
            network=Network(planned.node.options.network or Network.BRIDGE.value),
            secrets=secrets.values,
            secret_variables=secrets.variables,
            brings=given.brings,
        )

    def facts(self, record: StepRecord, attempt: Attempt, event: Event) -> AttemptFacts:
        """Judge an ended attempt; see :func:`dispatch.executor.facts.judge`."""
        origin = Origin(self._capabilities.name)
        return judge(self._plan[record.name], attempt, event, origin, self._materials)
