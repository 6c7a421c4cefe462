"""Where the engine listens, read from an environment that the caller hands in.

Owns the meaning of ``DOCKER_HOST`` and of the variables beside it. Refuses to connect: that is
``transport``'s part. What the docker command's own files say is read in ``contexts``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dispatch.errors import ConfigurationError

DEFAULT_SOCKET = "/var/run/docker.sock"
VARIABLE = "DOCKER_HOST"
VERIFY_VARIABLE = "DOCKER_TLS_VERIFY"
CERTIFICATES_VARIABLE = "DOCKER_CERT_PATH"
PORT, TLS_PORT = 2375, 2376
_REMOTE = ("tcp", "ssh")
_ELSEWHERE = ("http", "https", "npipe", "fd")
# A host that began with a dash would be an option to ssh.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9a-fA-F:]+(%[A-Za-z0-9]+)?")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")


@dataclass(frozen=True)
class Tls:
    """The files of a TLS connection; None is what the system trusts, or no certificate of ours."""

    authority: Path | None
    certificate: Path | None
    key: Path | None
    verify: bool = True


@dataclass(frozen=True)
class Address:
    """An engine's address; ``chosen`` says whether the user named another than the default one."""

    url: str
    chosen: bool = False
    tls: Tls | None = None

    @property
    def is_local(self) -> bool:
        """Whether the engine listens on a unix socket of this machine."""
        return self.url.startswith("unix://")

    @property
    def scheme(self) -> str:
        """``unix``, ``tcp`` or ``ssh``."""
        return self.url.partition("://")[0]

    @property
    def socket_path(self) -> str:
        """The path of the unix socket; of a remote engine there is none to be asked for."""
        assert self.is_local, self
        return self.url[len("unix://") :]

    @property
    def host(self) -> str:
        """The host of a remote engine."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int | None:
        """The port of a remote engine; None where ssh decides."""
        found = urlsplit(self.url).port
        if self.scheme == "tcp" and found is None:
            return TLS_PORT if self.tls else PORT
        return found

    @property
    def user(self) -> str:
        """The user on the host of a remote engine, empty where ssh decides."""
        return urlsplit(self.url).username or ""

    @property
    def path(self) -> str:
        """The socket on the host that ssh leads to, empty for the default."""
        return urlsplit(self.url).path.rstrip("/")

    def __str__(self) -> str:
        """The address without user and password."""
        return re.sub(r"//[^/@]*@", "//", self.url)


def engine_address(environ: Mapping[str, str]) -> Address:
    """Return the address that ``DOCKER_HOST`` names, else the docker command's context, else the default.

    :raises ConfigurationError: when what is named is no address
    """
    value = environ.get(VARIABLE, "").strip()
    if value:
        tls = _tls(environ) if value.startswith("tcp://") else None
        return parse(value, VARIABLE, tls)
    from dispatch._docker.contexts import address_of_context

    return address_of_context(environ) or Address(f"unix://{DEFAULT_SOCKET}")


def parse(value: str, source: str, tls: Tls | None) -> Address:
    """Return the address that a text stands for; ``source`` is who said it.

    :raises ConfigurationError: when it is none
    """
    scheme, separator, rest = value.partition("://")
    if scheme == "unix" and separator:
        path = rest or DEFAULT_SOCKET
        if not path.startswith("/"):
            raise ConfigurationError(
                f"{source}: {value!r} names a socket by a relative path", f"write unix:///{path}"
            )
        return Address(f"unix://{path}", chosen=path != DEFAULT_SOCKET)
    address = Address(value, chosen=True, tls=tls)
    if scheme in _ELSEWHERE and separator:
        raise ConfigurationError(
            f"{source}: {address}: an engine is not reached by {scheme}",
            "write tcp://HOST:PORT, ssh://USER@HOST or unix:///PATH",
        )
    if scheme not in _REMOTE or not separator or not rest:
        raise ConfigurationError(
            f"{source}: {address} is not the address of an engine",
            f"write unix://{DEFAULT_SOCKET}, tcp://HOST:PORT or ssh://USER@HOST, or unset {VARIABLE}",
        )
    _check(address, source)
    return address


def _check(address: Address, source: str) -> None:
    try:
        parts = urlsplit(address.url)
        good = bool(_HOST.fullmatch(address.host)) and address.port != 0
        good = good and (not address.user or bool(_USER.fullmatch(address.user)))
    except ValueError:
        good = False
    if not good:
        raise ConfigurationError(
            f"{source}: {address} names no host, or one that cannot be",
            "write tcp://HOST:PORT or ssh://USER@HOST",
        )
    if parts.password is not None:
        raise ConfigurationError(
            f"{source}: {address} holds a password, which would be seen by everyone on this machine",
            "leave it out: ssh uses keys, and tcp certificates",
        )


def _tls(environ: Mapping[str, str]) -> Tls | None:
    """What ``DOCKER_TLS_VERIFY`` (anything that is not empty) asks for, as the docker command has it."""
    if not environ.get(VERIFY_VARIABLE, ""):
        return None
    named = environ.get(CERTIFICATES_VARIABLE, "")
    place = Path(named) if named else Path(environ.get("HOME", "/")) / ".docker"
    return Tls(place / "ca.pem", place / "cert.pem", place / "key.pem")
