"""Someone between truck and hub: what they show or take away, and that the truck says nothing to them; and what the hub refuses itself.

A server that fakes everything by itself (unknown authority, other domain, PLAIN only, no TLS) is in tests/sox/test_sox_client.py;
the mechanisms of the real hub are in test_hub_serve.py and test_hub_attacks.py.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from raw_xmpp import RawXmpp

from hub import certificates
from sox.client import SoxClient, SoxError

pytestmark = pytest.mark.timeout(60)

Change = Callable[[bytes], bytes]


def through(hub, change: Change, tls: ssl.SSLContext | None = None, ca_file: Path | None = None) -> tuple[str, bytes]:
    """(How connecting through someone in the middle ends, what the truck said to them). `change` is what they make of the hub's bytes;
    with `tls` they end the truck's TLS themselves and talk to the hub in clear up to there."""
    heard = bytearray()

    async def main() -> str:
        async def middle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            far_reader, far_writer = await asyncio.open_connection(hub.info["host"], hub.info["c2s_port"])

            async def to_hub() -> None:
                while data := await reader.read(65536):
                    heard.extend(data)
                    if tls is not None and b"<starttls" in data:
                        writer.write(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
                        await writer.drain()
                        await writer.start_tls(tls)
                        continue
                    far_writer.write(data)

            async def to_truck() -> None:
                while data := await far_reader.read(65536):
                    writer.write(change(data))

            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await asyncio.gather(to_hub(), to_truck())
            far_writer.transport.abort()
            writer.transport.abort()

        async with await asyncio.start_server(middle, "127.0.0.1", 0) as listening:
            password = (Path(hub.info["secrets"]) / "truck-1").read_text("ascii")
            port = listening.sockets[0].getsockname()[1]
            client = SoxClient(f"truck-1@{hub.info['domain']}", password, "127.0.0.1", port, ca_file or hub.info["ca_file"])
            try:
                await client.connect(15.0 if change is unchanged else 1.5)  # taken away: it waits in vain, saying nothing
            except SoxError as error:
                return error.condition
            finally:
                await client.disconnect()
            return "in"

    return asyncio.run(main()), bytes(heard)


def unchanged(data: bytes) -> bytes:
    return data


def test_a_relay_that_changes_nothing_is_let_through(hub):
    assert through(hub, unchanged)[0] == "in"


@pytest.mark.parametrize("instead", [
    b"", b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>",
    b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-256</mechanism></mechanisms>",
], ids=["nothing", "PLAIN", "SCRAM"])  # fmt: skip
def test_a_truck_says_nothing_when_the_offer_of_tls_is_taken_away(hub, instead):
    condition, said = through(hub, lambda data: re.sub(rb"<starttls.*?</starttls>|<starttls[^>]*/>", instead, data, flags=re.DOTALL))
    assert condition in ("no-mechanism", "timeout", "disconnected")
    assert b"<auth" not in said and b"<iq" not in said


def test_a_truck_says_nothing_when_tls_is_refused_in_the_name_of_the_hub(hub):
    no = b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    condition, said = through(hub, lambda data: re.sub(rb"<proceed[^>]*/>", no, data))
    assert condition != "in" and b"<auth" not in said


def shown(folder: Path, kind: str, hub) -> ssl.SSLContext:
    """TLS with a certificate for the hub's domain that is not good: its own authority's, another name, expired, or signed by itself."""
    domain = "other.test" if kind == "another name" else hub.info["domain"]
    tls = hub.home / "tls"
    if kind in ("another name", "expired"):  # signed by the very authority that the truck trusts
        folder.mkdir()
        for name in ("ca.pem", "ca-key.pem"):
            (folder / name).write_bytes((tls / name).read_bytes())
    when = datetime.now(UTC) - timedelta(days=certificates.SERVER_DAYS + 2) if kind == "expired" else None
    files = certificates.ensure(folder, domain, "127.0.0.1", when)
    if kind == "signed by itself":
        key = serialization.load_pem_private_key(files.server_key.read_bytes(), None)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, domain)])
        itself = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
            .not_valid_before(datetime.now(UTC) - timedelta(days=1)).not_valid_after(datetime.now(UTC) + timedelta(days=9))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False).sign(key, hashes.SHA256())
        )  # fmt: skip
        files.server.write_bytes(itself.public_bytes(serialization.Encoding.PEM))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.server, files.server_key)
    return context


@pytest.mark.parametrize("kind", ["another authority", "another name", "expired", "signed by itself"])
def test_a_certificate_that_is_not_the_hubs_is_refused_before_a_word_is_said(hub, tmp_path, kind):
    condition, said = through(hub, unchanged, shown(tmp_path / "tls", kind, hub))
    assert condition == "certificate"
    assert b"<auth" not in said


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
@pytest.mark.parametrize("port", ["c2s_port", "http_port"])
def test_old_tls_is_refused_by_the_hub_on_both_ports(hub, version, port):
    context = ssl.create_default_context(cafile=hub.info["ca_file"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError):
        handshake(hub, port, context)


def test_ciphers_that_protect_nothing_are_refused_by_the_hub(hub):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:eNULL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        handshake(hub, "http_port", context)


def handshake(hub, port: str, context: ssl.SSLContext) -> None:
    if port == "c2s_port":
        with RawXmpp(hub.info) as raw:
            raw.secure(context)
        return
    with socket.create_connection((hub.info["host"], hub.info[port]), 10) as plain:
        context.wrap_socket(plain, server_hostname="localhost").close()
