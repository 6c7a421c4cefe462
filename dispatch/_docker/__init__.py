"""The only door to the Docker Engine: nobody else imports docker-py or speaks HTTP to an engine.

Hot calls go over the unix socket by hand (0.2 ms each); docker-py, whose import costs a fifth of a second,
is loaded only to send, pull or build images. What leaves the door are our own values and errors.
Containers and helpers are imported from their own modules: a look at images alone loads neither.
"""

from dispatch._docker.address import Address, engine_address
from dispatch._docker.client import Credentials, Door
from dispatch._docker.images import ImageRecord
from dispatch._docker.socket import ApiError, EngineAbsentError

__all__ = [
    "Address",
    "ApiError",
    "Credentials",
    "Door",
    "EngineAbsentError",
    "ImageRecord",
    "engine_address",
]
