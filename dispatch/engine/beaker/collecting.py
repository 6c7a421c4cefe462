"""What a job left on Beaker, and what of it comes to this machine.

Always the outcome, and before it, of a job whose result belongs here, the result, or the work of one that has
none: where an outcome is, all is. Refuses to judge an outcome beyond whether there is a result.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from dispatch._beaker import BeakerDamagedError, BeakerDoor, BeakerNotFoundError, Job
from dispatch._beaker.parcels import SUFFIX, download
from dispatch.engine.beaker.job import WORK, BeakerJob, output_of, source_of
from dispatch.location import BeakerDataset, HostPath
from dispatch.runtime.outcome import FILE, OutcomeState

_RESULT = "result"
_WORK = "work"
_WORK_BACK = "work.back"
# What arrives damaged may have been damaged on its way.
_READS = 5


class Collector:
    """Brings what belongs here. May be used from several threads."""

    def __init__(self, door: BeakerDoor) -> None:
        self._door = door

    def collect(self, job: BeakerJob, dataset_id: str) -> None:
        """Bring what the last try of a job left.

        :raises BeakerDamagedError: it does not come as Beaker says it is
        """
        output, outcome = output_of(job.spec), self._read(dataset_id)
        work = source_of(job.spec, WORK)
        if job.spec.collects and _tells_of_result(outcome):
            self._fetch(dataset_id, _RESULT, output / _RESULT)
        elif job.spec.collects and isinstance(work, HostPath):
            back = job.spec.attempt_dir / _WORK_BACK
            if self._fetch(dataset_id, _WORK, back):
                _swap(back, work.path)
        if outcome is not None:
            output.mkdir(parents=True, exist_ok=True)
            partial = output / f".{FILE}.part"
            partial.write_bytes(outcome)
            partial.replace(output / FILE)

    def place_of(self, job: BeakerJob, tries: Sequence[Job]) -> BeakerDataset | None:
        """Where what stays on Beaker is: the result, or without one all that the next attempt can begin with.

        None for a job whose result belongs elsewhere.
        """
        if job.spec.collects or job.is_shared:
            return None
        datasets = [each.result_dataset for each in tries if each.result_dataset]
        if not datasets:
            return None
        if not _tells_of_result(_kept(output_of(job.spec))):
            return BeakerDataset(datasets[0])
        if self._has(datasets[0], f"{_RESULT}{SUFFIX}"):
            return BeakerDataset(datasets[0], f"{_RESULT}{SUFFIX}", packed=True)
        return BeakerDataset(datasets[0], _RESULT)

    def _read(self, dataset_id: str) -> bytes | None:
        """The outcome's bytes, None where there is none. What it should be is asked anew each time, too."""
        datasets = self._door.datasets
        for _ in range(_READS):
            found = next((each for each in datasets.files(dataset_id, FILE) if each.path == FILE), None)
            if found is None:
                return None
            text = datasets.read(dataset_id, FILE)
            if len(text) == found.size and found.sha256 in ("", hashlib.sha256(text).hexdigest()):
                return text
        raise BeakerDamagedError(f"dataset {dataset_id}: {FILE}: other bytes came than Beaker says it has")

    def _fetch(self, dataset_id: str, name: str, target: Path) -> bool:
        """Bring a directory, however it was packed; false where there is none."""
        packed = self._has(dataset_id, f"{name}{SUFFIX}")
        try:
            download(self._door, dataset_id, f"{name}{SUFFIX}" if packed else name, packed, target)
        except BeakerNotFoundError:
            return False
        return True

    def _has(self, dataset_id: str, path: str) -> bool:
        return any(each.path == path for each in self._door.datasets.files(dataset_id, path))


def _swap(new: Path, old: Path) -> None:
    """Put a directory in the place of another, on whatever drive that is."""
    aside = new.with_name(f"{new.name}.old")
    if old.exists():
        shutil.move(old, aside)
    shutil.move(new, old)
    shutil.rmtree(aside, ignore_errors=True)


def _kept(output: Path) -> bytes | None:
    try:
        return (output / FILE).read_bytes()
    except OSError:
        return None


def _tells_of_result(outcome: bytes | None) -> bool:
    """Whether an outcome is one with a result. A step may have left anything under its name."""
    try:
        return outcome is not None and bool(json.loads(outcome)["state"] == OutcomeState.COMPLETED.value)
    except (ValueError, TypeError, KeyError, RecursionError):
        return False
