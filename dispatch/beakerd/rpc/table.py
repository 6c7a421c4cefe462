"""All methods that are answered, from the modules that answer them."""

from __future__ import annotations

from dispatch.beakerd.rpc import accounts, clusters, images, jobs, logs, workloads, workspaces
from dispatch.beakerd.rpc.server import Method, Stream

METHODS: dict[str, Method] = {
    **accounts.METHODS,
    **clusters.METHODS,
    **images.METHODS,
    **jobs.METHODS,
    **workloads.METHODS,
    **workspaces.METHODS,
}
STREAMS: dict[str, Stream] = {**logs.STREAMS}
