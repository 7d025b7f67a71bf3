"""What the tests of the uplink share: sealed segments of the real writer, and waiting for what happens."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from gateway.uplink_ways import Way
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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  files and counters have no event
            await asyncio.sleep(0.01)
