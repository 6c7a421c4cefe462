"""A local Beaker for tests, in this process, and the real beaker-py's clients of it.

Owns one certificate authority for all servers of a test session: gRPC reads once a process which roots it
trusts, from the file that ``GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`` names: a fixture sets it to the authority's.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dispatch._docker.address import Address
from dispatch.beakerd.authority import certificate_for
from dispatch.beakerd.config import Config
from dispatch.beakerd.layout import Endpoint, Layout
from dispatch.beakerd.server import Server


@dataclass
class LocalBeaker:
    """A running server; ``lines`` is what it said."""

    server: Server
    layout: Layout
    endpoint: Endpoint
    lines: list[str]

    def client(self, user: str = "me", **overrides: Any) -> Any:
        """The real client, as a user of the configuration. Close it, or use it as a context."""
        from beaker import Beaker
        from beaker.config import Config as ClientConfig

        config = ClientConfig.from_path(self.layout.users / user / "config.yml")
        for name, value in overrides.items():
            setattr(config, name, value)
        return Beaker(config, check_for_upgrades=False)

    def stop(self) -> None:
        """End the server; its jobs go on."""
        self.server.stop()


class Beakers:
    """Makes servers under ``root``, each with the same authority."""

    def __init__(self, root: Path, tls: Path | None = None, engine: str = "unix:///var/run/docker.sock"):
        self._root = root
        self._engine = engine
        self._running: list[LocalBeaker] = []
        self._tls = tls or root / "tls"

    @property
    def authority(self) -> Path:
        """The certificate to trust."""
        return self._tls / "ca.pem"

    def prepare(self) -> None:
        """Make the authority."""
        self._root.mkdir(parents=True, exist_ok=True)
        certificate_for(self._tls, ["localhost"], datetime.now(timezone.utc))

    def start(
        self, config: Config | None = None, name: str = "one", wall: Callable[[], int] = time.time_ns
    ) -> LocalBeaker:
        """Start a server over the state of this name, which may be there from before."""
        layout = Layout(self._root / name)
        layout.make()
        layout.authority.mkdir(exist_ok=True)
        for part in ("ca.key", "ca.pem"):
            shutil.copy2(self._tls / part, layout.authority / part)
        lines: list[str] = []
        server = Server(config or Config(), layout, Address(self._engine), wall, os.urandom, lines.append)
        running = LocalBeaker(server, layout, server.start(), lines)
        self._running.append(running)
        return running

    def close(self) -> None:
        """End all of them."""
        for running in self._running:
            running.stop()
