"""The nodes of each truck and who may do what on them (design: SoX).

| node | writes | reads | keeps |
|---|---|---|---|
| T_meta, T_data, and those of T_packed, T_health | truck | center | 1 |
| T_events_meta / _data, T_segments_, T_answers_ | truck | center | 1 / 2000 |
| T_receipts_meta / _data, T_request_meta / _data | center | truck | 1 / 2000 |

The hub's admin owns them all and is the only one who may create nodes. Everyone else, other trucks too, may neither read nor write
(whitelist); that a node exists, by name, can be seen. 2000 items: five receipts to an offline truck left one with max_items 1.
"""

from collections.abc import Iterable
from typing import NamedTuple

from hub.accounts import CENTER
from sox.client import SoxClient
from sox.errors import SoxError
from sox.nodes import CENTER_WRITES, CHANNELS, QUEUE_ITEMS, QUEUES, channel, data, meta

MAX_PAYLOAD = 250_000  # bytes; ejabberd's own MAX_PAYLOAD_SIZE


class Node(NamedTuple):
    """One node with its settings and the accounts (local parts) that write and read it."""

    name: str
    config: dict[str, object]
    writer: str
    reader: str


def nodes_of(truck: str) -> list[Node]:
    """All nodes of `truck`."""
    devices = [(truck, "")] + [(channel(truck, name), name) for name in CHANNELS]
    nodes = []
    for device, name in devices:
        writer, reader = (CENTER, truck) if name in CENTER_WRITES else (truck, CENTER)
        nodes.append(Node(meta(device), _config(1), writer, reader))
        nodes.append(Node(data(device), _config(QUEUE_ITEMS if name in QUEUES else 1), writer, reader))
    return nodes


async def ensure_nodes(admin: SoxClient, trucks: Iterable[str]) -> None:
    """Create the nodes of `trucks`, or bring settings and rights of existing ones up to date; raises SoxError."""
    for truck in trucks:
        for node in nodes_of(truck):
            rights = {f"{node.writer}@{admin.domain}": "publisher", f"{node.reader}@{admin.domain}": "member"}
            try:
                await admin.create_node(node.name, node.config, rights)
            except SoxError as error:
                if error.condition != "conflict":
                    raise
                await admin.configure_node(node.name, node.config)
                await _set_rights(admin, node.name, rights)


async def _set_rights(admin: SoxClient, node: str, rights: dict[str, str]) -> None:
    held = await admin.affiliations(node)
    taken = {jid: "none" for jid in held if jid not in rights and jid != admin.jid}
    await admin.set_affiliations(node, taken | rights)


def _config(max_items: int) -> dict[str, object]:
    return {
        "access_model": "whitelist",
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
