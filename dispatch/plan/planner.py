"""Makes plans: which steps are cached, which run, which are computed inside others, and why.

Owns the rules. Asks for identities, descriptions and results by the callables and values it is given, once
each; every rule is one pass over the edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from dispatch import job as jobs
from dispatch.describe import Description
from dispatch.errors import ConfigurationError
from dispatch.graph import SHELL, StepGraph, StepNode
from dispatch.info import StepInfo, StepRecord
from dispatch.plan.identity import Identities, identify
from dispatch.plan.model import PlannedStep, RunPlan, Standing

NOT_KEPT = "its result is not kept"
NO_RESULT = "no result yet"
ASKED = "asked to run again"
CHANGED = "source changed since"
NOT_NEEDED = "nothing needs it"
_MANY = 3


@dataclass(frozen=True)
class Wanted:
    """What the user asked for: ``targets`` by name, none for all steps, and whether to run steps again.

    With ``rerun_changed`` a step whose result is of other code than the snapshot's, or older than a result it
    was made of, is run again, and so is all that depends on it. With ``again`` the targets are run again.
    """

    targets: tuple[str, ...] = ()
    rerun_changed: bool = False
    again: bool = False


def plan_run(
    graph: StepGraph,
    images: Mapping[str, str | None],
    descriptions: Mapping[str, Description],
    identities: Identities,
    completed: Callable[[Iterable[str]], Mapping[str, StepInfo | None]],
    wanted: Wanted,
) -> RunPlan:
    """Identify every step of ``graph`` and say where it stands.

    ``images`` maps steps to names of environments (None: the current one); ``completed`` tells which of the
    given unique ids have a result, and what is recorded of it. A step whose description is missing, and every
    step behind it, is UNKNOWN. Raises ConfigurationError for a step whose job could not be given its inputs
    or variables, or could not read or write a result for want of a distribution.
    """
    for name in graph.order:
        _check_variables(graph[name])
    records = identify(graph, images, descriptions, identities)
    given = identities.given
    results = completed(
        [record.unique_id for name, record in records.items() if record.cacheable or name in given]
    )
    judged = _Judgement(records, results, identities.code, wanted)
    steps = {}
    for name in graph.order:
        node, description, record = graph[name], descriptions.get(name), records.get(name)
        if name in given:
            known = given[name]
            steps[name] = PlannedStep(
                node, known.image, Standing.CACHED, known.origin, None, record, given=True
            )
            continue
        standing, reason = judged.of(node, images[name], description)
        replaces = standing is Standing.RUN and record is not None and record.unique_id in results
        steps[name] = PlannedStep(node, images[name], standing, reason, description, record, replaces)
    needless = _settle_uncacheable(steps, frozenset(wanted.targets))
    _notice_chance(steps)
    _check_distributions(steps, needless, identities.distributions)
    return RunPlan(tuple(steps.values()), wanted.targets or graph.order)


def _check_variables(node: StepNode) -> None:
    """Have the container's environment worked out once before anything starts, for its errors alone."""
    label = jobs.StepLabel(node.name, "", node.type, 1)
    inputs = jobs.input_values(node, jobs.CONTAINER.inputs(node.dependencies))
    jobs.environment(label, inputs, node.options.env)


class _Judgement:
    """Says of one step after the other, in topological order, where it stands by itself."""

    def __init__(
        self,
        records: Mapping[str, StepRecord],
        results: Mapping[str, StepInfo | None],
        code: str,
        wanted: Wanted,
    ) -> None:
        self._records = records
        self._results = results
        self._code = code
        self._rerun_changed = wanted.rerun_changed
        self._asked = frozenset(wanted.targets) if wanted.again else frozenset[str]()
        self._again: set[str] = set()

    def of(self, node: StepNode, image: str | None, description: Description | None) -> tuple[Standing, str]:
        """The step's standing and the reason for it."""
        record = self._records.get(node.name)
        if record is None:
            if node.type != SHELL and description is None:
                return Standing.UNKNOWN, f"image {image!r} must be built to know"
            return Standing.UNKNOWN, "a dependency is unknown"
        before = next((each for each in (*node.dependencies, *node.extra) if each in self._again), None)
        if before is not None:
            self._again.add(node.name)
        if not record.cacheable:
            return Standing.RUN, NOT_KEPT
        if record.unique_id not in self._results:
            return Standing.RUN, NO_RESULT
        if node.name in self._asked:
            self._again.add(node.name)
            return Standing.RUN, ASKED
        changed = node.type != SHELL and _is_of_other_code(self._results[record.unique_id], self._code)
        younger = self._younger(node, record)
        reason = CHANGED if changed else f"{younger!r} was computed again since" if younger else ""
        if reason and self._rerun_changed:
            self._again.add(node.name)
            return Standing.RUN, reason
        if before is not None:
            return Standing.RUN, f"{before!r} is run again"
        return Standing.CACHED, reason

    def _younger(self, node: StepNode, record: StepRecord) -> str | None:
        """Name a dependency whose result replaced the one that the step's own was made of.

        A run that replaces results may end before it comes to the steps behind. Ends are compared, since a
        command's start is told in whole seconds; where clocks differ, a step is at worst run again.
        """
        own = self._ended(record)
        for need in (*node.dependencies, *node.extra):
            theirs = self._ended(self._records[need])
            if own is not None and theirs is not None and theirs > own:
                return need
        return None

    def _ended(self, record: StepRecord) -> datetime | None:
        info = self._results.get(record.unique_id)
        return None if info is None else info.end_time


