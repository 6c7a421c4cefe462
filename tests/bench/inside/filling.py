"""Puts results into a workspace as runs leave them: nothing is run, and no disk waited for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from dispatch.formats import resolve_format
from dispatch.info import AttemptFacts, StepRecord, StepState
from dispatch.workspace.attempts import Ports
from dispatch.workspace.disk import Disk
from dispatch.workspace.local import LocalWorkspace


class Hasty(Disk):
    """Leaves it to the system when bytes go to the disk."""

    def write(self, path: Path, data: bytes, durable: bool = False) -> None:  # noqa: ARG002
        """Replace a file's content atomically."""
        super().write(path, data)

    def sync(self, path: Path) -> None:
        """Do nothing."""

    def flush(self, handle: int) -> None:
        """Do nothing."""


def hasty(directory: Path) -> LocalWorkspace:
    """A workspace that is filled in seconds."""
    return LocalWorkspace(directory, ports=Ports(disk=Hasty()))


def fill(workspace: LocalWorkspace, records: Iterable[StepRecord], code: str) -> None:
    """Give every step a result, a small number."""
    format, value = resolve_format("json"), b"1\n"
    now = datetime.now(timezone.utc)
    facts = AttemptFacts(
        StepState.COMPLETED, now, now, phase="run", engine="process", interpreter="3.11.7", code=code
    )
    for record in records:
        attempt = workspace.claim(record, "")
        attempt.result.mkdir(parents=True)
        handle = os.open(attempt.result / "data.json", os.O_WRONLY | os.O_CREAT)
        os.write(handle, value)
        os.close(handle)
        workspace.commit(attempt, record, facts, format)
