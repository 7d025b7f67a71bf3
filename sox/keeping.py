"""A connection to the hub that is kept for ever: the truck's uplink and the center do it alike."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NoReturn
from xml.etree import ElementTree as ET

from sox.account import BACK_OFF_SECONDS, STEADY_SECONDS, back_off
from sox.client import SoxClient
from sox.errors import SoxError

OnItem = Callable[[str, str, ET.Element], None]


async def keep(session: Callable[[], Awaitable[str]], ended: Callable[[str], None], back_off_first: float = BACK_OFF_SECONDS) -> NoReturn:
    """Runs `session` again and again until cancelled, with bounded jittered back-off between. A session is one connection from its
    beginning to its end: it returns why it ended, or raises SoxError. `ended` is told, in one line, before the waiting."""
    failures = 0
    while True:
        began = time.monotonic()
        try:
            problem = await session()
        except SoxError as error:
            problem = str(error)
        failures = 1 if time.monotonic() - began > STEADY_SECONDS else failures + 1
        ended(problem)
        await asyncio.sleep(back_off(failures, back_off_first))


@asynccontextmanager
async def connection(client: SoxClient, on_item: OnItem) -> AsyncIterator[asyncio.Future[SoxError | None]]:
    """Connects `client` (raises SoxError) and disconnects it at the end. Gives a future that is done when the connection is over, with
    the reason. `on_item` gets every item of every subscribed node."""
    lost: asyncio.Future[SoxError | None] = asyncio.get_running_loop().create_future()
    client.on_item(on_item)
    client.on_disconnected(lambda error: None if lost.done() else lost.set_result(error))
    try:
        await client.connect()
        yield lost
    finally:
        await client.disconnect()
