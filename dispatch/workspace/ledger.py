"""Steps, attempts and results of a workspace in memory: what ``layout`` and ``attempts`` are to a local one.

Values that pickle gives back are kept as bytes. Everything else (results of jobs, streams, what a format of
its own holds) is kept as files in a temporary directory, which is made when it is first needed and removed
with the workspace, or when the process that made it ends.
"""

from __future__ import annotations

import os
import pickle
import shutil
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.errors import StepStateError
from dispatch.info import AttemptFacts, StepInfo, StepRecord, StepState
from dispatch.workspace import manifest as manifests
from dispatch.workspace.claims import Attempt, StepCompletedError, StepHeldError, StepSupersededError
from dispatch.workspace.layout import ATTEMPT_FOLDERS
from dispatch.workspace.manifest import Manifest
from dispatch.workspace.records import check_id, state_of

if TYPE_CHECKING:
    from dispatch.formats import Format


class TemporaryDirectory:
    """A directory that is made when it is first asked for."""

    def __init__(self) -> None:
        self._made: Path | None = None
        self._remove: Callable[[], object] | None = None

    @property
    def exists(self) -> bool:
        """Whether it was asked for."""
        return self._made is not None

    def path(self) -> Path:
        """Return the directory, made where it is missing."""
        if self._made is None:
            import tempfile

            self._made = Path(tempfile.mkdtemp(prefix="dispatch-memory-"))
            self._remove = weakref.finalize(self, _remove_as, os.getpid(), str(self._made))
        return self._made

    def close(self) -> None:
        """Remove the directory now."""
        if self._remove is not None:
            self._remove()
        self._made = self._remove = None


def _remove_as(pid: int, directory: str) -> None:
    """Remove a directory, unless we are a fork of the process it belongs to."""
    if os.getpid() == pid:
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class Stored:
    """A result: a value's bytes, or a directory with ``result/`` that is as ``manifest`` says."""

    manifest: Manifest
    pickled: bytes | None = None
    directory: Path | None = None


@dataclass
class _Step:
    """What is known of a step. ``record`` is None where nobody mentioned it, or it was removed."""

    record: StepRecord | None = None
    number: int = 0
    run: str = ""
    since: datetime | None = None
    facts: AttemptFacts | None = None
    stored: Stored | None = None
    directories: dict[int, Path] = field(default_factory=dict)


