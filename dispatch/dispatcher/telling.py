"""Telling an observer without depending on it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from dispatch.dispatcher.work import Observer, StepOutcome
from dispatch.engine.base import Event

_log = logging.getLogger(__name__)


class Telling:
    """Passes everything on to an observer until it raises: no work ends because a terminal went away."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._broken = False

    def starting(self, name: str, attempt: int) -> None:
        """See :class:`~dispatch.dispatcher.work.Observer`."""
        self._tell(self._observer.starting, name, attempt)

    def running(self, name: str, event: Event) -> None:
        """See :class:`~dispatch.dispatcher.work.Observer`."""
        self._tell(self._observer.running, name, event)

    def retrying(self, name: str, reason: str, delay: float) -> None:
        """See :class:`~dispatch.dispatcher.work.Observer`."""
        self._tell(self._observer.retrying, name, reason, delay)

    def waiting(self, name: str, reason: str) -> None:
        """See :class:`~dispatch.dispatcher.work.Observer`."""
        self._tell(self._observer.waiting, name, reason)

    def ended(self, outcome: StepOutcome) -> None:
        """See :class:`~dispatch.dispatcher.work.Observer`."""
        self._tell(self._observer.ended, outcome)

    def _tell(self, method: Callable[..., None], *arguments: Any) -> None:
        if self._broken:
            return
        try:
            method(*arguments)
        except Exception as error:
            self._broken = True
            _log.warning("progress is not shown any more: %r", error)
