"""How often a registry is asked again, and how long we wait between.

Owns the pauses alone. What may be asked again is said by who asks: a :class:`RegistryBusyError` is.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from dispatch._registry.problems import RegistryAbsentError, RegistryBusyError
from dispatch.reporting import Lines, Reporter

T = TypeVar("T")

PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
# A registry that asks for more than this is told to the user instead.
LONGEST = 60.0
_NEVER_MET = 3


def _silently(line: str) -> None:  # noqa: ARG001
    return None


class Patience:
    """Repeats what a registry was too busy for; ``report`` is told of each time."""

    def __init__(
        self,
        report: Reporter | None = None,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._report = report or Lines(_silently)
        self._sleep = sleep
        self._chance = chance
        self._met = False

    def until_done(self, attempt: Callable[[], T], progress: Callable[[], int] = int) -> T:
        """Return what ``attempt`` returns, repeating it while the registry is busy.

        A transfer of many hours may break many times: once ``progress`` has grown, the pauses begin anew.
        """
        tried, reached = 0, progress()
        while True:
            try:
                done = attempt()
                self._met = True
                return done
            except RegistryBusyError as error:
                if progress() > reached:
                    tried, reached = 0, progress()
                # One that was never there is not being started again.
                most = _NEVER_MET if isinstance(error, RegistryAbsentError) and not self._met else len(PAUSES)
                if tried >= most or error.after > LONGEST:
                    raise
                self._report(f"{error.message}: trying again")
                # Clients that were turned away together do not come back together.
                pause = PAUSES[tried] * (0.75 + 0.5 * self._chance())
                self._sleep(max(error.after, pause))
                tried += 1
