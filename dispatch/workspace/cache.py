"""Results as Python objects: reading them with care, and storing those that are made in this process."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch.errors import FormatError
from dispatch.formats import AUTO, read_result
from dispatch.workspace.attempts import Attempts
from dispatch.workspace.base import StepCache, StepCompletedError
from dispatch.workspace.disk import Disk
from dispatch.workspace.layout import Layout
from dispatch.workspace.names import is_unique_id
from dispatch.workspace.records import facts_of_process, format_facts, record_of

if TYPE_CHECKING:
    from dispatch.workspace.attempts import Ports
    from dispatch.workspace.base import StepLike


class LocalStepCache(StepCache):
    """The results of a local workspace.

    Every read makes a new object, so that no step can change what another one gets. A pickle is loaded only
    if the caller owns it, or ``trusted`` says that those who can write to the workspace may run code here.
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
        directory = self._attempts.standing(step.unique_id).directory
        if directory is None:
            raise KeyError(step.unique_id)
        self.check_trust(step.unique_id)
        return read_result(directory / "result", trust_pickle=True)

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
        self._layout.prepare()
        started = self._ports.now()
        try:
            attempt = self._attempts.claim(record, "")
        except StepCompletedError as error:
            raise ValueError(error.message) from error
        format = getattr(step, "format", AUTO)
        self._ports.disk.make_dir(attempt.result)
        try:
            format.write(value, attempt.result)
            facts = facts_of_process(started, self._ports.now())
            self._attempts.commit(attempt, record, facts.to_json(), format_facts(format))
        except BaseException as error:
            self._attempts.end(attempt, facts_of_process(started, self._ports.now(), error).to_json())
            raise

    def __delitem__(self, step: StepLike) -> None:
        """Remove a step's result. KeyError where there is none."""
        if step not in self:
            raise KeyError(step.unique_id)
        self._remove(self._ports.disk, self._layout.cache(step.unique_id))

    def __len__(self) -> int:
        """Return the number of results."""
        try:
            names = os.listdir(self._layout.results)  # noqa: PTH208
        except FileNotFoundError:
            return 0
        return sum(1 for name in names if is_unique_id(name) and self._attempts.has_result(name))

    def _remove(self, disk: Disk, directory: Path) -> None:
        """Take a result away in one step: one that is half removed is never seen."""
        aside = directory.with_name(f".{directory.name[:100]}.{os.urandom(6).hex()}")
        disk.rename(directory, aside)
        disk.remove(aside)


def _refuse_foreign_pickle(result: Path, uid: int) -> None:
    """Raise FormatError if loading the result would run what another account wrote.

    Who owns the directory can put another file there, so both must be ours.
    """
    pickle = result / "data.pickle"
    try:
        owners = {pickle.stat().st_uid, result.stat().st_uid}
    except FileNotFoundError:
        return
    foreign = owners - {uid}
    if foreign:
        raise FormatError(
            f"{pickle}: was written by another account (uid {foreign.pop()}), and loading a pickle runs code",
            "if you trust everyone who can write there, name the workspace in the setting trusted_workspaces",
        )
