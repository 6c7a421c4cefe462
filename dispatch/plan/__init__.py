"""What a run would do, as a value: identity, standing and reason of every step. Decides, and does nothing.

``model`` holds the value, ``identity`` makes unique ids, ``planner`` makes plans, ``difference`` says why a
step is not what it was.
"""

from __future__ import annotations

from dispatch.plan.identity import Given, Identities, ImageInputs, image_identity, needs_below
from dispatch.plan.model import Place, PlannedStep, RunPlan, Standing, for_run, unscoped
from dispatch.plan.planner import Wanted, plan_run

__all__ = [
    "Given",
    "Identities",
    "ImageInputs",
    "Place",
    "PlannedStep",
    "RunPlan",
    "Standing",
    "Wanted",
    "for_run",
    "image_identity",
    "needs_below",
    "plan_run",
    "unscoped",
]
