"""SoxClient against servers that fail on purpose: each way is one clear SoxError, in time, and leaves nothing open."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hub import certificates
from sox.client import SoxClient, SoxError

pytestmark = pytest.mark.timeout(60)

DOMAIN = "cruisers.test"
HEADER = (
    f"<?xml version='1.0'?><stream:stream from='{DOMAIN}' id='1' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
)
TLS = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"
PROCEED = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def mechanisms(*names: str) -> str:
    offered = "".join(f"<mechanism>{name}</mechanism>" for name in names)
    return f"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{offered}</mechanisms></stream:features>"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> certificates.Files:
    return certificates.ensure(tmp_path_factory.mktemp("tls"), DOMAIN, "127.0.0.1")


def attempt(server: Server, ca_file: Path | str, domain: str = DOMAIN, seconds: float = 10.0) -> tuple[SoxError, str]:
    """What connecting to `server` ends with, and all that the client said in clear."""
    heard = bytearray()

    async def main() -> SoxError:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            read = reader.read

            async def hear(count: int = -1) -> bytes:
                chunk = await read(count)
                heard.extend(chunk)
                return chunk

            reader.read = hear  # type: ignore[method-assign]
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await server(reader, writer)
            writer.transport.abort()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
            client = SoxClient(f"truck-1@{domain}", "the-password", "127.0.0.1", listening.sockets[0].getsockname()[1], ca_file)
            ended: list[object] = []
            client.on_disconnected(ended.append)
            with pytest.raises(SoxError) as caught:
                await client.connect(seconds)
            assert not client.connected
            await asyncio.sleep(0.05)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            assert not [task for task in others if "slixmpp" in repr(task.get_coro()) or "sox" in repr(task.get_coro())]
            assert ended == []  # a connection that never stood does not end
            return caught.value

    return asyncio.run(main()), heard.decode(errors="replace")


def secured(files: certificates.Files, then: str, close: bool = True) -> Server:
    """A server that does STARTTLS with `files`, says `then`, and closes at the answer (or leaves the rest to the caller)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.server, files.server_key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write((HEADER + TLS).encode())
        await reader.read(4096)
        writer.write(PROCEED.encode())
        await writer.drain()
        await writer.start_tls(context)
        await reader.read(4096)
        writer.write((HEADER + then).encode())
        if close:
            await reader.read(4096)

    return serve


def test_nobody_listening_is_refused_connection(tls):
    async def main() -> str:
        async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
        with pytest.raises(SoxError) as caught:
            await SoxClient(f"truck-1@{DOMAIN}", "x", "127.0.0.1", port, tls.ca).connect()
        return caught.value.condition

    assert asyncio.run(main()) == "refused"


def test_a_server_that_says_nothing_is_a_time_out(tls):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass

    error, _ = attempt(silent, tls.ca, seconds=0.3)
    assert error.condition == "timeout" and "0.3 s" in error.text


def test_a_server_that_hangs_up_is_disconnected(tls):
    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)

    assert attempt(hangs_up, tls.ca)[0].condition == "disconnected"


