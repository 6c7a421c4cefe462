"""Jobs that clients before us left behind: which of them the engine still has, and what becomes of those.

Owns what was asked of the engine about former runs. Refuses to touch a job of another workspace, though it
may bear the same name: an engine tells in which directory a job's client kept its attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from dispatch.engine.base import Engine, Handle
from dispatch.errors import EngineError
from dispatch.workspace.base import Orphan

_log = logging.getLogger(__name__)


class Orphans:
    """The left jobs of former runs. What an engine said counts for ``lasts`` seconds of ``clock``."""

    def __init__(self, engine: Engine, clock: Callable[[], float], lasts: float) -> None:
        self._engine = engine
        self._clock = clock
        self._lasts = lasts
        self._known: dict[str, tuple[float, dict[str, list[Handle]]]] = {}

    def handle(self, orphan: Orphan) -> Handle | None:
        """Return the engine's handle of a left job; None where the engine does not have it."""
        for handle in self._of(orphan.run).get(orphan.key, ()):
            if handle.directory is None or handle.is_of(orphan.place):
                return handle
        return None

    def sweep(self, orphan: Orphan) -> None:
        """End and forget a left job whose result nobody wants any more."""
        handle = self.handle(orphan)
        if handle is None:
            return
        try:
            self._engine.cancel([handle], 0.0)
            self._engine.release(handle)
        except EngineError as error:
            _log.debug("%s could not be swept: %s", orphan.key, error)

    def _of(self, run: str) -> dict[str, list[Handle]]:
        now = self._clock()
        asked, found = self._known.get(run, (None, {}))
        if asked is None or now - asked >= self._lasts:
            found = {}
            for handle in self._engine.find(run) if run else ():
                found.setdefault(handle.key, []).append(handle)
            self._known[run] = (now, found)
        return found
