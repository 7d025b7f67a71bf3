"""As many items as a few accounts can make a hub take, a process of its own for bench/fleet.py: a truck's values, WINDOW of them unanswered
at a time in each account.

python -m bench.hub_load HUB.json TRUCK,TRUCK,... SECONDS        prints how many items the hub answered"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from logbook.quantities import TABLE
from sim.clock import utc_ns
from sim.fleet import SPARE
from sim.world import World
from sox import nodes
from sox.client import SoxClient
from sox.documents import TransducerValue, data_document, format_si, xep0082

WINDOW = 2


def client_of(info: dict[str, Any], account: str) -> SoxClient:
    """The client of `account` on the hub whose ready file says `info`."""
    password = Path(info["secrets"], account).read_text("ascii").strip()
    return SoxClient(f"{account}@{info['domain']}", password, info["host"], info["c2s_port"], info["ca_file"])


async def _publish(client: SoxClient, node: str, seconds: float) -> int:
    found, at = World(1).at(60_000_000), xep0082(utc_ns())
    quantities = [quantity for quantity in TABLE if not quantity.id.startswith(SPARE)]
    document = data_document([TransducerValue(each.id, format_si(each, found[each.id]), "12345", at) for each in quantities])
    loop = asyncio.get_running_loop()
    until, number = loop.time() + seconds, 0

    async def one() -> None:
        nonlocal number
        while loop.time() < until:
            number += 1
            await client.publish(node, str(number), document)

    await asyncio.gather(*(one() for _ in range(WINDOW)))
    return number


async def _main(info: dict[str, Any], trucks: list[str], seconds: float) -> int:
    clients = [client_of(info, truck) for truck in trucks]
    for client in clients:
        await client.connect()
    taken = await asyncio.gather(*(_publish(client, nodes.data(truck), seconds) for client, truck in zip(clients, trucks, strict=True)))
    for client in clients:
        await client.disconnect()
    return sum(taken)


if __name__ == "__main__":
    print(asyncio.run(_main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2].split(","), float(sys.argv[3]))))
