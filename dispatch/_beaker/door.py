"""The door itself: one account at one workspace, and all that can be done there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from dispatch._beaker.account import Account
from dispatch._beaker.calls import PATIENCE
from dispatch._beaker.clusters import Clusters
from dispatch._beaker.datasets import Datasets
from dispatch._beaker.experiments import Experiments
from dispatch._beaker.images import Images
from dispatch._beaker.secrets import Secrets

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class BeakerDoor:
    """Beaker as one account sees it in one workspace. Making one sends nothing.

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
        self.account = Account(workspace, options, user_agent, patience)

    @cached_property
    def datasets(self) -> Datasets:
        """Its datasets."""
        return Datasets(self.account)

    @cached_property
    def experiments(self) -> Experiments:
        """Its experiments and jobs."""
        return Experiments(self.account)

    @cached_property
    def images(self) -> Images:
        """Its images."""
        return Images(self.account)

    @cached_property
    def secrets(self) -> Secrets:
        """Its secrets."""
        return Secrets(self.account)

    @cached_property
    def clusters(self) -> Clusters:
        """The clusters that it may use."""
        return Clusters(self.account)

    @property
    def address(self) -> str:
        """The server's address, for people."""
        return str(self.account.client.config.agent_address)

    def close(self) -> None:
        """Close the connections."""
        self.account.close()
