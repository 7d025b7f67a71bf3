"""A device of a foreign profile on the hub: described once a connection, then published with rising ids.

Not in the connection's preparation: a hub without these nodes must not cost the connection, only this device."""

import logging
from collections.abc import Callable
from xml.etree import ElementTree as ET

from gateway.uplink_link import Link
from gateway.uplink_sender import Numbers
from sox import nodes
from sox.client import SoxClient
from sox.errors import SoxError

log = logging.getLogger("uplink")


class Device:
    """The nodes of device `name`, which `describe(name)` describes. `waiting` says why nothing is published now, None if it is;
    `problem` that the hub refuses it; counters are of this process."""

    def __init__(self, name: str, describe: Callable[[str], ET.Element], numbers: Numbers, link: Link) -> None:
        self._name = name
        self._describe = describe
        self._numbers = numbers
        self._link = link
        self._described: SoxClient | None = None
        self.waiting: str | None = "nothing came yet"
        self.problem: str | None = None
        self.published = 0
        self.failed = 0

    async def client(self) -> SoxClient:
        """The connection, waited for, with the device described on it; raises SoxError."""
        client = await self._link.client()
        if client is not self._described:
            meta = nodes.meta(self._name)
            await self._numbers.above([*await client.items(nodes.data(self._name)), *await client.items(meta)])
            await client.publish(meta, await self._numbers.next(), self._describe(self._name))
            self._described = client
        return client

    async def next_id(self) -> str:
        """An id that was never used."""
        return await self._numbers.next()

    async def publish(self, client: SoxClient, identity: str, item: ET.Element) -> None:
        """Publish an item; raises SoxError."""
        await client.publish(nodes.data(self._name), identity, item)
        self.published += 1
        self.waiting = self.problem = None

    def refused(self, error: SoxError) -> None:
        """An item, or the description, was not taken."""
        self.failed += 1
        problem = f"{self._name}: {error}"
        if problem != self.problem:
            log.warning("%s", problem)
        self.waiting = self.problem = problem
