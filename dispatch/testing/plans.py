"""Plans of steps that nobody has written: descriptions made up from config, results by unique id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dispatch.describe import Description
from dispatch.fingerprint import canonical
from dispatch.graph import SHELL, StepGraph
from dispatch.info import StepInfo
from dispatch.params import mark_references
from dispatch.plan import Identities, PlannedStep, RunPlan, Wanted, plan_run

IDENTITIES = Identities(image=lambda name: f"image {name}", tree=lambda paths: f"tree {' '.join(paths)}")
HERE = "here"
BASE = "base"


class KnownResults:
    """Results by unique id, and what was asked for."""

    def __init__(self, results: Mapping[str, StepInfo | None] | None = None) -> None:
        self.results = results or {}
        self.asked: list[str] = []

    @classmethod
    def of(cls, *steps: PlannedStep) -> KnownResults:
        """Results of these steps, of which nothing else is known."""
        return cls({unique_id_of(step): None for step in steps})

    def completed(self, unique_ids: Iterable[str]) -> Mapping[str, StepInfo | None]:
        """Return those that have a result."""
        self.asked = list(unique_ids)
        return {found: self.results[found] for found in self.asked if found in self.results}


def described(type: str, arguments: Mapping[str, Any]) -> Description:
    """What a class says that takes its arguments as they are."""
    return Description(
        class_name=type.title(),
        module="steps",
        qualname=type.title(),
        type=type,
        version=None,
        deterministic=True,
        cacheable=None,
        format={"name": "auto", "version": "001"},
        arguments=canonical(mark_references(dict(arguments))),
        resources=None,
    )


def plan_steps(
    steps: Mapping[str, Any],
    changes: Mapping[str, Mapping[str, Any] | None] | None = None,
    identities: Identities = IDENTITIES,
    known: KnownResults | None = None,
    wanted: Wanted | None = None,
) -> RunPlan:
    """Plan steps of config.

    ``changes`` alter descriptions; None stands for a step that nobody described. The image is ``step_image``,
    of which HERE means the current environment, else BASE.
    """
    graph = StepGraph.from_params(steps)
    altered: dict[str, Mapping[str, Any] | None] = {name: {} for name in graph} | dict(changes or {})
    descriptions = {
        name: replace(described(node.type, node.arguments), **found)
        for name, node in graph.items()
        if node.type != SHELL and (found := altered[name]) is not None
    }
    named = {name: str(node.options.image or BASE) for name, node in graph.items()}
    images = {name: None if image == HERE else image for name, image in named.items()}
    completed = (known or KnownResults()).completed
    return plan_run(graph, images, descriptions, identities, completed, wanted or Wanted())


def unique_id_of(step: PlannedStep) -> str:
    """The unique id of a step that is known."""
    assert step.record is not None
    return step.record.unique_id
