"""Runs on disk: one small file each, and links that lead from the names of steps to their results."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dispatch.errors import WorkspaceError
from dispatch.workspace.disk import Disk
from dispatch.workspace.names import is_name

RECORD = ".run.json"
LOG = ".out.log"
DIFFERENCE = ".source-"
VERSION = 1

# A record begins with these two, so that runs can be sorted without parsing what may be long.
_HEAD = re.compile(rb'\{\s*"run": \d+,\s*"start_date": "([0-9T:.+-]{10,40})"')
_HEAD_BYTES = 128
_TREE = 12


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

    def to_json(self) -> dict[str, Any]:
        """Return the record in JSON types, without its name."""
        return {
            "run": VERSION,
            "start_date": self.start_date.isoformat(),
            "targets": dict(self.targets),
            "jobs": dict(self.jobs),
            "facts": dict(self.facts),
            "state": self.state,
            "ended": self.ended.isoformat() if self.ended else None,
        }

    @classmethod
    def from_json(cls, name: str, data: Mapping[str, Any]) -> RunRecord:
        """Read :meth:`to_json`'s; KeyError, TypeError, ValueError or AttributeError for anything else."""
        _expect_texts(data["targets"], data["jobs"])
        return cls(
            name=name,
            start_date=datetime.fromisoformat(data["start_date"]),
            targets=data["targets"],
            jobs=data["jobs"],
            facts=data["facts"],
            state=data["state"],
            ended=datetime.fromisoformat(data["ended"]) if data["ended"] else None,
        )

    def to_bytes(self) -> bytes:
        """Return the file's bytes."""
        return (json.dumps(self.to_json(), indent=1) + "\n").encode("ascii")

    @classmethod
    def read(cls, directory: Path) -> RunRecord:
        """Read a run's record; KeyError where there is none, WorkspaceError where it is damaged."""
        path = directory / RECORD
        try:
            return cls.from_json(directory.name, json.loads(path.read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(directory.name) from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WorkspaceError(
                f"{path}: is damaged ({error})", f"run `dispatch repair`, or remove {directory}"
            ) from error


def _expect_texts(*mappings: Mapping[str, Any]) -> None:
    for mapping in mappings:
        if not all(type(value) is str for value in mapping.values()):
            raise TypeError("a unique id is not a text")


class Runs:
    """The runs in one directory, and the link ``latest`` beside it."""

    def __init__(self, directory: Path, latest: Path, disk: Disk) -> None:
        self._directory = directory
        self._latest = latest
        self._disk = disk

    def add(self, record: RunRecord, furnish: Callable[[Path, str], None] | None = None) -> bool:
        """Store a new run with its links, whole or not at all; False where the name is taken.

        ``furnish`` puts into the run's directory what is to be there from the first moment on.
        """
        target = self._directory / record.name
        if target.exists():
            return False
        draft = self._directory / f".{record.name}.{os.urandom(6).hex()}"
        self._disk.make_new_dir(draft)
        for step, unique_id in {**record.jobs, **record.targets}.items():
            self._disk.new_link(draft / step, f"../../cache/{unique_id}")
        if furnish is not None:
            furnish(draft, record.name)
        self._disk.write(draft / RECORD, record.to_bytes(), durable=True)
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
        self._disk.write(self._directory / record.name / RECORD, record.to_bytes(), durable=True)

    def remove(self, name: str) -> None:
        """Remove a run, its links and its log in one rename; ``latest`` leads to the youngest of the rest.

        KeyError where there is no such run; one whose record is damaged goes, too.
        """
        directory = self._directory / name
        if not is_name(name) or not os.path.lexists(directory):
            raise KeyError(name)
        aside = self._directory / f".{name}.{os.urandom(6).hex()}"
        try:
            self._disk.rename(directory, aside)
        except FileNotFoundError:
            raise KeyError(name) from None
        self._disk.remove(aside)
        if self._latest.is_symlink() and self._latest.readlink().name == name:
            started = self.started(self.names())
            if started:
                youngest = max(started, key=lambda other: (started[other], other))
                self._disk.link(self._latest, f"{self._directory.name}/{youngest}")
            else:
                self._disk.remove(self._latest)

    def log(self, name: str) -> Path:
        """Return the file for a run's own log; KeyError where there is no such run."""
        self.get(name)
        return self._directory / name / LOG

    def keep_difference(self, name: str, tree: str, text: bytes) -> None:
        """Keep how a tree differed from its commit; KeyError where there is no such run."""
        self.get(name)
        path = self._directory / name / f"{DIFFERENCE}{tree[:_TREE]}.diff"
        if not path.exists():
            self._disk.write(path, text)

    def differences(self, name: str) -> tuple[Path, ...]:
        """Return the files with such differences; KeyError where there is no such run."""
        self.get(name)
        return tuple(sorted((self._directory / name).glob(f"{DIFFERENCE}*.diff")))

    def latest(self) -> str | None:
        """Return the name of the run that the link leads to, or None where there is no such run."""
        try:
            return self.get(self._latest.readlink().name).name
        except (OSError, KeyError):
            return None

    def names(self) -> list[str]:
        """Return the names of all runs, in no order, without reading any."""
        try:
            found = os.listdir(self._directory)  # noqa: PTH208
        except FileNotFoundError:
            return []
        root = os.fspath(self._directory)
        return [name for name in found if is_name(name) and os.path.exists(f"{root}/{name}/{RECORD}")]  # noqa: PTH110

    def started(self, names: Iterable[str]) -> dict[str, datetime]:
        """Return when these runs were registered, reading no more than the beginning of each.

        One that disappears meanwhile is left out; so is, with a warning, one that is damaged.
        """
        found = {}
        for name in names:
            with contextlib.suppress(KeyError):
                date = self._head(name)
                if date is not None:
                    found[name] = date
        return found

    def _head(self, name: str) -> datetime | None:
        try:
            handle = os.open(f"{os.fspath(self._directory)}/{name}/{RECORD}", os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            raise KeyError(name) from None
        try:
            head = _HEAD.match(os.read(handle, _HEAD_BYTES))
        finally:
            os.close(handle)
        with contextlib.suppress(ValueError):
            if head:
                return datetime.fromisoformat(head[1].decode("ascii"))
        record = self.unless_damaged(name)
        return None if record is None else record.start_date

    def unless_damaged(self, name: str) -> RunRecord | None:
        """Read a run for a list: None where it is gone, and with a warning where it is damaged."""
        try:
            return self.get(name)
        except KeyError:
            return None
        except WorkspaceError as error:
            warnings.warn(f"run left out of the list: {error.message}; {error.remedy}", stacklevel=2)
            return None

    def all(self) -> list[RunRecord]:
        """Read all runs, oldest first. One that disappears meanwhile, or is damaged, is left out."""
        found = [self.unless_damaged(name) for name in self.names()]
        records = [record for record in found if record is not None]
        return sorted(records, key=lambda record: (record.start_date, record.name))
