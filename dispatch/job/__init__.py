"""A job's files: what the client writes before a job starts, and the outcome it reads afterwards.

Owns the places of the container contract and their like on this machine, ``job.json``, ``request.json``, the
entrypoint's values, the environment of the job, and the reading of ``outcome.json``. Takes plain values;
refuses to know plans, images and engines.
"""

from dispatch.job.boot import Boot, provide_boot
from dispatch.job.environment import (
    describe_environment,
    environment,
    input_values,
    process_environment,
    secrets_variable,
)
from dispatch.job.files import Before, JobFiles, write_describe_job, write_process_job, write_step_job
from dispatch.job.outcome import Outcome, read_outcome
from dispatch.job.places import BOOTED, CONTAINER, BootedPlaces, HostPlaces, Layout, Places
from dispatch.job.task import Clone, InlineTask, PythonTask, Setup, ShellTask, StepLabel

__all__ = [
    "BOOTED",
    "CONTAINER",
    "Before",
    "Boot",
    "BootedPlaces",
    "Clone",
    "HostPlaces",
    "InlineTask",
    "JobFiles",
    "Layout",
    "Outcome",
    "Places",
    "PythonTask",
    "Setup",
    "ShellTask",
    "StepLabel",
    "describe_environment",
    "environment",
    "input_values",
    "process_environment",
    "provide_boot",
    "read_outcome",
    "secrets_variable",
    "write_describe_job",
    "write_process_job",
    "write_step_job",
]
