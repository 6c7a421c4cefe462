"""Jobs as containers of the local Docker Engine, from their assignment to their end.

Owns the container of each job and everything of it. What is to be done next is read from the database and the
engine each time, so a job is taken over at any point by whoever comes after a kill.
"""

from dispatch.beakerd.runner.runner import Provider, Runner

__all__ = ["Provider", "Runner"]
