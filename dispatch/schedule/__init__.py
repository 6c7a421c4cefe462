"""Placement: where a step runs and with what."""

from dispatch.schedule.base import ResourceAssignment, Scheduler
from dispatch.schedule.local import LocalScheduler

__all__ = ["LocalScheduler", "ResourceAssignment", "Scheduler"]
