"""Where containers on the default network find this machine.

Owns the look at the engine's bridge and at the interface that it is. Nothing is guessed: an address that no
interface of this machine has is none that one could listen on.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import TYPE_CHECKING, Any

from dispatch.errors import EngineError

if TYPE_CHECKING:
    from dispatch._docker.socket import EngineSocket

DEFAULT_BRIDGE = "docker0"
_NAME_OPTION = "com.docker.network.bridge.name"
_GET_ADDRESS = 0x8915  # SIOCGIFADDR, netdevice(7)


def bridge_address(engine: EngineSocket) -> str | None:
    """Return this machine's IPv4 address on the engine's bridge, which ``host-gateway`` stands for.

    An engine that does not answer is taken to have the usual one. None where there is no such interface: a
    rootless engine's is in another network namespace, a remote engine's on another machine.
    """
    name = DEFAULT_BRIDGE
    try:
        reply = engine.call("GET", "/networks/bridge")
        if reply.status == 404:
            return None
        if reply.status < 400:
            options: dict[str, Any] = reply.json().get("Options") or {}
            name = str(options.get(_NAME_OPTION, DEFAULT_BRIDGE))
    except EngineError:
        pass
    return interface_address(name)


def bridge_stamp(engine: EngineSocket) -> str:
    """Return when the engine's bridge was made, as it says it; empty where it has none.

    An engine makes it anew whenever it starts, but for one whose containers outlived it: another stamp means
    that whatever ran before was ended by that.
    """
    reply = engine.call("GET", "/networks/bridge")
    return str(reply.json().get("Created") or "") if reply.status < 400 else ""


def interface_address(name: str) -> str | None:
    """Return the IPv4 address of an interface of this machine, None where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            reply = fcntl.ioctl(asking, _GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(reply[20:24])
