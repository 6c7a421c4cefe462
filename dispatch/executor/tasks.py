"""A planned step as a job's task: what containers and processes have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from dispatch import job as jobs
from dispatch.engine.base import Capabilities, JobSpec
from dispatch.environment import ImageRef
from dispatch.errors import StepError
from dispatch.executor.materials import Common
from dispatch.formats import AUTO
from dispatch.graph import SHELL
from dispatch.info import StepRecord
from dispatch.location import BeakerDataset, HostPath, Location
from dispatch.options import SecretUse
from dispatch.plan import PlannedStep, RunPlan
from dispatch.schedule import ResourceAssignment
from dispatch.transfer import is_downloaded
from dispatch.workspace import manifest as manifests
from dispatch.workspace.base import Attempt, Workspace


class Secrets(NamedTuple):
    """Values by name, and which of them are variables, too."""

    values: Mapping[str, str]
    variables: tuple[str, ...]


def label_of(record: StepRecord, attempt: Attempt) -> jobs.StepLabel:
    """What the job says about its step."""
    return jobs.StepLabel(record.name, record.unique_id, record.type, attempt.job)


class Inputs(NamedTuple):
    """Results that a job is given: by step where they are, and what names their content for ever.

    ``brings`` are unique ids of those that this machine has to have first; they are where it will have them.
    """

    places: dict[str, Location]
    contents: dict[str, str]
    brings: tuple[str, ...]


def inputs_of(
    plan: RunPlan, planned: PlannedStep, workspace: Workspace, capabilities: Capabilities
) -> Inputs:
    """Find the results that a job is given.

    StepError for one that has vanished, WorkspaceError for one that is not what was committed, FormatError
    for one that may not be loaded: whom to trust is decided here, for the runtime loads what it is given.
    """
    found: dict[str, Location] = {}
    contents: dict[str, str] = {}
    brings: list[str] = []
    for name in plan.mounted(planned.node.name):
        record = plan[name].record
        assert record is not None
        location = workspace.locate(record.unique_id)
        if location is None:
            raise StepError(
                f"step {planned.node.name!r}: the result of {name!r} has vanished",
                "repeat the command: it is computed again",
            )
        workspace.verify(record.unique_id, deep=False)
        if planned.node.type != SHELL:
            workspace.check_trust(record.unique_id)
        contents[name] = content_of(location)
        if is_downloaded(location, capabilities):
            copy = workspace.copy_of(record.unique_id)
            assert copy is not None  # it is not on this machine
            brings.append(record.unique_id)
            location = HostPath(copy)
        found[name] = location
    return Inputs(found, contents, tuple(brings))


def content_of(location: Location) -> str:
    """What names a result for ever, wherever it is; empty for one of which that is not known.

    A dataset that holds a result never changes; what is on a disk is told by its manifest beside it.
    """
    if isinstance(location, BeakerDataset):
        inside = hashlib.sha256(location.subpath.encode("utf-8", "surrogateescape")).hexdigest()
        return f"dataset.{location.id}.{inside[:16]}"
    try:
        manifest = (location.path.parent / manifests.NAME).read_bytes()
    except OSError:
        return ""
    return f"result.{hashlib.sha256(manifest).hexdigest()}"


def task_of(
    plan: RunPlan, planned: PlannedStep, places: Mapping[str, str], common: Common
) -> jobs.PythonTask | jobs.ShellTask:
    """What the job has to do; ``places`` are those of the results it is given."""
    node = planned.node
    if node.type == SHELL:
        return jobs.ShellTask(node.arguments["command"], node.arguments, places)
    description = planned.description
    assert description is not None
    leaves_open = description.format["name"] == AUTO.NAME
    return jobs.PythonTask(
        module=description.module,
        qualname=description.qualname,
        version=description.version,
        format=node.options.format or (common.default_format if leaves_open else None),
        arguments=node.arguments,
        inputs=places,
        paths=common.paths,
        inline={name: _inline(plan[name]) for name in plan.inlined(node.name)},
        modules=description.modules,
    )


def attached(
    run: str,
    record: StepRecord,
    attempt: Attempt,
    image: ImageRef,
    assignment: ResourceAssignment,
    secrets: Secrets,
) -> JobSpec:
    """Name a job that runs already. How it was started is not known here, and does not matter.

    Its secrets are named so that its log is kept free of them.
    """
    return JobSpec(
        key=attempt.job_key,
        run=run,
        step=record.name,
        attempt=attempt.job,
        image=image,
        command=jobs.CONTAINER.command(),
        attempt_dir=attempt.place,
        resources=assignment.resources,
        secrets=secrets.values,
        attach=True,
    )


def _inline(planned: PlannedStep) -> jobs.InlineTask:
    description, record = planned.description, planned.record
    assert description is not None
    assert record is not None
    return jobs.InlineTask(
        module=description.module,
        qualname=description.qualname,
        type=description.type,
        version=description.version,
        unique_id=record.unique_id,
        arguments=planned.node.arguments,
        modules=description.modules,
    )


def secrets_of(planned: PlannedStep, common: Common) -> Secrets:
    """The secrets that the step's job has to have."""
    uses = uses_of(planned, common.clone)
    return Secrets(
        {use.name: common.secrets[use.name] for use in uses}, tuple(use.name for use in uses if use.env)
    )


def variables_of(planned: PlannedStep, common: Common) -> Mapping[str, str]:
    """What the user set: the step's own variables win over the settings'."""
    return {**common.env, **dict(planned.node.options.env)}


def uses_of(planned: PlannedStep, clone: jobs.Clone | None) -> tuple[SecretUse, ...]:
    """Return the secrets that a step's job has to have: those the step names, and those its clone takes."""
    own = planned.node.options.secrets
    return (*own, *(SecretUse(name) for name in _only_cloning(planned, clone)))


def clone_of(planned: PlannedStep, clone: jobs.Clone | None) -> jobs.Clone | None:
    """Return the clone for a step: what only the cloning needs is gone when the step begins."""
    return None if clone is None else replace(clone, dropped=_only_cloning(planned, clone))


def _only_cloning(planned: PlannedStep, clone: jobs.Clone | None) -> tuple[str, ...]:
    own = {use.name for use in planned.node.options.secrets}
    return tuple(name for name in (clone.secrets if clone else ()) if name not in own)
