"""A plan as a value: where each step stands, where it would run, and whose results its job is given.

Owns what follows from the standings alone. Refuses to look anything up: that is the planner's.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from dispatch.describe import Description
from dispatch.fingerprint import canonical, digest
from dispatch.graph import StepNode
from dispatch.info import StepRecord
from dispatch.resources import StepResources

LOCAL = "local"
SCOPE_LENGTH = 8


class Standing(enum.Enum):
    """Where a step stands before the run.

    INLINE is a step whose result is not kept and that gets no job: it is computed inside the steps that need
    it, if any of them runs at all.
    """

    CACHED = "cached"
    RUN = "run"
    INLINE = "inside"
    UNKNOWN = "unknown until built"


class Place(enum.Enum):
    """Where a job runs: in a container of its image, or in a process beside the client."""

    CONTAINER = "container"
    PROCESS = "process"


@dataclass(frozen=True)
class PlannedStep:
    """A step with its image's name, identity and standing.

    ``image`` is None for the current environment. ``record`` is None exactly where the standing is UNKNOWN;
    ``description`` is None for shell steps too. With ``replaces`` the step has a result, and is to be run
    again all the same. One that is ``given`` is an earlier run's, and CACHED whatever it is.
    """

    node: StepNode
    image: str | None
    standing: Standing
    reason: str
    description: Description | None
    record: StepRecord | None
    replaces: bool = False
    given: bool = False

    @cached_property
    def resources(self) -> StepResources:
        """What the config asks for, and where it says nothing, what the step's class does."""
        said = self.description.resources if self.description else None
        if not said:
            return self.node.options.resources
        return StepResources(**{**said, **self.node.options.resources.to_json()})

    @property
    def place(self) -> Place:
        """A process where the step has no image, or must run on the client's own machine."""
        local = self.image is None or self.resources.machine == LOCAL
        return Place.PROCESS if local else Place.CONTAINER


@dataclass(frozen=True)
class RunPlan:
    """All steps in topological order, and which of them the user asked for."""

    steps: tuple[PlannedStep, ...]
    targets: tuple[str, ...]

    def __getitem__(self, name: str) -> PlannedStep:
        return self._by_name[name]

    def standing(self, standing: Standing) -> tuple[PlannedStep, ...]:
        """The steps of one standing, in order."""
        return tuple(step for step in self.steps if step.standing is standing)

    def inlined(self, name: str) -> tuple[str, ...]:
        """The inline steps that a job of ``name`` computes for itself, each after those it needs."""
        found: dict[str, None] = {}
        path = [(name, iter(self._by_name[name].node.dependencies))]
        while path:
            current, rest = path[-1]
            inner = next((each for each in rest if each in self._inline and each not in found), None)
            if inner is not None:
                path.append((inner, iter(self._by_name[inner].node.dependencies)))
                continue
            path.pop()
            if path:
                found[current] = None
        return tuple(found)

    def mounted(self, name: str) -> tuple[str, ...]:
        """The steps whose results a job of ``name`` is given, each once.

        These are its dependencies, with what inline ones need in turn in their places; then the extra
        dependencies, its own and those of the inline ones.
        """
        node = self._by_name[name].node
        found: dict[str, None] = {}
        extra, entered = list(node.extra), set[str]()
        todo = list(reversed(node.dependencies))
        while todo:
            current = todo.pop()
            if current not in self._inline:
                found[current] = None
            elif current not in entered:
                entered.add(current)
                inner = self._by_name[current].node
                todo += reversed(inner.dependencies)
                extra += inner.extra
        return tuple({**found, **dict.fromkeys(extra)})

    def needs(self, name: str) -> tuple[str, ...]:
        """Those of :meth:`mounted` that have to run first."""
        return tuple(each for each in self.mounted(name) if each in self._todo)

    @cached_property
    def _by_name(self) -> Mapping[str, PlannedStep]:
        return {step.node.name: step for step in self.steps}

    @cached_property
    def _inline(self) -> frozenset[str]:
        return frozenset(step.node.name for step in self.standing(Standing.INLINE))

    @cached_property
    def _todo(self) -> frozenset[str]:
        return frozenset(step.node.name for step in self.standing(Standing.RUN))


def for_run(plan: RunPlan, run: str) -> RunPlan:
    """Return the plan as the run called ``run`` carries it out.

    A step that is run although its result is not kept leaves one that lives as long as the run: its unique id
    is given the run's as a suffix, so that no two runs meet in it. Identities stay as they are.
    """
    scoped: dict[str, str] = {}
    taken: set[str] = set()
    for step in plan.standing(Standing.RUN):
        if step.record is not None and not step.record.cacheable:
            unique_id = _scoped(step.record.unique_id, run)
            if unique_id in taken:
                # Two draws of one lottery are two steps, equal as their declarations may be.
                unique_id = _scoped(step.record.unique_id, [run, step.node.name])
            taken.add(unique_id)
            scoped[step.node.name] = unique_id
    if not scoped:
        return plan
    return replace(plan, steps=tuple(_of_run(step, scoped) for step in plan.steps))


def unscoped(record: StepRecord) -> str:
    """Return the unique id that a step of :func:`for_run` had before, and that of any other as it is."""
    unique_id = record.unique_id
    of_run = not record.cacheable and unique_id[-SCOPE_LENGTH - 1 : -SCOPE_LENGTH] == "-"
    return unique_id[: -SCOPE_LENGTH - 1] if of_run else unique_id


def _scoped(unique_id: str, scope: object) -> str:
    return f"{unique_id}-{digest(canonical(scope))[:SCOPE_LENGTH]}"


def _of_run(step: PlannedStep, scoped: Mapping[str, str]) -> PlannedStep:
    """Give a step the unique ids of a run: its own, and those of the results it takes."""
    record, name = step.record, step.node.name
    takes = [each for each in step.node.dependencies if each in scoped]
    if record is None or step.standing is not Standing.RUN or not (takes or name in scoped):
        return step
    at = {need: number for number, need in enumerate(step.node.dependencies)}
    dependencies = list(record.dependencies)
    for need in takes:
        dependencies[at[need]] = scoped[need]
    changed = replace(record, unique_id=scoped.get(name, record.unique_id), dependencies=tuple(dependencies))
    return replace(step, record=changed)
