"""Runs step objects in the process of the program that made them: for notebooks, scripts and tests.

Owns the order and the hand-over to the workspace. It is no executor: one process, one step after the other,
no images and no attempts to repeat. Refuses to seed or configure anything for the program.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.errors import ConfigurationError, StepStateError
from dispatch.params import ArgumentError, as_dependency, signature_of, transform
from dispatch.params.convert import Converter
from dispatch.params.describing import made_from
from dispatch.params.objects import Finished
from dispatch.params.references import DESCEND, Dependency, join
from dispatch.step import Step, StepIndexer
from dispatch.workspace.base import StepCompletedError, Workspace
from dispatch.workspace.memory import MemoryWorkspace

if TYPE_CHECKING:
    from logging import Logger


def result(step: Step, workspace: Workspace | None = None) -> Any:
    """Return a step's result: what ``workspace`` has, else computed here, dependencies first.

    A step whose result is not kept is computed each time, and once for each kept step that takes it. Without
    a workspace, results of dependencies are kept in memory until this returns. What ``run`` raises is raised,
    after it was recorded. StepHeldError if somebody else works at one of the steps.
    """
    if workspace is not None:
        _prepare(step, workspace)
        return _Scope(workspace, step).value(step)
    passing = MemoryWorkspace()
    _prepare(step, passing)
    value = _Scope(passing, step).run(step)
    return _holding(value, passing) if hasattr(value, "__next__") else value


def ensure_result(step: Step, workspace: Workspace) -> None:
    """Have a step's result in ``workspace``. StepStateError for a step whose result is not kept."""
    if not step.cache_results:
        raise StepStateError(
            f"step {step.name!r}: its result is not kept, so it cannot be there",
            "call result() for its value",
        )
    if step not in workspace.step_cache:
        result(step, workspace)


def _prepare(step: Step, workspace: Workspace) -> None:
    """Have the results of all kept steps behind ``step``; the others wait for those who take them."""
    for each in _order(step, workspace):
        if each is not step and each.cache_results and each not in workspace.step_cache:
            _Scope(workspace, each).value(each)


def _order(step: Step, workspace: Workspace) -> list[Step]:
    """Return what to compute before ``step``, and itself, dependencies first.

    Steps behind a result that is there are left out. Not by recursion: a chain may be of any length.
    """
    order: dict[int, Step] = {}
    path, seen = [step], set()
    while path:
        current = path[-1]
        if id(current) in seen:
            path.pop()
            order.setdefault(id(current), current)
            continue
        seen.add(id(current))
        if not (current.cache_results and current in workspace.step_cache):
            path.extend(each for each in reversed(current.dependencies) if id(each) not in seen)
    return list(order.values())


def _holding(iterator: Iterator[Any], workspace: Workspace) -> Iterator[Any]:  # noqa: ARG001
    """Iterate, and keep the workspace until the end: what is iterated may be read from it as it goes."""
    yield from iterator


