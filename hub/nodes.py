"""The nodes of each truck and who may do what on them (design: SoX).

| node | writes | reads | keeps |
|---|---|---|---|
| T_meta, T_data, and those of T_packed, T_health | truck | center | 1 |
| T_events_meta / _data, T_segments_, T_answers_ | truck | center | 1 / 2000 |
| T_receipts_meta / _data, T_request_meta / _data | center | truck | 1 / 2000 |
| D_meta, D_data of a further device D | its writer | center | 1 |

The hub's admin owns them all and is the only one who may create nodes. Everyone else, other trucks too, may neither read nor write
(whitelist); that a node exists, by name, can be seen. 2000 items: five receipts to an offline truck left one with max_items 1.

Readers that are named see what the air and the street were like (READABLE), never where objects lie or what was asked. A truck that is
declared open data shows T_meta and T_data, and T_packed_ if asked, to everyone with an account and to federated domains.
A further device is one that is no truck: what a bridge brings from elsewhere, or a truck as the first fleet's consumers know it
(sox/carsensor.py).
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hub.accounts import CENTER
from hub.rights import Rights
from sox.client import SoxClient
from sox.errors import SoxError
from sox.nodes import CENTER_WRITES, CHANNELS, QUEUE_ITEMS, QUEUES, channel, data, meta

READABLE = ("", "packed", "events")  # channels for readers that are named; "": the truck's own device
OPENED, OPENED_PACKED = ("",), ("", "packed")  # channels of a truck that is open data
AT_ONCE = 8  # trucks whose nodes are made at the same time
NOBODY = Rights()

MAX_PAYLOAD = 250_000  # bytes; ejabberd's own MAX_PAYLOAD_SIZE


class Node(NamedTuple):
    """One node with its settings and the accounts (local parts, or whole JIDs of federated domains) that write and read it."""

    name: str
    config: dict[str, object]
    writer: str
    readers: tuple[str, ...]

    def rights(self, domain: str) -> dict[str, str]:
        """{bare JID: affiliation} on the hub of `domain`."""
        return {address(reader, domain): "member" for reader in self.readers} | {address(self.writer, domain): "publisher"}


def address(account: str, domain: str) -> str:
    """The bare JID of `account`."""
    return account if "@" in account else f"{account}@{domain}"


def nodes_of(truck: str, given: Rights = NOBODY) -> list[Node]:
    """All nodes of `truck`."""
    opened = (OPENED_PACKED if given.open_data[truck] else OPENED) if truck in given.open_data else ()
    nodes = []
    for name in ("", *CHANNELS):
        device = channel(truck, name) if name else truck
        writer, reader = (CENTER, truck) if name in CENTER_WRITES else (truck, CENTER)
        readers = (reader, *given.readers_of(truck)) if name in READABLE else (reader,)
        for node, kept in ((meta(device), 1), (data(device), QUEUE_ITEMS if name in QUEUES else 1)):
            nodes.append(Node(node, _config(kept, name in opened), writer, readers))
    return nodes


def nodes_of_device(device: str, given: Rights) -> list[Node]:
    """The nodes of a further device, one of `given.devices`."""
    readers = (CENTER, *given.readers_of(device))
    return [Node(name, _config(1, device in given.open_data), given.devices[device], readers) for name in (meta(device), data(device))]


async def ensure_nodes(admin: SoxClient, devices: Iterable[str], given: Rights = NOBODY) -> None:
    """Create the nodes of trucks and further devices, or bring settings and rights of existing ones up to date; raises SoxError."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def ensure(device: str) -> None:
        async with turns:
            for node in _nodes(device, given):
                await _ensure(admin, node)

    await asyncio.gather(*(ensure(device) for device in devices))


async def take_rights(admin: SoxClient, account: str, devices: Iterable[str], given: Rights = NOBODY) -> None:
    """Leave `account` no right and no subscription on any node of trucks and further devices; what it published stays. Raises SoxError."""
    jid = address(account, admin.domain)
    for node in (node for device in devices for node in _nodes(device, given)):
        try:
            if jid in await admin.affiliations(node.name):
                await admin.set_affiliations(node.name, {jid: "none"})
            subscribed = await admin.subscribers(node.name)
            await admin.end_subscriptions(node.name, {full: subid for full, subid in subscribed.items() if _bare(full) == jid})
        except SoxError as error:
            if error.condition != "item-not-found":  # a node that was never made
                raise


def _nodes(device: str, given: Rights) -> list[Node]:
    return nodes_of_device(device, given) if device in given.devices else nodes_of(device, given)


async def _ensure(admin: SoxClient, node: Node) -> None:
    rights = node.rights(admin.domain)
    try:
        await admin.create_node(node.name, node.config, rights)
    except SoxError as error:
        if error.condition != "conflict":
            raise
        await admin.configure_node(node.name, node.config)
        held: Mapping[str, str] = await admin.affiliations(node.name)
        taken = {jid: "none" for jid in held if jid not in rights and jid != admin.jid}
        await admin.set_affiliations(node.name, taken | rights)
        if node.config["access_model"] == "whitelist":  # ejabberd goes on telling, and lets read, who subscribed while it was open
            subscribed = await admin.subscribers(node.name)
            await admin.end_subscriptions(node.name, {jid: subid for jid, subid in subscribed.items() if _bare(jid) not in rights})


def _bare(jid: str) -> str:
    return jid.partition("/")[0]


def _config(max_items: int, opened: bool) -> dict[str, object]:
    return {
        "access_model": "open" if opened else "whitelist",
        "publish_model": "publishers",
        "persist_items": True,
        "max_items": max_items,
        "max_payload_size": MAX_PAYLOAD,
        "deliver_payloads": True,
        "deliver_notifications": True,
        "presence_based_delivery": False,
        "notification_type": "headline",  # never stored for an account that is offline: readers read the items
        # One item: a new subscriber sees the present at once. Queues are read whole at connect.
        "send_last_published_item": "on_sub" if max_items == 1 else "never",
        "notify_config": False,
        "notify_delete": False,
        "notify_retract": False,
        "purge_offline": False,
    }
