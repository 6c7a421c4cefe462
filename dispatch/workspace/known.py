"""The steps that a local workspace knows: a small file each, which tells what the step is.

Results bring the record along, too, so a file that is lost is missed only by steps without a result.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch.errors import WorkspaceError
from dispatch.info import StepState
from dispatch.workspace import records, search
from dispatch.workspace.names import is_unique_id

if TYPE_CHECKING:
    from dispatch.info import StepInfo, StepRecord
    from dispatch.workspace.attempts import Attempts
    from dispatch.workspace.disk import Disk
    from dispatch.workspace.layout import Layout


class Known:
    """The records of steps."""

    def __init__(self, layout: Layout, attempts: Attempts, disk: Disk) -> None:
        self._layout = layout
        self._attempts = attempts
        self._disk = disk
        self._directory = os.fspath(layout.steps)

    def info(self, unique_id: str) -> StepInfo:
        """Return what is known of a step. KeyError where nothing is."""
        if not is_unique_id(unique_id):
            raise KeyError(unique_id)
        standing = self._attempts.standing(unique_id)
        try:
            record = self.record(unique_id)
        except WorkspaceError:
            if standing.manifest is None:
                raise
            record = None
        record = record or records.record_in(standing)
        if record is None:
            raise KeyError(unique_id)
        return records.info(record, standing)

    def record(self, unique_id: str) -> StepRecord | None:
        """Return a step's stored record, or None; WorkspaceError where it is damaged."""
        data = self._bytes_of(unique_id) if is_unique_id(unique_id) else None
        return None if data is None else records.from_bytes(data)

    def store(self, record: StepRecord) -> None:
        """Keep a step's record, so that its unique id alone tells what it is; the latest name wins."""
        records.check_id(record)
        data = records.to_bytes(record)
        if self._bytes_of(record.unique_id) != data:
            self._disk.write(self._layout.step(record.unique_id), data)

    def completed(self, unique_ids: Iterable[str]) -> set[str]:
        """Return those of the steps that have a result in the cache: a look at one file each."""
        has_result = self._attempts.has_result
        return {unique_id for unique_id in unique_ids if is_unique_id(unique_id) and has_result(unique_id)}

    def candidates(self, match: str | None, state: StepState | None) -> list[str]:
        """Return the known steps that can be in a state: those in the cache, and only they, are COMPLETED."""
        unique_ids = search.matching(self._all(), match)
        if state is None:
            return unique_ids
        done = self.completed(unique_ids)
        if state is StepState.COMPLETED:
            return list(done)
        return [unique_id for unique_id in unique_ids if unique_id not in done]

    def _all(self) -> set[str]:
        """The unique ids of all known steps: those with a record, and results that lost theirs."""
        stored = {name[:-5] for name in _names_in(self._layout.steps) if name.endswith(".json")}
        results = self.completed(name for name in _names_in(self._layout.results) if name not in stored)
        return {unique_id for unique_id in stored if is_unique_id(unique_id)} | results

    def _bytes_of(self, unique_id: str) -> bytes | None:
        # A run reads one of these for each of its steps, hence no Path.
        try:
            with open(f"{self._directory}/{unique_id}.json", "rb", buffering=0) as file:  # noqa: PTH123
                return file.read()
        except FileNotFoundError:
            return None


def _names_in(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208
    except FileNotFoundError:
        return []
