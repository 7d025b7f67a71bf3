"""The truck as the first fleet published it (sox/carsensor.py), beside its own nodes, where [uplink] has a `carsensor` number.

`carsensorNNN`: from the live snapshots, one item for each new position. `carsensorNNN_100Hz`: from the packed blocks of the IMU, one item
for each sample at the configured rate (the axes, and the newest of the slow quantities), and one for each new position. The node's
number of items is 1, so ids rise as those of the truck's own nodes do, and nothing is ever sent again.

Both are views of what travels safely in segments, so nothing waits for them: on a slow link a newer item replaces one that waits, the
oldest samples go, and both are counted. Samples are sent IN_FLIGHT at a time, some 20 kB: the truck's live values, on the same
connection, never wait behind more. Where the hub has no such nodes, or refuses, that is told and tried again; nothing else stops for it.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import msgspec

from gateway.live import KIND
from gateway.uplink_carsensor_device import Device
from gateway.uplink_link import Link
from gateway.uplink_live import BadSnapshot, Snapshot, snapshot
from gateway.uplink_packed import KIND as PACKED
from gateway.uplink_packed import Datagram
from gateway.uplink_sender import Numbers
from gateway.uplink_ways import Ways
from logbook.block import BlockError, decode, from_live, typed
from sox import carsensor
from sox.account import back_off
from sox.carsensor import POSITION, QUANTITIES, Reading
from sox.client import SoxClient
from sox.errors import SoxError

IN_FLIGHT = 8  # samples that the hub has not yet answered for: 160 a second at a round trip of 50 ms
MOST_SECONDS = 2  # of samples that wait: a block comes once a second
VALUE_WIRE_BYTES = 160  # of a value in an item, with its part of stanza, answer and TLS: 130 in the document itself
NO_UTC = "no UTC yet: values need a time of collection"


class _Pending(NamedTuple):
    """An item that waits. `number` counts samples (or snapshots)."""

    number: int
    readings: Mapping[str, Reading]


class CarSensor:
    """The task of `truck` as carsensor number `number`, with `hz` samples a second (0: no node of samples). Samples go over links that may
    carry packed blocks; all of it counts in the link's budget. Counters are of this process."""

    def __init__(self, truck: str, number: int, hz: int, numbers: Numbers, link: Link, ways: Ways, back_off_first: float) -> None:
        self._truck = truck
        self._number = number
        self._ways = ways
        self._back_off_first = back_off_first
        self._seconds = Device(carsensor.device(number), carsensor.description, numbers, link)
        self._samples = Device(carsensor.device_of_samples(number), carsensor.description, numbers, link)
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
        self.withheld = 0  # blocks that the link may not carry
        self.malformed = 0

    def on_datagram(self, datagram: dict[str, Any]) -> None:
        """Any datagram of the recorder (docs/formats.md 4); those that are neither a snapshot nor a packed block are none of ours."""
        try:
            if KIND not in datagram:
                self.offer(snapshot(datagram, self._truck))
            elif datagram[KIND] == PACKED and self._rate is not None:
                told = msgspec.convert(datagram, Datagram)
                if told.truck != self._truck:
                    raise BadSnapshot(f"packed block of another truck: {told.truck!r}")
                ahead = told.utc_ns - told.boottime_ns
                self.offer_block(told.columns, from_live(told.block), lambda at_ns: at_ns + ahead if told.utc_ns else 0)
        except (BadSnapshot, BlockError, msgspec.ValidationError) as error:
            self.malformed += 1
            self._seconds.waiting = str(error)

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
        if not self._ways.allows(PACKED):
            self.withheld += 1
            self._samples.waiting = "the link may not carry samples"
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

    @property
    def problem(self) -> str | None:
        """What the hub refuses now, in words."""
        return self._seconds.problem or self._samples.problem

    def status(self) -> dict[str, Any]:
        """For the status file."""
        return {
            "carsensor": {
                "published": self._seconds.published,
                "conflated": self.conflated,
                "samples": self._samples.published,
                "samples_left_out": self.left_out,
                "blocks_withheld": self.withheld,
                "failed": self._seconds.failed + self._samples.failed,
                "malformed": self.malformed,
                "waiting": self._seconds.waiting or (self._samples.waiting if self._rate is not None else None),
            }
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
                    self._ways.count(VALUE_WIRE_BYTES * len(item))
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
                self._ways.count(VALUE_WIRE_BYTES * len(item))
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
