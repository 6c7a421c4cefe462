"""The server as a whole: its parts put together, its start and its end.

Owns the order: state locked, database, accounts, certificate, listening, jobs adopted, and only then the
endpoint's file. Whatever fails on the way is undone, so that the next start finds a state like after a kill.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from datetime import datetime, timezone

from beaker import beaker_pb2 as pb2

from dispatch._docker import Door
from dispatch._docker.address import Address
from dispatch.beakerd import datasets, repositories
from dispatch.beakerd.access import ADMIN, Access, Principal, Purpose
from dispatch.beakerd.authority import certificate_for, write_roots
from dispatch.beakerd.backend import Addresses, Backend
from dispatch.beakerd.clock import Clock, Ids
from dispatch.beakerd.config import Config
from dispatch.beakerd.images import ImageProvider
from dispatch.beakerd.intercept import Interceptor
from dispatch.beakerd.layout import Endpoint, Layout
from dispatch.beakerd.listening import LOOPBACK, NAMES, Listeners, Wanted, keep, kept
from dispatch.beakerd.process import boot, start_ticks
from dispatch.beakerd.rest.app import RestApp
from dispatch.beakerd.rest.faulty import FaultyRest
from dispatch.beakerd.rest.table import ROUTES
from dispatch.beakerd.rpc.faulty import FaultyRpc
from dispatch.beakerd.rpc.server import RpcServer
from dispatch.beakerd.rpc.table import METHODS, STREAMS
from dispatch.beakerd.runner import Runner
from dispatch.beakerd.store.database import Database, Transaction
from dispatch.beakerd.store.images import seed as seed_images
from dispatch.beakerd.store.lifecycle import Lifecycle
from dispatch.beakerd.store.setup import Host, Setup, after_all
from dispatch.beakerd.supervisor import Supervisor
from dispatch.beakerd.users import write_users
from dispatch.errors import DispatchError

# The state of a server that was just killed, or has just ended, is free in no time.
LOCK_PATIENCE = 2.0
PROXY = "proxy_port"


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
        self._listeners: Listeners | None = None
        self._interceptor: Interceptor | None = None
        self._supervisor: Supervisor | None = None
        self.backend: Backend | None = None

    def start(self) -> Endpoint:
        """Begin to answer, and say where.

        :raises DispatchError: when another server has the state, or a port is taken
        """
        self._layout.make()
        self._take_lock()
        try:
            backend = self.backend = self._backend()
            return self._open(backend)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Answer no more. Jobs go on; the next start looks after them."""
        backend = self.backend
        if backend is not None:
            backend.closing.set()
        if self._supervisor is not None:
            self._supervisor.close()
        if self._interceptor is not None:
            self._interceptor.stop()
        if self._listeners is not None:
            self._listeners.stop()
        if backend is not None:
            backend.database.close()
            backend.door.close()
        if self._lock is not None:
            self._layout.endpoint.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _backend(self) -> Backend:
        # Made here, and not by SQLite: its other files take the mode of this one.
        os.close(os.open(self._layout.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = Database(self._layout.database)
        database.open()
        with database.read() as tx:
            clock = Clock(self._wall, after_all(tx))
        ids = Ids(clock, self._entropy)
        with database.write() as tx:
            Setup(clock, ids, host(), dict(_gpu_types())).apply(tx, self._config)
            for line in seed_images(tx, self._config, clock, ids):
                self._say(line)
        return Backend(
            config=self._config,
            layout=self._layout,
            database=database,
            clock=clock,
            ids=ids,
            access=Access(clock, self._entropy),
            lifecycle=Lifecycle(clock, ids, self._config.assume),
            door=Door(self._engine, self._layout.root),
            addresses=Addresses("", ""),
            say=self._say,
        )

    def _open(self, backend: Backend) -> Endpoint:
        """Listen, and say where that is: to users, to clients, to whoever reads the endpoint's file."""
        config = self._config
        bridge = backend.door.bridge_address()
        if bridge is None:
            self._say("this machine has no Docker bridge: jobs cannot call back")
        now = datetime.fromtimestamp(self._wall() / 1e9, timezone.utc)
        names = NAMES if bridge is None else (*NAMES, bridge)
        certificate = certificate_for(self._layout.authority, names, now)
        write_roots(certificate, self._layout.roots)
        repositories.sweep(backend)
        datasets.sweep(backend, starting=True)
        interceptors = [FaultyRpc(backend)] if config.control else []
        rpc = RpcServer(backend, METHODS, STREAMS, interceptors)
        app = FaultyRest(RestApp(backend, ROUTES), backend) if config.control else RestApp(backend, ROUTES)
        self._listeners = Listeners(backend, rpc, app, bridge, self._entropy(8))
        wanted = Wanted(config.rpc_port, config.rest_port)
        backend.addresses = self._listeners.start(certificate, wanted)
        proxy = self._intercept(backend, now)
        with backend.database.write() as tx:
            write_users(backend, tx)
            admin = _admin(tx, backend.access)
        endpoint = Endpoint(
            pid=os.getpid(),
            started=start_ticks(os.getpid()),
            rpc=backend.addresses.rpc,
            rest=backend.addresses.rest,
            ca=str(certificate.authority),
            admin_token=admin,
            boot=boot(),
            bridge=backend.addresses.bridge,
            control=config.control,
            rest_tls=config.rest_tls,
            proxy=proxy,
        )
        self._supervisor = Supervisor(backend, Runner(backend, ImageProvider(backend)))
        self._supervisor.open()
        self._layout.write_endpoint(endpoint)
        return endpoint

    def _intercept(self, backend: Backend, now: datetime) -> str | None:
        """Answer for another host, where the configuration asks for that, on a port that stays."""
        wanted = self._config.intercept
        if wanted is None:
            return None
        self._interceptor = Interceptor(wanted, self._layout.authority, now)
        try:
            port = self._interceptor.start(kept(backend.database, PROXY))
        except OSError:
            # Nothing but a shell knows it, and that asks again.
            port = self._interceptor.start()
        keep(backend.database, {PROXY: port})
        self._say(f"warning: answering for {wanted.host} on {LOOPBACK}:{port}, a proxy for who asks it")
        return f"{LOOPBACK}:{port}"

    def _take_lock(self) -> None:
        lock = os.open(self._layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        waited = threading.Event()
        for remaining in range(round(LOCK_PATIENCE * 20), -1, -1):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if remaining:
                    waited.wait(0.05)
                    continue
                os.close(lock)
                raise DispatchError(
                    f"{self._layout.root}: a server runs here already", "`dispatch beaker status` says where"
                ) from error
            self._lock = lock
            return


def _admin(tx: Transaction, access: Access) -> str:
    """A token for whoever runs the server; that of the start before ends."""
    tx.execute("DELETE FROM tokens WHERE kind = ? AND subject = ?", (Purpose.USER.value, ADMIN))
    row = tx.execute("SELECT id FROM users ORDER BY role DESC, created LIMIT 1").fetchone()
    return access.issue(tx, Principal(row[0], Purpose.USER, subject=ADMIN))


def host() -> Host:
    """What this machine has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Host(cpus=float(os.cpu_count() or 1), memory=memory)


def _gpu_types() -> list[tuple[str, int]]:
    return [(name.removeprefix("GPU_TYPE_"), number) for name, number in pb2.GpuType.items()]
