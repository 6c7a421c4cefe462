"""Results as Python objects: reading them with care, and storing those that are made in this process."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.errors import FormatError
from dispatch.formats import AUTO, read_result, runs_code
from dispatch.workspace import manifest as manifests
from dispatch.workspace.attempts import Attempts, Standing
from dispatch.workspace.base import Attempt, StepCache, StepCompletedError
from dispatch.workspace.layout import Layout
from dispatch.workspace.names import is_unique_id
from dispatch.workspace.records import check_id, facts_of_process, format_facts, record_of
from dispatch.workspace.removal import take_away

if TYPE_CHECKING:
    from dispatch.formats import Format
    from dispatch.workspace.attempts import Ports
    from dispatch.workspace.base import StepLike


def store(value: Any, format: Format[Any], attempt: Attempt, work: Path) -> None:
    """Write a value where an attempt leaves its result; what a Path names below ``work`` is moved there.

    FormatError if the format cannot hold it; what can be saved of it then is, in ``output/quarantine/``.
    """
    try:
        format.write(value, attempt.result, own=[os.fspath(work)])
    except FormatError as error:
        from dispatch.formats import quarantine

        saved = quarantine(value, attempt.directory / "output" / "quarantine")
        if saved is None:
            raise
        raise FormatError(f"{error.message}; what can be kept of it is in {saved}", error.remedy) from error


def is_used_up(value: Any) -> bool:
    """Say whether storing a value leaves nothing to use: an iterator is at its end, a file was moved away."""
    return hasattr(value, "__next__") or isinstance(value, os.PathLike)


class LocalStepCache(StepCache):
    """The results of a local workspace.

    A read holds every byte against the manifest first. A pickle is loaded only if the caller owns it, or
    ``trusted`` says that those who can write to the workspace may run code here.
    """

    def __init__(self, layout: Layout, attempts: Attempts, ports: Ports, trusted: bool = False) -> None:
        self._layout = layout
        self._attempts = attempts
        self._ports = ports
        self._trusted = trusted

    def __contains__(self, step: object) -> bool:
        """Say whether the step has a result here."""
        unique_id = getattr(step, "unique_id", None)
        return isinstance(unique_id, str) and is_unique_id(unique_id) and self._attempts.has_result(unique_id)

    def __getitem__(self, step: StepLike) -> Any:
        """Return the step's result, read anew each time. KeyError where there is none."""
        self._layout.check()
        unique_id = step.unique_id
        standing = self._attempts.standing(unique_id) if is_unique_id(unique_id) else Standing()
        if standing.directory is None or standing.manifest is None:
            raise KeyError(unique_id)
        self.check_trust(unique_id)
        manifests.verify(standing.directory / "result", standing.manifest, deep=True)
        return read_result(standing.directory / "result", trust_pickle=True)

    def check_trust(self, unique_id: str) -> None:
        """Raise FormatError for a pickle of another account, unless the workspace is trusted."""
        directory = self._attempts.standing(unique_id).directory
        if directory is not None and not self._trusted:
            _refuse_foreign_pickle(directory / "result", self._ports.uid())

    def __setitem__(self, step: StepLike, value: Any) -> None:
        """Store a result. ValueError where the step has one; a step that is not to be cached is ignored."""
        record = record_of(step)
        if not record.cacheable:
            warnings.warn(
                f"step {record.unique_id} is not to be cached: its result is not stored", stacklevel=2
            )
            return
        check_id(record)
        self._layout.prepare()
        started = self._ports.now()
        try:
            attempt = self._attempts.claim(record, "")
        except StepCompletedError as error:
            raise ValueError(error.message) from error
        format = getattr(step, "format", AUTO)
        try:
            self._ports.disk.make_dir(attempt.result)
            store(value, format, attempt, self._layout.work(record.unique_id))
            facts = facts_of_process(started, self._ports.now())
            self._attempts.commit(attempt, record, facts.to_json(), format_facts(format))
        except BaseException as error:
            self._attempts.end(attempt, facts_of_process(started, self._ports.now(), error).to_json())
            raise

    def __delitem__(self, step: StepLike) -> None:
        """Remove a step's result. KeyError where there is none."""
        if step not in self:
            raise KeyError(step.unique_id)
        take_away(self._ports.disk, self._layout.cache(step.unique_id))

    def __len__(self) -> int:
        """Return the number of results."""
        try:
            names = os.listdir(self._layout.results)  # noqa: PTH208
        except FileNotFoundError:
            return 0
        return sum(1 for name in names if is_unique_id(name) and self._attempts.has_result(name))


def _refuse_foreign_pickle(result: Path, uid: int) -> None:
    """Raise FormatError if loading the result would run what another account wrote.

    Who owns the directory can put another file there, so both must be ours.
    """
    name = runs_code(result)
    if name is None:
        return
    path = result / name
    foreign = {path.lstat().st_uid, result.stat().st_uid} - {uid}
    if foreign:
        raise FormatError(
            f"{path}: was written by another account (uid {foreign.pop()}), and loading it runs code",
            "if you trust everyone who can write there, name the workspace in the setting trusted_workspaces",
        )
