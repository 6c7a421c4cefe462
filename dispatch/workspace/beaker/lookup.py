"""Attempts at steps as Beaker has them: found by the names of their datasets, over all authors.

Owns how they are found with few requests, and which of several results counts. Refuses to change anything.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from dispatch._beaker import BeakerNotFoundError, Dataset
from dispatch.errors import WorkspaceError
from dispatch.info import StepState
from dispatch.location import BeakerDataset
from dispatch.workspace.beaker import names
from dispatch.workspace.beaker.site import Site
from dispatch.workspace.beaker.smallfiles import PARALLEL
from dispatch.workspace.beaker.taking import scope
from dispatch.workspace.manifest import NAME as MANIFEST
from dispatch.workspace.manifest import VERSION, Manifest
from dispatch.workspace.names import is_unique_id

END = "end.json"
RECORD = "record.json"
# So few steps are searched for one by one. More are listed together, as long as the workspace is small.
_FEW = 3
_PAGE = 50
_PAGES = 2
# For how long a dataset that was seen is taken to be there still.
_LASTS = 30.0


@dataclass(frozen=True)
class Tried:
    """An attempt at a step, by its dataset. ``told`` is its description; empty for one that is not ours."""

    number: int
    dataset: Dataset
    told: Mapping[str, Any]

    @property
    def is_open(self) -> bool:
        """Whether it is one of ours that has no end yet."""
        return bool(self.told) and not self.dataset.committed

    @property
    def adopts(self) -> int:
        """The number of the attempt whose job it looks after, 0 for its own."""
        adopts = self.told.get("adopts", 0)
        return adopts if isinstance(adopts, int) else 0

    def word(self, name: str) -> str:
        """A text of the description, empty where there is none."""
        found = self.told.get(name, "")
        return found if isinstance(found, str) else ""


@dataclass(frozen=True)
class Result:
    """A committed result: the attempt's dataset, what it says, and where the bytes are."""

    dataset: Dataset
    manifest: Manifest
    location: BeakerDataset
    replaces: bool


