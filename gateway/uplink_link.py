"""The connection to the hub, kept for ever: connect, prepare, wait for its end, connect again with bounded jittered back-off."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from xml.etree import ElementTree as ET

from gateway.config import Truck
from sox.client import SoxClient
from sox.errors import SoxError
from sox.keeping import OnItem, connection, keep

# Stanza errors (RFC 6120, 8.3.3) that concern what was asked or this account; all others (no service, no room, time-out) concern the hub.
REFUSING_CONDITIONS = frozenset({"not-acceptable", "bad-request", "forbidden", "not-allowed", "policy-violation"})

log = logging.getLogger("uplink")


class Link:
    """The truck's connection. `prepare(client)` runs after each connect, before anyone else gets the client. `on_item` gets every item of
    every subscribed node; set it before `run`.

    `problem` is why there is no connection now, in one line; None while connected or before the first attempt.
    """

    def __init__(self, truck: Truck, prepare: Callable[[SoxClient], Awaitable[None]], back_off_first: float) -> None:
        self._truck = truck
        self._prepare = prepare
        self.on_item: OnItem | None = None
        self._back_off_first = back_off_first
        self._client: SoxClient | None = None
        self._online = asyncio.Event()
        self._offline = asyncio.Event()
        self._lost: asyncio.Future[SoxError | None] | None = None
        self.problem: str | None = None
        self.connects = 0

    @property
    def connected(self) -> bool:
        """Whether there is a prepared connection now."""
        return self._client is not None

    async def client(self) -> SoxClient:
        """The connected client, waited for."""
        while self._client is None:
            await self._online.wait()
        return self._client

    async def lost(self, client: SoxClient) -> None:
        """Wait until `client` is no longer the connection."""
        while self._client is client:
            await self._offline.wait()

    def renew(self, reason: str) -> None:
        """Another way leads to the hub: the connection over the old one is given up now, not when it has been silent for long."""
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(SoxError("disconnected", reason))

    async def run(self) -> None:
        """Connect and reconnect until cancelled."""
        await keep(self._session, self._ended, self._back_off_first)

    def _ended(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("hub: %s", problem)
        self.problem = problem

    def _item(self, node: str, item_id: str, element: ET.Element) -> None:
        if self.on_item is not None:
            self.on_item(node, item_id, element)

    async def _session(self) -> str:
        """One connection from its beginning to its end; returns why it ended, raises SoxError if it never stood."""
        client = await asyncio.to_thread(self._truck.hub.client, self._truck.name)
        async with connection(client, self._item) as lost:
            self._lost = lost
            await self._prepare(client)
            try:
                self._client = client
                self._offline.clear()
                self._online.set()
                self.problem = None
                self.connects += 1
                log.info("connected to %s", self._truck.hub.domain)
                return f"connection lost: {await lost}"
            finally:
                self._client = None
                self._online.clear()
                self._offline.set()
