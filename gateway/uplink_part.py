"""What a duty that takes part in the uplink gives it (gateway/uplink.py joins them, one line each)."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from sox.client import SoxClient


def _nothing(*_: object) -> None:
    """Not wanted by this part."""


async def _nothing_to_prepare(_: SoxClient) -> None:
    """Not wanted by this part."""


class Part(NamedTuple):
    """`works`: tasks by name, each run for ever and begun anew after a trouble of the disk. `prepare(client)`: after each connect, before
    anyone else has the connection. `on_item(node, id, element)`: every item of every subscribed node. `on_datagram(datagram)`: every
    datagram of the recorder, of whatever "kind", but of the snapshots that wait together only the newest. `on_found()`: a look into the
    spool found new segments. `status()`: fields for the status file. `problem()`: what is wrong now, in words, or None. Calls must not
    block; works get at the hub by `await link.client()`."""

    works: Mapping[str, Callable[[], Awaitable[None]]] = {}
    prepare: Callable[[SoxClient], Awaitable[None]] = _nothing_to_prepare
    on_item: Callable[[str, str, ET.Element], None] = _nothing
    on_datagram: Callable[[dict[str, Any]], None] = _nothing
    on_found: Callable[[], None] = _nothing
    status: Callable[[], dict[str, Any]] = dict
    problem: Callable[[], str | None] = lambda: None
