"""All methods that are answered, from the modules that answer them."""

from __future__ import annotations

from dispatch.beakerd.rpc import accounts, images
from dispatch.beakerd.rpc.server import Method, Stream

METHODS: dict[str, Method] = {**accounts.METHODS, **images.METHODS}
STREAMS: dict[str, Stream] = {}
