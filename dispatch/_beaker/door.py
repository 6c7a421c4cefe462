"""The door itself: one account at one workspace, and all that can be done there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dispatch._beaker.account import Account
    from dispatch._beaker.clusters import Clusters
    from dispatch._beaker.datasets import Datasets
    from dispatch._beaker.experiments import Experiments
    from dispatch._beaker.images import Images
    from dispatch._beaker.secrets import Secrets

PATIENCE = 120.0
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class BeakerDoor:
    """Beaker as one account sees it in one workspace. Making one sends nothing, and loads no vendor's code.

    ``options`` are those of ``Beaker.from_env``; environment and configuration file are read by beaker-py.
    ``patience`` is for how many seconds the server may be away in the middle of the work. May be used from
    several threads.
    """

    def __init__(
        self,
        workspace: str | None = None,
        options: Mapping[str, Any] = NO_OPTIONS,
        *,
        user_agent: str = "dispatch",
        patience: float = PATIENCE,
    ) -> None:
        self._workspace = workspace
        self._options = options
        self._user_agent = user_agent
        self._patience = patience

    @cached_property
    def account(self) -> Account:
        """Who we are, and in which workspace."""
        from dispatch._beaker.account import Account

        return Account(self._workspace, self._options, self._user_agent, self._patience)

    @cached_property
    def datasets(self) -> Datasets:
        """Its datasets."""
        account = self.account
        from dispatch._beaker.datasets import Datasets

        return Datasets(account)

    @cached_property
    def experiments(self) -> Experiments:
        """Its experiments and jobs."""
        account = self.account
        from dispatch._beaker.experiments import Experiments

        return Experiments(account)

    @cached_property
    def images(self) -> Images:
        """Its images."""
        account = self.account
        from dispatch._beaker.images import Images

        return Images(account)

    @cached_property
    def secrets(self) -> Secrets:
        """Its secrets."""
        account = self.account
        from dispatch._beaker.secrets import Secrets

        return Secrets(account)

    @cached_property
    def clusters(self) -> Clusters:
        """The clusters that it may use."""
        account = self.account
        from dispatch._beaker.clusters import Clusters

        return Clusters(account)

    @property
    def address(self) -> str:
        """The server's address, for people."""
        return str(self.account.client.config.agent_address)

    def close(self) -> None:
        """Close the connections."""
        if "account" in self.__dict__:
            self.account.close()