def _is_of_other_code(info: StepInfo | None, code: str) -> bool:
    """Whether a result is known to come from other ``*.py`` than the snapshot's."""
    recorded = info.attempt.code if info is not None and info.attempt is not None else ""
    return bool(recorded and code) and recorded != code


def _settle_uncacheable(steps: dict[str, PlannedStep], targets: frozenset[str]) -> frozenset[str]:
    """Decide which of the steps whose results are not kept get no job of their own.

    From the end to the beginning, so that what is behind a step is settled before it. Returns the names of
    those that nothing needs in this run.
    """
    needless: set[str] = set()
    consumers: dict[str, list[PlannedStep]] = {}
    followers: dict[str, list[PlannedStep]] = {}
    for name in reversed(steps):
        step = steps[name]
        behind, after = consumers.get(name, []), followers.get(name, [])
        kept = step.record is None or step.record.cacheable or step.given
        if not kept and (behind or after) and name not in targets:
            needing = [
                each
                for each in (*reversed(behind), *reversed(after))
                if each.standing is not Standing.CACHED and each.node.name not in needless
            ]
            if not needing:
                needless.add(name)
                step = replace(step, standing=Standing.INLINE, reason=NOT_NEEDED)
            # What is waited for, and not referred to, is wanted for what it does: once, and by itself.
            elif not after and all(_fits_inside(step, each) for each in behind):
                step = replace(step, standing=Standing.INLINE, reason=f"computed by {_listed(needing)}")
            steps[name] = step
        for need in step.node.dependencies:
            consumers.setdefault(need, []).append(step)
        for need in step.node.extra:
            followers.setdefault(need, []).append(step)
    return frozenset(needless)


def _fits_inside(step: PlannedStep, consumer: PlannedStep) -> bool:
    """Whether a job of ``consumer`` is all that a job of ``step`` would be."""
    if SHELL in (step.node.type, consumer.node.type):
        return False
    if (step.image, step.place) != (consumer.image, consumer.place):
        return False
    # What it asks for its process, the consumer's must have: a variable that is missing is another result.
    own, theirs = step.node.options, consumer.node.options
    asks, gets = step.resources.to_json(), consumer.resources.to_json()
    return (
        own.env == theirs.env
        and own.network in (None, theirs.network)
        and all(gets.get(name) == value for name, value in asks.items())
    )


def _notice_chance(steps: dict[str, PlannedStep]) -> None:
    """Say of steps that are kept where they rest on what is not deterministic, directly or through others.

    A step that is kept fixes what came out, so it stands between chance and what is behind it.
    """
    chance: dict[str, str] = {}
    for name, step in steps.items():
        if step.record is None:
            continue
        found = next((chance[need] for need in step.node.dependencies if need in chance), None)
        if found is not None and step.record.cacheable:
            notice = f"depends on {found!r}, which is not deterministic"
            steps[name] = replace(step, reason=f"{step.reason}; {notice}" if step.reason else notice)
        if not step.record.deterministic:
            chance[name] = name
        elif found is not None and not step.record.cacheable:
            chance[name] = found


def _check_distributions(
    steps: Mapping[str, PlannedStep],
    needless: frozenset[str],
    distributions: Callable[[str | None], frozenset[str] | None],
) -> None:
    """Refuse results that a step would write, or be given, in a format that its image lacks the means for."""
    asked: dict[str | None, frozenset[str] | None] = {}

    def missing(image: str | None, producer: PlannedStep) -> str | None:
        """What reading and writing the producer's result needs and the image does not have."""
        needed = _required(producer)
        if not needed or producer.standing is Standing.INLINE:
            return None
        if image not in asked:
            asked[image] = distributions(image)
        there = asked[image]
        return None if there is None else next((each for each in needed if each not in there), None)

    for name, step in steps.items():
        if step.standing not in (Standing.RUN, Standing.INLINE) or name in needless:
            continue
        reads = () if step.node.type == SHELL else step.node.dependencies
        for producer in (step, *(steps[need] for need in reads)):
            lacks = missing(step.image, producer)
            if lacks is not None:
                raise _lacking(producer, step, lacks)


def _required(step: PlannedStep) -> tuple[str, ...]:
    return step.description.requires if step.description is not None else ()


def _lacking(producer: PlannedStep, at: PlannedStep, distribution: str) -> ConfigurationError:
    assert producer.description is not None
    does = "writes its result" if producer is at else f"reads the result of {producer.node.name!r}"
    where = "the current environment" if at.image is None else f"image {at.image!r}"
    remedy = (
        f"install {distribution}"
        if at.image is None
        else f"add {distribution} to the image's requirements and run `dispatch lock`"
    )
    return ConfigurationError(
        f"step {at.node.name!r}: {does} in the format {producer.description.format['name']!r}, which needs "
        f"{distribution!r}, and {where} does not have it",
        f"{remedy}, or give {producer.node.name!r} another step_format",
    )


def _listed(steps: Iterable[PlannedStep]) -> str:
    names = [repr(step.node.name) for step in steps]
    more = f" and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more
