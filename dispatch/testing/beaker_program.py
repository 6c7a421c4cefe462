"""A program that runs steps on a local Beaker, in busybox, and keeps its results somewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.beaker import BeakerExecutor, BeakerWorkspace
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import options_of
from dispatch.testing.busybox import REFERENCE
from dispatch.workspace.base import Workspace
from dispatch.workspaces import LocalWorkspace

WORKSPACE = "ai2/my-workspace"


@dataclass(frozen=True)
class Program:
    """Where the results are, and what the executor is told."""

    workspace: Workspace
    settings: dict[str, Any]

    def executor(self, **more: Any) -> BeakerExecutor:
        """Return what runs steps."""
        return BeakerExecutor(self.workspace, **{**self.settings, **more})


def program(server: LocalBeaker, where: str = "beaker", drive: Path = Path("/")) -> Program:
    """Make one that keeps results on Beaker, here (``local``), or on a ``drive`` that jobs mount."""
    options: dict[str, Any] = options_of(server)
    settings = {"docker_image": REFERENCE, "beaker_workspace": WORKSPACE, **options}
    if where == "beaker":
        return Program(BeakerWorkspace(WORKSPACE, **options), settings)
    if where == "drive":
        settings["datasets"] = [f"{drive}:{drive}"]
    return Program(LocalWorkspace(drive / "results", shared=where == "drive"), settings)
