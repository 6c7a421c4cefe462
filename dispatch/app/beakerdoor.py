"""Which workspace of Beaker a command means, and how the account is told, by the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dispatch.settings import Settings

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
