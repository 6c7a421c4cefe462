"""The local certificate authority, and the server's certificate under it.

Owns keys and certificates: made at the first start, kept with the state, the certificate renewed before it
ends or when a name is missing. Only this server uses them: the keys never leave its state.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dispatch.beakerd.layout import write_private
from dispatch.errors import DispatchError

ENV = 'eval "$(dispatch beaker env)"'
AUTHORITY_YEARS = 10
CERTIFICATE_DAYS = 365
RENEW_BEFORE = timedelta(days=30)


@dataclass(frozen=True)
class Certificate:
    """A key and its certificate (PEM), where they are, and the path of the authority's certificate."""

    key: bytes
    chain: bytes
    authority: Path
    key_path: Path
    chain_path: Path


def certificate_for(
    directory: Path, names: Sequence[str], now: datetime, stem: str = "server"
) -> Certificate:
    """Return a certificate that holds for these names and addresses, made where there is none yet.

    ``stem`` tells the certificates of one authority apart.
    """
    directory.mkdir(exist_ok=True, mode=0o700)
    ca_key, ca = _authority(directory, now)
    key_path, path = directory / f"{stem}.key", directory / f"{stem}.pem"
    if not (key_path.exists() and path.exists() and _holds(key_path, path, ca, names, now)):
        key = ec.generate_private_key(ec.SECP256R1())
        write_private(key_path, _private(key))
        write_private(path, _sign(key, ca_key, ca, names, now).public_bytes(serialization.Encoding.PEM))
    return Certificate(key_path.read_bytes(), path.read_bytes(), directory / "ca.pem", key_path, path)


def write_roots(certificate: Certificate, path: Path) -> None:
    """Write what public programs trust, and our authority, into one file.

    A client that is told a file of roots trusts nothing else: with ours alone it could reach nobody but us.
    """
    import certifi

    public = Path(certifi.where()).read_bytes()
    write_private(path, public.rstrip() + b"\n\n" + certificate.authority.read_bytes())
    path.chmod(0o644)


def _authority(directory: Path, now: datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_path, path = directory / "ca.key", directory / "ca.pem"
    if key_path.exists() and path.exists():
        try:
            found = serialization.load_pem_private_key(key_path.read_bytes(), None)
            ca = x509.load_pem_x509_certificate(path.read_bytes())
            if isinstance(found, ec.EllipticCurvePrivateKey) and found.public_key() == ca.public_key():
                return found, ca
        except ValueError:
            pass
        raise DispatchError(
            f"{directory}: the authority's key and certificate are damaged",
            f"remove the directory; then clients need `{ENV}` again, and jobs that run lose the server",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dispatch local Beaker")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * AUTHORITY_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    write_private(key_path, _private(key))
    write_private(path, certificate.public_bytes(serialization.Encoding.PEM))
    path.chmod(0o644)
    return key, certificate


def _sign(
    key: ec.EllipticCurvePrivateKey,
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    names: Sequence[str],
    now: datetime,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )


def _holds(key: Path, path: Path, ca: x509.Certificate, names: Sequence[str], now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        certificate.verify_directly_issued_by(ca)
        # They are two files: a kill between the two leaves a pair that does not fit.
        if (
            serialization.load_pem_private_key(key.read_bytes(), None).public_key()
            != certificate.public_key()
        ):
            return False
    except Exception:  # whatever is wrong with it, a new one is made
        return False
    kept = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        all(_general(name) in kept for name in names)
        and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
