"""TCP to an engine elsewhere, with or without TLS.

Owns the certificates' part of a connection, and what is said when one is not trusted.
"""

from __future__ import annotations

import socket
import ssl

from dispatch._docker.address import CERTIFICATES_VARIABLE, VARIABLE, Address, Tls
from dispatch._docker.transport import (
    ALIVE_EVERY,
    ALIVE_TIMES,
    CONNECT_TIMEOUT,
    Connection,
    EngineAbsentError,
)
from dispatch.errors import EngineError


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
    try:
        context = ssl.create_default_context(cafile=tls.authority)
        # From 3.13 on, Python wants more of an authority than docker's own instructions give it.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
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


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
