"""Steps and settings as Beaker's schedulers see them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dispatch.errors import ConfigurationError
from dispatch.params import Params
from dispatch.plan import Place, PlannedStep, RunPlan, Standing

if TYPE_CHECKING:
    from dispatch.graph import StepNode
    from dispatch.schedule.beaker import BeakerScheduler, ScheduledStep, Terms
    from dispatch.settings import Settings
    from dispatch.settings.beaker import BeakerSetup

NORMAL = "normal"


def terms_of(setup: BeakerSetup) -> Terms:
    """On what terms all steps stand in the queue, where nobody says otherwise."""
    from dispatch.schedule.beaker import Terms

    given = setup.scheduler is None
    return Terms(
        clusters=setup.clusters if given else (),
        priority=(setup.priority or "") if given else "",
        preemptible=setup.preemptible,
        min_runtime=setup.min_runtime,
        budget=setup.budget or "",
    )


def steps_of(plan: RunPlan) -> Mapping[str, ScheduledStep]:
    """The steps of a plan that are to run on Beaker, by unique id."""
    steps = [step for step in plan.standing(Standing.RUN) if step.place is Place.CONTAINER]
    return {step.record.unique_id: _scheduled(step, step.record.unique_id) for step in steps if step.record}


def _scheduled(step: PlannedStep, unique_id: str) -> ScheduledStep:
    from dispatch.schedule.beaker import ScheduledStep

    of_class = step.description.metadata if step.description is not None else {}
    options = step.node.options
    return ScheduledStep(
        name=step.node.name,
        unique_id=unique_id,
        resources=step.resources,
        metadata={**of_class, **options.metadata},
        config={"type": step.node.type, **step.node.arguments},
        timeout=options.timeout,
    )


def step_of(node: StepNode) -> ScheduledStep:
    """A step of which only its declaration is known."""
    from dispatch.schedule.beaker import ScheduledStep

    options = node.options
    return ScheduledStep(node.name, node.name, options.resources, options.metadata, timeout=options.timeout)


def scheduler_of(setup: BeakerSetup, settings: Settings) -> BeakerScheduler:
    """Make the scheduler that the settings name; ``simple`` with their clusters and priority without one.

    A name that is not known may be registered by a module under ``include_package``: these are imported for
    it, in this process, for it is here that it decides.
    """
    from dispatch.schedule.beaker import BeakerScheduler, SimpleBeakerScheduler

    if setup.scheduler is None:
        return SimpleBeakerScheduler(list(setup.clusters), setup.priority or NORMAL)
    asked: dict[str, Any] = dict(setup.scheduler)
    kind = asked.get("type", BeakerScheduler.default_implementation)
    if kind not in BeakerScheduler.list_available():
        _import(settings)
    try:
        return BeakerScheduler.from_params(Params({**asked, "type": kind}))
    except ConfigurationError as error:
        raise ConfigurationError(f"executor.scheduler: {error.message}", error.remedy) from error


def _import(settings: Settings) -> None:
    """Import the settings' packages, as beside the file that names them."""
    import importlib
    import sys

    place = str(settings.path.parent) if settings.path is not None else ""
    if place and place not in sys.path:
        sys.path.append(place)
    for name in settings.include_package:
        try:
            importlib.import_module(name)
        except Exception as error:
            raise ConfigurationError(
                f"include_package: {name!r} was imported to find the scheduler, and fails: {error}",
                "register the scheduler in a module that imports here",
            ) from error
