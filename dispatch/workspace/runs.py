"""Runs on disk: one small file each, and links that lead from the names of steps to their results."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dispatch.errors import WorkspaceError
from dispatch.workspace.disk import Disk
from dispatch.workspace.names import is_name

RECORD = ".run.json"
LOG = ".out.log"
VERSION = 1


@dataclass(frozen=True)
class RunRecord:
    """What is stored of a run: unique ids of its targets and of the jobs beside them, by name.

    ``facts`` is what the caller wants remembered (configuration, commit, images, command), as JSON. ``state``
    is empty until the run has ended.
    """

    name: str
    start_date: datetime
    targets: Mapping[str, str]
    jobs: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    state: str = ""
    ended: datetime | None = None

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        data = {
            "run": VERSION,
            "start_date": self.start_date.isoformat(),
            "targets": dict(self.targets),
            "jobs": dict(self.jobs),
            "facts": dict(self.facts),
            "state": self.state,
            "ended": self.ended.isoformat() if self.ended else None,
        }
        return (json.dumps(data, indent=1) + "\n").encode("ascii")

    @classmethod
    def read(cls, directory: Path) -> RunRecord:
        """Read a run's record; KeyError where there is none, WorkspaceError where it is damaged."""
        path = directory / RECORD
        try:
            data = json.loads(path.read_bytes())
            return cls(
                name=directory.name,
                start_date=datetime.fromisoformat(data["start_date"]),
                targets=data["targets"],
                jobs=data["jobs"],
                facts=data["facts"],
                state=data["state"],
                ended=datetime.fromisoformat(data["ended"]) if data["ended"] else None,
            )
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(directory.name) from None
        except (KeyError, TypeError, ValueError) as error:
            raise WorkspaceError(f"{path}: is damaged ({error})", f"remove {directory}") from error


class Runs:
    """The runs in one directory, and the link ``latest`` beside it."""

    def __init__(self, directory: Path, latest: Path, disk: Disk) -> None:
        self._directory = directory
        self._latest = latest
        self._disk = disk

    def add(self, record: RunRecord) -> bool:
        """Store a new run with its links, whole or not at all; False where the name is taken."""
        target = self._directory / record.name
        if target.exists():
            return False
        draft = self._directory / f".{record.name}.{os.urandom(6).hex()}"
        self._disk.make_new_dir(draft)
        for step, unique_id in {**record.jobs, **record.targets}.items():
            self._disk.new_link(draft / step, f"../../cache/{unique_id}")
        self._disk.write(draft / RECORD, record.to_bytes())
        try:
            self._disk.rename(draft, target)
        except OSError as error:
            self._disk.remove(draft)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            return False
        self._disk.link(self._latest, f"{self._directory.name}/{record.name}")
        return True

    def get(self, name: str) -> RunRecord:
        """Read a run; KeyError where there is none of that name."""
        if not is_name(name):
            raise KeyError(name)
        return RunRecord.read(self._directory / name)

    def put(self, record: RunRecord) -> None:
        """Replace the record of a run that exists; its links stay as they are."""
        self._disk.write(self._directory / record.name / RECORD, record.to_bytes())

    def log(self, name: str) -> Path:
        """Return the file for a run's own log; KeyError where there is no such run."""
        self.get(name)
        return self._directory / name / LOG

    def latest(self) -> str | None:
        """Return the name of the run that the link leads to, or None where there is no such run."""
        try:
            return self.get(self._latest.readlink().name).name
        except (OSError, KeyError):
            return None

    def all(self) -> list[RunRecord]:
        """Read all runs, oldest first. One that disappears meanwhile is left out."""
        try:
            names = [name for name in os.listdir(self._directory) if is_name(name)]  # noqa: PTH208
        except FileNotFoundError:
            return []
        records = []
        for name in names:
            try:
                records.append(RunRecord.read(self._directory / name))
            except KeyError:
                continue
        return sorted(records, key=lambda record: (record.start_date, record.name))
