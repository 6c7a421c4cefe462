"""What a local Beaker is told: its accounts, clusters, images, limits, and the switches of what is assumed.

Owns the values and their defaults; ``config_file`` reads them. What the host lacks (GPUs, memory, cpus)
may be declared all the same: it counts for placement, and status says that it is simulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

GIB = 1 << 30


class NameScope(Enum):
    """Within what a name of a dataset, image or experiment is unique."""

    AUTHOR = "author"
    WORKSPACE = "workspace"


@dataclass(frozen=True)
class Assumptions:
    """What is not known of the real Beaker. Each is a switch, so that a client can be proved at both
    settings.

    ``names``: see NameScope. ``mount_uncommitted``: a dataset that is not committed may be mounted (else the
    experiment is refused). ``finalize_gap``: seconds between a job's exit and its being finalized, at least.
    ``result_on_cancel``: the result of a cancelled or preempted job is captured, too. ``retry_timeouts``: a
    job that ran into its time limit counts as failed for ``allowedTaskRetries``. ``grace``: seconds between
    SIGTERM and SIGKILL. ``resume_first``: a preempted job's successor is ahead of others of its priority, by
    its first submission (else it queues anew). ``check_secrets``: an experiment that names a secret that is
    not there is refused when it is created (else its job fails). ``node_loss_resumes``: a job whose node is
    lost is resumed as if preempted (else it fails). ``strict_order``: a job that is too big for now keeps
    what it needs of one node from those behind it, but for such as it could preempt at once (else whatever
    fits runs). ``preempt_unasked``: a job that says nothing of preemption may be preempted at any moment
    (else never).
    """

    names: NameScope = NameScope.AUTHOR
    mount_uncommitted: bool = False
    finalize_gap: float = 0.0
    result_on_cancel: bool = True
    retry_timeouts: bool = False
    grace: float = 10.0
    resume_first: bool = True
    check_secrets: bool = True
    node_loss_resumes: bool = True
    strict_order: bool = True
    preempt_unasked: bool = True


@dataclass(frozen=True)
class Limits:
    """What a request may be at most, in bytes; lifetimes in seconds.

    ``file_link``: of a link to a file that needs no token. ``unfinished_upload``: until one that nobody goes
    on with is removed.
    """

    file_body: int = 64 * 1024 * 1024
    json_body: int = 8 * 1024 * 1024
    secret: int = 1024 * 1024
    upload: int = 1 << 40
    page: int = 1000
    storage_token: float = 24 * 3600.0
    file_link: float = 3600.0
    unfinished_upload: float = 24 * 3600.0


@dataclass(frozen=True)
class NodeConfig:
    """One node. None is what the host has (cpus, memory) or nothing (GPUs).

    ``gpu_type`` is a name of the API's GpuType without its prefix (``NVIDIA_A100_80GB``). With ``cordoned``
    (the reason) it gets no jobs. ``slots`` bounds how many jobs it holds at once.
    """

    hostname: str
    cpus: float | None = None
    memory: int | None = None
    gpus: int = 0
    gpu_type: str | None = None
    cordoned: str | None = None
    slots: int | None = None


@dataclass(frozen=True)
class ClusterConfig:
    """One cluster, ``org/name``. ``max_task_timeout`` is in seconds."""

    name: str
    nodes: tuple[NodeConfig, ...]
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    max_task_timeout: float | None = None


@dataclass(frozen=True)
class UserConfig:
    """One user; ``organizations`` are those that the user is a member of."""

    name: str
    organizations: tuple[str, ...]
    email: str = ""
    admin: bool = False


@dataclass(frozen=True)
class WorkspaceConfig:
    """One workspace, ``org/name``. ``budget`` is ``org/name``; its first author is the first user."""

    name: str
    budget: str
    description: str = ""
    maximum_priority: str = "immediate"


@dataclass(frozen=True)
class Interception:
    """Answer for another host, so that a tool that insists on it works offline. Never on by default.

    ``host`` is the host, ``mirrors`` a directory of bare git repositories, ``<owner>/<name>.git``.
    """

    host: str
    mirrors: Path


@dataclass(frozen=True)
class Config:
    """A whole server. ``images`` are names (``author/name``) of images that the engine holds, by its
    reference.

    ``host_paths`` are the directories of this machine that jobs may mount. Ports: 0 is any free one, kept
    from then on. ``control`` opens the endpoint for faults. ``rest_tls`` serves REST, storage and registry
    with TLS, as the real Beaker does; public clients repeat some failed requests only then.
    """

    organizations: tuple[str, ...] = ("ai2",)
    users: tuple[UserConfig, ...] = (UserConfig("me", ("ai2",), admin=True),)
    workspaces: tuple[WorkspaceConfig, ...] = (WorkspaceConfig("ai2/my-workspace", "ai2/default"),)
    clusters: tuple[ClusterConfig, ...] = (ClusterConfig("ai2/general-cirrascale", (NodeConfig("local-1"),)),)
    images: Mapping[str, str] = field(default_factory=dict)
    host_paths: tuple[Path, ...] = ()
    assume: Assumptions = field(default_factory=Assumptions)
    limits: Limits = field(default_factory=Limits)
    rpc_port: int = 0
    rest_port: int = 0
    control: bool = False
    rest_tls: bool = False
    intercept: Interception | None = None
