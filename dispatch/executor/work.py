"""Which steps of a plan are the dispatcher's to run."""

from __future__ import annotations

from collections.abc import Sequence

from dispatch.dispatcher import Work
from dispatch.errors import ConfigurationError
from dispatch.plan import Place, RunPlan, Standing


def works(plan: RunPlan) -> Sequence[Work]:
    """The steps of a plan that have to run, with what each of them waits for."""
    unknown = plan.standing(Standing.UNKNOWN)
    if unknown:
        raise ConfigurationError(
            f"step {unknown[0].node.name!r}: not known yet what it is", "build its image first"
        )
    return [
        Work(
            step.record,
            step.resources,
            plan.needs(step.node.name),
            step.replaces,
            retries=step.node.options.retries,
            timeout=step.node.options.timeout,
            priority=step.node.options.priority,
            group=step.node.options.group,
            outlives=step.place is Place.CONTAINER,
        )
        for step in plan.standing(Standing.RUN)
        if step.record is not None
    ]
