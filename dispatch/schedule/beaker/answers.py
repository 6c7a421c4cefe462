"""Reads what schedulers answer, ours and users', into the one assignment that the dispatcher knows.

Owns the spellings: beaker-py's objects of both versions, mappings, tuples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dispatch.engine.base import Placement
from dispatch.errors import ConfigurationError
from dispatch.params import ArgumentError
from dispatch.resources import StepResources
from dispatch.schedule.base import ResourceAssignment as Assignment
from dispatch.schedule.beaker.terms import Terms, clusters_of, priority_of
from dispatch.schedule.demand import Demand

_PARTS = ("cluster", "resources", "priority")
_AMOUNTS = {
    "cpu_count": "cpuCount",
    "gpu_count": "gpuCount",
    "memory": "memory",
    "shared_memory": "sharedMemory",
}


def assignment_of(answer: Any, asked: StepResources, terms: Terms) -> Assignment:
    """Read a ``ResourceAssignment``: an object, a tuple or a mapping with cluster, resources, priority.

    ``asked`` is what the step asks for, ``terms`` what step and settings say; the priority is the answer's.

    :raises ConfigurationError: for what is no assignment
    """
    cluster, resources, priority = _parts(answer)
    terms = priority_of(priority).over(terms)
    return assigned(_resources(resources, asked), terms, clusters_of(cluster))


def assigned(resources: StepResources, terms: Terms, clusters: tuple[str, ...]) -> Assignment:
    """What the engine is told to give a job, and where."""
    demand = Demand.of(resources)
    return Assignment(
        cpus=demand.cpus,
        memory=demand.memory,
        shared_memory=demand.shared_memory,
        gpu_count=demand.gpus,
        placement=Placement(clusters, terms.priority, terms.preemptible, terms.min_runtime, terms.budget),
    )


def _parts(answer: Any) -> tuple[Any, Any, Any]:
    if isinstance(answer, Mapping) and set(answer) <= set(_PARTS) and "cluster" in answer:
        return answer["cluster"], answer.get("resources"), answer.get("priority")
    if isinstance(answer, tuple) and len(answer) == len(_PARTS):
        return answer[0], answer[1], answer[2]
    if all(hasattr(answer, part) for part in _PARTS):
        return answer.cluster, answer.resources, answer.priority
    raise ConfigurationError(
        f"the scheduler answers {type(answer).__name__}, which is no assignment",
        "return ResourceAssignment(cluster=…, resources=…, priority=…)",
    )


def _resources(given: Any, asked: StepResources) -> StepResources:
    if given is None:
        return asked
    found = {}
    for name, spelled in _AMOUNTS.items():
        if isinstance(given, Mapping):
            value = given.get(name, given.get(spelled))
        elif hasattr(given, name):
            value = getattr(given, name)
        else:
            raise ConfigurationError(
                f"the scheduler answers {type(given).__name__} for resources, which has no {name}",
                "return the step's own resources, BeakerTaskResources, or a mapping",
            )
        # None and 0 both are no limit in Beaker's specifications.
        if value:
            found[name] = value
    # "1 GPU" is a number here; of which type it is was the scheduler's business.
    if isinstance(given, StepResources) and given.gpu_type is not None and given.gpu_count is None:
        found["gpu_count"] = 1
    try:
        return StepResources.from_config(found)
    except ArgumentError as error:
        raise ConfigurationError(
            f"the scheduler answers resources with {error.argument}: {error.fact}", error.remedy
        ) from None
