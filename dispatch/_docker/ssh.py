"""ssh to an engine elsewhere, by the user's own client.

It has the user's keys, aliases and agent, and asks nothing. A connection is a process of it that runs
``docker system dial-stdio`` over there, on a socket pair, so that everything above sees sockets alone. All go
through one shared connection, which ends by itself when nobody used it for a while: without it each would
cost a handshake.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from typing import IO

from dispatch._docker.address import VARIABLE, Address
from dispatch._docker.transport import ALIVE_EVERY, ALIVE_TIMES, CONNECT_TIMEOUT, Connection
from dispatch.errors import EngineError

_LAST_BYTES = 4096
_FAREWELL = 5.0
_SHARED_FOR = 60
# The name of a unix socket has 107 characters, of which ssh's own part may take 60.
_LONGEST_PLACE = 45


class SshTransport:
    """The user's ssh client. ``launch`` starts a process as ``subprocess.Popen`` does."""

    def __init__(
        self, address: Address, launch: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
    ) -> None:
        self._address = address
        self._launch = launch
        self._lock = threading.Lock()
        self._place: tempfile.TemporaryDirectory[str] | None = None

    def connect(self, timeout: float | None) -> Connection:
        """See :class:`Transport`. What is wrong over there is known only when the answer is missing."""
        ours, theirs = socket.socketpair()
        ours.settimeout(timeout)
        # Its own words matter only if it fails, and then only the last of them.
        words = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            # A session of its own, so that Ctrl-C at the terminal reaches the client alone.
            process = self._launch(
                ssh_command(self._address, self._shared()),
                stdin=theirs,
                stdout=theirs,
                stderr=words,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            words.close()
            raise EngineError(
                f"Docker Engine: ssh cannot be started: {error.strerror}",
                f"install an ssh client, or mend {VARIABLE}",
            ) from error
        finally:
            theirs.close()
        return _SshConnection(ours, process, words, self._address)

    def _shared(self) -> str:
        """A directory that only this user can enter: whoever could might use the connection."""
        with self._lock:
            if self._place is None:
                self._place = tempfile.TemporaryDirectory(prefix="dispatch-")
            return self._place.name


def ssh_command(address: Address, place: str = "") -> list[str]:
    """The command that connects its input and output to the engine behind an ssh address.

    In the directory ``place`` commands share a connection.
    """
    options: dict[str, object] = {
        "BatchMode": "yes",
        "ConnectTimeout": CONNECT_TIMEOUT,
        "ServerAliveInterval": ALIVE_EVERY,
        "ServerAliveCountMax": ALIVE_TIMES,
    }
    if place and len(place) <= _LONGEST_PLACE:
        options |= {"ControlMaster": "auto", "ControlPath": f"{place}/%C", "ControlPersist": _SHARED_FOR}
    command = ["ssh", "-T", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]
    command += ["-l", address.user] if address.user else []
    command += ["-p", str(address.port)] if address.port is not None else []
    there = [
        "docker",
        *(["--host", f"unix://{address.path}"] if address.path else []),
        "system",
        "dial-stdio",
    ]
    # Over there a shell reads the words as one line.
    return [*command, "--", address.host, shlex.join(there)]


class _SshConnection(Connection):
    def __init__(
        self, line: socket.socket, process: subprocess.Popen[bytes], words: IO[bytes], address: Address
    ) -> None:
        super().__init__(line)
        self._process = process
        self._words = words
        self._address = address

    def close(self) -> None:
        super().close()
        # It ends with its input; one that hangs in a dead network does not.
        self._process.terminate()
        try:
            self._process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words.close()

    def fault(self) -> EngineError | None:
        try:
            code = self._process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            return None
        if code == 0:
            return None
        self._words.seek(0)
        said = self._words.read()[-_LAST_BYTES:].decode("utf-8", "replace").strip().splitlines()
        words = said[-1].strip() if said else "it said nothing"
        fact = f"Docker Engine: ssh to {self._address.host} ended with {code}: {words}"
        return EngineError(fact, _ssh_remedy(code, words, self._address))


def _ssh_remedy(code: int, words: str, address: Address) -> str:
    if code == 127:
        return f"install the docker command on {address.host}, on the path that ssh sessions have there"
    if "permission denied while trying to connect" in words:
        return f"add the user to the group `docker` on {address.host}"
    if code == 255:
        user = [*(["-l", address.user] if address.user else [])]
        port = ["-p", str(address.port)] if address.port is not None else []
        command = shlex.join(["ssh", "-o", "BatchMode=yes", *user, *port, "--", address.host, "true"])
        return f"see that `{command}` works: by a key, an agent, or your ~/.ssh/config"
    return f"see whether the engine runs on {address.host}"