class Lookup:
    """Finds attempts and results of one workspace. May be used from several threads."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._there: dict[str, float] = {}

    def of(self, unique_id: str) -> list[Tried]:
        """Return all attempts at a step, by number, and of one number the oldest first."""
        if not is_unique_id(unique_id):
            return []
        beginning = self._beginning(unique_id)
        return _grouped(self._site.door.datasets.search(beginning)).get(beginning, [])

    def name(self, unique_id: str, number: int) -> str:
        """Return the name of an attempt's dataset."""
        return f"{self._beginning(unique_id)}{number}"

    def _beginning(self, unique_id: str) -> str:
        return names.attempts(unique_id, scope(self._site))

    def of_all(self, unique_ids: Iterable[str]) -> dict[str, list[Tried]]:
        """Return the attempts at many steps; those without any are left out."""
        wanted = {self._beginning(each): each for each in unique_ids if is_unique_id(each)}
        if len(wanted) > _FEW:
            # One list of the youngest serves all, and in a small workspace it is the whole.
            limit = _PAGES * _PAGE
            listed = self._site.door.datasets.search(names.STEP, newest=True, limit=limit)
            if len(listed) < limit:
                groups = _grouped(listed)
                return {wanted[beginning]: groups[beginning] for beginning in wanted if beginning in groups}
        if not wanted:
            return {}
        with ThreadPoolExecutor(min(PARALLEL, len(wanted))) as pool:
            found = zip(wanted.values(), pool.map(self.of, wanted.values()), strict=True)
            return {unique_id: tried for unique_id, tried in found if tried}

    def every(self, match: str | None = None) -> dict[str, list[Tried]]:
        """Return the attempts at all steps whose unique id contains ``match``."""
        found = {}
        mark = f".{scope(self._site)}."
        for beginning, tried in _grouped(self._site.door.datasets.search(names.STEP)).items():
            if not beginning.endswith(mark):
                continue
            unique_id = self._unique_id(tried)
            if unique_id is not None and (match is None or match in unique_id):
                found[unique_id] = tried
        return found

    def result(self, tried: list[Tried]) -> Result | None:
        """Return the result that counts among the attempts at one step, or None.

        Of several the one that was committed to replace the others, else the oldest: all clients agree.
        The result of a step that is not to be cached counts as long as no attempt follows it.
        """
        found = [result for each in tried if (result := self.result_of(each)) is not None]
        latest = max((each.number for each in tried if each.told), default=0)
        found = [
            each for each in found if each.manifest.record["cacheable"] or each.manifest.attempt == latest
        ]
        replacing = [each.manifest.attempt for each in found if each.replaces]
        if replacing:
            found = [each for each in found if each.replaces and each.manifest.attempt == max(replacing)]
        return min(found, key=lambda each: each.dataset.id, default=None)

    def result_of(self, tried: Tried) -> Result | None:
        """Return the result that an attempt left, or None. Only what is committed can be one.

        One whose bytes were in a dataset of a job's that was deleted since is none any more.
        """
        result = self.committed_by(tried)
        if result is not None and result.location.id != tried.dataset.id and not self._exist(result):
            return None
        return result

    def committed_by(self, tried: Tried) -> Result | None:
        """Return what an attempt committed as its result, be the bytes still there or not."""
        data = self._site.small.read(tried.dataset, MANIFEST) if tried.dataset.committed else None
        return None if data is None else self._read(tried, data)

    def end_of(self, tried: Tried) -> Mapping[str, Any] | None:
        """Return how an attempt without a result ended, None where nobody saw it."""
        return self._site.small.read(tried.dataset, END) if tried.dataset.committed else None

    def fetch(self, tried: Iterable[Tried]) -> None:
        """Ask at once for what :meth:`result_of` asks for, of many attempts."""
        every = list(tried)
        self._site.small.read_all((each.dataset for each in every), MANIFEST)
        found = [result for each in every if (result := self.committed_by(each)) is not None]
        unknown = {each.location.id for each in found if each.location.id != each.dataset.id}
        unknown = {each for each in unknown if not self._is_known(each)}
        if len(unknown) > _FEW:
            # The youngest results of jobs, of which these mostly are.
            for each in self._site.door.datasets.search(results=True, newest=True, limit=_PAGES * _PAGE):
                self._know(each.id)
        left = [
            each for each in found if each.location.id in unknown and not self._is_known(each.location.id)
        ]
        if left:
            with ThreadPoolExecutor(min(PARALLEL, len(left))) as pool:
                list(pool.map(self._exist, left))

    def _exist(self, result: Result) -> bool:
        """Say whether the dataset with the bytes of a result is there; asked again after a while."""
        dataset = result.location.id
        if not self._is_known(dataset):
            try:
                self._site.door.datasets.get(dataset)
            except BeakerNotFoundError:
                return False
            self._know(dataset)
        return True

    def _is_known(self, dataset: str) -> bool:
        with self._lock:
            return self._site.ports.monotonic() - self._there.get(dataset, -_LASTS) < _LASTS

    def _know(self, dataset: str) -> None:
        with self._lock:
            self._there[dataset] = self._site.ports.monotonic()

    def is_alive(self, tried: Tried) -> bool:
        """Say whether somebody works at an attempt, for all we know."""
        return tried.is_open and self._site.session.is_alive(tried.word("session"), tried.told)

    def _read(self, tried: Tried, data: Mapping[str, Any]) -> Result | None:
        """Read a manifest; None where it is not that of a completed attempt with this name."""
        try:
            if data["manifest"] > VERSION:
                raise WorkspaceError(
                    f"dataset {tried.dataset.name}: written by a newer version of dispatch",
                    "use that version",
                )
            manifest = Manifest.from_json(data)
            where = data["location"]
            location = BeakerDataset(
                str(where["dataset"]) or tried.dataset.id, str(where["subpath"]), bool(where["packed"])
            )
            named = self.name(manifest.unique_id, manifest.attempt) == tried.dataset.name
            completed = manifest.facts["state"] == StepState.COMPLETED.value
            if not named or not completed:
                return None
            return Result(tried.dataset, manifest, location, bool(data["replaces"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def _unique_id(self, tried: list[Tried]) -> str | None:
        """Return the unique id that attempts are about; their names may only have a digest of it."""
        for each in tried:
            unique_id = each.word("step")
            if is_unique_id(unique_id) and self.name(unique_id, each.number) == each.dataset.name:
                return unique_id
        for each in tried:
            result = self.committed_by(each)
            if result is not None:
                return result.manifest.unique_id
        return None


def _grouped(datasets: Iterable[Dataset]) -> dict[str, list[Tried]]:
    """Sort datasets by the beginning of their names; those that are called otherwise are left out."""
    found: dict[str, list[Tried]] = {}
    for dataset in datasets:
        parts = names.numbered(dataset.name)
        if parts is not None and dataset.name.startswith(names.STEP):
            found.setdefault(parts[0], []).append(Tried(parts[1], dataset, _told(dataset)))
    for tried in found.values():
        tried.sort(key=lambda each: (each.number, each.dataset.id))
    return found


def _told(dataset: Dataset) -> Mapping[str, Any]:
    """Return an attempt's description; empty where it is none of ours."""
    try:
        told = json.loads(dataset.description)
        return told if told["dispatch"] == 1 and isinstance(told["step"], str) else {}
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}


def to_json(manifest: Manifest, location: BeakerDataset, *, replaces: bool) -> dict[str, Any]:
    """Return what ``manifest.json`` of an attempt holds; a location without an id is in the same dataset."""
    where = {"dataset": location.id, "subpath": location.subpath, "packed": location.packed}
    return {**manifest.to_json(), "location": where, "replaces": replaces}
