"""Connections to an engine: a unix socket, TCP with or without TLS, or ssh.

Owns how each is made and what is said when it cannot be. Refuses to know what goes over them. ssh is the
user's own client, which has their keys, aliases and agent; a connection is a process of it that runs
``docker system dial-stdio`` over there, on a socket pair, so that everything above sees sockets alone.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, Protocol

from dispatch._docker.address import CERTIFICATES_VARIABLE, VARIABLE, Address, Tls
from dispatch.errors import EngineError

if TYPE_CHECKING:
    import ssl

START_ONE = "start one with `dispatch engine start` (`make engine` in a checkout)"
CONNECT_TIMEOUT = 30
ALIVE_EVERY, ALIVE_TIMES = 15, 4
_LAST_BYTES = 4096
_FAREWELL = 5.0


class EngineAbsentError(EngineError):
    """Nobody listens at the engine's address."""


class Connection:
    """An open connection: the few methods of a socket that are needed. ``shut`` wakes a reader elsewhere."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def fileno(self) -> int:
        """The descriptor to wait at; see :meth:`pending`."""
        return self._line.fileno()

    def settimeout(self, timeout: float | None) -> None:
        """Bound each wait for bytes, in seconds; 0 waits for none."""
        self._line.settimeout(timeout)

    def sendall(self, content: bytes) -> None:
        """Send all of it."""
        self._line.sendall(content)

    def recv(self, count: int) -> bytes:
        """Return what has come, at most so much; nothing at the end."""
        return self._line.recv(count)

    def pending(self) -> bool:
        """Whether something has come that the descriptor does not show, because it was decrypted before."""
        ready: Callable[[], int] | None = getattr(self._line, "pending", None)
        return ready is not None and ready() > 0

    def makefile(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """Return what comes in as a file."""
        return self._line.makefile(mode)

    def end_sending(self) -> None:
        """Say that nothing more will be sent, where the kind of connection can say so."""
        if not hasattr(self._line, "pending"):
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_WR)

    def shut(self) -> None:
        """End both directions."""
        with contextlib.suppress(OSError):  # the other end may have closed already
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give everything back."""
        self._line.close()

    def fault(self) -> EngineError | None:
        """Say why the connection broke off, where its own kind knows more than that it did."""
        return None


class Transport(Protocol):
    """Makes connections to one engine. Errors are EngineError, EngineAbsentError where nobody listens."""

    def connect(self, timeout: float | None) -> Connection:
        """Return a new connection; ``timeout`` bounds each wait for bytes."""


def transport_of(address: Address) -> Transport:
    """Return what makes connections to an address."""
    if address.is_local:
        return UnixTransport(address)
    return SshTransport(address) if address.scheme == "ssh" else TcpTransport(address)


