"""The IMU's seconds to `<truck>_packed_data` (P0, beside the snapshot), oldest of the newest first, one publication at a time.

A link that is slower than the truck, or gone, costs the oldest: MOST_WAITING seconds wait, and none older than MOST_AGE_NS goes out. What
is left out is counted and stands in the segments. Where the configuration keeps packed blocks off a link, none waits."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from gateway.clock import NANO, boottime_ns
from gateway.uplink_channel import Channel
from sox.account import back_off
from sox.errors import SoxError
from sox.packed import Packed, columns_id, packed_device, packed_document

KIND = "packed"
MOST_WAITING = 10  # seconds of samples
MOST_AGE_NS = 10 * NANO
NO_NUMBER = float("inf")

log = logging.getLogger("uplink")


class Datagram(msgspec.Struct):
    """A second of the IMU, as gateway/live_blocks.py sends it."""

    truck: str
    boot: str
    number: int
    boottime_ns: int
    utc_ns: int
    utc_source: str
    utc_error_s: float | None
    columns: str
    block: str


class PackedBlocks:
    """The task of the packed blocks; `allows(KIND)` says whether the link may carry them now. Counters are of this process."""

    def __init__(self, truck: str, channel: Channel, allows: Callable[[str], bool], back_off_first: float) -> None:
        self._truck = truck
        self._channel = channel
        self._allows = allows
        self._back_off_first = back_off_first
        self._waiting: deque[Datagram] = deque()
        self._arrived = asyncio.Event()
        self.published = 0
        self.failed = 0
        self.passed_over = 0  # for a newer one, or too old
        self.withheld = 0  # the link may not carry them
        self.malformed = 0
        self.problem: str | None = None

    def on_datagram(self, datagram: dict[str, Any]) -> None:
        """Any datagram of the recorder; those of other kinds are none of ours."""
        if datagram.get("kind") != KIND:
            return
        try:
            found = msgspec.convert(datagram, Datagram)
        except msgspec.ValidationError as error:
            self.malformed += 1
            log.warning("packed block: %s", error)
            return
        if found.truck != self._truck:
            self.malformed += 1
            return
        if not self._allows(KIND):
            self.withheld += 1
            return
        if len(self._waiting) == MOST_WAITING:
            self._waiting.popleft()
            self.passed_over += 1
        self._waiting.append(found)
        self._arrived.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        failures = 0
        while True:
            await self._arrived.wait()
            found = self._next()
            if found is None:
                continue
            item = packed_document(
                Packed(
                    found.boot, found.number, found.utc_ns, found.utc_source, NO_NUMBER if found.utc_error_s is None else found.utc_error_s,
                    columns_id(found.columns), found.block,
                )
            )  # fmt: skip
            columns = found.columns
            try:
                await self._channel.publish(item, lambda device, columns=columns: packed_device(device, columns), columns)  # type: ignore[misc]
            except SoxError as error:
                failures += 1
                self.failed += 1
                self.problem = f"packed blocks: {error}"
                await asyncio.sleep(back_off(failures, self._back_off_first))
                continue
            failures, self.problem = 0, None
            self.published += 1

    def _next(self) -> Datagram | None:
        """The oldest that waits and is not too old."""
        while self._waiting:
            found = self._waiting.popleft()
            if boottime_ns() - found.boottime_ns <= MOST_AGE_NS:
                return found
            self.passed_over += 1
        self._arrived.clear()
        return None

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {
            "packed": {
                "published": self.published,
                "failed": self.failed,
                "passed_over": self.passed_over,
                "withheld": self.withheld,
                "malformed": self.malformed,
                "problem": self.problem,
            }
        }
