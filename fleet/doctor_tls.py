"""The hub's certificate as it is shown to whoever connects: how long it still holds, or why it is not trusted.

The connection is XMPP's own (STARTTLS, RFC 6120 section 5) and ends before anything of an account is said."""

import asyncio
import re
import ssl
from typing import NamedTuple

from gateway.clock import NANO, boottime_ns, system_offset_ns
from sox.account import Hub
from sox.tls import tls_context

STEP_SECONDS = 5.0
MOST_BYTES = 65_536
DAY_S = 86_400.0
STREAM = "http://etherx.jabber.org/streams"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
# X509_V_ERR_* of OpenSSL
NOT_YET_VALID, EXPIRED = 9, 10


class NoTls(Exception):
    """It answers, and offers no TLS that we can use: why, in words."""


class Untrusted(Exception):
    """The certificate is not trusted. `number`: OpenSSL's; `why`: its words."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.number = number
        self.why = why


class Shown(NamedTuple):
    """`days` that the certificate still holds by this machine's clock; `version` of TLS."""

    days: float
    version: str


async def shown(hub: Hub) -> Shown:
    """The certificate at the hub's address. Raises OSError (no connection), TimeoutError, NoTls, Untrusted, SoxError (our CA file)."""
    context = tls_context(hub.ca_file)
    async with asyncio.timeout(STEP_SECONDS):
        reader, writer = await asyncio.open_connection(hub.host, hub.port)
    try:
        async with asyncio.timeout(STEP_SECONDS):
            opening = f"<stream:stream xmlns='jabber:client' xmlns:stream='{STREAM}' to='{hub.domain}' version='1.0'>"
            writer.write(f"<?xml version='1.0'?>{opening}".encode())
            features = await _until(reader, re.compile(b"</(stream:)?features>|<stream:error|</stream:stream>"))
            if b"starttls" not in features:
                raise NoTls("no STARTTLS is offered")
            writer.write(f"<starttls xmlns='{TLS}'/>".encode())
            if b"<proceed" not in await _until(reader, re.compile(b"<proceed[^>]*>|<failure|</stream:stream>")):
                raise NoTls("STARTTLS is refused")
            try:
                await writer.start_tls(context, server_hostname=hub.domain)
            except ssl.SSLCertVerificationError as error:
                raise Untrusted(error.verify_code, error.verify_message) from error
            except ssl.SSLError as error:
                raise NoTls(error.reason or str(error)) from error
        connection: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = connection.getpeercert() or {}
        ends = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
        now = (boottime_ns() + system_offset_ns()[0]) / NANO
        return Shown((ends - now) / DAY_S, connection.version() or "?")
    finally:
        writer.transport.abort()


async def _until(reader: asyncio.StreamReader, end: re.Pattern[bytes]) -> bytes:
    data = b""
    while not end.search(data):
        more = await reader.read(4096)
        if not more or len(data) > MOST_BYTES:
            raise NoTls("it does not speak XMPP")
        data += more
    return data
