"""The hub as trucks and center see it: publish, read, subscribe, nodes and their rights, upload slots (XEP-0060, XEP-0363).

One SoxClient is one account. It does not reconnect by itself and keeps no outbox: every call ends with the hub's answer or with
SoxError, so the caller's own ledger stays the only truth. connect() may be called again after the connection ended.

Subscriptions belong to the bare account and outlive connections. What was published meanwhile is not delivered later: read
items() after each connect. Duplicates are normal.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple
from xml.etree import ElementTree as ET

from slixmpp import JID, InvalidJID

from sox.errors import SoxError
from sox.stream import CONNECT_SECONDS, EVENT, PING, Stream
from sox.tls import tls_context

__all__ = ["ItemCallback", "Slot", "SoxClient", "SoxError"]

PUBSUB = "http://jabber.org/protocol/pubsub"
OWNER = "http://jabber.org/protocol/pubsub#owner"
NODE_CONFIG = "http://jabber.org/protocol/pubsub#node_config"
FORM = "jabber:x:data"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
UPLOAD = "urn:xmpp:http:upload:0"
SLOT_HEADERS = ("authorization", "cookie", "expires")  # XEP-0363 section 5: no other header may be taken over
MOST_WAITING = 10_000  # notifications not yet handled; beyond it the connection is cut and the reader reads items() again

ItemCallback = Callable[[str, str, ET.Element], Awaitable[None] | None]
EndCallback = Callable[[SoxError | None], Awaitable[None] | None]

log = logging.getLogger("sox")


class Slot(NamedTuple):
    """Where to PUT an object (with which headers) and where it can be fetched. The addresses are capabilities: never log them."""

    put: str
    headers: dict[str, str]
    get: str


class SoxClient:
    """The account `jid` on the hub at host:port, whose certificate for the account's domain must be signed by `ca_file`."""

    def __init__(self, jid: str, password: str, host: str, port: int, ca_file: str | Path) -> None:
        try:
            self.domain = JID(jid).domain
        except InvalidJID as error:
            raise SoxError("jid-malformed", f"{jid!r} is not an account") from error
        self.jid = jid
        self.pubsub = f"pubsub.{self.domain}"
        self.upload = f"upload.{self.domain}"
        self._password = password
        self._address = (host, port)
        self._ca_file = ca_file
        self._stream: Stream | None = None
        self._on_item: list[ItemCallback] = []
        self._on_disconnected: list[EndCallback] = []
        self._queue: asyncio.Queue[tuple[str, str, ET.Element]] = asyncio.Queue()
        self._dispatcher: asyncio.Task[None] | None = None
        self._endings: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """True while requests can be made."""
        return self._stream is not None and self._stream.connected

    async def connect(self, seconds: float = CONNECT_SECONDS) -> None:
        """Connect and authenticate within `seconds`; raises SoxError (refused, certificate, not-authorized, no-mechanism, timeout)."""
        if self.connected:
            return
        await self.disconnect()
        stream = Stream(self.jid, self._password, tls_context(self._ca_file), self._notified, self._ended)
        await stream.open(*self._address, seconds)
        self._stream = stream
        self._dispatcher = asyncio.create_task(self._dispatch(self._queue))

    async def disconnect(self) -> None:
        """Leave in order. Calls on_disconnected with None if the connection stood. Does nothing when there is none."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close()
        dispatcher, self._dispatcher = self._dispatcher, None
        self._queue = asyncio.Queue()  # ends a dispatcher that runs the very callback that disconnects
        if dispatcher is not None and dispatcher is not asyncio.current_task():
            dispatcher.cancel()
            await asyncio.gather(dispatcher, return_exceptions=True)

    def on_item(self, callback: ItemCallback) -> None:
        """Call `callback(node, item_id, element)` for every item published on a subscribed node, in order; it may be a coroutine.

        The next item waits for it. An exception in it is logged and the next item follows.
        """
        self._on_item.append(callback)

    def on_disconnected(self, callback: EndCallback) -> None:
        """Call `callback(error)` once when a connection that stood is over (None: disconnect() was called); it may be a coroutine."""
        self._on_disconnected.append(callback)

    async def publish(self, node: str, item_id: str, element: ET.Element) -> None:
        """Publish `element` as item `item_id`; returns when the hub has taken it. An item of the same id is replaced."""
        item = _wrap("item", element, id=item_id)
        await self._request("set", _wrap("pubsub", _wrap("publish", item, node=node)))

    async def items(self, node: str, max: int | None = None) -> list[tuple[str, ET.Element]]:
        """The retained items of `node` (at most the `max` newest) as (id, payload), oldest first; items without payload are left out.

        With `max`, ejabberd 23.01 on SQL storage gives the newest first: who asks for a part must not rest on the order."""
        query = ET.Element(f"{{{PUBSUB}}}items", {"node": node})
        if max is not None:
            query.set("max_items", str(max))
        answer = await self._request("get", _wrap("pubsub", query))
        items = answer.findall(f"{{{PUBSUB}}}pubsub/{{{PUBSUB}}}items/{{{PUBSUB}}}item")
        return [(item.get("id", ""), item[0]) for item in items if len(item)]

    async def subscribe(self, node: str) -> None:
        """Subscribe the account (bare JID, so it holds over reconnects) to `node`; a second time changes nothing."""
        subscribe = ET.Element(f"{{{PUBSUB}}}subscribe", {"node": node, "jid": JID(self.jid).bare})
        await self._request("set", _wrap("pubsub", subscribe))

    async def create_node(self, node: str, config: Mapping[str, object], affiliations: Mapping[str, str]) -> None:
        """Create `node` with `config` (XEP-0060 names without "pubsub#") and give rights {bare JID: affiliation}.

        Raises SoxError `conflict` where the node exists (configure_node and set_affiliations then bring it up to date). If the
        rights are refused the node is deleted again: no half-made node stays.
        """
        pubsub = ET.Element(f"{{{PUBSUB}}}pubsub")
        pubsub.append(ET.Element(f"{{{PUBSUB}}}create", {"node": node}))
        pubsub.append(_wrap("configure", _form(config)))
        await self._request("set", pubsub)
        try:
            await self.set_affiliations(node, affiliations)
        except SoxError:
            await self.delete_node(node)
            raise

    async def configure_node(self, node: str, config: Mapping[str, object]) -> None:
        """Change the settings `config` of an existing node (owner only)."""
        await self._request("set", _own(_own_child("configure", node, _form(config))))

    async def set_affiliations(self, node: str, affiliations: Mapping[str, str]) -> None:
        """Give rights {bare JID: none, member, publisher, owner, outcast} (owner only); others keep theirs."""
        if affiliations:
            rights = [ET.Element(f"{{{OWNER}}}affiliation", {"jid": jid, "affiliation": right}) for jid, right in affiliations.items()]
            await self._request("set", _own(_own_child("affiliations", node, *rights)))

    async def affiliations(self, node: str) -> dict[str, str]:
        """The rights {bare JID: affiliation} on `node` (owner only)."""
        answer = await self._request("get", _own(_own_child("affiliations", node)))
        return {found.get("jid", ""): found.get("affiliation", "") for found in answer.iter(f"{{{OWNER}}}affiliation")}

    async def subscribers(self, node: str) -> dict[str, str]:
        """Who is subscribed to `node` (owner only), as {JID: id of the subscription}."""
        answer = await self._request("get", _own(_own_child("subscriptions", node)))
        return {found.get("jid", ""): found.get("subid", "") for found in answer.iter(f"{{{OWNER}}}subscription")}

    async def end_subscriptions(self, node: str, subscribed: Mapping[str, str]) -> None:
        """End the subscriptions {JID: id} of others (owner only): who lost the right to read would go on being told else."""
        if subscribed:
            ends = [
                ET.Element(f"{{{OWNER}}}subscription", {"jid": jid, "subscription": "none", "subid": subid})
                for jid, subid in subscribed.items()
            ]
            await self._request("set", _own(_own_child("subscriptions", node, *ends)))

    async def delete_node(self, node: str) -> None:
        """Delete `node` and its items (owner only)."""
        await self._request("set", _own(_own_child("delete", node)))

    async def upload_slot(self, name: str, size: int, content_type: str = "application/octet-stream") -> Slot:
        """Ask for a place for `size` bytes. One slot is one try: ejabberd forgets it when its PUT starts."""
        query = ET.Element(f"{{{UPLOAD}}}request", {"filename": name, "size": str(size), "content-type": content_type})
        return _slot(await self._request("get", query, self.upload))

    async def ping(self) -> None:
        """One small round trip to the hub and back (XEP-0199)."""
        await self._request("get", ET.Element(f"{{{PING}}}ping"), self.domain)

    async def disco_info(self, service: str) -> ET.Element:
        """What `service` (self.pubsub, self.upload) says it can do: the disco#info <query> (XEP-0030)."""
        answer = await self._request("get", ET.Element(f"{{{DISCO_INFO}}}query"), service)
        return _child(answer, f"{{{DISCO_INFO}}}query")

    async def node_defaults(self) -> ET.Element:
        """The settings a new node would have, as the hub's data form (XEP-0060, 8.3)."""
        answer = await self._request("get", _own(ET.Element(f"{{{OWNER}}}default")))
        return _child(answer, f"{{{OWNER}}}pubsub")

    async def _request(self, kind: Literal["get", "set"], payload: ET.Element, to: str | None = None) -> ET.Element:
        if self._stream is None:
            raise SoxError("disconnected", "not connected to the hub")
        return await self._stream.request(kind, payload, to or self.pubsub)

    def _notified(self, sender: str, event: ET.Element) -> None:
        if sender != self.pubsub:
            return  # anyone on the server can send us a message that looks like an event
        for items in event.findall(f"{{{EVENT}}}items"):
            for item in items.findall(f"{{{EVENT}}}item"):
                if len(item):
                    self._queue.put_nowait((items.get("node", ""), item.get("id", ""), item[0]))
        if self._queue.qsize() > MOST_WAITING and self._stream is not None:
            self._stream.abort(SoxError("overrun", f"{MOST_WAITING} notifications wait to be handled"))

    async def _dispatch(self, queue: asyncio.Queue[tuple[str, str, ET.Element]]) -> None:
        while self._queue is queue:
            item = await queue.get()
            for callback in self._on_item:
                await _call(callback, *item)

    def _ended(self, error: SoxError | None) -> None:
        for callback in self._on_disconnected:
            ending = asyncio.ensure_future(_call(callback, error))
            self._endings.add(ending)  # the loop itself holds tasks only weakly
            ending.add_done_callback(self._endings.discard)


