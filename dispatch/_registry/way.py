"""How a registry is reached: with which certificates, through which proxy, and whether plainly.

Owns what is trusted. Plain HTTP is spoken only with this machine itself, or with a registry that was declared
insecure, whose certificate may then be anybody's. Authorities lie where Docker's own engine looks for them.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatch._registry.problems import RegistryUntrustedError
from dispatch._registry.reference import is_loopback

CERTIFICATES = Path("/etc/docker/certs.d")


@dataclass(frozen=True)
class Way:
    """The way to one registry.

    ``authority`` is a file of certificates to trust beside the system's; ``certificates`` are directories
    that have one for each host, as ``/etc/docker/certs.d``; ``proxy`` is the URL of an HTTP proxy.
    """

    insecure: bool = False
    authority: Path | None = None
    certificates: tuple[Path, ...] = (CERTIFICATES,)
    proxy: str = ""

    def may_be_plain(self, host: str) -> bool:
        """Whether a host may be spoken to without TLS."""
        return self.insecure or is_loopback(host)

    def context(self, host: str) -> ssl.SSLContext:
        """Return what TLS connections to a host are made with.

        :raises RegistryUntrustedError: when a certificate file cannot be used
        """
        context = ssl.create_default_context()
        # From 3.13 on, Python wants more of an authority than its makers used to write.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        file = self.authority
        try:
            if file is not None:
                context.load_verify_locations(file)
            for directory in self.certificates:
                for file in sorted((directory / host).glob("*.crt")):
                    context.load_verify_locations(file)
                for file in sorted((directory / host).glob("*.cert")):
                    context.load_cert_chain(file, file.with_suffix(".key"))
        except OSError as error:
            raise RegistryUntrustedError(
                f"registry {host}: the certificate {file} cannot be used: {error.strerror or error}",
                "put a certificate in PEM form there (and its .key beside a .cert)",
            ) from error
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def way_to(
    host: str, environ: Mapping[str, str], home: Path, insecure: bool = False, authority: Path | None = None
) -> Way:
    """Return the way to a registry from here; proxies are those of the usual variables."""
    directories = (CERTIFICATES, home / ".config" / "docker" / "certs.d")
    return Way(insecure, authority, directories, _proxy(host, environ))


def _proxy(host: str, environ: Mapping[str, str]) -> str:
    name = host.rpartition(":")[0] or host
    excepted = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    for word in (each.strip().lstrip(".") for each in excepted.split(",")):
        if word and (word in ("*", host) or f".{name}".endswith(f".{word}")):
            return ""
    if is_loopback(host):
        return ""
    return environ.get("https_proxy") or environ.get("HTTPS_PROXY") or ""
