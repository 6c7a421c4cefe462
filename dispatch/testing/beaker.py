"""A local Beaker for tests, in this process or in one of its own, and the real beaker-py's clients of it.

Owns one certificate authority for all servers of a test session: gRPC reads once a process which roots it
trusts, from the file that ``GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`` names: a fixture sets it to the authority's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
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

ENGINE = "unix:///var/run/docker.sock"
END_LIMIT = 60.0


@dataclass
class LocalBeaker:
    """A running server; ``lines`` is what it said."""

    server: Server
    layout: Layout
    endpoint: Endpoint
    lines: list[str]

    def client(self, user: str = "me", **overrides: Any) -> Any:
        """The real client, as a user of the configuration. Close it, or use it as a context."""
        return client_of(self.layout, user, **overrides)

    def token(self, user: str = "me") -> str:
        """A user's token."""
        return token_of(self.layout, user)

    def stop(self) -> None:
        """End the server; its jobs go on."""
        self.server.stop()


@dataclass
class BeakerProcess:
    """A server in a process of its own, to be killed. Its client retries for ever while it is down."""

    process: subprocess.Popen[bytes]
    layout: Layout
    endpoint: Endpoint

    def client(self, user: str = "me", **overrides: Any) -> Any:
        """The real client, as a user of the configuration. Close it, or use it as a context."""
        return client_of(self.layout, user, **overrides)

    def token(self, user: str = "me") -> str:
        """A user's token."""
        return token_of(self.layout, user)

    def kill(self) -> None:
        """Kill it (SIGKILL), with nothing put in order."""
        self.process.kill()
        self.process.wait(END_LIMIT)

    def terminate(self) -> float:
        """Tell it to end (SIGTERM), and return how many seconds that took; AssertionError where it fails."""
        before = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(END_LIMIT) == 0
        return time.monotonic() - before


class Beakers:
    """Makes servers under ``root``, each with the same authority."""

    def __init__(self, root: Path, tls: Path | None = None, engine: str = ENGINE):
        self._root = root
        self._engine = engine
        self._running: list[LocalBeaker] = []
        self._processes: list[BeakerProcess] = []
        self._tls = tls or root / "tls"

    @property
    def authority(self) -> Path:
        """The certificate to trust."""
        return self._tls / "ca.pem"

    def prepare(self) -> None:
        """Make the authority."""
        self._root.mkdir(parents=True, exist_ok=True)
        certificate_for(self._tls, ["localhost"], datetime.now(timezone.utc))

    def layout(self, name: str = "one") -> Layout:
        """The state of this name, with the authority in it; made where there is none."""
        layout = Layout(self._root / name)
        layout.make()
        layout.authority.mkdir(exist_ok=True, mode=0o700)
        for part in ("ca.key", "ca.pem"):
            shutil.copy2(self._tls / part, layout.authority / part)
        return layout

    def start(
        self, config: Config | None = None, name: str = "one", wall: Callable[[], int] = time.time_ns
    ) -> LocalBeaker:
        """Start a server over the state of this name, which may be there from before."""
        layout = self.layout(name)
        lines: list[str] = []
        server = Server(config or Config(), layout, Address(self._engine), wall, os.urandom, lines.append)
        running = LocalBeaker(server, layout, server.start(), lines)
        self._running.append(running)
        return running

    def spawn(self, config: Path | None = None, name: str = "one", *options: str) -> BeakerProcess:
        """Start a server as a process, over the state of this name, and wait until it answers.

        AssertionError with what it said, where it does not.
        """
        layout = self.layout(name)
        words = ["--state", str(layout.root), "--engine", self._engine, *options]
        if config is not None:
            words += ["--config", str(config)]
        process = subprocess.Popen(
            [sys.executable, "-m", "dispatch.beakerd", *words],
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdout is not None
        with process.stdout as pipe:
            told = pipe.readline()
        ready = b'"ready": true' in told
        if not ready:
            process.kill()
            process.wait()
        assert ready, told
        endpoint = Endpoint(**json.loads(layout.endpoint.read_text()))
        running = BeakerProcess(process, layout, endpoint)
        self._processes.append(running)
        return running

    def close(self) -> None:
        """End all of them."""
        for running in self._running:
            running.stop()
        for spawned in self._processes:
            if spawned.process.poll() is None:
                spawned.kill()


def client_of(layout: Layout, user: str, **overrides: Any) -> Any:
    """The real client, configured by what the server wrote for a user."""
    from beaker import Beaker
    from beaker.config import Config as ClientConfig

    config = ClientConfig.from_path(layout.users / user / "config.yml")
    for name, value in overrides.items():
        setattr(config, name, value)
    return Beaker(config, check_for_upgrades=False)


def token_of(layout: Layout, user: str) -> str:
    """The token in a user's file."""
    lines = (layout.users / user / "config.yml").read_text().splitlines()
    return next(line.partition(": ")[2] for line in lines if line.startswith("user_token: "))
