"""The uplink on a shaped link: what arrives verified over what the link could carry, and how late live values are meanwhile.

One truck with the real uplink, one real hub (ejabberd), one real center, all with the product's own times. Between truck and hub stands
the proofs' link (tests/support/hostile_link.py, a process of its own): one queue of 256 kB in each direction for all connections, 30 ms one
way, 5 or 50 Mbit/s up, 50 Mbit/s down. The spool holds more image segments than can be sent; every second a snapshot of all quantities goes
into the live socket, as the recorder sends it.

- verified bytes: of the segments that were receipted (fetched, verified and durable at the center) between the first receipt and the last,
  over what the link carries in that time. TLS, HTTP, XMPP, live values and every pause between two objects count against us; TCP's and
  IP's own headers, which the link does not see, do not.
- live: from the recorder's send to the arrival at a reader beside the center of that snapshot or of a newer one: what was replaced
  meanwhile (conflated) counts with its whole wait. Time begins with the first receipt."""

import asyncio
import importlib
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bench.measure import Row
from center import clock
from gateway.clock import boottime_ns
from gateway.live import LiveSender
from logbook.quantities import TABLE
from sox import nodes
from sox.client import SoxClient
from sox.documents import parse_data

SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"
LATENCY_SECONDS = 0.03
DOWN_BITS = 50e6
LIVE_SECONDS = 1.0
# Bit/s up, bytes of a segment (16 MB is the product's; at 5 Mbit/s one of them takes 26 s), segments receipted until the end.
LINKS = ((5e6, 4_000_000, 9), (50e6, 16_000_000, 14))
NO_END_SECONDS = 180.0


class Steady(NamedTuple):
    """One link's figures: verified bytes and all bytes of the link over its capacity, and the waits of live values in seconds."""

    verified: float
    carried: float
    live: list[float]
    seconds: float


class Reader:
    """Reads the truck's live values beside the center: `arrivals` are (moment, number of the snapshot)."""

    def __init__(self, city: Any, truck: str) -> None:
        self.arrivals: list[tuple[float, int]] = []
        self._info, self._node = city.info, nodes.data(truck)
        self._password = Path(city.info["secrets"], "center").read_text("ascii").strip()
        self._loop = asyncio.new_event_loop()
        self._ready, self._over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)

    def __enter__(self) -> "Reader":
        self._thread.start()
        if not self._ready.wait(30):
            raise TimeoutError("the reader of live values could not subscribe")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    async def _run(self) -> None:
        info = self._info
        client = SoxClient(f"center@{info['domain']}", self._password, info["host"], info["c2s_port"], info["ca_file"])
        client.on_item(self._item)
        await client.connect()
        await client.subscribe(self._node)
        self._ready.set()
        await self._over.wait()
        await client.disconnect()

    def _item(self, node: str, item_id: str, element: Any) -> None:
        if node == self._node:
            self.arrivals.append((time.monotonic(), int(parse_data(element)[0].raw or "-1")))


class Recorder:
    """Sends a snapshot of all quantities a second; `sent` are (moment, number)."""

    def __init__(self, truck: str, socket: Path) -> None:
        self.sent: list[tuple[float, int]] = []
        self._truck = truck
        self._sender = LiveSender(socket)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Recorder":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(10)
        self._sender.close()

    def _run(self) -> None:
        number = 0
        while not self._over.wait(LIVE_SECONDS):
            number += 1
            now = boottime_ns()
            values = {q.id: {"value": q.low, "reason": None, "raw": str(number), "boottime_ns": now} for q in TABLE}
            sent = time.monotonic()
            snapshot = {"truck": self._truck, "boot": "bench", "number": number, "boottime_ns": now, "utc_ns": clock.utc_ns()}
            if self._sender.send({**snapshot, "values": values}):
                self.sent.append((sent, number))


def steady(city: Any, truck: str, rate: float, size: int, count: int) -> Steady:
    """One link, until `count` segments are receipted."""
    rig, link = importlib.import_module("uplink_faults_rig"), importlib.import_module("hostile_link")
    lanes = {"up": link.Lane(rate, LATENCY_SECONDS), "down": link.Lane(DOWN_BITS, LATENCY_SECONDS)}
    with rig.Truck(city, truck, seed=1, link=link.Child, watch=False, **lanes) as run, Reader(city, truck) as reader:
        sizes = {i: run.oracle.owed[i].size for i in run.seal(count + 3, "images", size)}
        run.start()
        with Recorder(truck, run.live) as recorder:
            run.until(lambda: run.oracle.counted(), "the first receipt", NO_END_SECONDS)
            carried, began = run.link("counts")["up"], time.monotonic()
            run.until(lambda: len(run.oracle.counted()) >= count, "all receipts", NO_END_SECONDS)
            carried, ended = run.link("counts")["up"] - carried, time.monotonic()
        run.kill()
        receipts = sorted(run.oracle.receipted_at())
        wrong = [segment for _, segment in receipts if not run.oracle.stored(segment)]
        if wrong:
            raise RuntimeError(f"receipted and not stored: {wrong}")
        seconds = (receipts[-1][0] - receipts[0][0]) / 1e9
        verified = sum(sizes[segment] for _, segment in receipts[1:])
        waits = [found for sent, number in recorder.sent if sent >= began and (found := _wait(sent, number, reader.arrivals)) is not None]
        return Steady(verified * 8 / seconds / rate, carried * 8 / (ended - began) / rate, waits, seconds)


def _wait(sent: float, number: int, arrivals: list[tuple[float, int]]) -> float | None:
    """Until this snapshot or a newer one arrived; None for those still on their way at the end."""
    return next((at - sent for at, seen in arrivals if seen >= number), None)


def p99(waits: list[float]) -> float:
    """The 99th percentile; of fewer than a hundred, the longest."""
    return statistics.quantiles(waits, n=100)[98] if len(waits) >= 100 else max(waits)


def rows() -> Iterator[Row]:
    """Both links, one after the other, on one hub and center."""
    if str(SUPPORT) not in sys.path:
        sys.path.insert(0, str(SUPPORT))
    rig = importlib.import_module("uplink_faults_rig")
    names = [f"bench-{int(rate / 1e6)}" for rate, _, _ in LINKS]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, rig.City(Path(folder), names, None) as city:
        for name, (rate, size, count) in zip(names, LINKS, strict=True):
            found = steady(city, name, rate, size, count)
            link = f"{rate / 1e6:.0f} Mbit/s"
            yield Row(f"{link}: verified bytes, {found.seconds:.0f} s", "the link's capacity", [found.verified], ">= 0.95")
            yield Row(f"{link}: bytes on the link", "the link's capacity", [found.carried])
            yield Row(f"{link}: live, truck to center, p99 of {len(found.live)}, s", "-", [p99(found.live)], "<= 1")
            yield Row(f"{link}: live, truck to center, median, s", "-", [statistics.median(found.live)])