def test_a_stream_error_is_told_with_its_condition(tls):
    async def errs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write((HEADER + "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>").encode())
        await reader.read(4096)

    error, _ = attempt(errs, tls.ca)
    assert error.condition == "disconnected" and "host-unknown" in error.text


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_document_type_ends_the_connection_before_an_entity_is_read(tls, pieces):
    bomb = "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'starttls'>]>" + HEADER.partition("?>")[2] + TLS

    async def sends_entities(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        for start in range(0, len(bomb), len(bomb) // pieces):
            writer.write(bomb[start : start + len(bomb) // pieces].encode())
            await writer.drain()
            await asyncio.sleep(0.01)
        await reader.read(4096)

    error, clear = attempt(sends_entities, tls.ca)
    assert error.condition == "disconnected" and "document type" in error.text
    assert "starttls" not in clear


def test_something_that_is_no_xmpp_server_is_an_error_in_time(tls):
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await reader.read(4096)

    assert attempt(http, tls.ca, seconds=5)[0].condition in ("disconnected", "timeout")


def test_a_certificate_of_an_unknown_authority_is_refused(tls, tmp_path):
    foreign = certificates.ensure(tmp_path, DOMAIN, "127.0.0.1")
    error, clear = attempt(secured(foreign, mechanisms("SCRAM-SHA-256")), tls.ca)
    assert error.condition == "certificate" and error.text
    assert "auth" not in clear


def test_a_certificate_for_another_domain_is_refused(tls):
    error, _ = attempt(secured(tls, mechanisms("SCRAM-SHA-256")), tls.ca, domain="other.test")
    assert error.condition == "certificate" and "other.test" in error.text


def test_an_unreadable_authority_file_is_told_before_anything_is_sent(tls, tmp_path):
    (tmp_path / "garbage.pem").write_text("garbage", "ascii")
    for ca_file in (tmp_path / "absent.pem", tmp_path / "garbage.pem"):
        error, clear = attempt(secured(tls, ""), ca_file)
        assert error.condition == "certificate" and ca_file.name in error.text
        assert clear == ""


@pytest.mark.parametrize("offered", [("PLAIN",), ("PLAIN", "SCRAM-SHA-1", "DIGEST-MD5", "ANONYMOUS", "EXTERNAL"), ()])
def test_anything_but_scram_with_sha_256_or_better_is_declined(tls, offered):
    assert attempt(secured(tls, mechanisms(*offered)), tls.ca)[0].condition == "no-mechanism"


def test_without_tls_neither_scram_nor_plain_is_answered(tls):
    async def strips_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write((HEADER + mechanisms("PLAIN", "SCRAM-SHA-256")).encode())
        await reader.read(4096)

    error, clear = attempt(strips_tls, tls.ca)
    assert error.condition == "no-mechanism"
    assert "<auth" not in clear and "truck-1" not in clear


def test_a_server_that_lets_us_in_without_tls_and_without_password_is_left(tls):
    async def too_kind(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write((HEADER + "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>").encode())
        request = (await reader.read(4096)).decode()
        identity = request.partition('id="')[2].partition('"')[0]
        bound = f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>truck-1@{DOMAIN}/x</jid></bind>"
        writer.write(f"<iq type='result' id='{identity}'>{bound}</iq>".encode())
        await reader.read(4096)

    error, clear = attempt(too_kind, tls.ca)
    assert error.condition == "no-mechanism"
    assert "presence" not in clear


def test_a_server_that_cannot_prove_it_knows_the_password_is_not_trusted(tls):
    sasl = "urn:ietf:params:xml:ns:xmpp-sasl"
    reached = []

    async def guesses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await secured(tls, mechanisms("SCRAM-SHA-256"), close=False)(reader, writer)
        first = base64.b64decode((await reader.read(4096)).decode().partition(">")[2].partition("<")[0]).decode()
        challenge = f"r={first.rpartition('r=')[2]}more,s={base64.b64encode(b'salt' * 4).decode()},i=4096"
        writer.write(f"<challenge xmlns='{sasl}'>{base64.b64encode(challenge.encode()).decode()}</challenge>".encode())
        await reader.read(4096)
        # RFC 5802, section 5: the proof of the server, which it can make only from the password's key.
        final = base64.b64encode(b"v=" + base64.b64encode(bytes(32))).decode()
        writer.write(f"<success xmlns='{sasl}'>{final}</success>".encode())
        reached.append((await reader.read(4096)).decode())

    error, _ = attempt(guesses, tls.ca)
    assert error.condition == "disconnected"
    assert reached and "<stream:stream" not in reached[0]  # no new stream: the client did not go on


def test_an_account_that_is_none_is_told_at_once(tls):
    with pytest.raises(SoxError) as caught:
        SoxClient("truck 1@@x", "p", "127.0.0.1", 1, tls.ca)
    assert caught.value.condition == "jid-malformed"


def test_a_request_before_connecting_is_an_error_not_a_queue(tls):
    async def main() -> None:
        with pytest.raises(SoxError) as caught:
            await SoxClient(f"truck-1@{DOMAIN}", "p", "127.0.0.1", 1, tls.ca).items("x")
        assert caught.value.condition == "disconnected"

    asyncio.run(main())
