"""The only loop over the graph.

Owns order, concurrency and failure of a run: which step may start, what a finished attempt means, and what
becomes of the steps behind a failed one. It knows engines, schedulers and workspaces by their protocols
alone. It refuses to know images, sources and containers: a :class:`JobFactory` turns a claimed step into a
job.
"""

from dispatch.dispatcher.loop import Dispatcher
from dispatch.dispatcher.work import Claims, JobFactory, Observer, Pace, StepOutcome, Verdict, Work

__all__ = ["Claims", "Dispatcher", "JobFactory", "Observer", "Pace", "StepOutcome", "Verdict", "Work"]
