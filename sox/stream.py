"""The XMPP stream below SoxClient: slixmpp's connection, TLS and SASL, and nothing of its queues, retries and time-outs.

slixmpp queues stanzas while it is offline, reconnects by itself and drops what was unacknowledged: none of that tells the caller
what arrived. Here one Stream is one connection. A request is written to the socket at once or refused, and ends with the hub's
answer, with a time-out, or with the end of the connection, whichever comes first. When the connection is over the object is
spent; the caller makes a new one.

Trust: TLS 1.2 or newer, the certificate checked against one CA file for the domain of the account (not for the address dialled),
SCRAM with SHA-256 or SHA-512 only. Before TLS stands nothing but the stream header is sent.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Literal
from uuid import uuid4
from xml.etree import ElementTree as ET

from slixmpp import JID, ClientXMPP
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import StanzaPath
from slixmpp.xmlstream.matcher.xpath import MatchXPath
from slixmpp.xmlstream.stanzabase import StanzaBase
from slixmpp.xmlstream.tostring import tostring
from slixmpp.xmlstream.xmlstream import NotConnectedError

from sox.errors import SoxError

CONNECT_SECONDS = 15.0  # TCP, TLS, SCRAM (4096 rounds of a hash in Python) and bind over a slow mobile link
REQUEST_SECONDS = 30.0  # a publish of 250 kB at 100 kbit/s takes 20 s
PING_SECONDS = 20.0  # a listener notices a dead link within twice this
CLOSE_SECONDS = 2.0
NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305, 8: the delay between two attempts
MECHANISMS = frozenset({"SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-512-PLUS"})

CLIENT = "jabber:client"
PING = "urn:xmpp:ping"
EVENT = "http://jabber.org/protocol/pubsub#event"

log = logging.getLogger("sox")
# slixmpp reports expected ends of a connection as errors with traceback; we raise them as one SoxError instead.
logging.getLogger("slixmpp").setLevel(logging.CRITICAL)


class _Connection(ClientXMPP):
    """slixmpp's connection, closed to document types: XMPP forbids them (RFC 6120, 11.1), slixmpp's parser would expand their entities."""

    _FORBIDDEN = b"<!DOCTYPE"
    _tail = b""

    def data_received(self, data: bytes | str) -> None:
        received = data.encode() if isinstance(data, str) else data
        around, self._tail = self._tail + received, (self._tail + received)[1 - len(self._FORBIDDEN) :]
        if self._FORBIDDEN in around:
            self.disconnect_reason = "the hub sent a document type"
            self.abort()
            return
        super().data_received(data)

    async def _attempt_connection(self, host: str, port: int, tls: bool, server_hostname: str | None) -> bool:
        """A name of a hub with several nodes has several addresses: slixmpp's own waits for the kernel's time-out at one that does not
        answer (a machine that lost its power); here the next is tried after NEXT_ADDRESS_SECONDS (RFC 8305). `tls`: see Stream, never."""
        self.event_when_connected = "connected"
        if self._current_connection_attempt is None:
            return False
        try:
            await self.loop.create_connection(lambda: self, host, port, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        except OSError as error:
            self.event("connection_failed", error)
            return False
        return True

    def abort(self) -> None:
        """Drops the connection at once. slixmpp's own closes first and then aborts, and after a second close the TLS transport of Python
        3.11.2 (Debian 12) has no protocol left to abort: AttributeError."""
        if self.transport:
            self.cancel_connection_attempt()
            self.transport.abort()
            self.event("killed")


class Stream:
    """One authenticated connection of `jid` to the hub at host:port.

    `on_event(sender, element)` gets the pubsub <event> of each message, `on_end(error)` is called once when a connection that stood is
    over (None: we closed it). Both are called from the event loop and must not block.
    """

    def __init__(
        self,
        jid: str,
        password: str,
        context: ssl.SSLContext,
        on_event: Callable[[str, ET.Element], None],
        on_end: Callable[[SoxError | None], None],
    ) -> None:
        mechanisms = {"feature_mechanisms": {"use_mechs": set(MECHANISMS)}}
        self._xmpp = _Connection(jid, password, plugin_config=mechanisms, loop=asyncio.get_running_loop(), ssl_context=context)
        self._xmpp.enable_direct_tls = False  # else slixmpp tries TLS without STARTTLS first
        self._xmpp.max_redirects = 0  # see-other-host: the address is ours to choose
        self._account = JID(jid)
        self._on_event = on_event
        self._on_end = on_end
        self._pending: dict[str, tuple[str, asyncio.Future[ET.Element]]] = {}
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = asyncio.Event()
        self._error: SoxError | None = None
        self._ping: asyncio.Task[None] | None = None
        self._closing = False
        self._stood = False
        self._listen()

    @property
    def connected(self) -> bool:
        """True from the end of open() to the end of the connection."""
        return self._stood and not self._ended.is_set()

    async def open(self, host: str, port: int, seconds: float = CONNECT_SECONDS) -> None:
        """Connect, secure, authenticate, become available; raises SoxError, and leaves nothing open then."""
        self._xmpp.connect(host, port)
        try:
            async with asyncio.timeout(seconds):
                await self._started
        except TimeoutError:
            await self._tear_down()
            raise SoxError("timeout", f"{host}:{port} did not complete the connection within {seconds:g} s") from None
        except BaseException:
            await self._tear_down()
            raise
        # Notifications go to resources that are available; priority 0 is the default.
        self._write(self._xmpp.make_presence())
        self._ping = asyncio.create_task(self._keep_alive())

    async def close(self) -> None:
        """End the stream in order (at most CLOSE_SECONDS), then cut it. Does nothing if it is over."""
        self._closing = True
        if not self._ended.is_set():
            with contextlib.suppress(NotConnectedError, TimeoutError):  # both mean: cut it, as follows
                self._xmpp.send_raw(self._xmpp.stream_footer)
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._ended.wait()
        await self._tear_down()

    def abort(self, error: SoxError) -> None:
        """Cut the connection now, for the reason `error`."""
        self._finish(error)
        self._xmpp.abort()

    async def request(self, kind: Literal["get", "set"], payload: ET.Element, to: str, seconds: float = REQUEST_SECONDS) -> ET.Element:
        """Send an IQ of `kind` (get, set) with `payload` to `to`; returns the result IQ; raises SoxError."""
        if not self.connected:
            raise self._error or SoxError("disconnected", "not connected to the hub")
        identity = uuid4().hex
        stanza = self._xmpp.make_iq(id=identity, ito=to, itype=kind)
        stanza.xml.append(payload)
        answer: asyncio.Future[ET.Element] = asyncio.get_running_loop().create_future()
        self._pending[identity] = (to, answer)
        try:
            self._write(stanza)
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            raise SoxError("timeout", f"{to} did not answer within {seconds:g} s") from None
        finally:
            del self._pending[identity]

    def _listen(self) -> None:
        xmpp = self._xmpp
        xmpp.register_handler(Callback("result", StanzaPath("iq@type=result"), self._on_answer))
        xmpp.register_handler(Callback("error", StanzaPath("iq@type=error"), self._on_answer))
        xmpp.register_handler(Callback("event", MatchXPath(f"{{{CLIENT}}}message/{{{EVENT}}}event"), self._on_message))
        xmpp.register_handler(Callback("ping", MatchXPath(f"{{{CLIENT}}}iq/{{{PING}}}ping"), self._on_ping))
        xmpp.add_event_handler("session_start", self._on_session)
        xmpp.add_event_handler("connection_failed", self._on_refused)
        xmpp.add_event_handler("ssl_invalid_chain", self._on_certificate)
        xmpp.add_event_handler("failed_auth", self._on_failed_auth)
        xmpp.add_event_handler("no_auth", self._on_no_mechanism)
        xmpp.add_event_handler("stream_error", self._on_stream_error)
        xmpp.add_event_handler("disconnected", self._on_disconnected)

    def _on_session(self, _: object) -> None:
        if not isinstance(self._xmpp.socket, ssl.SSLObject | ssl.SSLSocket):
            self.abort(SoxError("no-mechanism", "the hub let us in without TLS"))
        elif not self._started.done():
            self._stood = True
            self._started.set_result(None)

    def _on_refused(self, error: object) -> None:
        self._finish(SoxError("refused", f"cannot connect: {getattr(error, 'strerror', None) or error}"))

    def _on_certificate(self, error: ssl.SSLError) -> None:
        condition = "certificate" if isinstance(error, ssl.SSLCertVerificationError) else "disconnected"
        self.abort(SoxError(condition, getattr(error, "verify_message", "") or f"TLS: {error.reason or error}"))

    def _on_failed_auth(self, failure: StanzaBase) -> None:
        self.abort(SoxError("not-authorized", f"the hub does not accept {self._account.bare}: {failure['condition']}"))

    def _on_no_mechanism(self, _: object) -> None:
        self.abort(SoxError("no-mechanism", "the hub offers no SCRAM over TLS"))

    def _on_stream_error(self, error: StanzaBase) -> None:
        self.abort(SoxError("disconnected", f"the hub ended the stream: {error['condition']} {error['text']}".rstrip()))

    def _on_disconnected(self, reason: object) -> None:
        if isinstance(reason, ssl.SSLError):  # asyncio reports a failed handshake here first
            self._on_certificate(reason)
            return
        text = "the connection to the hub ended" + (f": {reason}" if isinstance(reason, Exception | str) and str(reason) else "")
        self._finish(None if self._closing else SoxError("disconnected", text))

    def _on_answer(self, stanza: StanzaBase) -> None:
        to, answer = self._pending.get(stanza["id"], ("", None))
        # An answer counts only from whom was asked; the server may leave out its own name (RFC 6120, 8.1.2.1).
        if answer is None or answer.done() or str(stanza["from"]) not in (to, ""):
            return
        if stanza["type"] == "result":
            answer.set_result(stanza.xml)
        else:
            answer.set_exception(_refusal(stanza))

    def _on_message(self, stanza: StanzaBase) -> None:
        event = stanza.xml.find(f"{{{EVENT}}}event")
        if event is not None and stanza["type"] != "error":
            self._on_event(str(stanza["from"]), event)

    def _on_ping(self, stanza: StanzaBase) -> None:
        if stanza["type"] == "get" and self.connected:
            self._write(self._xmpp.make_iq_result(id=stanza["id"], ito=stanza["from"]))

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(PING_SECONDS)
            try:
                await self.request("get", ET.Element(f"{{{PING}}}ping"), self._account.domain, PING_SECONDS)
            except SoxError as error:
                if error.condition == "timeout":
                    self.abort(SoxError("disconnected", f"the hub did not answer a ping for {PING_SECONDS:g} s"))
                    return
                if not self.connected:
                    return  # any other error is an answer: the link lives

    def _write(self, stanza: StanzaBase) -> None:
        try:
            self._xmpp.send_raw(tostring(stanza.xml, xmlns=self._xmpp.default_ns, stream=self._xmpp, top_level=True))
        except NotConnectedError:
            raise self._error or SoxError("disconnected", "not connected to the hub") from None

    def _finish(self, error: SoxError | None) -> None:
        """The connection is over: wake everyone who waits, once."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._error = error
        self._xmpp.cancel_connection_attempt()
        lost = error or SoxError("disconnected", "the connection was closed")
        for _, answer in self._pending.values():
            if not answer.done():
                answer.set_exception(lost)
        if self._stood:
            self._on_end(error)
        elif not self._started.done():
            self._started.set_exception(lost)

    async def _tear_down(self) -> None:
        self._finish(None)
        self._xmpp.abort()
        tasks = [task for task in (self._ping, self._xmpp._run_out_filters) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transport's own closing runs in the next turn of the loop
        if self._started.done() and not self._started.cancelled():
            self._started.exception()  # seen: else asyncio reports it as never retrieved


def _refusal(stanza: StanzaBase) -> SoxError:
    error = stanza["error"]
    return SoxError(str(error["condition"]), str(error["text"]))
