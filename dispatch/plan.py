"""What a run would do, as a value: identity, standing and reason of every step. Decides, and does nothing.

Unique ids are worked out here, in topological order: the dependencies' ids enter each step's own.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dispatch import job as jobs
from dispatch.describe import Description
from dispatch.environment import DebianImage, DockerImage, Environment, PipImage
from dispatch.fingerprint import canonical, digest, resolve, unique_id
from dispatch.graph import SHELL, StepGraph, StepNode
from dispatch.info import StepInfo, StepRecord
from dispatch.lock.model import Lock
from dispatch.params import mark_references
from dispatch.step import StepResources


class Standing(enum.Enum):
    """Where a step stands before the run."""

    CACHED = "cached"
    RUN = "run"
    UNKNOWN = "unknown until built"


@dataclass(frozen=True)
class PlannedStep:
    """A step with its image's name, identity and standing.

    ``record`` is None exactly where the standing is UNKNOWN; ``description`` is None for shell steps too.
    """

    node: StepNode
    image: str
    standing: Standing
    reason: str
    description: Description | None
    record: StepRecord | None

    @property
    def resources(self) -> StepResources:
        """What the config asks for, and where it says nothing, what the step's class does."""
        said = (self.description.resources if self.description else None) or {}
        return StepResources(**{**said, **self.node.options.resources.to_json()})


@dataclass(frozen=True)
class RunPlan:
    """All steps in topological order, and which of them the user asked for."""

    steps: tuple[PlannedStep, ...]
    targets: tuple[str, ...]

    def __getitem__(self, name: str) -> PlannedStep:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> Mapping[str, PlannedStep]:
        return {step.node.name: step for step in self.steps}

    def standing(self, standing: Standing) -> tuple[PlannedStep, ...]:
        """The steps of one standing, in order."""
        return tuple(step for step in self.steps if step.standing is standing)


def image_identity(environment: Environment, lock: Lock | None) -> str:
    """The digest of a declaration and its lock, without base digest and platform.

    It enters the identity of shell steps: their result is what the command finds in the image. The names of
    files and of the environment do not enter.
    """
    declaration = environment.declaration
    if isinstance(declaration, DockerImage):
        return digest(canonical(["docker", declaration.reference]))
    assert lock is not None
    if isinstance(declaration, PipImage):
        return digest(
            canonical(["pip", lock.identity, declaration.base, declaration.python, dict(declaration.env)])
        )
    assert isinstance(declaration, DebianImage)
    return digest(canonical(["debian", lock.identity, dict(declaration.env)]))


@dataclass(frozen=True)
class Identities:
    """What the planner needs to know of images and sources.

    ``image`` gives the identity of a named environment, ``tree`` the digest of the snapshot's files under
    some paths of the repository (SourceError for a path that is not there): both enter the ids of shell
    steps. ``code`` is the digest of all ``*.py`` of the snapshot, which enters no id; empty if not known.
    """

    image: Callable[[str], str]
    tree: Callable[[tuple[str, ...]], str]
    code: str = ""


def plan_run(
    graph: StepGraph,
    images: Mapping[str, str],
    descriptions: Mapping[str, Description],
    identities: Identities,
    completed: Callable[[Iterable[str]], Mapping[str, StepInfo | None]],
    targets: tuple[str, ...],
) -> RunPlan:
    """Identify every step of ``graph`` and say which are cached.

    ``images`` maps steps to names of environments; ``completed`` tells which of the given unique ids have a
    result, and what is recorded of it. A step whose description is missing, and every step behind it, is
    UNKNOWN. Raises ConfigurationError for a step whose container could not be given its inputs or variables.
    """
    records: dict[str, StepRecord] = {}
    for name in graph.order:
        node = graph[name]
        _check_variables(node)
        if any(need not in records for need in node.dependencies):
            continue
        known = {need: records[need].unique_id for need in node.dependencies}
        if node.type == SHELL:
            records[name] = _shell_record(node, identities, images[name], known)
        elif name in descriptions:
            records[name] = _step_record(node, descriptions[name], known)
    results = completed([record.unique_id for record in records.values() if record.cacheable])
    steps = []
    for name in graph.order:
        node, description, record = graph[name], descriptions.get(name), records.get(name)
        standing, reason = _standing(node, images[name], description, record, results, identities.code)
        steps.append(PlannedStep(node, images[name], standing, reason, description, record))
    return RunPlan(tuple(steps), targets)


def _check_variables(node: StepNode) -> None:
    """Have the container's environment worked out once before anything starts, for its errors alone."""
    label = jobs.StepLabel(node.name, "", node.type, 1)
    inputs = jobs.input_values(node, jobs.CONTAINER.inputs(node.dependencies))
    jobs.environment(label, inputs, node.options.env)


def _standing(
    node: StepNode,
    image: str,
    description: Description | None,
    record: StepRecord | None,
    results: Mapping[str, StepInfo | None],
    code: str,
) -> tuple[Standing, str]:
    if record is None:
        unbuilt = node.type != SHELL and description is None
        return Standing.UNKNOWN, (
            f"image {image!r} must be built to know" if unbuilt else "a dependency is unknown"
        )
    if not record.cacheable:
        return Standing.RUN, "its result is not kept"
    if record.unique_id not in results:
        return Standing.RUN, "no result yet"
    changed = node.type != SHELL and _is_of_other_code(results[record.unique_id], code)
    return Standing.CACHED, "source changed since" if changed else ""


def _is_of_other_code(info: StepInfo | None, code: str) -> bool:
    """Whether a result is known to come from other ``*.py`` than the snapshot's."""
    recorded = info.attempt.code if info is not None and info.attempt is not None else ""
    return bool(recorded and code) and recorded != code


def _step_record(node: StepNode, description: Description, known: Mapping[str, str]) -> StepRecord:
    format_tree = canonical(dict(description.format))
    arguments = resolve(description.arguments, known)
    return StepRecord(
        name=node.name,
        unique_id=unique_id(
            description.class_name, description.version, description.type, format_tree, arguments
        ),
        class_name=description.class_name,
        type=description.type,
        version=description.version,
        cacheable=description.deterministic if description.cacheable is None else description.cacheable,
        deterministic=description.deterministic,
        dependencies=tuple(known.values()),
        config=_config(node),
    )


def _shell_record(node: StepNode, identities: Identities, image: str, known: Mapping[str, str]) -> StepRecord:
    paths = tuple(node.arguments.get("paths", ()))
    arguments: dict[str, Any] = {
        "command": node.arguments["command"],
        "inputs": mark_references(node.arguments.get("inputs", {})),
        "image": identities.image(image),
        "env": dict(node.options.env),
        "tree": identities.tree(paths) if paths else None,
    }
    tree = resolve(canonical(arguments), known)
    return StepRecord(
        name=node.name,
        unique_id=unique_id("Shell", None, SHELL, canonical(None), tree),
        class_name="Shell",
        type=SHELL,
        version=None,
        cacheable=True,
        deterministic=True,
        dependencies=tuple(known.values()),
        config=_config(node),
    )


def _config(node: StepNode) -> dict[str, Any]:
    return {"type": node.type, **node.arguments}