class _Scope:
    """A step that is computed, with the steps whose results are not kept: they are computed for it alone."""

    def __init__(self, workspace: Workspace, owner: Step) -> None:
        self._workspace = workspace
        self._owner = owner
        self._values: dict[int, Any] = {}
        self._iterators: dict[int, list[Any]] = {}

    def value(self, step: Step) -> Any:
        """Return the result of a step: the owner, one that is kept, or one that is computed for the owner."""
        if step.cache_results:
            if step in self._workspace.step_cache:
                return self._workspace.step_cache[step]
            scope = self if step is self._owner else _Scope(self._workspace, step)
            return scope._recorded(step)
        if id(step) not in self._values and not self._iterators.get(id(step)):
            found = self._recorded(step)
            if hasattr(found, "__next__"):
                # Used up by the first who gets it, so each reference is given its own.
                self._iterators[id(step)] = list(itertools.tee(found, max(1, self._references(step))))
            else:
                self._values[id(step)] = found
        return self._values[id(step)] if id(step) in self._values else self._iterators[id(step)].pop()

    def run(self, step: Step) -> Any:
        """Run a step, recording nothing."""
        return self._prepared(step)()

    def _recorded(self, step: Step) -> Any:
        """Run a step as the workspace is told of it. If somebody else was quicker, their result is taken."""
        run = self._prepared(step)
        try:
            self._workspace.step_starting(step)
        except StepCompletedError:
            return self._workspace.step_cache[step]
        try:
            found = run()
        except BaseException as error:
            self._workspace.step_failed(step, error)
            raise
        return self._workspace.step_finished(step, found)

    def _prepared(self, step: Step) -> partial[Any]:
        """Return the call that runs a step: on a copy, which alone knows that it is running."""
        running = copy.copy(step)
        running._unique_id = step.unique_id
        running._stage = _Stage(self._workspace, running)
        try:
            running.kwargs = _Resolver(self._substitute).bind(signature_of(running.run), step.kwargs, "")
        except ArgumentError as error:
            raise error.of(step._name or step.class_name) from error.__cause__
        return partial(running.run, **running.kwargs)

    def _substitute(self, dependency: Any) -> Any:
        """Return what stands in an argument for another step's result."""
        indexed = isinstance(dependency, StepIndexer)
        step = dependency.step if indexed else dependency
        if not isinstance(step, Step):
            fact = f"{dependency!r} leads nowhere: there is no graph"
            raise ArgumentError("", fact, "pass the step object")
        found = self.value(step)
        if not indexed:
            return found
        try:
            return found[dependency.key]
        except (LookupError, TypeError) as error:
            raise ConfigurationError(
                f"the result of step {step.name!r}, a {type(found).__name__}, has no item {dependency.key!r}",
                "mend the key",
            ) from error

    def _references(self, wanted: Step) -> int:
        """Count the references to a step in the arguments of the owner, and of what is computed for it."""
        count, todo, seen = 0, [self._owner], set()
        while todo:
            for each in todo.pop()._arguments_steps():
                count += each is wanted
                if not each.cache_results and id(each) not in seen:
                    seen.add(id(each))
                    todo.append(each)
        return count


class _Stage:
    """What surrounds a step while it runs in the process of a program."""

    def __init__(self, workspace: Workspace, step: Step) -> None:
        self._workspace = workspace
        self._step = step

    def work_dir(self) -> Path:
        """Return the directory that the workspace gives the step."""
        return self._workspace.work_dir(self._step)

    def workspace(self) -> Workspace:
        """Return the workspace."""
        return self._workspace

    def logger(self, name: str) -> Logger:
        """Return the logger as the program has configured it."""
        import logging

        return logging.getLogger(name)


class _Resolver(Converter):
    """Builds arguments from Python values: objects that hold steps are made again with the results."""

    def plain(self, value: Any, at: str) -> Any:
        """Return ``value`` with results for steps, also inside objects that tell what they are made from."""

        def visit(part: Any, place: str) -> Any:
            dependency = as_dependency(part, place)
            if dependency is not None:
                return self.substitute(dependency)
            own = getattr(type(part), "__dispatch_convert__", None)
            if own is not None:
                return own(self, part, (), place)
            given = made_from(part)
            if given is None or not _holds_steps(given):
                return DESCEND
            inside = _Resolver(lambda found: _bare(self.substitute(found)))
            return type(part)(**{name: inside.plain(item, join(place, name)) for name, item in given.items()})

        return transform(value, visit, at)


def _bare(found: Any) -> Any:
    return found.value if isinstance(found, Finished) else found


def _holds_steps(value: Any) -> bool:
    found = []

    def visit(part: Any, _: str) -> Any:
        if isinstance(part, Dependency):
            found.append(part)
            return part
        given = made_from(part)
        return DESCEND if given is None else transform(given, visit)

    transform(value, visit)
    return bool(found)
