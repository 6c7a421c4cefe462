"""Where the server listens: loopback, and this machine's address on the Docker bridge, on two ports.

Owns ports and sockets. A port that was chosen is kept with the state: users' shells and running jobs know it.
No other address is ever bound.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dispatch.beakerd.authority import Certificate
from dispatch.beakerd.backend import Addresses, Backend
from dispatch.beakerd.rest.http import HttpServer
from dispatch.beakerd.rpc.server import RpcServer
from dispatch.beakerd.store.database import Database
from dispatch.errors import EngineError

LOOPBACK = "127.0.0.1"
NAMES = ("localhost", LOOPBACK, "host.docker.internal")
# Below what the kernel gives to connections: a port of those may be taken while the server is down.
PORTS = range(20_000, 32_000)
TRIES = 50
RPC, REST = "rpc_port", "rest_port"
RPC_GRACE = 0.5
_PROTOCOLS = {RPC: "gRPC", REST: "REST"}


@dataclass(frozen=True)
class Wanted:
    """Ports that the configuration names; 0 is any."""

    rpc: int
    rest: int


class Listeners:
    """The sockets of one server. :meth:`start`, then :meth:`stop`."""

    def __init__(self, backend: Backend, rpc: RpcServer, app: object, bridge: str | None, seed: bytes):
        self._backend = backend
        self._rpc = rpc
        self._app = app
        self._bridge = bridge
        self._random = random.Random(seed)
        self._http: list[HttpServer] = []

    def start(self, certificate: Certificate, wanted: Wanted) -> Addresses:
        """Bind all of it, then answer.

        :raises EngineError: when a port is taken that the configuration names, or that clients know already
        """
        database = self._backend.database
        rpc = wanted.rpc or kept(database, RPC)
        rest = wanted.rest or kept(database, REST)
        tls = (certificate.chain_path, certificate.key_path) if self._backend.config.rest_tls else None
        rest = self._first(rest, REST, lambda address: self._bind_http(address, tls))

        def bind(add: Callable[[str], int]) -> None:
            nonlocal rpc
            rpc = self._first(rpc, RPC, lambda address: add(f"{address[0]}:{address[1]}"))

        self._rpc.start(bind, certificate.key, certificate.chain)
        for server in self._http:
            threading.Thread(target=server.serve, name="http", daemon=True).start()
        keep(database, {RPC: rpc, REST: rest})
        return Addresses(f"{LOOPBACK}:{rpc}", f"{LOOPBACK}:{rest}", self._bridge)

    def stop(self) -> None:
        """Answer no more."""
        threads = [threading.Thread(target=self._rpc.stop, args=(RPC_GRACE,))]
        threads += [threading.Thread(target=server.stop) for server in self._http]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _first(self, known: int, key: str, bind: Callable[[tuple[str, int]], object]) -> int:
        """Bind one port on every address: the known one, or any that is free."""
        what = _PROTOCOLS[key]
        tries: Iterable[int] = [known] if known else self._random.sample(PORTS, TRIES)
        for port in tries:
            try:
                bind((LOOPBACK, port))
            except (OSError, RuntimeError):
                continue
            if self._bridge is not None:
                try:
                    bind((self._bridge, port))
                except (OSError, RuntimeError):
                    self._backend.say(f"{what}: {self._bridge}:{port} cannot be had; jobs cannot call back")
                    self._bridge = None
            return port
        raise EngineError(
            f"{what}: port {known} of {LOOPBACK}, which clients know, is taken by another program"
            if known
            else f"{what}: no port of {LOOPBACK} is free",
            f"end that program, or name another port in the configuration: `{key}`",
        )

    def _bind_http(self, address: tuple[str, int], tls: object) -> None:
        server = HttpServer(address, self._app, tls, self._backend.say)  # type: ignore[arg-type]
        server.prepare()
        self._http.append(server)


def kept(database: Database, name: str) -> int:
    """A port that was chosen before, 0 where none was."""
    with database.read() as tx:
        row = tx.execute("SELECT value FROM meta WHERE key = ?", (name,)).fetchone()
    return int(row["value"]) if row else 0


def keep(database: Database, ports: dict[str, int]) -> None:
    """Write the ports down."""
    with database.write() as tx:
        for name, port in ports.items():
            tx.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (name, str(port)))
