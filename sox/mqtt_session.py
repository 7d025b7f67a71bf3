"""One connection to an MQTT broker, for an event loop: paho-mqtt in its own thread, everything else in the loop's.

MQTT 5 with a clean session: what was not acknowledged is the caller's to send again (a kept session would send it twice). QoS 2 both
ways, retained. Every publish carries the user property ORIGIN, by which a bridge knows its own messages again, also those that the broker
has retained since before a restart; readers of MQTT 3.1.1 see nothing of it.

No reconnecting here: a lost connection ends the session (sox/keeping.py begins the next one)."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from sox.errors import SoxError

QOS = 2
ORIGIN = "sox-origin"
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 15.0  # without the end of a publish the connection is taken for dead
KEEP_ALIVE_SECONDS = 20
CLEAR_PORT, TLS_PORT = 1883, 8883


class BrokerError(SoxError):
    """The broker refused, cannot be reached, or cannot be trusted. Conditions as in SoxError."""


class Broker(NamedTuple):
    """Where a broker is and how to log in. `ca_file`: TLS, with a certificate for `host` signed by it; None: in the clear."""

    host: str
    port: int
    ca_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None


class Arrived(NamedTuple):
    """A message. `origin` is who says to have brought it to MQTT, "" for everyone else."""

    topic: str
    payload: bytes
    origin: str


class Session:
    """A connection to `broker`; `arrived` is called in the event loop for each message. Use once: open, …, close."""

    def __init__(self, broker: Broker, origin: str, arrived: Callable[[Arrived], None]) -> None:
        self._broker = broker
        self._origin = origin
        self._arrived = arrived
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[None] = self._loop.create_future()
        self._answers: dict[int, asyncio.Future[None]] = {}
        self.lost: asyncio.Future[BrokerError] = self._loop.create_future()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        self._client.connect_timeout = CONNECT_SECONDS
        self._client.on_connect = lambda client, data, flags, reason, properties: self._call(self._on_connect, reason)
        self._client.on_disconnect = lambda client, data, flags, reason, properties: self._call(self._on_lost, reason)
        self._client.on_publish = lambda client, data, number, reason, properties: self._call(self._on_answer, number, [reason])
        self._client.on_subscribe = lambda client, data, number, reasons, properties: self._call(self._on_answer, number, reasons)
        self._client.on_message = lambda client, data, message: self._call(self._arrived, _arrived(message))

    async def open(self) -> None:
        """Connect and log in; raises BrokerError (refused, certificate, not-authorized, timeout)."""
        try:
            await asyncio.to_thread(self._dial)
        except ssl.SSLCertVerificationError as error:
            raise BrokerError("certificate", error.verify_message) from error
        except (OSError, ValueError) as error:  # ValueError: a host that is no name
            raise BrokerError("refused", f"broker {self._broker.host}:{self._broker.port}: {error}") from error
        self._client.loop_start()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._connected
        except TimeoutError:
            raise BrokerError("timeout", f"the broker did not answer within {CONNECT_SECONDS:g} s") from None

    async def close(self) -> None:
        """Leave in order."""
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)
        for future in (self._connected, self.lost):
            if future.done() and not future.cancelled():
                future.exception()  # seen
        self._fail(BrokerError("disconnected", "the connection was closed"))

    async def subscribe(self, topics: list[str]) -> None:
        """Subscribe to `topics`; retained messages come at once, own ones do not come. Raises BrokerError."""
        if topics:
            options = SubscribeOptions(qos=QOS, noLocal=True)
            await self._answer(self._client.subscribe([(topic, options) for topic in topics]))

    async def publish(self, topic: str, payload: str) -> None:
        """Publish, retained; returns when the broker has it for good. Raises BrokerError."""
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = (ORIGIN, self._origin)
        information = self._client.publish(topic, payload.encode(), QOS, retain=True, properties=properties)
        await self._answer((information.rc, information.mid))

    def _dial(self) -> None:
        broker = self._broker
        if broker.user is not None:
            password = broker.password_file.read_text("utf-8").strip() if broker.password_file else None
            self._client.username_pw_set(broker.user, password)
        if broker.ca_file is not None:
            context = ssl.create_default_context(cafile=str(broker.ca_file))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._client.tls_set_context(context)
        self._client.connect(broker.host, broker.port, KEEP_ALIVE_SECONDS, clean_start=True)

    async def _answer(self, sent: tuple[Any, int | None]) -> None:
        code, number = sent
        if code not in (mqtt.MQTT_ERR_SUCCESS, mqtt.MQTT_ERR_NO_CONN) or number is None:
            raise BrokerError("disconnected", mqtt.error_string(code))
        answer = self._answers.setdefault(number, self._loop.create_future())
        if self.lost.done():
            self._fail(self.lost.result())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await answer
        except TimeoutError:
            raise BrokerError("timeout", f"no answer for {ANSWER_SECONDS:g} s") from None
        finally:
            self._answers.pop(number, None)

    # -- called in the event loop, for paho's thread

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)

    def _on_connect(self, reason: Any) -> None:
        if self._connected.done():
            return
        if reason.is_failure:
            bad_login = reason.getName() in ("Not authorized", "Bad user name or password")
            self._connected.set_exception(BrokerError("not-authorized" if bad_login else "refused", f"broker: {reason}"))
        else:
            self._connected.set_result(None)

    def _on_lost(self, reason: Any) -> None:
        error = BrokerError("disconnected", f"broker: {reason}")
        if not self._connected.done():
            self._connected.set_exception(error)
        self._fail(error)

    def _fail(self, error: BrokerError) -> None:
        if not self.lost.done():
            self.lost.set_result(error)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)

    def _on_answer(self, number: int, reasons: list[Any]) -> None:
        answer = self._answers.setdefault(number, self._loop.create_future())  # it may come before it is waited for
        refused = next((reason for reason in reasons if reason.is_failure), None)
        if answer.done():
            return
        if refused is None:
            answer.set_result(None)
        else:
            answer.set_exception(BrokerError("forbidden", f"broker: {refused}"))


def _arrived(message: Any) -> Arrived:
    said = dict(getattr(message.properties, "UserProperty", []) or [])
    return Arrived(message.topic, bytes(message.payload), str(said.get(ORIGIN, "")))
