"""The hub's own certificate authority and server certificate: a demo and a city without a public name need no one else.

In `tls/`: ca.pem (give it to trucks and center), ca-key.pem and server-key.pem (0600), server.pem (server certificate, then the
authority's). Made once; the server certificate is made anew when it is about to expire or the names changed. Trucks keep trusting
it then, because they trust the authority.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub.errors import HubError

AUTHORITY_YEARS = 10  # a truck's life
SERVER_DAYS = 397  # what browsers accept at most
RENEW_DAYS = 30
USES = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]  # a federated hub is the client of the other
# The clock of a Pi without battery may be hours behind at its first connection; valid from a day before covers it.
BACKDATED = timedelta(days=1)


class Files(NamedTuple):
    """Where the certificates are."""

    ca: Path
    server: Path
    server_key: Path


def names(domain: str, host: str) -> list[str]:
    """The names the server answers to: the domain and its services, and the addresses of this machine's loopback."""
    return list(dict.fromkeys([domain, f"pubsub.{domain}", f"upload.{domain}", "localhost", "127.0.0.1", host]))


def ensure(folder: Path, domain: str, host: str, now: datetime | None = None) -> Files:
    """The certificates in `folder`, made or renewed where needed; raises HubError when what is there cannot be used."""
    now = now or datetime.now(UTC)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Files(folder / "ca.pem", folder / "server.pem", folder / "server-key.pem")
    ca_key_file = folder / "ca-key.pem"
    try:
        if not files.ca.exists():
            _make_authority(files.ca, ca_key_file, domain, now)
        authority = x509.load_pem_x509_certificate(files.ca.read_bytes())
        if not _still_good(files, authority, names(domain, host), now):
            ca_key = serialization.load_pem_private_key(ca_key_file.read_bytes(), None)
            if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
                raise HubError(f"{ca_key_file}: not a key of ours")
            _make_server(files, authority, ca_key, names(domain, host), now)
    except OSError as error:
        raise HubError(f"{error.filename}: {error.strerror}") from error
    except ValueError as error:
        raise HubError(f"{folder}: certificates cannot be read ({error}); remove the folder to have new ones") from error
    return files


def _still_good(files: Files, authority: x509.Certificate, wanted: Sequence[str], now: datetime) -> bool:
    if not files.server.exists() or not files.server_key.exists():
        return False
    server = x509.load_pem_x509_certificates(files.server.read_bytes())[0]
    key = serialization.load_pem_private_key(files.server_key.read_bytes(), None)
    if key.public_key() != server.public_key():
        return False  # a crash between writing the two
    held = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uses = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if {str(name.value) for name in held} != set(wanted) or server.issuer != authority.subject or set(uses) != set(USES):
        return False
    return server.not_valid_before_utc <= now < server.not_valid_after_utc - timedelta(days=RENEW_DAYS)


def _make_authority(file: Path, key_file: Path, domain: str, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Cruisers hub {domain} {x509.random_serial_number():x}"[:64])])
    certificate = (
        _builder(name, name, key.public_key(), now, timedelta(days=365 * AUTHORITY_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_file, key)  # first: a certificate without its key could never sign
    _write(file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _make_server(
    files: Files, authority: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey, wanted: Sequence[str], now: datetime
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, wanted[0][:64])])
    certificate = (
        _builder(subject, authority.subject, key.public_key(), now, timedelta(days=SERVER_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in wanted]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(USES), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    _write_key(files.server_key, key)
    pem = serialization.Encoding.PEM
    _write(files.server, certificate.public_bytes(pem) + authority.public_bytes(pem), 0o644)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey) -> None:
    plain = serialization.NoEncryption()
    _write(file, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain), 0o600)


def _write(file: Path, content: bytes, mode: int) -> None:
    """Put `content` in place at once, never readable by others on the way."""
    new = file.with_name(file.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as out:
        os.fchmod(descriptor, mode)  # whatever the umask
        out.write(content)
        out.flush()
        os.fsync(descriptor)
    new.rename(file)
