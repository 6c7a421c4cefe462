"""All methods that are answered, from the modules that answer them."""

from __future__ import annotations

from dispatch.beakerd.rpc import accounts, images, jobs, logs, workloads
from dispatch.beakerd.rpc.server import Method, Stream

METHODS: dict[str, Method] = {
    **accounts.METHODS,
    **images.METHODS,
    **jobs.METHODS,
    **workloads.METHODS,
}
STREAMS: dict[str, Stream] = {**logs.STREAMS}
