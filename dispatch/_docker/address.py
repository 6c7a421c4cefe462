"""Where the engine listens, read from an environment that the caller hands in.

Owns the meaning of ``DOCKER_HOST``. Refuses to connect: that is ``socket``'s part.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dispatch.errors import ConfigurationError, EngineError

DEFAULT_SOCKET = "/var/run/docker.sock"
VARIABLE = "DOCKER_HOST"
_REMOTE = ("tcp", "ssh", "http", "https", "npipe", "fd")


@dataclass(frozen=True)
class Address:
    """An engine's address; ``chosen`` says whether DOCKER_HOST named another than the default one."""

    url: str
    chosen: bool = False

    @property
    def is_local(self) -> bool:
        """Whether the engine listens on a unix socket of this machine."""
        return self.url.startswith("unix://")

    @property
    def socket_path(self) -> str:
        """The path of the unix socket.

        :raises EngineError: for a remote engine, which is not supported yet
        """
        if not self.is_local:
            raise EngineError(
                f"{VARIABLE}: the engine at {self} is a remote one, and these are not supported yet",
                f"unset {VARIABLE} to use the engine of this machine",
            )
        return self.url[len("unix://") :]

    def __str__(self) -> str:
        """The address without user and password."""
        return re.sub(r"//[^/@]*@", "//", self.url)


def engine_address(environ: Mapping[str, str]) -> Address:
    """Return the address that ``DOCKER_HOST`` names, else the default socket.

    :raises ConfigurationError: when the variable holds no address
    """
    value = environ.get(VARIABLE, "").strip()
    if not value:
        return Address(f"unix://{DEFAULT_SOCKET}")
    scheme, separator, rest = value.partition("://")
    if scheme == "unix" and separator:
        path = rest or DEFAULT_SOCKET
        if not path.startswith("/"):
            raise ConfigurationError(
                f"{VARIABLE}: {value!r} names a socket by a relative path", f"write unix:///{path}"
            )
        return Address(f"unix://{path}", chosen=path != DEFAULT_SOCKET)
    if scheme in _REMOTE and separator and rest:
        return Address(value, chosen=True)
    raise ConfigurationError(
        f"{VARIABLE}: {Address(value)} is not the address of an engine",
        f"write unix://{DEFAULT_SOCKET}, or unset {VARIABLE}",
    )
