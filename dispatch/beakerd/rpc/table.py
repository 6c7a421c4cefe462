"""All methods that are answered, from the modules that answer them."""

from __future__ import annotations

from dispatch.beakerd.rpc import (
    accounts,
    clusters,
    datasets,
    images,
    jobs,
    logs,
    secrets,
    workloads,
    workspaces,
)
from dispatch.beakerd.rpc.server import Method, Stream

METHODS: dict[str, Method] = {
    **accounts.METHODS,
    **clusters.METHODS,
    **datasets.METHODS,
    **images.METHODS,
    **jobs.METHODS,
    **secrets.METHODS,
    **workloads.METHODS,
    **workspaces.METHODS,
}
STREAMS: dict[str, Stream] = {**logs.STREAMS}
