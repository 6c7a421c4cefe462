"""A configuration as the file that says it, with what each part means: for a user to begin from.

Owns the comments. What is written is read back as the same configuration.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from dispatch.beakerd.config import Config
from dispatch.beakerd.yamltext import dump_yaml

_HEAD = """\
# A local Beaker: its accounts, its clusters, and how it behaves. Read when it starts: `dispatch beaker down`,
# then `up`. What is taken out here keeps its records; clusters and nodes are then no longer used."""
_COMMENTS = {
    "organizations": ("Members of an organization share all of its workspaces.",),
    "users": (
        "Each gets a token; see users/NAME/config.yml beside the database. The first is the author of what",
        "is declared here. An admin may also make accounts and use the control endpoint.",
    ),
    "workspaces": (
        "ORGANIZATION/NAME. Budgets are made as they are named. maximum_priority: low, normal, high, urgent",
        "or immediate.",
    ),
    "clusters": (
        "Nodes: hostname, cpus, memory (64GiB), gpus, gpu_type (NVIDIA_A100_80GB), slots (jobs at once),",
        "cordoned (a reason). What is left out is what this machine has; what it lacks may be declared all",
        "the same, and counts for placement only. aliases, tags and max_task_timeout (7d) are a cluster's.",
    ),
    "images": ("AUTHOR/NAME: the engine's reference of an image that is to be there as a Beaker image.",),
    "host_paths": ("Directories of this machine that jobs may mount.",),
    "assume": ("What is not known of the real Beaker: prove your client at both settings.",),
    "limits": ("What a request may be at most (sizes), and how long a token of the storage is good.",),
    "rpc_port": ("0 is any free one, kept from then on.",),
    "control": ("Opens the endpoint for faults, to admins.",),
    "rest_tls": ("Serves REST, storage and registry with TLS, as the real Beaker does.",),
    "intercept": (
        "Answers for another host, so that a tool that insists on it works offline: host, and mirrors, a",
        "directory of bare git repositories OWNER/NAME.git.",
    ),
}
_SWITCHES = {
    "names": "what a name of a dataset, image or experiment is unique within: author or workspace",
    "mount_uncommitted": "a dataset that is not committed may be mounted",
    "finalize_gap": "between a job's exit and its being finalized, at least",
    "result_on_cancel": "the result of a cancelled or preempted job is captured, too",
    "retry_timeouts": "a job that ran into its time limit counts as failed for retries",
    "grace": "between SIGTERM and SIGKILL",
    "resume_first": "a preempted job's successor is ahead of others of its priority",
    "check_secrets": "an experiment that names a secret that is not there is refused",
    "node_loss_resumes": "a job whose node is lost is resumed as if preempted",
    "strict_order": "no job overtakes one ahead of it that waits for room",
    "preempt_unasked": "a job that says nothing of preemption may be preempted",
}
_SIZES = ("memory", "file_body", "json_body", "secret", "upload")
_DURATIONS = ("max_task_timeout", "finalize_gap", "grace", "storage_token")
_UNITS = (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
_SPANS = (("d", 86400), ("h", 3600), ("m", 60))


def dump(config: Config) -> str:
    """The commented text of a configuration."""
    parts = [_HEAD]
    for each in fields(Config):
        comment = _COMMENTS.get(each.name, ())
        parts += ["", *(f"# {line}" for line in comment)] if comment else []
        value = _plain(getattr(config, each.name), each.name)
        if value is None:
            parts.append(f"# {each.name}:")
            continue
        lines = dump_yaml({each.name: value}).splitlines()
        parts += _explained(lines) if each.name == "assume" else lines
    return "\n".join(parts) + "\n"


def _explained(lines: list[str]) -> list[str]:
    """Lines of switches, each with what it means at the end."""
    return [
        f"{line:<32}# {_SWITCHES[word]}" if (word := line.strip().partition(":")[0]) in _SWITCHES else line
        for line in lines
    ]


def _plain(value: Any, name: str) -> Any:
    """A value as it stands in the file. Fields that are None are left out."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value):
        plain = ((each.name, _plain(getattr(value, each.name), each.name)) for each in fields(value))
        return {key: found for key, found in plain if found is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(each, name) for each in value]
    if isinstance(value, int) and name in _SIZES:
        return next((f"{value // unit}{word}" for word, unit in _UNITS if value % unit == 0), value)
    if isinstance(value, float):
        whole = int(value) if value.is_integer() else value
        if name in _DURATIONS and value:
            return next((f"{int(value // span)}{word}" for word, span in _SPANS if value % span == 0), whole)
        return whole
    return dict(value) if hasattr(value, "items") else value
