"""Which workspace of Beaker a command means, and how the account is told, by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dispatch.location import BeakerDataset
from dispatch.settings import Settings, Surroundings, WorkspaceSetting

if TYPE_CHECKING:
    from dispatch._beaker import BeakerDoor
    from dispatch.workspace.base import Workspace
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


def door_of(settings: Settings, workspace: Workspace) -> BeakerDoor:
    """The door for experiments and images: that of the ``workspace`` for results, where both mean the same.

    Nothing is sent.
    """
    from dispatch._beaker import BeakerDoor

    shared: BeakerDoor | None = None
    if workspace.keeps is BeakerDataset:
        from dispatch.workspace.beaker.workspace import BeakerWorkspace

        shared = workspace.site.door if isinstance(workspace, BeakerWorkspace) else None
    name, options = settings.executor.options.get(_NAME), options_of(settings)
    if shared is not None and name in (None, workspace.url.partition("://")[2]):
        if not options:
            return shared
        own = BeakerDoor(shared.account.workspace_name, options)
        if own.account.client.config == shared.account.client.config:
            return shared
        return own
    return BeakerDoor(workspace_of(settings), options)


def origin_of(url: str, user_id: str) -> str:
    """What tells jobs of one workspace and account: the same step of another is another job."""
    return f"{url} {user_id}"


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
