"""The uplink: from the truck's disk to the hub. `python -m gateway.uplink CONFIG [CONFIG ...] [--drain SECONDS]`.

One process (of one truck; of several in the simulation of a fleet), tasks that never wait for one another:

    live socket ─> Sender ─────────> <truck>_data          newest snapshot only, never behind a bulk transfer
    spool ─> scan ─> ledger ─> Bulk ─PUT─> web server      what the link allows (Ways): readings, requested images, images
                     ledger ─> Announcer ─> <truck>_segments_data
    <truck>_receipts_data ─> Receipts ─> ledger            read as a whole at connect, then by subscription
    ledger <─> ledger.sock <─ sweeper
    parts (uplink_joined.py): packed blocks, events, health, requests, what the status shows, metrics

Another duty joins as a Part (uplink_part.py): one entry in uplink_joined.py with its tasks, and what it wants of the recorder's datagrams,
the hub's items, the connection and the status.

Killed at any moment it goes on from the ledger and the folder: a step is written down only after it happened, and repeating one is
harmless. A trouble of disk or hub is a line in the status (<spool>/uplink.json, replaced every second), never an exit.
SIGTERM ends it in order; with --drain it first tries, for up to so many seconds, to get everything sealed that the link allows uploaded,
announced and receipted. A second SIGTERM ends it at once. Exit codes: 0 ended in order, 1 no ledger can be kept in the spool, 2 bad
configuration (also: a second uplink on the same spool). Of several trucks all begin, or none.
"""

import asyncio
import logging
import os
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from gateway import config
from gateway.clock import Clock, boottime_ns
from gateway.ledger import CLASSES, LEDGER_NAME, Ledger, Totals, kernel_boot_id
from gateway.live import LiveError, LiveReceiver
from gateway.uplink_announcer import REPEAT_SECONDS, Announcer, Receipts
from gateway.uplink_arguments import Parser, seconds
from gateway.uplink_books import Books
from gateway.uplink_bulk import Bulk
from gateway.uplink_desk import Desk
from gateway.uplink_fleet import CannotStart, together
from gateway.uplink_joined import Common, parts
from gateway.uplink_link import Link
from gateway.uplink_lock import InUse, lock
from gateway.uplink_part import Part
from gateway.uplink_sender import Numbers, Sender
from gateway.uplink_socket import SOCKET_NAME, serve
from gateway.uplink_status import write_json
from gateway.uplink_ways import Ways
from logbook.quantities import TABLE
from sox import nodes
from sox.account import BACK_OFF_MOST_SECONDS, BACK_OFF_SECONDS, STEADY_SECONDS, back_off
from sox.client import SoxClient
from sox.documents import device_document
from sox.limits import Limits, limits
from sox.segments import announcements_device

LOOK_SECONDS = 1.0  # a sealed segment is noticed, and the status replaced, this often
DRAIN_LOOK_SECONDS = 0.2
TROUBLE_NS = 2 * int(BACK_OFF_MOST_SECONDS * 1e9)  # a trouble that has not come again for this long is over
LOCK_SECONDS = 3.0  # the sweeper may hold the lock for one step, while there was no uplink (gateway/sweeper_stand_in.py)
STATUS_NAME = "uplink.json"
NEVER_SECONDS = 1e9
SNAPSHOT_WIRE_BYTES = 6_000  # of a published snapshot and its answer, with XMPP, TLS and TCP: seen with all quantities

log = logging.getLogger("uplink")


class Pace(NamedTuple):
    """Times that tests shorten: until an unanswered announcement is repeated, first step of every back-off, between looks (seconds)."""

    repeat_seconds: float = REPEAT_SECONDS
    back_off_first: float = BACK_OFF_SECONDS
    look_seconds: float = LOOK_SECONDS


