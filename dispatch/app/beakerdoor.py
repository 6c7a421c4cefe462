"""Which workspace of Beaker a command means, and how the account is told, by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dispatch.settings import Settings, Surroundings, WorkspaceSetting

if TYPE_CHECKING:
    from dispatch.workspace.beaker.workspace import BeakerWorkspace

_NAME = "beaker_workspace"
# What the executor takes for itself; the rest is for beaker-py.
_CLIENT = ("user_token", "agent_address", "rpc_address", "default_org", "default_workspace", "user_agent")


def workspace_of(settings: Settings) -> str | None:
    """The executor's workspace, else the one that results are kept in, else beaker-py's default (None)."""
    own = settings.executor.options.get(_NAME)
    if own is None and settings.workspace.type == "beaker":
        own = settings.workspace.options.get(_NAME)
    return None if own is None else str(own)


def options_of(settings: Settings) -> Mapping[str, Any]:
    """What ``Beaker.from_env`` is given."""
    given = {**settings.workspace.options, **settings.executor.options}
    return {name: given[name] for name in _CLIENT if name in given}


def workspace_on_beaker(
    setting: WorkspaceSetting, settings: Settings, surroundings: Surroundings
) -> BeakerWorkspace:
    """The workspace that ``setting`` names, by the account that the settings tell, and that it is there.

    Errors as those of :func:`dispatch._beaker.preflight.preflight`, within seconds.
    """
    from dispatch._beaker.preflight import preflight
    from dispatch.workspace.beaker.workspace import BeakerWorkspace

    options = dict(setting.options)
    name = options.pop(_NAME, None)
    workspace = BeakerWorkspace(
        None if name is None else str(name),
        trusted=setting in settings.trusted_workspaces,
        cache=surroundings.cache / "beaker",
        **{**options_of(settings), **options},
    )
    preflight(workspace.site.door)
    return workspace
