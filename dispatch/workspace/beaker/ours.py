"""The attempts that this process works at, from the moment they are claimed until their end is written."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dispatch.workspace.claims import StepSupersededError

if TYPE_CHECKING:
    from dispatch._beaker import BeakerDoor, CreatedDataset, Dataset
    from dispatch.workspace.claims import Attempt

# Beaker's right to write, which comes with making a dataset, lasts for a day or so.
_FRESH = 3600.0


@dataclass
class Held:
    """An attempt, its dataset as it was made, and what its description tells.

    ``ending``: its end is being written.
    """

    attempt: Attempt
    created: CreatedDataset
    told: dict[str, Any]
    since: float
    ending: bool = False


class Ours:
    """The attempts of one client. ``clock`` is monotonic. May be used from several threads."""

    def __init__(self, door: BeakerDoor, clock: Callable[[], float]) -> None:
        self._door = door
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}

    def add(self, attempt: Attempt, created: CreatedDataset, told: dict[str, Any]) -> None:
        """Take in an attempt that was claimed."""
        with self._lock:
            self._held[attempt.key] = Held(attempt, created, told, self._clock())

    def drop(self, attempt: Attempt) -> None:
        """Forget an attempt."""
        with self._lock:
            self._held.pop(attempt.key, None)

    def lasting(self) -> list[Held]:
        """Return those whose end is not being written."""
        with self._lock:
            return [each for each in self._held.values() if not each.ending]

    def opened(self, attempt: Attempt, dataset: Dataset) -> CreatedDataset:
        """Return the dataset of an attempt to write to; claimed by this process, or by one before it."""
        with self._lock:
            held = self._held.get(attempt.key)
        if held is not None and self._clock() - held.since < _FRESH:
            return held.created
        return self._door.datasets.open(dataset)

    @contextlib.contextmanager
    def ending(self, attempt: Attempt) -> Iterator[None]:
        """Mark an attempt as one whose end we write; once that is done, or others did, it is not ours."""
        with self._lock:
            held = self._held.get(attempt.key)
            if held is not None:
                held.ending = True
        try:
            yield
        except StepSupersededError:
            self.drop(attempt)
            raise
        except BaseException:
            if held is not None:
                held.ending = False
            raise
        self.drop(attempt)
