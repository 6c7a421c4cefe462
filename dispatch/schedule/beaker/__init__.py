"""Placement on Beaker: which clusters a step may run on, with what, and how it stands in the queue.

Beaker itself has the queue and chooses the node; what is decided here is where a job may wait, and whether it
is submitted at all before there is room.
"""

from dispatch.schedule.beaker.available import AvailableBeakerScheduler
from dispatch.schedule.beaker.base import BeakerScheduler, ResourceAssignment, ScheduledStep
from dispatch.schedule.beaker.fleet import Fleet
from dispatch.schedule.beaker.placing import BeakerPlacing, Rules
from dispatch.schedule.beaker.simple import SimpleBeakerScheduler
from dispatch.schedule.beaker.terms import Terms, read_terms

__all__ = [
    "AvailableBeakerScheduler",
    "BeakerPlacing",
    "BeakerScheduler",
    "Fleet",
    "ResourceAssignment",
    "Rules",
    "ScheduledStep",
    "SimpleBeakerScheduler",
    "Terms",
    "read_terms",
]
