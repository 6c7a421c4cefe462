"""Which of the ready steps is to be tried next.

Steps that ask for the same wait in one line, so a look at what fits costs one question a line however many
wait. A line is not asked again until something changed. Between lines the highest priority comes first, and
what has waited longest. Decides, and starts nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable

from dispatch.dispatcher.work import Work

_Place = tuple[int, int]
_LOWEST = -(10**9)


class Ready:
    """Ready works, in lines of equal resources and group."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, list[tuple[_Place, Work]]] = {}
        self._untried: list[tuple[_Place, int, Hashable]] = []
        self._tried: set[Hashable] = set()
        self._floor = _LOWEST
        self._count = 0

    def add(self, work: Work) -> None:
        """Put a work into its line. That a line got longer is no reason to ask for its first again."""
        self._count += 1
        shape, place = _shape(work), (-work.priority, self._count)
        line = self._lines.setdefault(shape, [])
        heapq.heappush(line, (place, work))
        if line[0][0] == place:
            self._tried.discard(shape)
            self._offer(shape)

    def first(self) -> Work | None:
        """Return the work to try next; None if none is worth a try until something changes."""
        while self._untried:
            place, _, shape = self._untried[0]
            line = self._lines.get(shape)
            if line is None or shape in self._tried or line[0][0] != place:
                heapq.heappop(self._untried)
                continue
            # What is more urgent waits for room: nothing less urgent may take it away.
            return line[0][1] if -place[0] >= self._floor else None
        return None

    def take(self, work: Work) -> None:
        """Take out the work that ``first`` returned."""
        shape = _shape(work)
        line = self._lines[shape]
        heapq.heappop(line)
        if line:
            self._offer(shape)
        else:
            del self._lines[shape]

    def refuse(self, work: Work, *, waits: bool) -> None:
        """Note that there is no room for the work's line now.

        One that ``waits`` for what others could take lets nothing of a lower priority pass.
        """
        self._tried.add(_shape(work))
        if waits:
            self._floor = max(self._floor, work.priority)

    def look_again(self) -> None:
        """Note that something changed: every line may fit again."""
        self._tried.clear()
        self._floor = _LOWEST
        self._untried = [
            (line[0][0], number, shape) for number, (shape, line) in enumerate(self._lines.items())
        ]
        heapq.heapify(self._untried)

    def clear(self) -> None:
        """Forget all."""
        self._lines.clear()
        self.look_again()

    def _offer(self, shape: Hashable) -> None:
        heapq.heappush(self._untried, (self._lines[shape][0][0], 0, shape))


def _shape(work: Work) -> Hashable:
    return (work.resources, work.group)