class Ledger:
    """All steps of a workspace. Its methods may be called from several threads; ``now`` gives the time."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.lock = threading.RLock()
        self.temporary = TemporaryDirectory()
        self._steps: dict[str, _Step] = {}

    # What is known

    def know(self, record: StepRecord) -> None:
        """Keep a step's record; the latest name wins."""
        check_id(record)
        with self.lock:
            self._steps.setdefault(record.unique_id, _Step()).record = record

    def record(self, unique_id: str) -> StepRecord | None:
        """Return a step's record, or None."""
        step = self._steps.get(unique_id)
        return step.record if step else None

    def unique_ids(self) -> list[str]:
        """Return the unique ids of all known steps."""
        with self.lock:
            return [unique_id for unique_id, step in self._steps.items() if step.record is not None]

    def info(self, record: StepRecord) -> StepInfo:
        """Say where a step stands."""
        with self.lock:
            step = self._steps.get(record.unique_id, _Step())
            attempt, location = step.facts, None
            if step.since is not None:
                attempt = AttemptFacts(
                    StepState.RUNNING,
                    started=step.since,
                    platform={"host": os.uname().nodename},
                    environment={"pid": os.getpid(), "run": step.run},
                )
            if step.stored is not None:
                attempt = AttemptFacts.from_json(step.stored.manifest.facts)
                location = str(step.stored.directory / "result") if step.stored.directory else "memory"
            state = state_of(record, step.stored is not None, step.since is not None, attempt)
            return StepInfo(record, state, attempt, location)

    def runs_for(self, unique_id: str) -> str | None:
        """Return the run for which somebody works at the step, or None where nobody does."""
        step = self._steps.get(unique_id)
        return step.run if step is not None and step.since is not None else None

    def stored(self, unique_id: str) -> Stored | None:
        """Return a step's result, or None."""
        step = self._steps.get(unique_id)
        return step.stored if step else None

    def is_completed(self, unique_id: str) -> bool:
        """Say whether the step has a result to be used again."""
        stored = self.stored(unique_id)
        return stored is not None and bool(stored.manifest.record["cacheable"])

    def log(self, unique_id: str) -> Path | None:
        """Return the log of the attempt with the result, else the latest log there is."""
        with self.lock:
            step = self._steps.get(unique_id, _Step())
            first = step.stored.manifest.attempt if step.stored else step.number
            logs = (
                step.directories[number] / "out.log"
                for number in sorted(step.directories, reverse=True)
                if number <= first
            )
            return next((path for path in logs if path.exists()), None)

    def attempt_log(self, unique_id: str, number: int) -> Path | None:
        """Return the log of one attempt, None where there is none."""
        with self.lock:
            directory = self._steps.get(unique_id, _Step()).directories.get(number)
        path = directory / "out.log" if directory is not None else None
        return path if path is not None and path.exists() else None

    # Attempts

    def begin(self, record: StepRecord, run: str, replaces: bool = False) -> int:
        """Begin an attempt, and return its number."""
        with self.lock:
            self.know(record)
            step = self._steps[record.unique_id]
            if self.is_completed(record.unique_id) and record.cacheable and not replaces:
                raise StepCompletedError(record.unique_id)
            _refuse_held(record.unique_id, step)
            if step.stored is not None and not record.cacheable:
                self.drop(record.unique_id)
            step.number += 1
            step.run, step.since = run, self.now()
            return step.number

    def attempt(self, unique_id: str, number: int, replaces: bool = False) -> Attempt:
        """Return an attempt with the directories that a job fills."""
        with self.lock:
            directory = self.temporary.path() / "attempts" / f"{unique_id}.{number}"
            for folder in ATTEMPT_FOLDERS:
                (directory / folder).mkdir(parents=True, exist_ok=True)
            self._steps[unique_id].directories[number] = directory
            return Attempt(unique_id, number, directory, replaces)

    def end(self, unique_id: str, number: int, facts: AttemptFacts | None) -> None:
        """Record the end of an attempt; one that was superseded says nothing of the step any more."""
        with self.lock:
            step = self._steps[unique_id]
            if step.number == number:
                step.facts, step.since = facts, None

    def commit(
        self, attempt: Attempt, record: StepRecord, facts: AttemptFacts, format: Mapping[str, Any] | None
    ) -> None:
        """Take in what a job left; see :meth:`dispatch.workspace.base.Workspace.commit`."""
        if self._is_done(attempt):
            self.end(attempt.unique_id, attempt.number, facts)
            return
        if self._steps[attempt.unique_id].number != attempt.number:
            raise StepSupersededError(attempt.unique_id, attempt.number)
        if attempt.result.is_symlink() or not attempt.result.is_dir():
            raise StepStateError(
                f"step {attempt.unique_id}: attempt {attempt.number} left no result",
                f"look at the files in {attempt.directory}",
            )
        # Nothing here outlives the process, so nothing has to be brought to the disk.
        content = manifests.survey(attempt.result)
        with self.lock:
            draft = attempt.directory / "commit"
            draft.mkdir(exist_ok=True)
            attempt.result.rename(draft / "result")
            known = Manifest(
                attempt.unique_id,
                attempt.number,
                record.to_json(),
                facts.to_json(),
                content,
                dict(format) if format else None,
            )
            self._put(record, Stored(known, directory=draft))
            self.end(attempt.unique_id, attempt.number, facts)

    def _is_done(self, attempt: Attempt) -> bool:
        stored = self.stored(attempt.unique_id)
        if stored is None or not self.is_completed(attempt.unique_id):
            return False
        return not attempt.replaces or stored.manifest.attempt == attempt.number

    def keep(
        self, record: StepRecord, number: int, facts: AttemptFacts, format: Format[Any], pickled: bytes
    ) -> None:
        """Take in the bytes of a value."""
        named = {"name": format.NAME, "version": format.VERSION}
        manifest = Manifest(
            record.unique_id, number, record.to_json(), facts.to_json(), manifests.Content(), named
        )
        with self.lock:
            self._put(record, Stored(manifest, pickled=pickled))
            self.end(record.unique_id, number, facts)

    def spool(self, unique_id: str, format: Format[Any]) -> Path | None:
        """Return the directory of a result's files, written in ``format`` where only bytes are kept."""
        with self.lock:
            stored = self.stored(unique_id)
            if stored is None:
                return None
            if stored.directory is None:
                number = stored.manifest.attempt
                draft = self.temporary.path() / "values" / f"{unique_id}.{number}"
                (draft / "result").mkdir(parents=True)
                format.write(pickle.loads(stored.pickled or b""), draft / "result")
                content = manifests.survey(draft / "result")
                manifest = replace(stored.manifest, content=content)
                stored = replace(stored, manifest=manifest, directory=draft)
                self._steps[unique_id].stored = stored
            assert stored.directory is not None
            return stored.directory / "result"

    def drop(self, unique_id: str) -> None:
        """Remove a step's result and nothing else."""
        with self.lock:
            step = self._steps[unique_id]
            if step.stored is not None and step.stored.directory is not None:
                shutil.rmtree(step.stored.directory, ignore_errors=True)
            step.stored = None

    def remove(self, unique_id: str) -> None:
        """Remove all there is of a step but the number of its latest attempt."""
        with self.lock:
            step = self._steps[unique_id]
            _refuse_held(unique_id, step)
            self.drop(unique_id)
            for directory in step.directories.values():
                shutil.rmtree(directory, ignore_errors=True)
            if self.temporary.exists:
                shutil.rmtree(self.work_path(unique_id), ignore_errors=True)
            # The number stays, so that an attempt from before cannot come back.
            self._steps[unique_id] = _Step(number=step.number + 1)

    def work(self, unique_id: str) -> Path:
        """Return the directory that the step keeps between attempts, made where missing."""
        with self.lock:
            directory = self.work_path(unique_id)
            directory.mkdir(parents=True, exist_ok=True)
            return directory

    def work_path(self, unique_id: str) -> Path:
        """Return the path of that directory."""
        return self.temporary.path() / "work" / unique_id

    def close(self) -> None:
        """Forget all, and remove the temporary directory."""
        with self.lock:
            self._steps.clear()
            self.temporary.close()

    def _put(self, record: StepRecord, stored: Stored) -> None:
        self.know(record)
        if self._steps[record.unique_id].stored is not None:
            self.drop(record.unique_id)
        self._steps[record.unique_id].stored = stored


def _refuse_held(unique_id: str, step: _Step) -> None:
    if step.since is not None:
        raise StepHeldError(unique_id, f"this process (run {step.run!r})" if step.run else "this process")
