"""Executors: they run a planned graph on an engine, and make jobs out of claimed steps.

Owns the way from a planned step to a job, and from a job's end to the facts that are recorded. The loop is
``dispatcher``'s; what a job finds at which path is ``job``'s.
"""

from dispatch.executor.base import Executor
from dispatch.executor.beaker import BeakerJobs
from dispatch.executor.containers import ContainerJobs
from dispatch.executor.executors import BeakerJobsExecutor, DockerExecutor, LocalExecutor
from dispatch.executor.materials import BeakerMaterials, Materials, ProcessMaterials
from dispatch.executor.processes import ProcessJobs
from dispatch.executor.work import works

__all__ = [
    "BeakerJobs",
    "BeakerJobsExecutor",
    "BeakerMaterials",
    "ContainerJobs",
    "DockerExecutor",
    "Executor",
    "LocalExecutor",
    "Materials",
    "ProcessJobs",
    "ProcessMaterials",
    "works",
]
