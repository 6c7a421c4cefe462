"""Steps whose results are not kept, run inside the step that takes them. Loaded only where there are any."""

from __future__ import annotations

import itertools

from dispatch.errors import StepError
from dispatch.params import bind_arguments, find_references
from dispatch.runtime import failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from dispatch.step import Step


class Inline:
    """Runs the steps of ``job["inline"]``, each once, when its result is first asked for.

    ``make`` makes a step of what is declared of it; ``inputs`` gives what references in its arguments mean.
    """

    def __init__(
        self,
        job: Mapping[str, Any],
        make: Callable[[str, Mapping[str, Any]], Step],
        inputs: Callable[[Any], Any],
    ) -> None:
        self._declared: Mapping[str, Any] = job["inline"]
        self._make = make
        self._inputs = inputs
        arguments = [job["arguments"], *(each["arguments"] for each in self._declared.values())]
        self._asked: dict[str, int] = {}
        for reference in find_references(arguments):
            self._asked[reference.name] = self._asked.get(reference.name, 0) + 1
        self._iterators: dict[str, list[Any]] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._declared

    def __call__(self, name: str) -> Any:
        """Return the result of a step, of an iterator one of its own. StepError for what the step raises."""
        if not self._iterators.get(name):
            value = self._run(name)
            if not hasattr(value, "__next__"):
                return value
            self._iterators[name] = list(itertools.tee(value, self._asked.get(name, 1)))
        return self._iterators[name].pop()

    def _run(self, name: str) -> Any:
        declared = self._declared[name]
        step = _naming(name, lambda: self._make(name, declared))
        # Errors in here name a step already, be it this one or another that it takes in its turn.
        step.kwargs = bind_arguments(step.run, declared["arguments"], substitute=self._inputs, step=name)
        return _naming(name, lambda: step.run(**step.kwargs))


def _naming(name: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except Exception as error:
        told = f"step {name!r}, which runs inside this one: {type(error).__name__}: {failure.message(error)}"
        raise StepError(told) from error.with_traceback(failure.users_part(error.__traceback__))