async def _call(callback: Callable[..., Awaitable[None] | None], *arguments: object) -> None:
    """A failing callback must not take the connection of the others with it: it is reported."""
    try:
        result = callback(*arguments)
        if inspect.isawaitable(result):
            await result
    except Exception:
        log.exception("a callback of SoxClient failed")


def _wrap(name: str, child: ET.Element, **attributes: str) -> ET.Element:
    element = ET.Element(f"{{{PUBSUB}}}{name}", attributes)
    element.append(child)
    return element


def _child(answer: ET.Element, name: str) -> ET.Element:
    found = answer.find(name)
    if found is None:
        raise SoxError("bad-request", "the hub answered with something else")
    return found


def _own(child: ET.Element) -> ET.Element:
    element = ET.Element(f"{{{OWNER}}}pubsub")
    element.append(child)
    return element


def _own_child(name: str, node: str, *children: ET.Element) -> ET.Element:
    element = ET.Element(f"{{{OWNER}}}{name}", {"node": node})
    element.extend(children)
    return element


def _form(config: Mapping[str, object]) -> ET.Element:
    form = ET.Element(f"{{{FORM}}}x", {"type": "submit"})
    kind = ET.SubElement(form, f"{{{FORM}}}field", {"var": "FORM_TYPE", "type": "hidden"})
    ET.SubElement(kind, f"{{{FORM}}}value").text = NODE_CONFIG
    for name, setting in config.items():
        field = ET.SubElement(form, f"{{{FORM}}}field", {"var": f"pubsub#{name}"})
        ET.SubElement(field, f"{{{FORM}}}value").text = str(int(setting)) if isinstance(setting, bool) else str(setting)
    return form


def _slot(answer: ET.Element) -> Slot:
    put, get = answer.find(f".//{{{UPLOAD}}}put"), answer.find(f".//{{{UPLOAD}}}get")
    addresses = [element.get("url", "") for element in (put, get) if element is not None]
    if put is None or len(addresses) != 2 or not all(address.startswith("https://") for address in addresses):
        raise SoxError("bad-slot", "the hub gave no https addresses for an upload")
    headers = {}
    for header in put.findall(f"{{{UPLOAD}}}header"):
        name = header.get("name", "")
        if name.lower() in SLOT_HEADERS:
            headers[name] = (header.text or "").replace("\r", "").replace("\n", "")  # XEP-0363 section 5: strip newlines
    return Slot(addresses[0], headers, addresses[1])
