"""Who we are at Beaker, and in which workspace: asked once, so that no call has to resolve names."""

from __future__ import annotations

from dispatch._beaker import _quiet  # noqa: F401  # isort: skip

import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import grpc
from beaker import exceptions as theirs
from beaker._service_client import RpcMethod

from dispatch._beaker.calls import Calls
from dispatch._beaker.client import Client, connect
from dispatch._beaker.door import PATIENCE
from dispatch._beaker.problems import BeakerError, BeakerNotFoundError


class Account:
    """One account, one workspace. Nothing is sent before it has to be.

    ``workspace`` is a name (``org/name``) or an id, None for the configuration's default. ``wall`` is the
    time since the epoch.
    """

    def __init__(
        self,
        workspace: str | None,
        options: Mapping[str, Any],
        user_agent: str,
        patience: float = PATIENCE,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._asked = workspace
        self._options = options
        self._agent = user_agent
        self._patience = patience
        self.wall = wall

    @cached_property
    def client(self) -> Client:
        """The vendor's client."""
        return connect(self._options, self._agent)

    @cached_property
    def call(self) -> Calls:
        """Makes calls."""
        return Calls(self.client.config.agent_address, self._patience, self.client.limit)

    def rpc(self, what: str, name: str, request: Any) -> Any:
        """Call a method of the service by name."""
        method: RpcMethod[Any] = RpcMethod(getattr(self.client.service, name))
        metadata = self.client.user._rpc_call_metadata
        missing: dict[Any, Exception] = {grpc.StatusCode.NOT_FOUND: theirs.BeakerNotFoundError(what)}
        return self.call(what, lambda: method(request, missing, metadata))

    @cached_property
    def _user(self) -> Any:
        return self.call("the account", lambda: self.client.user.get())

    @property
    def has_answered(self) -> bool:
        """Whether Beaker has let us in before: then it is known who we are, and nothing is sent for it."""
        return "_user" in self.__dict__

    @property
    def user_id(self) -> str:
        """Our id."""
        return str(self._user.id)

    @property
    def user_name(self) -> str:
        """Our name."""
        return str(self._user.name)

    @cached_property
    def _workspace(self) -> Any:
        name = self._asked or self.client.config.default_workspace
        if name is None:
            raise BeakerError("no Beaker workspace is named", "name one: `beaker_workspace: ORG/NAME`")
        if "/" not in name and self.client.config.default_org:
            # A bare word may be an id, or a name in the default organisation.
            try:
                return self.call(f"workspace {name}", lambda: self.client.workspace.get(name))
            except BeakerNotFoundError:
                name = f"{self.client.config.default_org}/{name}"
        return self.call(f"workspace {name}", lambda: self.client.workspace.get(name))

    @property
    def workspace_raw(self) -> Any:
        """The workspace, as the vendor tells it."""
        return self._workspace

    @property
    def workspace_id(self) -> str:
        """The workspace's id."""
        return str(self._workspace.id)

    @property
    def workspace_name(self) -> str:
        """The workspace's name, as ``org/name``."""
        return str(self._workspace.name)

    @cached_property
    def organization_id(self) -> str:
        """The id of the workspace's organisation."""
        organization = self.workspace_name.partition("/")[0]
        return str(self.call("the organisation", lambda: self.client.organization.get(organization)).id)

    def close(self) -> None:
        """Close the connections, if there are any."""
        if "call" in self.__dict__:
            self.call.close()
        if "client" in self.__dict__:
            self.client.close()
