"""The contract of workspaces, held against each of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch.testing.contracts_driving import DrivingContract
from dispatch.testing.contracts_workspace import WorkspaceContract
from dispatch.workspace.base import Workspace
from dispatch.workspaces import LocalWorkspace, MemoryWorkspace


class TestLocalWorkspace(WorkspaceContract, DrivingContract):
    """A directory."""

    @pytest.fixture
    def workspace(self, tmp_path: Path) -> Workspace:
        """A workspace in a directory that does not exist yet, with signs in its name that URLs quote."""
        return LocalWorkspace(tmp_path / "a #?%41 ü" / "ws")


class TestMemoryWorkspace(WorkspaceContract, DrivingContract):
    """Memory."""

    @pytest.fixture
    def workspace(self) -> Iterator[Workspace]:
        """A new workspace."""
        workspace = MemoryWorkspace()
        yield workspace
        workspace.close()