class Uplink:
    """One truck's uplink; `run()` it in an event loop. Raises what keeps it from starting: LiveError, sqlite3.Error, OSError, InUse."""

    def __init__(self, truck: config.Truck, pace: Pace | None = None) -> None:
        pace = pace or Pace()
        self.name = truck.name
        self._truck = truck
        self._spool = Path(truck.spool)
        self._boot = kernel_boot_id()[:8]
        self._lock = lock(self._spool, LOCK_SECONDS)
        self._live = LiveReceiver(truck.live_socket)
        self._books = Books(Ledger(self._spool / LEDGER_NAME))
        self._back_off_first = pace.back_off_first
        self._look_seconds = pace.look_seconds
        self._scans = 0
        self._scribe = ThreadPoolExecutor(1, "status")  # writes in the order asked: the last status is the last one written
        self._troubles: dict[str, tuple[int, str]] = {}  # by task: when (BOOTTIME ns), what
        self._ending = asyncio.Event()
        self._at_once = asyncio.Event()
        self._numbers = Numbers(self._books)
        self._clock = Clock()
        self._utc_offset_ns = 0  # UTC less BOOTTIME, of the recorder's newest snapshot; 0: it has no clock
        self._limits = Limits(None, None)
        self._latest: dict[str, Any] | None = None
        self._counted = 0  # snapshots of which the link's budget knows
        self._ways = Ways(truck, self._books, self._utc_ns)
        self._link = Link(truck, self._prepare, pace.back_off_first)
        self._sender = Sender(truck.name, self._numbers, self._link, pace.back_off_first)
        self._receipts = Receipts(truck.name, self._spool, self._books, self._link, pace.back_off_first)
        self._announcer = Announcer(truck.name, self._books, self._link, self._receipts, pace.repeat_seconds, pace.back_off_first)
        self._bulk = Bulk(
            self._spool, truck.hub.ca_file, self._books, self._link, self._ways, self._announcer.wake.set, pace.back_off_first
        )
        self._receipts.on_refused = self._bulk.wake.set
        self._desk = Desk(self._spool, truck.name, self._books, lambda: None, self._found)
        self._bulk.leases = lambda: self._desk.taken
        self._interface: str | None = None
        self._ways.on_change.append(self._way_changed)
        common = Common(
            truck, self._books, self._link, self._numbers, self._ways, self._utc_ns, lambda: self._latest, self._bulk.wake.set,
            pace.back_off_first,
        )  # fmt: skip
        self._parts: list[Part] = list(parts(common))
        self._link.on_item = self._item

    async def run(self, drain_seconds: float = 0.0) -> None:
        """Run until `stop()`, then drain for up to `drain_seconds`, then end in order."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._live.fileno(), self._datagrams)
        server = await serve(self._spool, self._desk)
        works: dict[str, Callable[[], Awaitable[None]]] = {
            "hub": self._link.run,
            "live": self._sender.run,
            "scan": self._scan_for_ever,
            "upload": self._upload,
            "announcements": self._announcer.run,
            "receipts": self._receipts.run,
            "receipts node": self._receipts.follow,
            "status": self._status_for_ever,
            "link": self._ways.run,
        }
        for part in self._parts:
            works.update(part.works)
        tasks = [asyncio.create_task(self._keep(name, work), name=name) for name, work in works.items()]
        tasks.append(asyncio.create_task(self._ended(drain_seconds), name="end"))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            loop.remove_reader(self._live.fileno())
            server.close()
            (self._spool / SOCKET_NAME).unlink(missing_ok=True)
            await self._close()
        for result in results:
            if isinstance(result, Exception):  # a fault in this program: loud, and the supervisor starts it anew
                raise result

    def stop(self) -> None:
        """Begin to end; a second call ends at once."""
        if self._ending.is_set():
            self._at_once.set()
        self._ending.set()

    async def _ended(self, drain_seconds: float) -> None:
        await self._ending.wait()
        try:
            async with asyncio.timeout(drain_seconds):
                await self._drained()
        except TimeoutError:
            if drain_seconds:
                log.warning("drain: not everything is receipted after %g s", drain_seconds)

    async def _drained(self) -> None:
        """Until a look into the folder that began after the request to end finds nothing left that could still be delivered."""
        first_scan = self._scans + 2  # the scan under way may have begun before
        while not self._at_once.is_set():
            if self._scans >= first_scan and await self._nothing_waits():
                return
            await asyncio.sleep(DRAIN_LOOK_SECONDS)

    async def _nothing_waits(self) -> bool:
        try:
            states = (await self._books(Ledger.totals)).segments
        except sqlite3.OperationalError as error:  # the disk may come back within the time given
            log.warning("drain: %s", error)
            return False
        if states["uploaded"] + states["announced"]:
            return False
        if states["sealed"]:
            allowed = [name for name in CLASSES if self._ways.allows(name)]
            if await self._books(Ledger.next_upload, set_aside_seconds=NEVER_SECONDS, classes=allowed) is not None:
                return False
        words = "drained: everything sealed that the link allows is receipted (%d set aside, %d wait for another link)"
        log.info(words, states["refused"], states["sealed"])
        return True

    def abandon(self) -> None:
        """Let go of everything, instead of run()."""
        self._live.close()
        self._ways.abandon()
        self._scribe.shutdown()
        self._books.close()
        self._lock.close()

    async def _close(self) -> None:
        self._live.close()
        try:
            await self._write_status()
            await self._ways.close()
        except (OSError, sqlite3.OperationalError) as error:
            log.warning("last status and account of the link: %s", error)
        self._scribe.shutdown()
        self._books.close()
        self._lock.close()

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a task for ever: a disk that refuses (full, read-only, failing) is told and tried again, and stops no other task."""
        failures = 0
        while True:
            started = boottime_ns()
            try:
                await work()
            except (sqlite3.OperationalError, OSError) as error:
                failures = 1 if boottime_ns() - started > STEADY_SECONDS * 1e9 else failures + 1
                log.error("%s: %s", name, error)
                self._troubles[name] = boottime_ns(), f"{name}: {error}"
                await asyncio.sleep(back_off(failures, self._back_off_first))

    # -- the hub

    async def _prepare(self, client: SoxClient) -> None:
        """After each connect, before anything else is published: ids above the hub's, and who we are."""
        name = self._truck.name
        await self._numbers.above([*await client.items(nodes.data(name)), *await client.items(nodes.meta(name))])
        await client.publish(nodes.meta(name), await self._numbers.next(), device_document(name, TABLE, name=name))
        channel = nodes.channel(name, "segments")
        await client.publish(nodes.meta(channel), await self._numbers.next(), announcements_device(channel))
        self._limits = await limits(client)
        self._bulk.max_file_bytes = self._limits.max_file_bytes
        for part in self._parts:
            await part.prepare(client)

    def _item(self, node: str, item_id: str, element: ET.Element) -> None:
        self._receipts.item(node, item_id, element)
        for part in self._parts:
            part.on_item(node, item_id, element)

    def _way_changed(self) -> None:
        interface = self._ways.now.interface
        if interface is None:
            return
        if self._interface not in (None, interface):
            self._link.renew(f"the way to the hub is now {interface}")
        self._interface = interface

    # -- the recorder

    def _datagrams(self) -> None:
        for datagram in self._live.waiting():
            if "kind" not in datagram:
                self._hear_clock(datagram)
                self._sender.offer(datagram)
            for part in self._parts:
                part.on_datagram(datagram)

    def _hear_clock(self, snapshot: dict[str, Any]) -> None:
        utc, at, boot = snapshot.get("utc_ns"), snapshot.get("boottime_ns"), snapshot.get("boot")
        if isinstance(utc, int) and isinstance(at, int) and isinstance(boot, str) and boot.startswith(self._boot):
            self._utc_offset_ns = utc - at if utc else 0

    def _utc_ns(self) -> int:
        """UTC now: the recorder's, who hears GNSS; else the system clock's, where somebody vouches for it; else 0."""
        now = boottime_ns()
        return now + self._utc_offset_ns if self._utc_offset_ns else self._clock.utc_ns(now)

    # -- the disk

    def _found(self) -> None:
        self._bulk.wake.set()
        for part in self._parts:
            part.on_found()

    async def _upload(self) -> None:
        """Bulk begins when the receipts that waited on the hub are in the ledger: what they deliver is not sent again."""
        await self._receipts.read_once.wait()
        await self._bulk.run()

    async def _scan_for_ever(self) -> None:
        while True:
            await self._desk.look()
            self._scans += 1
            try:  # at the end it looks at once, and oftener: the recorder has just sealed
                async with asyncio.timeout(self._look_seconds):
                    await self._ending.wait()
                await asyncio.sleep(min(DRAIN_LOOK_SECONDS, self._look_seconds))
            except TimeoutError:
                continue

    # -- status

    async def _status_for_ever(self) -> None:
        while True:
            await self._write_status()
            await asyncio.sleep(self._look_seconds)

    async def _write_status(self) -> None:
        self._ways.count(SNAPSHOT_WIRE_BYTES * (self._sender.published - self._counted))
        self._counted = self._sender.published
        status = self._latest = self._status(await self._books(Ledger.totals))
        for part in self._parts:
            status.update(part.status())
        await asyncio.get_running_loop().run_in_executor(self._scribe, write_json, self._spool / STATUS_NAME, status)

    def _status(self, totals: Totals) -> dict[str, Any]:
        """What people see. Delivered for ever = `receipted` + `deleted_segments`; backlog = not receipted, set aside ones included."""
        undelivered = [state for state in totals.segments if state not in ("receipted", "superseded")]
        now = boottime_ns()
        disk = [trouble for at, trouble in self._troubles.values() if now - at < TROUBLE_NS]
        said = (self._link.problem, self._receipts.problem, self._announcer.problem, self._ways.problem, self._too_large())
        troubles = [trouble for trouble in (*said, *(part.problem() for part in self._parts), *disk) if trouble]
        return {
            "truck": self._truck.name,
            "pid": os.getpid(),
            "boottime_ns": now,
            "connected": self._link.connected,
            "connects": self._link.connects,
            "draining": self._ending.is_set(),
            "problem": "; ".join(troubles) or None,
            "link": self._ways.status(),
            "hub_limits": self._limits._asdict(),
            **self._sender.status(),
            "live_malformed": self._sender.malformed + self._live.malformed,
            "segments": totals.segments,
            "backlog_segments": sum(totals.segments[state] for state in undelivered),
            "backlog_bytes": sum(totals.bytes[state] for state in undelivered),
            "deleted_segments": totals.deleted_segments,
            "deleted_bytes": totals.deleted_bytes,
            "dropped": totals.dropped,
            "set_aside": totals.set_aside,
            **self._bulk.status(),
            "announcements": self._announcer.announcements,
            "receipts": self._receipts.outcomes,
            "last_receipt": self._receipts.last,
            "ledger_rebuilt": self._books.rebuilt,
        }

    def _too_large(self) -> str | None:
        """The configuration against what the hub takes."""
        wanted, most = self._truck.images_segment_bytes, self._limits.max_file_bytes
        if most is None or wanted <= most:
            return None
        return f"images_segment_bytes is {wanted}, and the hub takes objects of up to {most} bytes"


