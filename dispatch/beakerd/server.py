"""The server as a whole: its parts put together, its sockets, its start and its end.

Owns the order: state locked, database, accounts, certificate, jobs adopted, listening, and only then the
endpoint's file. Binds loopback, and the address of the Docker bridge so that jobs reach it; nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from beaker import beaker_pb2 as pb2
from cheroot import wsgi

from dispatch._docker import Door
from dispatch._docker.address import Address
from dispatch.beakerd import repositories
from dispatch.beakerd.access import Access, Principal, Purpose
from dispatch.beakerd.authority import certificate_for
from dispatch.beakerd.backend import Addresses, Backend
from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import Config
from dispatch.beakerd.layout import Endpoint, Layout, write_private
from dispatch.beakerd.rest.app import RestApp
from dispatch.beakerd.rest.table import ROUTES
from dispatch.beakerd.rpc.server import RpcServer, open_gate
from dispatch.beakerd.rpc.table import METHODS, STREAMS
from dispatch.beakerd.store.database import Database, Transaction
from dispatch.beakerd.store.images import seed as seed_images
from dispatch.beakerd.store.lifecycle import Lifecycle
from dispatch.beakerd.store.setup import Host, Setup
from dispatch.errors import DispatchError

LOOPBACK = "127.0.0.1"
NAMES = ("localhost", LOOPBACK, "host.docker.internal")
REST_THREADS = 32
BODY_TIMEOUT = 60


class Server:
    """One local Beaker over one directory. :meth:`start`, then :meth:`stop`, once.

    ``wall`` is the clock in nanoseconds since the epoch, ``entropy(n)`` returns n random bytes, ``say`` takes
    a line for the log.
    """

    def __init__(
        self,
        config: Config,
        layout: Layout,
        engine: Address,
        wall: Callable[[], int],
        entropy: Callable[[int], bytes],
        say: Callable[[str], None],
    ):
        self._config = config
        self._layout = layout
        self._engine = engine
        self._wall = wall
        self._entropy = entropy
        self._say = say
        self._lock: int | None = None
        self._rpc: RpcServer | None = None
        self._rest: Any = None
        self.backend: Backend | None = None

    def start(self) -> Endpoint:
        """Begin to answer, and say where.

        :raises DispatchError: when another server has the state, or a port is taken
        """
        self._layout.make()
        self._take_lock()
        database = Database(self._layout.database)
        database.open()
        with database.read() as tx:
            floor = tx.execute("SELECT max(created) FROM job_events").fetchone()[0] or 0
        clock = Clock(self._wall, floor)
        ids, access = Ids(clock, self._entropy), Access(clock, self._entropy)
        with database.write() as tx:
            Setup(clock, ids, host(), dict(_gpu_types())).apply(tx, self._config)
            for line in seed_images(tx, self._config, clock, ids):
                self._say(line)
            admin = self._admin(tx, access)
        backend = Backend(
            config=self._config,
            layout=self._layout,
            database=database,
            clock=clock,
            ids=ids,
            access=access,
            lifecycle=Lifecycle(clock, ids, self._config.assume),
            door=Door(self._engine),
            addresses=Addresses("", ""),
            say=self._say,
        )
        self.backend = backend
        repositories.sweep(backend)
        self._listen(backend)
        with database.write() as tx:
            self._write_users(tx, access)
        endpoint = Endpoint(
            pid=os.getpid(),
            started=start_ticks(os.getpid()),
            rpc=backend.addresses.rpc,
            rest=backend.addresses.rest,
            ca=str(self._layout.authority / "ca.pem"),
            admin_token=admin,
        )
        self._layout.write_endpoint(endpoint)
        return endpoint

    def stop(self) -> None:
        """Answer no more. Jobs go on; the next start looks after them."""
        self._layout.endpoint.unlink(missing_ok=True)
        if self.backend is not None:
            self.backend.closing.set()
        if self._rpc is not None:
            self._rpc.stop(1.0)
        if self._rest is not None:
            self._rest.stop()
        if self.backend is not None:
            self.backend.database.close()
            self.backend.door.close()
        if self._lock is not None:
            os.close(self._lock)

    def _take_lock(self) -> None:
        self._lock = os.open(self._layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DispatchError(
                f"{self._layout.root}: a server runs here already", "`dispatch beaker status` says where"
            ) from error

    def _listen(self, backend: Backend) -> None:
        certificate = certificate_for(
            self._layout.authority, NAMES, datetime.fromtimestamp(self._wall() / 1e9, timezone.utc)
        )
        self._rpc = RpcServer(backend, METHODS, STREAMS, open_gate)
        (rpc,) = self._rpc.start([f"{LOOPBACK}:{self._config.rpc_port}"], certificate.key, certificate.chain)
        self._rest = wsgi.Server(
            (LOOPBACK, self._config.rest_port),
            RestApp(backend, ROUTES),
            numthreads=REST_THREADS,
            timeout=BODY_TIMEOUT,
        )
        self._rest.prepare()
        threading.Thread(target=self._rest.serve, name="rest", daemon=True).start()
        backend.addresses = Addresses(f"localhost:{rpc}", f"localhost:{self._rest.bind_addr[1]}")

    def _admin(self, tx: Transaction, access: Access) -> str:
        row = tx.execute("SELECT id FROM users ORDER BY role DESC, created LIMIT 1").fetchone()
        return access.issue(tx, Principal(row[0], Purpose.USER))

    def _write_users(self, tx: Transaction, access: Access) -> None:
        """Each user's ``config.yml``, with a token that stays as long as the file does."""
        assert self.backend is not None
        for row in tx.execute("SELECT id, name FROM users").fetchall():
            path = self._layout.users / row["name"] / "config.yml"
            token = _token_in(path)
            if token is None or not _known(tx, access, token):
                token = access.issue(tx, Principal(row["id"], Purpose.USER))
            path.parent.mkdir(exist_ok=True)
            text = (
                f"user_token: {token}\nagent_address: http://{self.backend.addresses.rest}\n"
                f"rpc_address: {self.backend.addresses.rpc}\n"
                f"default_org: {self._config.organizations[0]}\n"
                f"default_workspace: {self._config.workspaces[0].name}\n"
            )
            write_private(path, text.encode())


def host() -> Host:
    """What this machine has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Host(cpus=float(os.cpu_count() or 1), memory=memory)


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since the machine did: with its number it names it."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _gpu_types() -> list[tuple[str, int]]:
    return [(name.removeprefix("GPU_TYPE_"), number) for name, number in pb2.GpuType.items()]


def _token_in(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            if line.startswith("user_token: "):
                return line.removeprefix("user_token: ").strip()
    return None


def _known(tx: Transaction, access: Access, token: str) -> bool:
    from dispatch.beakerd.problems import Problem

    try:
        access.principal(tx, token, Purpose.USER)
    except Problem:
        return False
    return True
