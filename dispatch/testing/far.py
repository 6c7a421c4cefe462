"""A second Docker Engine beside the user's, which does not see the files of the tests that use it.

Owns a dockerd in mount and network namespaces of its own: over a directory of the client's there lies, for
it, another one of the same name. Its socket is a file outside, so clients reach it as they would any engine;
ways to it by TCP and TLS are made by :class:`Relay`. Needs root, and what ``docker.io`` brings.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dispatch._docker import Address, Door
from dispatch._docker.daemon import EngineSetup
from dispatch._docker.machine import LinuxMachine

LURE = "lure"
_BLOCK = 1 << 16


class _FarMachine(LinuxMachine):
    """This machine, with every spawned process where ``hidden`` is another, empty directory.

    In it lies a directory that is there on both sides. The network is of its own, too: a dockerd that shares
    it with another takes that one's bridge away when it starts.
    """

    def __init__(self, environ: Mapping[str, str], hidden: Path, subordinate: Path | None) -> None:
        super().__init__(environ)
        self._hidden = hidden
        self._subordinate = subordinate

    def spawn(self, command: Sequence[str], log: Path) -> int:
        hidden = shlex.quote(str(self._hidden))
        steps = [f"mount -t tmpfs far {hidden}", f"mkdir {hidden}/{LURE}"]
        if self._subordinate is not None:
            ids = shlex.quote(str(self._subordinate))
            steps += [f"mount --bind {ids} /etc/{name}" for name in ("subuid", "subgid")]
        script = " && ".join([*steps, f"exec {shlex.join(command)}"])
        return super().spawn(["unshare", "--mount", "--net", "sh", "-c", script], log)


@dataclass(frozen=True)
class FarEngine:
    """The engine: its socket, and the directory that is another one for it."""

    socket: Path
    hidden: Path
    setup: EngineSetup

    @property
    def url(self) -> str:
        """What DOCKER_HOST is to say."""
        return f"unix://{self.socket}"


@contextlib.contextmanager
def far_engine(
    environ: Mapping[str, str], options: Sequence[str] = (), subordinate: str = ""
) -> Iterator[FarEngine]:
    """Run such an engine, with further options for its dockerd, and its own lines of subuid(5)."""
    root = Path(tempfile.mkdtemp(prefix="dispatch-far-"))
    # A remapped root has to find its way to its data.
    root.chmod(0o711)
    hidden = root / "client"
    hidden.mkdir()
    place = root / "engine"
    place.mkdir()
    every = ["--data-root", f"{place}/data", "--exec-root", f"{place}/run", "--pidfile", f"{place}/d.pid"]
    every += ["--bridge", "none", "--iptables=false", "--ip6tables=false", *options]
    door = Door(Address(f"unix://{place}/d.sock", chosen=True))
    ids = root / "subordinate"
    ids.write_text(f"{subordinate}\n")
    machine = _FarMachine(environ, hidden, ids if subordinate else None)
    setup = EngineSetup(door, place / "state", machine, lambda _: None, every, pid_files={})
    try:
        setup.ensure()
        (hidden / LURE).mkdir()
        yield FarEngine(place / "d.sock", hidden, setup)
    finally:
        setup.stop()
        door.close()
        shutil.rmtree(root, ignore_errors=True)


class Relay:
    """Listens on a TCP port of this machine and forwards to a unix socket, until it is closed.

    With ``secure`` it speaks TLS. ``limit`` is asked, for each connection, how many bytes it may carry to the
    client (False) and to the engine (True) before all is cut; None is no limit. With ``stuck`` it is not cut
    but stands still, which is told there.
    """

    def __init__(
        self,
        target: Path,
        secure: ssl.SSLContext | None = None,
        limit: Callable[[bool], int | None] = lambda _: None,
        stuck: threading.Event | None = None,
    ) -> None:
        self._target = target
        self._secure = secure
        self._limit = limit
        self._stuck = stuck
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self._secure is not None:
            try:
                client = self._secure.wrap_socket(client, server_side=True)
            except OSError:
                client.close()
                return
        engine = socket.socket(socket.AF_UNIX)
        engine.connect(str(self._target))
        out = threading.Thread(target=self._forward, args=(client, engine, True), daemon=True)
        out.start()
        self._forward(engine, client, False)
        out.join()
        for end in (client, engine):
            end.close()

    def _forward(self, source: socket.socket, target: socket.socket, outward: bool) -> None:
        left = self._limit(outward)
        with contextlib.suppress(OSError, ValueError):
            while data := source.recv(_BLOCK):
                if left is not None:
                    data, left = data[:left], left - len(data)
                target.sendall(data)
                if left is not None and left <= 0 and self._stuck is not None:
                    self._stuck.set()
                    threading.Event().wait()
                if left is not None and left <= 0:
                    for end in (source, target):
                        end.shutdown(socket.SHUT_RDWR)
                    return
        with contextlib.suppress(OSError, ValueError):
            # Of a client that has gone an engine hears even where nothing moves any more.
            half = outward and not (self._stuck is not None and self._stuck.is_set())
            target.shutdown(socket.SHUT_WR if half else socket.SHUT_RDWR)
