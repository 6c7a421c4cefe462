"""How far a pull or a push has come, from the messages by which the engine tells of it.

Owns their meaning (Engine API, ``POST /images/create`` and ``/images/{name}/push``): one message a layer and
step of its way, with ``progressDetail`` in bytes while a layer is on its way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dispatch.reporting import Task


class PulledLayers:
    """Adds up the layers of one pull for a task. What the engine holds already is not counted."""

    moving = "Downloading"
    moved: tuple[str, ...] = ("Verifying Checksum", "Download complete", "Extracting", "Pull complete")

    def __init__(self, task: Task) -> None:
        self._task = task
        self._sizes: dict[str, int] = {}
        self._come: dict[str, int] = {}

    def take(self, message: Mapping[str, Any]) -> None:
        """Take one message with ``progressDetail``; one that is not as expected is passed over."""
        layer, status, detail = message.get("id"), message.get("status"), message["progressDetail"]
        if not isinstance(layer, str) or not isinstance(detail, Mapping):
            return
        if status == self.moving:
            current, total = detail.get("current"), detail.get("total")
            if isinstance(total, int) and total > 0 and total != self._sizes.get(layer):
                self._sizes[layer] = total
                self._task.expect(sum(self._sizes.values()))
            if isinstance(current, int):
                # What a push counts is packed anew on the way, and may come to more than was said.
                self._reach(layer, min(current, self._sizes.get(layer, current)))
        elif status in self.moved and layer in self._sizes:
            self._reach(layer, self._sizes[layer])

    def _reach(self, layer: str, current: int) -> None:
        """A layer that is begun again after an error counts only from where it was before."""
        before = self._come.get(layer, 0)
        if current > before:
            self._come[layer] = current
            self._task.advance(current - before)


class PushedLayers(PulledLayers):
    """The same of one push. What the registry holds already is not counted."""

    moving = "Pushing"
    moved = ("Pushed",)
