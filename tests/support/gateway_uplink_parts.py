"""What the tests of the uplink share: sealed segments of the real writer, and waiting for what happens."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from gateway.uplink_ways import Way
from hub.certificates import ensure
from logbook.schemas.cruisers_pb2 import ClockMapping
from logbook.segment import Segments

FOLDER = "aaaaaaaa-bbbbbbbb"
UTC_NS = 1_800_000_000_000_000_000  # 2027-01-15T08:00:00Z
BOOT_NS = 5_000_000_000_000


def seal(spool: Path, number: int, stream: str = "readings", messages: int = 3) -> Path:
    """A sealed segment as the recorder makes it."""
    errors: list[OSError] = []
    topic = "/clock" if stream == "readings" else "/gap"
    segments = Segments(
        spool, "truck-1", "boot", stream, FOLDER, lambda: number, 3600.0,
        on_durable=lambda token: None, on_sealed=lambda path: None, on_error=errors.append,
    )  # fmt: skip
    for i in range(messages):
        at = BOOT_NS + i * 1_000_000_000
        data = ClockMapping(boottime_ns=at, utc_ns=UTC_NS, source="gnss").SerializeToString() if stream == "readings" else b""
        segments.write(topic, at, UTC_NS + i * 1_000_000_000, data)
    segments.close()
    assert not errors
    return spool / FOLDER / f"{number:06d}-{stream}.mcap"


class OpenWays:
    """A link that allows what `users` names, and what is counted on it."""

    def __init__(self) -> None:
        self.now = Way("lo", None, "unmetered", why="a test says so")
        self.users = {"packed", "readings", "requested", "images"}
        self.on_change: list[Callable[[], None]] = []
        self.counted = 0

    def allows(self, user: str) -> bool:
        return user in self.users

    def count(self, size: int) -> None:
        self.counted += size

    def change(self, *users: str) -> None:
        """Allow these only, from now on."""
        self.users = set(users)
        for call in self.on_change:
            call()


class Shop:
    """A web server for PUTs to /slot/name, over TLS: `serve` answers them."""

    def __init__(self, folder: Path, serve: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        files = ensure(folder / "tls", "shop.test", "127.0.0.1")
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(files.server, files.server_key)
        self.ca_file = str(files.ca)
        self.url = ""
        application = web.Application(client_max_size=1 << 26)
        application.router.add_put("/{slot}/{name}", serve)
        self._runner = web.AppRunner(application)

    async def start(self) -> None:
        """Listen; from then on `url` is its address. Its window is small, so that what is sent has been read."""
        await self._runner.setup()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        listener.bind(("127.0.0.1", 0))
        await web.SockSite(self._runner, listener, ssl_context=self._context).start()
        self.url = f"https://localhost:{listener.getsockname()[1]}/"

    async def stop(self) -> None:
        """End it and its connections."""
        await self._runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  files and counters have no event
            await asyncio.sleep(0.01)
