"""The truck as the first fleet published it (sox/carsensor.py), beside its own nodes, where [uplink] has a `carsensor` number.

`carsensorNNN`: from the live snapshots, one item for each new position. `carsensorNNN_100Hz`: from the packed blocks of the IMU, one item
for each sample at the configured rate (the axes, and the newest of the slow quantities), and one for each new position. The node's
number of items is 1, so ids rise as those of the truck's own nodes do, and nothing is ever sent again.

Both are views of what travels safely in segments, so nothing waits for them: on a slow link a newer item replaces one that waits, the
oldest samples go, and both are counted. Samples are sent IN_FLIGHT at a time, some 20 kB: the truck's live values, on the same
connection, never wait behind more. Where the hub has no such nodes, or refuses, that is told and tried again; nothing else stops for it.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from gateway.uplink_link import Link
from gateway.uplink_live import Snapshot
from gateway.uplink_sender import Numbers
from logbook.block import BlockError, decode, typed
from sox import carsensor, nodes
from sox.account import back_off
from sox.carsensor import POSITION, QUANTITIES, Reading
from sox.client import SoxClient
from sox.errors import SoxError

IN_FLIGHT = 8  # samples that the hub has not yet answered for: 160 a second at a round trip of 50 ms
MOST_SECONDS = 2  # of samples that wait: a block comes once a second
NO_UTC = "no UTC yet: values need a time of collection"

log = logging.getLogger("uplink")


class _Pending(NamedTuple):
    """An item that waits. `number` counts samples (or snapshots)."""

    number: int
    readings: Mapping[str, Reading]


class _Device:
    """One of the two devices on the hub."""

    def __init__(self, name: str, numbers: Numbers, link: Link) -> None:
        self._name = name
        self._numbers = numbers
        self._link = link
        self._described: SoxClient | None = None
        self.waiting: str | None = "nothing came yet"
        self.published = 0
        self.failed = 0

    async def client(self) -> SoxClient:
        """The connection, waited for, with the device described on it; raises SoxError."""
        client = await self._link.client()
        if client is not self._described:
            meta = nodes.meta(self._name)
            await self._numbers.above([*await client.items(nodes.data(self._name)), *await client.items(meta)])
            await client.publish(meta, await self._numbers.next(), carsensor.description(self._name))
            self._described = client
        return client

    async def next_id(self) -> str:
        """An id that was never used."""
        return await self._numbers.next()

    async def publish(self, client: SoxClient, identity: str, item: ET.Element) -> None:
        """Publish an item; raises SoxError."""
        await client.publish(nodes.data(self._name), identity, item)
        self.published += 1
        self.waiting = None

    def refused(self, error: SoxError) -> None:
        """An item, or the description, was not taken."""
        self.failed += 1
        waiting = f"{self._name}: {error}"
        if waiting != self.waiting:
            log.warning("%s", waiting)
        self.waiting = waiting


class CarSensor:
    """The task of carsensor number `number`, with `hz` samples a second (0: no node of samples). Counters are of this process."""

    def __init__(self, number: int, hz: int, numbers: Numbers, link: Link, back_off_first: float) -> None:
        self._number = number
        self._back_off_first = back_off_first
        self._seconds = _Device(carsensor.device(number), numbers, link)
        self._samples = _Device(carsensor.device_of_samples(number), numbers, link)
        self._rate = carsensor.Rate(hz) if hz else None
        self._newest: _Pending | None = None
        self._came = asyncio.Event()
        self._mean = carsensor.Mean()
        self._mean_ns = self._position_ns = -1  # BOOTTIME of the newest PM2.5 and position
        self._slow: dict[str, Reading] = {}
        self._queue: deque[_Pending] = deque()
        self._most = MOST_SECONDS * hz + MOST_SECONDS
        self._queued = asyncio.Event()
        self._index = 0
        self.conflated = 0
        self.left_out = 0
        self.malformed = 0

    def offer(self, found: Snapshot) -> None:
        """A snapshot arrived."""
        if not found.utc_ns:
            self._seconds.waiting = NO_UTC
            return
        readings = {
            identity: Reading(value.value, found.utc_ns - found.boottime_ns + value.boottime_ns)
            for identity, value in found.values.items()
            if identity in QUANTITIES and value.value is not None and math.isfinite(value.value)
        }
        dust = found.values.get(carsensor.PM2_5)
        if dust is not None and carsensor.PM2_5 in readings and dust.boottime_ns != self._mean_ns:
            self._mean_ns = dust.boottime_ns
            self._mean.add(readings[carsensor.PM2_5])
        place = {identity: reading for identity, reading in readings.items() if identity in POSITION}
        self._slow = {identity: reading for identity, reading in readings.items() if identity not in POSITION}
        if not self._slow or not place.keys() >= {"longitude", "latitude"}:
            self._seconds.waiting = "no position" if self._slow else "no values"
            return
        at_ns = found.values["longitude"].boottime_ns
        if at_ns == self._position_ns:
            return
        self._position_ns = at_ns
        self.conflated += self._newest is not None
        self._newest = _Pending(found.number, readings)
        self._came.set()
        if self._rate is not None:
            self._enqueue(_Pending(self._index, place))

    def offer_block(self, columns_metadata: str, block: bytes, utc_of: Callable[[int], int]) -> None:
        """A packed block of the IMU arrived, described by `columns_metadata` (docs/formats.md 3); `utc_of` gives the UTC of a moment of
        CLOCK_BOOTTIME, both in ns, 0 if it is unknown. Does nothing without a rate."""
        if self._rate is None:
            return
        try:
            _, times, columns = decode(block)
            values = {identity: found for identity, (found, _) in typed(columns_metadata, columns).items() if identity in QUANTITIES}
        except (BlockError, ValueError, LookupError, TypeError) as error:  # the description is JSON of another process
            self.malformed += 1
            self._samples.waiting = f"packed block: {error}"
            return
        utc_ns = utc_of(int(times[0]))
        if not utc_ns:
            self._samples.waiting = NO_UTC
            return
        ahead = utc_ns - int(times[0])
        slow = {identity: reading for identity, reading in self._slow.items() if identity not in values}
        for row, at_ns in enumerate(times.tolist()):
            self._index += 1
            if self._rate.passes(at_ns):
                axes = {identity: Reading(float(found[row]), at_ns + ahead) for identity, found in values.items()}
                self._enqueue(_Pending(self._index, slow | axes))

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_seconds())
            if self._rate is not None:
                group.create_task(self._run_samples())

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {
            "published": self._seconds.published,
            "conflated": self.conflated,
            "samples": self._samples.published,
            "samples_left_out": self.left_out,
            "failed": self._seconds.failed + self._samples.failed,
            "malformed": self.malformed,
            "waiting": self._seconds.waiting or (self._samples.waiting if self._rate is not None else None),
        }

    def _enqueue(self, pending: _Pending) -> None:
        if len(self._queue) >= self._most:
            self._queue.popleft()
            self.left_out += 1
        self._queue.append(pending)
        self._queued.set()

    def _item(self, pending: _Pending) -> ET.Element | None:
        try:
            return carsensor.item(self._number, pending.number, pending.readings)
        except OverflowError:  # a time beyond the year 9999
            self.malformed += 1
            return None

    async def _run_seconds(self) -> None:
        failures = 0
        while True:
            await self._came.wait()
            try:
                client = await self._seconds.client()
                self._came.clear()
                pending, self._newest = self._newest, None
                if pending is None:
                    continue
                readings = dict(pending.readings)
                readings.pop(carsensor.PM2_5, None)
                if (mean := self._mean.take()) is not None:
                    readings[carsensor.PM2_5] = mean
                item = self._item(pending._replace(readings=readings))
                if item is not None:
                    await self._seconds.publish(client, await self._seconds.next_id(), item)
            except SoxError as error:
                failures += 1
                self._seconds.refused(error)
                await asyncio.sleep(back_off(failures, self._back_off_first))
                continue
            failures = 0

    async def _run_samples(self) -> None:
        failures = 0
        while True:
            await self._queued.wait()
            try:
                await self._send_queue(await self._samples.client())
            except SoxError as error:
                failures += 1
                self._samples.refused(error)
                await asyncio.sleep(back_off(failures, self._back_off_first))
                continue
            failures = 0

    async def _send_queue(self, client: SoxClient) -> None:
        """Send what waits, in its order, IN_FLIGHT at a time; raises the first SoxError when all under way are answered."""
        room = asyncio.Semaphore(IN_FLIGHT)
        errors: list[SoxError] = []

        async def send(identity: str, item: ET.Element) -> None:
            try:
                await self._samples.publish(client, identity, item)
            except SoxError as error:
                errors.append(error)
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:  # tasks begin in the order they are made, and so do their stanzas
            while self._queue and not errors:
                await room.acquire()
                if not self._queue or errors:
                    break
                if (item := self._item(self._queue.popleft())) is None:
                    room.release()
                    continue
                group.create_task(send(await self._samples.next_id(), item))
        if not self._queue:
            self._queued.clear()
        if errors:
            self._samples.failed += len(errors) - 1
            raise errors[0]