class UnixTransport:
    """A unix socket of this machine."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def connect(self, timeout: float | None) -> Connection:
        """See :class:`Transport`."""
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.settimeout(timeout)
        try:
            line.connect(self._address.socket_path)
        except OSError as error:
            line.close()
            raise self._unreachable(error) from error
        return Connection(line)

    def _unreachable(self, error: OSError) -> EngineError:
        path = self._address.socket_path
        elsewhere = f"or mend {VARIABLE}" if self._address.chosen else f"or name another in {VARIABLE}"
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return EngineAbsentError(
                f"Docker Engine: there is no socket at {path}", f"{START_ONE}, {elsewhere}"
            )
        if isinstance(error, ConnectionRefusedError):
            return EngineAbsentError(f"Docker Engine: nobody listens at {path}", f"{START_ONE}, {elsewhere}")
        if isinstance(error, PermissionError):
            return EngineError(
                f"Docker Engine: this user may not use {path}",
                "add yourself to the group `docker` (`sudo usermod -aG docker $USER`) and log in again",
            )
        return broken(self._address, error)


class TcpTransport:
    """A TCP port, with TLS where the address says so."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._context: ssl.SSLContext | None = None

    def connect(self, timeout: float | None) -> Connection:
        """See :class:`Transport`."""
        address = self._address
        limit = CONNECT_TIMEOUT if timeout is None else min(timeout, CONNECT_TIMEOUT)
        assert address.port is not None
        try:
            line = socket.create_connection((address.host, address.port), limit)
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A subscription waits for ever: a network that died in between has to be noticed.
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ALIVE_EVERY)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ALIVE_EVERY)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, ALIVE_TIMES)
            if address.tls is not None:
                line = self._secure(line, address.tls)
            line.settimeout(timeout)
        except BaseException:
            line.close()
            raise
        return Connection(line)

    def _secure(self, line: socket.socket, tls: Tls) -> socket.socket:
        import ssl

        if self._context is None:
            self._context = _tls_context(tls)
        try:
            return self._context.wrap_socket(line, server_hostname=self._address.host)
        except ssl.SSLCertVerificationError as error:
            raise EngineError(
                f"Docker Engine: the certificate of {self._address} is not trusted: {error.verify_message}",
                f"put the authority that signed it into ca.pem where {CERTIFICATES_VARIABLE} says",
            ) from error
        except OSError as error:
            raise EngineError(
                f"Docker Engine: no TLS connection to {self._address}: {_reason(error)}",
                "see that this is the engine's TLS port (2376 by default), and that it trusts our cert.pem",
            ) from error

    def _unreachable(self, error: OSError) -> EngineError:
        address = self._address
        if isinstance(error, ConnectionRefusedError):
            return EngineAbsentError(
                f"Docker Engine: nobody listens at {address}", f"start that engine, or mend {VARIABLE}"
            )
        if isinstance(error, socket.gaierror):
            return EngineError(
                f"Docker Engine: no host {address.host!r} is known: {_reason(error)}", f"mend {VARIABLE}"
            )
        if isinstance(error, TimeoutError):
            return EngineError(
                f"Docker Engine: {address} does not answer",
                f"see whether a firewall is between, or mend {VARIABLE}",
            )
        return EngineError(
            f"Docker Engine: {address} cannot be reached: {_reason(error)}", f"mend {VARIABLE}"
        )


def _tls_context(tls: Tls) -> ssl.SSLContext:
    import ssl

    try:
        context = ssl.create_default_context(cafile=tls.authority)
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:
        raise EngineError(
            f"Docker Engine: certificates that cannot be used: {error.filename or tls.authority}: "
            f"{_reason(error)}",
            f"put ca.pem, cert.pem and key.pem into the directory that {CERTIFICATES_VARIABLE} names",
        ) from error
    return context


class SshTransport:
    """The user's ssh client. ``launch`` starts a process as ``subprocess.Popen`` does."""

    def __init__(
        self, address: Address, launch: Callable[..., subprocess.Popen[bytes]] = subprocess.Popen
    ) -> None:
        self._address = address
        self._launch = launch

    def connect(self, timeout: float | None) -> Connection:
        """See :class:`Transport`. What is wrong over there is known only when the answer is missing."""
        ours, theirs = socket.socketpair()
        ours.settimeout(timeout)
        # Its own words matter only if it fails, and then only the last of them.
        words = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            # A session of its own, so that Ctrl-C at the terminal reaches the client alone.
            process = self._launch(
                ssh_command(self._address), stdin=theirs, stdout=theirs, stderr=words, start_new_session=True
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


def ssh_command(address: Address) -> list[str]:
    """The command that connects its input and output to the engine behind an ssh address."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": CONNECT_TIMEOUT,
        "ServerAliveInterval": ALIVE_EVERY,
        "ServerAliveCountMax": ALIVE_TIMES,
    }
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
        return (
            f"try `{shlex.join(ssh_command(address)[:-1])} true`, which must work without a password: "
            "by a key, an agent, or your ~/.ssh/config"
        )
    return f"see whether the engine runs on {address.host}"


def broken(address: Address, error: Exception | None) -> EngineError:
    """What it means that a connection that stood broke off."""
    why = (
        "took too long to answer"
        if isinstance(error, TimeoutError)
        else "broke off in the middle of an answer"
    )
    return EngineError(
        f"Docker Engine: the engine at {address} {why}",
        "see whether it still runs (`dispatch doctor`), then repeat the command",
    )


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def peer(address: Address) -> tuple[int, int] | None:
    """Return pid and uid of who made the socket of a local engine, None where that cannot be told."""
    import struct

    if not address.is_local:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(address.socket_path)
            found: Sequence[Any] = struct.unpack(
                "3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            )
    except OSError:
        return None
    return (found[0], found[1]) if found[0] > 0 else None
