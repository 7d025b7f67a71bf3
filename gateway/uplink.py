"""The uplink: from the truck's disk to the hub. `python -m gateway.uplink CONFIG [--drain SECONDS]`.

One process, tasks that never wait for one another:

    live socket ─> Sender ─────────> <truck>_data          newest snapshot only, never behind a bulk transfer
    spool ─> scan ─> ledger ─> Bulk ─PUT─> web server      one segment at a time, readings before images, oldest first
                     ledger ─> Announcer ─> <truck>_segments_data
    <truck>_receipts_data ─> Receipts ─> ledger            read as a whole at connect, then by subscription
    ledger <─> ledger.sock <─ sweeper

Killed at any moment it goes on from the ledger and the folder: a step is written down only after it happened, and repeating one is
harmless. A trouble of disk or hub is a line in the status (<spool>/uplink.json, replaced every second), never an exit.
SIGTERM ends it in order; with --drain it first tries, for up to so many seconds, to get everything sealed uploaded, announced and
receipted. A second SIGTERM ends it at once. Exit codes: 0 ended in order, 1 no ledger can be kept in the spool, 2 bad configuration
(also: a second uplink on the same spool).
"""

import asyncio
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from gateway import config
from gateway.clock import boottime_ns
from gateway.ledger import LEDGER_NAME, Ledger, Totals
from gateway.live import LiveError, LiveReceiver
from gateway.uplink_announcer import REPEAT_SECONDS, Announcer, Receipts
from gateway.uplink_arguments import Parser, seconds
from gateway.uplink_books import Books
from gateway.uplink_bulk import Bulk
from gateway.uplink_desk import Desk
from gateway.uplink_link import Link
from gateway.uplink_lock import InUse, lock
from gateway.uplink_sender import Numbers, Sender
from gateway.uplink_socket import SOCKET_NAME, serve
from gateway.uplink_status import write_json
from logbook.quantities import TABLE
from sox import nodes
from sox.account import BACK_OFF_MOST_SECONDS, BACK_OFF_SECONDS, STEADY_SECONDS, back_off
from sox.client import SoxClient
from sox.documents import device_document
from sox.segments import announcements_device

LOOK_SECONDS = 1.0  # a sealed segment is noticed, and the status replaced, this often
DRAIN_LOOK_SECONDS = 0.2
TROUBLE_NS = 2 * int(BACK_OFF_MOST_SECONDS * 1e9)  # a trouble that has not come again for this long is over
LOCK_SECONDS = 3.0  # the sweeper may hold the lock for one step, while there was no uplink (gateway/sweeper_stand_in.py)
STATUS_NAME = "uplink.json"

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
        self._truck = truck
        self._spool = Path(truck.spool)
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
        self._link = Link(truck, self._prepare, pace.back_off_first)
        self._sender = Sender(truck.name, self._numbers, self._link, pace.back_off_first)
        self._receipts = Receipts(truck.name, self._spool, self._books, self._link, pace.back_off_first)
        self._link.on_item = self._receipts.item
        self._announcer = Announcer(truck.name, self._books, self._link, self._receipts, pace.repeat_seconds, pace.back_off_first)
        self._bulk = Bulk(self._spool, truck.hub.ca_file, self._books, self._link, self._announcer.wake, pace.back_off_first)
        self._receipts.on_refused = self._bulk.wake.set
        self._desk = Desk(self._spool, truck.name, self._books, lambda: self._bulk.leased, self._bulk.wake.set)
        self._bulk.taken = lambda: self._desk.taken.keys()

    async def run(self, drain_seconds: float = 0.0) -> None:
        """Run until `stop()`, then drain for up to `drain_seconds`, then end in order."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._live.fileno(), self._snapshot)
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
        }
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
        if states["sealed"] + states["uploaded"] + states["announced"]:
            return False
        log.info("drained: everything sealed is receipted (%d set aside)", states["refused"])
        return True

    async def _close(self) -> None:
        self._live.close()
        try:
            await self._write_status()
        except (OSError, sqlite3.OperationalError) as error:
            log.warning("last status: %s", error)
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

    def _snapshot(self) -> None:
        datagram = self._live.newest()
        if datagram is not None:
            self._sender.offer(datagram)

    # -- the disk

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
        status = self._status(await self._books(Ledger.totals))
        await asyncio.get_running_loop().run_in_executor(self._scribe, write_json, self._spool / STATUS_NAME, status)

    def _status(self, totals: Totals) -> dict[str, Any]:
        """What people see. Delivered for ever = `receipted` + `deleted_segments`; backlog = not receipted, set aside ones included."""
        undelivered = [state for state in totals.segments if state not in ("receipted", "superseded")]
        now = boottime_ns()
        disk = [trouble for at, trouble in self._troubles.values() if now - at < TROUBLE_NS]
        troubles = [trouble for trouble in (self._link.problem, self._receipts.problem, self._announcer.problem, *disk) if trouble]
        return {
            "truck": self._truck.name,
            "pid": os.getpid(),
            "boottime_ns": now,
            "connected": self._link.connected,
            "connects": self._link.connects,
            "draining": self._ending.is_set(),
            "problem": "; ".join(troubles) or None,
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


def _check(truck: config.Truck) -> None:
    """Password and certificate files must be there at start, and the spool or room for one; raises ConfigError."""
    if (unreadable := truck.hub.unreadable_file()) is not None:
        raise config.ConfigError(unreadable)
    try:
        Path(truck.spool).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise config.ConfigError(f"spool {truck.spool}: {error.strerror}") from error


async def _main(truck: config.Truck, drain_seconds: float) -> None:
    uplink = Uplink(truck)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, uplink.stop)
    await uplink.run(drain_seconds)


def main(arguments: list[str] | None = None) -> int:
    """The program; returns its exit code."""
    parser = Parser(prog="python -m gateway.uplink", description="Send a truck's live values and segments to the hub.")
    parser.add_argument("config", help="the truck's TOML file")
    parser.add_argument("--drain", type=seconds, default=0.0, metavar="SECONDS", help="at SIGTERM, first deliver what is sealed")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        truck = config.load(options.config)
        _check(truck)
        asyncio.run(_main(truck, options.drain))
    except (config.ConfigError, LiveError, InUse) as error:
        print(error.strerror if isinstance(error, LiveError) and error.strerror else error, file=sys.stderr)
        return 2
    except (sqlite3.Error, OSError) as error:
        print(f"spool {truck.spool}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
