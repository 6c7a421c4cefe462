"""Workspaces on a local Beaker for tests: one server, and an empty workspace whenever one is asked for."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import options_of
from dispatch.workspace.beaker.site import BeakerPorts
from dispatch.workspace.beaker.workspace import BeakerWorkspace


@dataclass
class BeakerWorkspaces:
    """Makes workspaces on a server, and clients of them, each of which has its copies below ``root``."""

    beaker: LocalBeaker
    root: Path
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def new(self) -> str:
        """Make an empty workspace, and return its name."""
        name = f"ai2/made-{next(self._numbers)}"
        with self.beaker.client() as client:
            client.workspace.create(name)
        return name

    def client(
        self, name: str, user: str = "me", *, cache: str = "cache", ports: BeakerPorts | None = None
    ) -> BeakerWorkspace:
        """Open a workspace as a user; equal ``cache`` is the same machine's."""
        return BeakerWorkspace(
            name,
            cache=self.root / cache,
            ports=ports,
            **cast("dict[str, Any]", options_of(self.beaker, user)),
        )
