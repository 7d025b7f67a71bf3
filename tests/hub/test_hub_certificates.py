"""The hub's own certificates: names, rights, renewal, and a client that trusts the authority alone."""

import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from hub import certificates
from hub.errors import HubError

pytestmark = pytest.mark.timeout(60)

DOMAIN = "cruisers.test"
NOW = datetime(2026, 5, 9, tzinfo=UTC)


def server_of(files: certificates.Files) -> x509.Certificate:
    return x509.load_pem_x509_certificates(files.server.read_bytes())[0]


def test_the_server_certificate_covers_the_domain_its_services_and_loopback(tmp_path):
    files = certificates.ensure(tmp_path / "tls", DOMAIN, "127.0.0.1", NOW)
    held = server_of(files).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(name.value) for name in held} == {DOMAIN, f"pubsub.{DOMAIN}", f"upload.{DOMAIN}", "localhost", "127.0.0.1"}
    server_of(files).verify_directly_issued_by(x509.load_pem_x509_certificate(files.ca.read_bytes()))


def test_the_authority_can_sign_servers_only_and_the_server_cannot_sign(tmp_path):
    files = certificates.ensure(tmp_path / "tls", DOMAIN, "127.0.0.1", NOW)
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes()).extensions.get_extension_for_class(x509.BasicConstraints)
    assert ca.critical and ca.value.ca and ca.value.path_length == 0
    assert not server_of(files).extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_keys_are_for_the_owner_alone_whatever_the_umask(tmp_path):
    certificates.ensure(tmp_path / "tls", DOMAIN, "127.0.0.1", NOW)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "tls").iterdir()}
    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o644, "server-key.pem": 0o600}


def test_what_is_good_is_kept_and_what_is_not_is_made_anew_under_the_same_authority(tmp_path):
    def make(domain: str = DOMAIN, now: datetime = NOW) -> tuple[bytes, bytes]:
        files = certificates.ensure(tmp_path / "tls", domain, "127.0.0.1", now)
        return files.ca.read_bytes(), files.server.read_bytes()

    ca, server = make()
    assert make() == (ca, server)
    assert make(now=NOW + timedelta(days=360)) == (ca, server)
    renewed = make(now=NOW + timedelta(days=380))
    assert renewed[0] == ca and renewed[1] != server
    other = make("other.test", NOW + timedelta(days=380))
    assert other[0] == ca and other[1] != renewed[1]
    # A crash between writing the key and the certificate: the key is another's.
    (tmp_path / "tls" / "server-key.pem").write_bytes((tmp_path / "tls" / "ca-key.pem").read_bytes())
    assert make("other.test", NOW + timedelta(days=380))[1] != other[1]


def test_unreadable_certificates_are_told_in_one_line(tmp_path):
    files = certificates.ensure(tmp_path / "tls", DOMAIN, "127.0.0.1", NOW)
    files.server.write_text("garbage", "ascii")
    with pytest.raises(HubError, match="certificates cannot be read"):
        certificates.ensure(tmp_path / "tls", DOMAIN, "127.0.0.1", NOW)
