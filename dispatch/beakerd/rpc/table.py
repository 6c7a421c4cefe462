"""All methods that are answered, from the modules that answer them."""

from __future__ import annotations

from dispatch.beakerd.rpc import accounts, datasets, secrets
from dispatch.beakerd.rpc.server import Method, Stream

METHODS: dict[str, Method] = {**accounts.METHODS, **datasets.METHODS, **secrets.METHODS}
STREAMS: dict[str, Stream] = {}
