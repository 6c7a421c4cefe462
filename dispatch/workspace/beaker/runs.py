"""Runs on Beaker: a committed dataset each, and one more for each end.

::

    dispatch-run-<name>.<w>            run.json, steps.json (the records of its steps)
    dispatch-run-<name>.<w>.end.<n>    end.json: how the run ended; the highest number counts
    dispatch-source-<name>.<w>.<tree>  source.diff

where ``<w>`` tells the workspace from others of the same author.
A run's dataset is there, not committed, before all else of the run, and is removed last. So whoever has the
name has all that bears it. The descriptions tell what lists need: runs are listed without reading any.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dispatch._beaker import BeakerConflictError, BeakerDamagedError, BeakerNotFoundError
from dispatch.errors import WorkspaceError
from dispatch.info import StepRecord
from dispatch.workspace.beaker.known import Registration
from dispatch.workspace.beaker.sealed import seal
from dispatch.workspace.beaker.session import FORMAT
from dispatch.workspace.beaker.taking import discard, is_held, scope, take, told
from dispatch.workspace.names import is_name
from dispatch.workspace.runs import RunRecord

if TYPE_CHECKING:
    from dispatch._beaker import Dataset
    from dispatch.workspace.beaker.site import Site

T = TypeVar("T")

RUN = "dispatch-run-"
SOURCE = "dispatch-source-"
_RECORD = "run.json"
_STEPS = "steps.json"
_END = "end.json"
_DIFFERENCE = "source.diff"
_TREE = 12
_OF_END = re.compile(r"\.end\.([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Filed:
    """A run as it is listed: its dataset and those of its ends, by number."""

    name: str
    dataset: Dataset
    ends: dict[int, Dataset] = field(default_factory=dict)

    @property
    def registered(self) -> datetime:
        """When it was registered, as its author told."""
        with contextlib.suppress(KeyError, TypeError, ValueError):
            when = datetime.fromisoformat(told(self.dataset)["started"])
            if when.tzinfo is not None:
                return when
        return datetime.fromtimestamp(self.dataset.created, timezone.utc)


class Runs:
    """The runs of one workspace. May be used from several threads."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def add(
        self,
        record: RunRecord,
        steps: Iterable[StepRecord],
        furnish: Callable[[str], None] | None = None,
    ) -> bool:
        """Store a new run with the records of its steps, whole or not at all; False where the name is taken.

        ``furnish`` makes what is to be there from the first moment on.
        """
        name = self._name(record.name)
        about = {"run": record.name, "started": record.start_date.isoformat()}
        made = take(self._site, name, about)
        if made is None:
            if not self._clear(record.name):
                return False
            made = take(self._site, name, about)
            if made is None:
                return False
        datasets = self._site.door.datasets
        try:
            if furnish is not None:
                furnish(record.name)
            datasets.write(made, _STEPS, seal({each.unique_id: each.to_json() for each in steps}))
            datasets.write(made, _RECORD, seal(record.to_json()))
            datasets.commit(made.dataset.id)
        except (BeakerConflictError, BeakerNotFoundError):
            # Somebody took us for dead, and has the name now.
            return False
        return True

    def get(self, name: str) -> RunRecord:
        """Read a run; KeyError where there is none of that name, WorkspaceError where it is damaged."""
        return self._read(self._filed(name))

    def put(self, record: RunRecord) -> None:
        """Store how a run ended that exists, or that it has no end any more."""
        end = {
            "state": record.state,
            "ended": record.ended.isoformat() if record.ended else None,
            "facts": dict(record.facts),
        }
        description = json.dumps({"dispatch": FORMAT, "run": record.name, "state": record.state})
        datasets = self._site.door.datasets
        while True:
            # Also past one that was never told to its end: whoever began it may still be about to.
            number = max((number for number, _ in self._ends(record.name)), default=0) + 1
            try:
                made = datasets.create(f"{self._name(record.name)}.end.{number}", description)
            except BeakerConflictError:
                continue
            datasets.write(made, _END, seal(end))
            datasets.commit(made.dataset.id)
            return

    def remove(self, name: str) -> None:
        """Remove a run, damaged or not. KeyError where there is no such run."""
        filed = self._filed(name)
        self._sweep(name)
        self._site.door.datasets.delete([filed.dataset.id])

    def log(self, name: str) -> Path:
        """Return the file for a run's own log, on this machine; KeyError where there is no such run."""
        self._filed(name)
        path = self._place(name) / "out.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def keep_difference(self, name: str, tree: str, text: bytes) -> None:
        """Keep how a tree differed from its commit; KeyError where there is no such run."""
        self._filed(name)
        datasets = self._site.door.datasets
        description = json.dumps({"dispatch": FORMAT, "run": name})
        with contextlib.suppress(BeakerConflictError):
            made = datasets.create(f"{self._source(name)}{tree[:_TREE]}", description)
            datasets.write(made, _DIFFERENCE, text)
            datasets.commit(made.dataset.id)

    def differences(self, name: str) -> tuple[Path, ...]:
        """Return the files with such differences, fetched; KeyError where there is no such run."""
        self._filed(name)
        found: dict[str, Path] = {}
        for dataset in self._differences(name):
            tree = dataset.name.removeprefix(self._source(name))
            if dataset.committed and tree not in found:
                found[tree] = self._fetch(dataset, self._place(name) / f"source-{dataset.id}.diff")
        return tuple(found[tree] for tree in sorted(found))

    def latest(self) -> str | None:
        """Return the name of the run that was registered last, or None where there is none."""
        filed = self._listed()
        return max(filed.values(), key=_age).name if filed else None

    def dates(self) -> dict[str, datetime]:
        """Return the names of all runs, and when they were registered; reads none."""
        return {name: filed.registered for name, filed in self._listed().items()}

    def unless_damaged(self, name: str) -> RunRecord | None:
        """Read a run for a list: None where it is gone, and with a warning where it is damaged."""
        try:
            return self._unless_damaged(self._filed(name))
        except KeyError:
            return None

    def some(self, names: Iterable[str]) -> list[RunRecord]:
        """Read these runs, in this order; one that is gone or damaged is left out, the latter with a warning.

        They are listed once, however many are wanted.
        """
        listed = self._listed()
        return self._records([listed[name] for name in names if name in listed])

    def _records(self, wanted: Sequence[Filed]) -> list[RunRecord]:
        self._site.small.read_all((filed.dataset for filed in wanted), _RECORD)
        self._site.small.read_all((filed.ends[max(filed.ends)] for filed in wanted if filed.ends), _END)
        found = (self._unless_damaged(filed) for filed in wanted)
        return [record for record in found if record is not None]

    def all(self) -> list[RunRecord]:
        """Read all runs, oldest first. One that is damaged is left out, with a warning."""
        return self.some([filed.name for filed in sorted(self._listed().values(), key=_age)])

    def damaged(self) -> list[tuple[str, str, str]]:
        """Return the runs that cannot be read: name, dataset and what is wrong."""
        found = []
        listed = self._listed()
        self._site.small.read_all((filed.dataset for filed in listed.values()), _RECORD)
        for filed in listed.values():
            try:
                self._read(filed)
            except WorkspaceError as error:
                found.append((filed.name, filed.dataset.name, error.message))
        return found

    def in_the_making(self) -> bool:
        """Say whether somebody alive is about to register a run."""
        found = self._site.door.datasets.search(RUN, committed=False)
        return any(self._parts(each.name)[0] and is_held(self._site, each) for each in found)

    def steps(self, name: str) -> dict[str, StepRecord]:
        """Return the records of a run's steps by unique id, as it was registered with them. KeyError."""
        return self._steps(self._filed(name))

    def registered(self, name: str | None = None) -> Mapping[str, Registration]:
        """Return the steps of all runs, or of one, by unique id, as the newest run of each knows it.

        The runs are read now, the records of steps when one is looked up.
        """
        runs = self._listed().values() if name is None else [self._filed(name)]
        listed = sorted(runs, key=lambda filed: filed.dataset.created)
        records = {record.name: record for record in self._records(listed)}
        found: dict[str, Filed] = {}
        for filed in listed:
            record = records.get(filed.name)
            for unique_id in {**record.jobs, **record.targets}.values() if record else ():
                found[unique_id] = filed
        return _Registered(found, self._steps)

    def _name(self, name: str) -> str:
        return f"{RUN}{name}.{scope(self._site)}"

    def _source(self, name: str) -> str:
        return f"{SOURCE}{name}.{scope(self._site)}."

    def _listed(self, text: str = RUN) -> dict[str, Filed]:
        """The runs whose datasets' names contain a text."""
        runs: dict[str, Filed] = {}
        ends: list[tuple[str, int, Dataset]] = []
        for dataset in self._site.door.datasets.search(text, committed=True):
            name, number = self._parts(dataset.name)
            if number:
                ends.append((name, number, dataset))
            elif is_name(name) and (name not in runs or dataset.id < runs[name].dataset.id):
                # Of two authors' runs of one name the first is meant, as when they were made.
                runs[name] = Filed(name, dataset)
        for name, number, dataset in ends:
            if name in runs:
                known = runs[name].ends.setdefault(number, dataset)
                runs[name].ends[number] = min(known, dataset, key=lambda each: each.id)
        return runs

    def _parts(self, dataset: str) -> tuple[str, int]:
        """The run of a dataset's name, and the number of its end, 0 for the run itself; else nothing."""
        head, mark, rest = dataset.rpartition(f".{scope(self._site)}")
        if not head.startswith(RUN) or not mark:
            return "", 0
        end = _OF_END.fullmatch(rest)
        name = head.removeprefix(RUN)
        return (name, int(end[1])) if end is not None else ("" if rest else name, 0)

    def _filed(self, name: str) -> Filed:
        if not is_name(name):
            raise KeyError(name)
        return self._listed(self._name(name))[name]

    def _read(self, filed: Filed) -> RunRecord:
        record = self._parsed(filed.dataset, _RECORD, lambda data: RunRecord.from_json(filed.name, data))
        if not filed.ends:
            return record
        return self._parsed(filed.ends[max(filed.ends)], _END, lambda data: _ended(record, data))

    def _steps(self, filed: Filed) -> dict[str, StepRecord]:
        return self._parsed(
            filed.dataset,
            _STEPS,
            lambda data: {unique_id: StepRecord.from_json(raw) for unique_id, raw in data.items()},
        )

    def _parsed(self, dataset: Dataset, path: str, parse: Callable[[dict[str, Any]], T]) -> T:
        try:
            data = self._site.small.read(dataset, path)
            if data is None:
                raise ValueError(f"no {path}")
            return parse(data)
        except (BeakerDamagedError, KeyError, TypeError, ValueError, AttributeError) as error:
            why = error.message if isinstance(error, BeakerDamagedError) else error
            raise WorkspaceError(
                f"dataset {dataset.name} ({dataset.id}): is damaged, or not ours ({why})",
                "delete it on Beaker, or rename it there",
            ) from error

    def _unless_damaged(self, filed: Filed) -> RunRecord | None:
        try:
            return self._read(filed)
        except WorkspaceError as error:
            warnings.warn(f"run left out of the list: {error.message}; {error.remedy}", stacklevel=2)
            return None

    def _clear(self, name: str) -> bool:
        """Make a name free that somebody had who died before the run was stored. Says whether it did."""
        whole = self._name(name)
        theirs = [each for each in self._site.door.datasets.search(whole) if each.name == whole]
        if any(each.committed or is_held(self._site, each) for each in theirs):
            return False
        self._sweep(name)
        discard(self._site.door, theirs)
        return True

    def _sweep(self, name: str) -> None:
        """Delete what a run has beside its own dataset, but for its drivers."""
        discard(self._site.door, [*(end for _, end in self._ends(name)), *self._differences(name)])

    def _ends(self, name: str) -> list[tuple[int, Dataset]]:
        """All ends of a run, also those that were not told to their end."""
        found = self._site.door.datasets.search(f"{self._name(name)}.end.")
        parts = [(self._parts(each.name), each) for each in found]
        return [(number, each) for (run, number), each in parts if run == name and number]

    def _differences(self, name: str) -> list[Dataset]:
        source = self._source(name)
        return [each for each in self._site.door.datasets.search(source) if each.name.startswith(source)]

    def _place(self, name: str) -> Path:
        return self._site.directory / "runs" / name

    def _fetch(self, dataset: Dataset, path: Path) -> Path:
        if not path.exists():
            datasets = self._site.door.datasets
            data = datasets.read(dataset.id, _DIFFERENCE)
            sums = [each.sha256 for each in datasets.files(dataset.id) if each.path == _DIFFERENCE]
            if sums and sums[0] not in ("", hashlib.sha256(data).hexdigest()):
                what = f"dataset {dataset.name}: {_DIFFERENCE}"
                raise BeakerDamagedError(f"{what}: other bytes", "repeat the command")
            path.parent.mkdir(parents=True, exist_ok=True)
            aside = path.with_name(f".{path.name}.new")
            aside.write_bytes(data)
            aside.replace(path)
        return path


class _Registered(Mapping[str, Registration]):
    """The steps of runs, whose records are read when they are asked for."""

    def __init__(self, runs: Mapping[str, Filed], steps: Callable[[Filed], Mapping[str, StepRecord]]) -> None:
        self._runs = runs
        self._steps = steps

    def __getitem__(self, unique_id: str) -> Registration:
        filed = self._runs[unique_id]
        return Registration(self._steps(filed)[unique_id], filed.dataset.created)

    def __contains__(self, unique_id: object) -> bool:
        return unique_id in self._runs

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)


def _age(filed: Filed) -> tuple[datetime, str]:
    return filed.registered, filed.dataset.id


def _ended(record: RunRecord, data: dict[str, Any]) -> RunRecord:
    when = datetime.fromisoformat(data["ended"]) if data["ended"] else None
    return replace(record, state=str(data["state"]), ended=when, facts=dict(data["facts"]))
