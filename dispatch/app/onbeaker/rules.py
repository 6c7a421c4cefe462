"""What the settings of a run on Beaker mean before anything is asked: refusals, warnings, the usual image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from dispatch.config import Config
from dispatch.engine.base import Network
from dispatch.environment import BeakerImage, DockerImage, Environment
from dispatch.errors import ConfigurationError, SourceError
from dispatch.graph import StepGraph
from dispatch.job import Setup
from dispatch.location import HostPath, Spool
from dispatch.plan.model import LOCAL
from dispatch.reporting import Reporter
from dispatch.settings import Settings
from dispatch.settings.beaker import DEFAULT_BEAKER_IMAGE, BeakerSetup
from dispatch.source import SourceRef
from dispatch.workspace.base import Workspace

BEAKER = "beaker"
_NAMED = 3


def setup_of(settings: Settings) -> BeakerSetup:
    """What the settings say of the executor; defaults where they name its type alone."""
    return settings.executor.beaker or BeakerSetup()


def check_workspace(workspace: Workspace, say: Reporter) -> None:
    """Refuse a workspace that would be lost with us, and warn of one whose every byte passes through here."""
    if workspace.keeps is Spool:
        raise ConfigurationError(
            "executor 'beaker': results in memory would be lost, for steps run elsewhere",
            "use a workspace that lasts: `workspace: beaker://ORG/NAME`, or a directory",
        )
    if workspace.keeps is HostPath:
        say(
            f"the workspace {workspace.url} is on this machine: inputs and results of all steps on Beaker "
            "pass through it; `workspace: beaker://ORG/NAME` leaves them there"
        )


def tell_of_networks(graph: StepGraph, say: Reporter) -> None:
    """Say which steps ask for no network, which Beaker cannot keep from a job. Their results do not depend
    on it, so they run all the same.
    """
    options = {name: graph[name].options for name in graph}
    names = [
        repr(name)
        for name, asked in options.items()
        if asked.network == Network.NONE.value and asked.resources.machine != LOCAL
    ]
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        who = f"{', '.join(names[:_NAMED])}{more} {'asks' if len(names) == 1 else 'ask'}"
        say(f"jobs on Beaker have a network, though {who} for none")


def usual_image(setup: BeakerSetup) -> str:
    """The image of steps that name none. Its user is told that it has to hold bash, conda and git."""
    return setup.docker_image or setup.beaker_image or DEFAULT_BEAKER_IMAGE


def with_default_image(config: Config, setup: BeakerSetup, origin: Path | None) -> Config:
    """Give steps that name no image the executor's; those that must run on this machine have none."""
    name = usual_image(setup)
    declared = DockerImage(name) if setup.docker_image is not None else BeakerImage(name)
    bare = [
        step
        for step, image in config.images.items()
        if image is None and config.graph[step].options.resources.machine != LOCAL
    ]
    if not bare:
        return config
    environment = Environment(name, declared, origin or config.path)
    return replace(
        config,
        images=MappingProxyType({**config.images, **dict.fromkeys(bare, name)}),
        environments=MappingProxyType({name: environment, **config.environments}),
    )


def setups_of(config: Config, setup: BeakerSetup, names: Mapping[str, object]) -> Mapping[str, Setup | None]:
    """How jobs make their environments: those of generated images have theirs, those of others make one."""
    wanted = Setup(venv_name=setup.venv_name or "", install_cmd=setup.install_cmd or "")
    return {
        name: wanted
        if isinstance(config.environments[name].declaration, (DockerImage, BeakerImage))
        else None
        for name in names
    }


def refuse_dirty(ref: SourceRef, root: Path, settings: Settings) -> None:
    """Refuse uncommitted changes, unless the settings allow to run what is in the working tree."""
    own = setup_of(settings).allow_dirty
    allowed = settings.allow_dirty if own is None else own
    if ref.dirty and not allowed:
        raise SourceError(
            f"{root}: uncommitted changes, and steps on Beaker run what is committed",
            "commit them (nothing need be pushed), or say `allow_dirty: true` to run a snapshot of them",
        )
