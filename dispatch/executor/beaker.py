"""Steps as jobs on Beaker: what each is given, and how results and work directories come back or stay.

A job finds there what every job finds (see ``job.BOOTED``): results of earlier steps are mounted datasets,
and its output is what Beaker captures. Refuses to know how any of it gets to Beaker: that is the engine's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from dispatch import job as jobs
from dispatch.engine.base import Capabilities, Event, JobSpec, Mount, Network
from dispatch.environment import ImageRef
from dispatch.executor.containers import reference_of
from dispatch.executor.facts import Origin, judge
from dispatch.executor.materials import BeakerMaterials
from dispatch.executor.provenance import provenance_of, with_provenance, write_provenance
from dispatch.executor.tasks import (
    Inputs,
    attached,
    clone_of,
    inputs_of,
    label_of,
    secrets_of,
    task_of,
    variables_of,
)
from dispatch.info import AttemptFacts, StepRecord
from dispatch.location import BeakerDataset, HostPath, SharedPath
from dispatch.plan import PlannedStep, RunPlan
from dispatch.schedule import ResourceAssignment
from dispatch.transfer import mount_source, stays
from dispatch.workspace.base import Attempt, Workspace

PLACES = jobs.BOOTED
# The dispatcher ends a step that takes too long, and says so; Beaker does where no client is there any more.
_MARGIN = 60.0


class BeakerJobs:
    """The dispatcher's job factory for Beaker.

    The engine is given a :class:`JobSpec` with these mounts, by their sources:

    - ``BeakerDataset``: mounted at the target, with its sub path. One that is ``packed`` is the archive
      itself, for the target is the place of an archive (``jobs.BOOTED.packed``, ``.source_archive``).
    - ``HostPath``: files of this machine, to be brought to the target. The job's own are those at
      ``jobs.BOOTED.job``. Where one of the others is brought as an archive, it goes to
      ``jobs.BOOTED.packed(target)``: the job unpacks what it finds there.
    - ``HostPath`` at ``jobs.BOOTED.work``: nothing is mounted there. What is in it is shown as ``work/`` in
      ``jobs.BOOTED.before``, and replaced by the work of an attempt without a result.
    - ``SharedPath``: a path of Beaker's hosts. A mount at ``jobs.BOOTED.output`` means that the job writes
      its output there: there is nothing to capture and nothing to collect.

    The output to capture is ``jobs.BOOTED.output``: ``outcome.json``, the result as ``result/`` or as the
    archive ``result.tar``, and of an attempt without a result ``work/`` or ``work.tar``.
    """

    def __init__(
        self,
        plan: RunPlan,
        materials: BeakerMaterials,
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
        """Write the job's directory and say what to run; see :class:`dispatch.dispatcher.JobFactory`."""
        planned, materials = self._plan[record.name], self._materials
        image = self._image(planned)
        secrets = secrets_of(planned, materials)
        collects = not stays(self._workspace.keeps, self._capabilities)
        if attempt.adopts:
            job = attached(self._run, record, attempt, image, assignment, secrets)
            return replace(job, collects=collects, mounts=tuple(self._kept(record, attempt)))
        given = inputs_of(self._plan, planned, self._workspace, self._capabilities)
        places = PLACES.inputs(given.places)
        label = label_of(record, attempt)
        self._write(planned, attempt, label, places)
        write_provenance(attempt.directory, provenance_of(materials, planned.image, reference_of(image)))
        inputs = jobs.input_values(planned.node, places)
        user = variables_of(planned, materials)
        return JobSpec(
            key=attempt.job_key,
            run=self._run,
            step=record.name,
            attempt=attempt.job,
            image=image,
            command=PLACES.command(),
            attempt_dir=attempt.place,
            mounts=tuple(self._mounts(record, planned, attempt, given)),
            working_dir="/",
            env=jobs.environment(label, inputs, user, planned.resources.cpu_count, PLACES)
            | jobs.secrets_variable(PLACES.secrets if secrets.values else ""),
            resources=assignment.resources,
            network=Network(planned.node.options.network or Network.BRIDGE.value),
            secrets=secrets.values,
            secret_variables=secrets.variables,
            lasting_secrets=() if materials.clone is None else materials.clone.secrets,
            placement=assignment.placement,
            time_limit=self._time_limit(planned),
            collects=collects,
        )

    def facts(self, record: StepRecord, attempt: Attempt, event: Event) -> AttemptFacts:
        """Judge an ended attempt; see :func:`dispatch.executor.facts.judge`."""
        planned = self._plan[record.name]
        origin = Origin(self._capabilities.name, reference_of(self._image(planned)))
        facts = judge(planned, attempt, event, origin, self._materials)
        return with_provenance(facts, attempt.place) if attempt.adopts else facts

    def _image(self, planned: PlannedStep) -> ImageRef:
        assert planned.image is not None
        return self._materials.images[planned.image]

    @property
    def _is_shared(self) -> bool:
        """Whether jobs write into the attempt's own directory, as they see the drive on which it is."""
        return self._workspace.keeps is SharedPath

    def _time_limit(self, planned: PlannedStep) -> float | None:
        own = planned.node.options.timeout
        return self._materials.time_limit if own is None else own + _MARGIN

    def _write(
        self, planned: PlannedStep, attempt: Attempt, label: jobs.StepLabel, places: dict[str, str]
    ) -> None:
        materials = self._materials
        assert planned.image is not None
        before = jobs.Before(
            clone=clone_of(planned, materials.clone),
            setup=materials.setups.get(planned.image),
            packs=not self._is_shared,
        )
        task = task_of(self._plan, planned, places, materials)
        jobs.write_step_job(attempt.directory / "job", label, task, materials.workdir, PLACES, before)
        attempt.result.mkdir(parents=True, exist_ok=True)

    def _mounts(
        self, record: StepRecord, planned: PlannedStep, attempt: Attempt, given: Inputs
    ) -> Iterator[Mount]:
        here, materials = attempt.place, self._materials
        yield Mount(materials.boot, PLACES.boot)
        yield Mount(HostPath(here / "job"), PLACES.job)
        if materials.source is not None:
            yield Mount(materials.source, PLACES.source_archive)
        for name, place in PLACES.inputs(given.places).items():
            location = mount_source(given.places[name], self._capabilities)
            packed = isinstance(location, BeakerDataset) and location.packed
            yield Mount(location, PLACES.packed(place) if packed else place, content=given.contents[name])
        yield from self._kept(record, attempt)
        yield from self._before(record, attempt)
        yield from materials.mounts.get(planned.node.name, ())

    def _kept(self, record: StepRecord, attempt: Attempt) -> Iterator[Mount]:
        """What keeps the work directory on this side, and with it the output where that needs no way back."""
        if self._is_shared:
            shared = SharedPath(attempt.place / "output")
            yield Mount(shared, PLACES.output, read_only=False)
        if self._workspace.keeps is not BeakerDataset:
            yield Mount(self._workspace.work_location(record), PLACES.work, read_only=False)

    def _before(self, record: StepRecord, attempt: Attempt) -> Iterator[Mount]:
        """The earlier attempt's work that is on Beaker. The first has nothing to begin with."""
        if self._workspace.keeps is BeakerDataset and attempt.number > 1:
            before = self._workspace.work_before(record.unique_id)
            if before is not None:
                yield Mount(before, PLACES.before)
