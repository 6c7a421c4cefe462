"""The public face of the workspaces: their classes, under the names that users know."""

from __future__ import annotations

from dispatch.workspace.local import LocalWorkspace
from dispatch.workspace.memory import MemoryWorkspace

__all__ = ["LocalWorkspace", "MemoryWorkspace"]