def _check(truck: config.Truck) -> None:
    """Password and certificate files must be there at start, and the spool or room for one; raises ConfigError."""
    if (unreadable := truck.hub.unreadable_file()) is not None:
        raise config.ConfigError(unreadable)
    try:
        Path(truck.spool).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise config.ConfigError(f"spool {truck.spool}: {error.strerror}") from error


def _make(path: str) -> Uplink:
    """The uplink of a configuration file; raises CannotStart."""
    try:
        truck = config.load(path)
        _check(truck)
        return Uplink(truck)
    except config.ConfigError as error:
        raise CannotStart(str(error) if path in str(error) else f"{path}: {error}", 2) from error
    except (LiveError, InUse) as error:
        raise CannotStart(f"{path}: {error.strerror if isinstance(error, LiveError) and error.strerror else error}", 2) from error
    except (sqlite3.Error, OSError) as error:
        raise CannotStart(f"{path}: spool {truck.spool}: {error}", 1) from error


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = Parser(prog="python -m gateway.uplink", description="Send a truck's live values and segments to the hub.")
    parser.add_argument("config", nargs="+", help="the truck's TOML file; several: a fleet in one process, for simulation")
    parser.add_argument("--drain", type=seconds, default=0.0, metavar="SECONDS", help="at SIGTERM, first deliver what is sealed")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    return together(_make, options.config, options.drain)


if __name__ == "__main__":
    sys.exit(main())
