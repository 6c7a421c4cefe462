"""The only loop over the graph.

Owns order, concurrency and failure of a run: which step may start, what a finished attempt means, and what
becomes of the steps behind a failed one. It knows engines, schedulers and workspaces by their protocols
alone. It refuses to know images, sources and containers: a :class:`JobFactory` turns a claimed step into a
job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dispatch.dispatcher.work import Claims, JobFactory, Observer, Pace, StepOutcome, Verdict, Work

if TYPE_CHECKING:
    from dispatch.dispatcher.loop import Dispatcher

__all__ = ["Claims", "Dispatcher", "JobFactory", "Observer", "Pace", "StepOutcome", "Verdict", "Work"]


def __getattr__(name: str) -> Any:
    """Load the loop when it is first asked for: a run in which all is cached has no use for it."""
    if name == "Dispatcher":
        from dispatch.dispatcher.loop import Dispatcher

        return Dispatcher
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
