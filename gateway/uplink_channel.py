"""One of the truck's channels on the hub: its data node, and its meta node, described once a connection and when the description changes.

Not in the connection's preparation: a hub without that node (an older one) must not cost the connection, only this channel."""

from collections.abc import Callable
from xml.etree import ElementTree as ET

from gateway.uplink_link import Link
from gateway.uplink_sender import Numbers
from sox import nodes
from sox.client import SoxClient


class Channel:
    """Publishes on channel `name`. Meta documents and unnamed items take rising ids from `numbers`."""

    def __init__(self, truck: str, name: str, link: Link, numbers: Numbers) -> None:
        self._device = nodes.channel(truck, name)
        self._link = link
        self._numbers = numbers
        self._described: tuple[SoxClient, str] | None = None

    async def publish(self, item: ET.Element, describe: Callable[[str], ET.Element], version: str = "", item_id: str = "") -> None:
        """Publish `item`, behind what `describe(device)` gives where that is not yet told or has another `version`. Waits for a connection;
        raises SoxError."""
        client = await self._link.client()
        if self._described != (client, version):
            await client.publish(nodes.meta(self._device), await self._numbers.next(), describe(self._device))
            self._described = client, version
        await client.publish(nodes.data(self._device), item_id or await self._numbers.next(), item)
