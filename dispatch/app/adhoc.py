"""One command instead of a configuration: what is asked for, and what it becomes.

Owns the meaning of ``STEP@RUN``: the result that a step has in an earlier run, under its unique id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch import assets
from dispatch.app.records import named, step_of
from dispatch.config.adhoc import Command, load_command
from dispatch.errors import ConfigurationError
from dispatch.graph import StepNode
from dispatch.plan import Given
from dispatch.settings import Settings

if TYPE_CHECKING:
    from dispatch.config import Config
    from dispatch.workspace.base import Workspace

STEP = "command"


@dataclass(frozen=True)
class EarlierResult:
    """The result of ``step`` in ``run`` (``latest`` is the newest), as an input under ``name``."""

    name: str
    step: str
    run: str


@dataclass(frozen=True)
class AdHoc:
    """A command for ``sh -c`` in ``directory`` (absolute), as the one step of a run.

    ``image`` is a name, a Docker reference, or None for the current environment. ``options`` are a step's
    keys as config would say them. ``paths`` narrow the files that its identity depends on. With ``again``
    it is run although it has a result.
    """

    command: str
    directory: Path
    step: str = STEP
    image: str | None = None
    inputs: tuple[EarlierResult, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    again: bool = False


@dataclass(frozen=True)
class GivenSteps:
    """The steps that a command is given, by their names in its run; ``inputs`` are such names by inputs'."""

    steps: Mapping[str, Given] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)


def given_steps(asked: AdHoc, workspace: Workspace) -> GivenSteps:
    """Find the results of earlier runs; ConfigurationError where there is none.

    A step keeps its own name where that is free, since a workspace knows each step by the latest it had.
    """
    steps: dict[str, Given] = {}
    inputs: dict[str, str] = {}
    for each in asked.inputs:
        if each.name in inputs:
            raise ConfigurationError(
                f"two inputs are called {each.name!r}", f"name one of them: NAME={each.step}@{each.run}"
            )
        run = named(workspace, each.run)
        info = step_of(workspace, run, each.step)
        if workspace.locate(info.unique_id) is None:
            fact = f"step {each.step!r} of run {run} has no result: it is {info.state.value}"
            raise ConfigurationError(
                f"input {each.name!r}: {fact}",
                f"see `dispatch show {run}`, and take the result of another run",
            )
        image = info.attempt.image if info.attempt is not None else ""
        known = next((name for name, one in steps.items() if one.record.unique_id == info.unique_id), None)
        own = info.record.name
        name = known or (own if own not in (asked.step, *steps) else each.name)
        if known is None and name in (asked.step, *steps):
            raise ConfigurationError(
                f"input {each.name!r}: another step of this run has that name",
                f"write NAME={each.step}@{each.run}",
            )
        if known is None:
            record = replace(info.record, name=name)
            steps[name] = Given(record, image or None, f"{each.step!r} of run {run}")
        inputs[each.name] = name
    return GivenSteps(steps, inputs)


def config_of(
    asked: AdHoc,
    given: GivenSteps,
    settings: Settings,
    *,
    tracked: bool,
    say: Callable[[str], None],
) -> Config:
    """Make the configuration of a command.

    ``tracked`` says whether it runs in a repository. Where it does not, nobody can tell what its files are,
    and what it gives is never taken for the result of another run's.
    """
    executor = settings.executor.type
    if executor == "docker" and asked.image is None:
        raise ConfigurationError(
            "the settings say `executor: {type: docker}`, and the command has no image",
            "name one with --image",
        )
    if executor == "local" and asked.image is not None:
        raise ConfigurationError(
            f"the settings say `executor: {{type: local}}`, and the command asks for image {asked.image!r}",
            "leave --image out, or use `executor: {type: docker}`",
        )
    if not tracked and asked.image is None and not asked.paths:
        say("not in a git repository with a commit: the result is this run's alone")
    command = Command(
        asked.step, asked.command, asked.image, asked.options, given.inputs, asked.paths, kept=tracked
    )
    nodes = [StepNode(name, each.record.type, {}) for name, each in given.steps.items()]
    return load_command(command, nodes, asked.directory, settings, assets.images())
