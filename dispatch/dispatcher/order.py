"""Which works wait for which: every change costs its neighbours only. Decides, and starts nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from dispatch.dispatcher.work import Work


@dataclass
class Order:
    """The works by name, with counts of what each still waits for.

    ``twins`` maps a work to an earlier one of the same unique id: the two are one step under two names, so
    the later waits for the earlier and finds its result.
    """

    works: dict[str, Work]
    twins: dict[str, str] = field(default_factory=dict)
    _missing: dict[str, int] = field(default_factory=dict)
    _dependents: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, works: Iterable[Work]) -> Order:
        """Count and invert the needs. Needs outside ``works`` are taken as met."""
        order = cls({work.name: work for work in works})
        first: dict[str, str] = {}
        for name, work in order.works.items():
            needs = dict.fromkeys(need for need in work.needs if need in order.works)
            other = first.setdefault(work.record.unique_id, name)
            if other != name:
                order.twins[name] = other
                needs[other] = None
            order._missing[name] = len(needs)
            for need in needs:
                order._dependents.setdefault(need, []).append(name)
        return order

    def roots(self) -> list[str]:
        """Names that wait for nothing, in the given order."""
        return [name for name, count in self._missing.items() if count == 0]

    def release(self, name: str) -> list[str]:
        """Mark a work as committed and return the names that became ready."""
        ready = []
        for dependent in self._dependents.get(name, ()):
            self._missing[dependent] -= 1
            if self._missing[dependent] == 0:
                ready.append(dependent)
        return ready

    def behind(self, name: str, ended: Container[str]) -> list[str]:
        """Every work that needs ``name``, directly or not, nearest first, without those that ended.

        What is behind an ended one has ended, too, so that is not looked at again.
        """
        seen: dict[str, None] = {}
        todo = deque(self._dependents.get(name, ()))
        while todo:
            current = todo.popleft()
            if current not in seen and current not in ended:
                seen[current] = None
                todo.extend(self._dependents.get(current, ()))
        return list(seen)
