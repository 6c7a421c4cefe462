"""A graph of named steps as config declares it: every reference leads somewhere, and none in a circle.

Owns the order of steps and what each needs. What may be written of one step is the business of ``node``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.node import StepNode, read_node
from dispatch.options import StepOptions
from dispatch.step import SHELL

__all__ = ["SHELL", "StepGraph", "StepNode", "StepOptions"]


class StepGraph(Mapping[str, StepNode]):
    """Steps by name, in the order of the config. Every reference leads to a step, and none in a circle."""

    def __init__(self, nodes: Iterable[StepNode]) -> None:
        """Raises ConfigurationError for a name that is there twice, a missing reference or a cycle."""
        self._nodes: dict[str, StepNode] = {}
        for node in nodes:
            if node.name in self._nodes:
                raise ConfigurationError(f"step {node.name!r}: is there twice", "rename one of them")
            self._nodes[node.name] = node
        self._check_references()
        self._order = _topological(self._nodes)
        self._dependents: dict[str, list[str]] = {name: [] for name in self._nodes}
        for node in self._nodes.values():
            for dependency in node.needs:
                self._dependents[dependency].append(node.name)

    @classmethod
    def from_params(cls, steps: Mapping[str, Any]) -> StepGraph:
        """Make a graph of what config says under ``steps:``. Raises ConfigurationError, naming the step."""
        if not isinstance(steps, Mapping):
            raise ConfigurationError(
                f"steps: expected a mapping of names to steps, got {type(steps).__name__}",
                "write `steps:` with one entry a step",
            )
        return cls([read_node(name, raw) for name, raw in steps.items()])

    @property
    def order(self) -> tuple[str, ...]:
        """All names, dependencies before their dependents; otherwise in the order of the config."""
        return self._order

    def sub_graph(self, names: Iterable[str]) -> StepGraph:
        """Return the graph of the named steps and of all that they need.

        Raises ConfigurationError for an unknown name.
        """
        kept: set[str] = set()
        todo = list(names)
        for name in todo:
            if name not in self._nodes:
                raise ConfigurationError(
                    f"there is no step {name!r}{did_you_mean(str(name), list(self._nodes))}",
                    f"the steps are: {', '.join(self._nodes)}",
                )
        while todo:
            name = todo.pop()
            if name not in kept:
                kept.add(name)
                todo.extend(self._nodes[name].needs)
        return StepGraph(node for node in self._nodes.values() if node.name in kept)

    def dependents(self, name: str) -> tuple[str, ...]:
        """Return the steps that need ``name`` themselves, in the order of the config."""
        return tuple(self._dependents[name])

    def __getitem__(self, name: str) -> StepNode:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def __repr__(self) -> str:
        return f"StepGraph({', '.join(self._nodes)})"

    def _check_references(self) -> None:
        for node in self._nodes.values():
            for dependency in node.needs:
                if dependency not in self._nodes:
                    near = did_you_mean(dependency, list(self._nodes))
                    raise ConfigurationError(
                        f"step {node.name!r}: refers to {dependency!r}, which is no step{near}",
                        f"the steps are: {', '.join(self._nodes)}",
                    )


def _topological(nodes: Mapping[str, StepNode]) -> tuple[str, ...]:
    """Return an order, depth first in the order of the config. No recursion: chains may be of any length."""
    done: dict[str, None] = {}
    for root in nodes:
        path: dict[str, Iterator[str]] = {}
        current: str | None = root
        while current is not None:
            if current not in done and current not in path:
                path[current] = iter(nodes[current].needs)
            if not path:
                break
            last = next(reversed(path))
            current = next((name for name in path[last] if name not in done), None)
            if current is None:
                del path[last]
                done[last] = None
                current = next(reversed(path), None)
            elif current in path:
                names = list(path)
                circle = [*names[names.index(current) :], current]
                raise ConfigurationError(
                    f"steps refer to each other in a circle: {' → '.join(circle)}",
                    "remove one of these references",
                )
    return tuple(done)
