"""`python -m hub.reaper`: keeps the hub's disk bounded. An uploaded object goes

- within 60 s of the receipt that says that the center has stored it (`receipted`);
- 24 h after its upload where the center refused it (`refused`): the center keeps its own copy of what it refused, and the truck keeps the
  segment until a receipt says stored, so nobody reads the hub's; a day leaves time to look at one, and a center that was set up wrongly
  for an hour does not cost the fleet all its uploads;
- 7 days after its upload else (`expired`): never announced, pushed out of the node, of a revoked truck, or the center was away.

A process of its own, which may be killed at any time: all it knows stands on the hub's nodes and on the disk. After each connection it
subscribes, looks at the disk, and reads the newest items of the trucks that have objects there; trucks with objects that have no answer
yet are read whole, then and every 10 minutes. Retention needs no hub. It is on the hub's machine, so it connects again without back-off.

It reads as the hub's admin, and what it reads is not believed: an announcement counts for objects in its own truck's folder only
(hub/reaper_folder.py), and a receipt only for the content that was announced (hub/reaper_books.py).
"""

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hub.accounts import ADMIN, truck_accounts
from hub.reaper_decide import Reaping
from hub.reaper_folder import Folder, owner_of
from sox import nodes
from sox.client import SoxClient
from sox.errors import SoxError
from sox.keeping import connection

KEEP_SECONDS = 7 * 86_400.0  # design section 3
REFUSED_SECONDS = 86_400.0
INTERVAL_SECONDS = 30.0  # between two looks at the disk
RETRY_SECONDS = 5.0  # between two tries to connect; well within the 60 s
READ_AGAIN_SECONDS = 600.0  # a truck repeats what has no receipt as often
NEWEST = 100  # items read first, so that what was receipted while we were away goes at once

log = logging.getLogger("hub.reaper")


class Settings(NamedTuple):
    """`ready` is the hub's ready file (domain, host, c2s_port, ca_file, secrets), read at each connection."""

    ready: Path
    docroot: Path
    status: Path
    keep_s: float = KEEP_SECONDS
    refused_s: float = REFUSED_SECONDS
    interval_s: float = INTERVAL_SECONDS
    retry_s: float = RETRY_SECONDS
    read_again_s: float = READ_AGAIN_SECONDS


class Reaper:
    """Runs until cancelled."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = Folder(settings.docroot)
        self._reaping = Reaping(self._folder, settings.keep_s, settings.refused_s)
        self._looking = asyncio.Lock()
        self._connected = False
        self._problem: str | None = "not connected yet"
        self._trucks = 0

    async def run(self) -> None:
        """Look at the disk and listen to the hub until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_for_ever())
            group.create_task(self._listen_for_ever())

    def write_status(self) -> None:
        """Replace the status file. A disk that refuses it, a full one, is no reason to stop making room."""
        reaping = self._reaping
        status = {
            "pid": os.getpid(), "connected": self._connected, "problem": self._problem, "trucks": self._trucks,
            "folder_objects": reaping.left.objects, "folder_bytes": reaping.left.size, "oldest_s": round(reaping.left.disk_age_s),
            "unanswered": sum(reaping.unanswered.values()), "mismatched": reaping.left.mismatched, "deleted": reaping.removed(),
            "latency_max_s": round(reaping.latency_max_s, 3), "late": reaping.counts["late"], "foreign": reaping.counts["foreign"],
            "looks": reaping.counts["looks"], "disk_errors": reaping.counts["disk errors"],
        }  # fmt: skip
        new = self._settings.status.with_name(self._settings.status.name + ".new")
        try:
            new.write_text(json.dumps(status) + "\n", "utf-8")
            new.rename(self._settings.status)
        except OSError as error:
            log.warning("%s: %s", new, error.strerror)

    async def _look_for_ever(self) -> None:
        while True:
            await self._look()
            self.write_status()
            await asyncio.sleep(self._settings.interval_s)

    async def _look(self) -> None:
        """One look at the disk: remove what is due, count the rest."""
        async with self._looking:
            try:
                owners = await asyncio.to_thread(self._folder.owners)
                self._reaping.begin(owners)
                for owner in owners:
                    self._reaping.looked(owner, await asyncio.to_thread(self._folder.look, owner))
            except OSError as error:
                self._reaping.disk_refused(error)
            else:
                self._reaping.end()

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                problem = await self._session()
            except SoxError as error:
                problem = str(error)
            if problem != self._problem:
                log.warning("hub: %s", problem)
            self._problem = problem
            await asyncio.sleep(self._settings.retry_s)

    async def _session(self) -> str:
        """One connection; returns why it ended, or raises SoxError."""
        client, secrets = await asyncio.to_thread(self._reach)
        async with connection(client, partial(self._reaping.item, client.domain)) as lost:
            self._connected, self._problem = True, None
            attending = asyncio.ensure_future(self._attend(client, secrets))
            ends: list[asyncio.Future[Any]] = [attending, lost]
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if not lost.done():
                    await attending  # it ends by an error only
                return str(await lost or "the connection was closed")
            finally:
                self._connected = False
                attending.cancel()
                await asyncio.gather(attending, return_exceptions=True)

    def _reach(self) -> tuple[SoxClient, Path]:
        try:
            ready = json.loads(self._settings.ready.read_text("utf-8"))
            secrets = Path(ready["secrets"])
            password = (secrets / ADMIN).read_text("ascii")
            return SoxClient(f"{ADMIN}@{ready['domain']}", password, ready["host"], ready["c2s_port"], ready["ca_file"]), secrets
        except OSError as error:
            raise SoxError("refused", f"{error.filename}: {error.strerror}: the hub is not ready") from error
        except (ValueError, KeyError, TypeError) as error:
            raise SoxError("refused", f"{self._settings.ready}: not a hub's ready file: {error!r}") from error

    async def _attend(self, client: SoxClient, secrets: Path) -> None:
        """Subscribe first and read after, so that nothing falls between; what comes twice changes nothing."""
        trucks: dict[str, str] = {}  # owner -> truck
        read_at: dict[str, float] = {}  # owner -> when it was read whole
        now = asyncio.get_running_loop().time
        while True:
            for truck in await asyncio.to_thread(_accounts, secrets) - set(trucks.values()):
                if await _subscribed(client, truck):
                    trucks[owner_of(f"{truck}@{client.domain}")] = truck
            self._trucks = len(trucks)
            await self._look()
            new = [owner for owner in self._unanswered(trucks) if owner not in read_at]
            for owner in new:
                await self._read(client, trucks[owner], NEWEST)
                read_at[owner] = now() - self._settings.read_again_s
            if new:
                await self._look()
            for owner in self._unanswered(trucks):
                if owner in read_at and now() - read_at[owner] >= self._settings.read_again_s:
                    await self._read(client, trucks[owner], None)
                    read_at[owner] = now()
            self.write_status()
            await asyncio.sleep(self._settings.interval_s)

    def _unanswered(self, trucks: dict[str, str]) -> list[str]:
        """Of `trucks`, the owners that have objects without an answer on the disk."""
        return [owner for owner, count in self._reaping.unanswered.items() if count and owner in trucks]

    async def _read(self, client: SoxClient, truck: str, most: int | None) -> None:
        for node in _nodes(truck):
            for item_id, element in await client.items(node, most):
                self._reaping.item(client.domain, node, item_id, element)


def _accounts(secrets: Path) -> set[str]:
    """The trucks that have accounts."""
    try:
        return set(truck_accounts(secrets))
    except OSError as error:
        raise SoxError("refused", f"{error.filename}: {error.strerror}") from error


async def _subscribed(client: SoxClient, truck: str) -> bool:
    try:
        for node in _nodes(truck):
            await client.subscribe(node)
    except SoxError as error:
        if error.condition != "item-not-found":
            raise
        return False  # its nodes are being made
    return True


def _nodes(truck: str) -> tuple[str, str]:
    """Where its announcements and its receipts are, in the order in which they are read."""
    return nodes.data(nodes.channel(truck, "segments")), nodes.data(nodes.channel(truck, "receipts"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command until SIGTERM or SIGINT; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="hub.reaper", description="Removes uploaded objects from the hub's disk once the center has stored them.",
        epilog="example: python -m hub.reaper --home /var/lib/cruisers-hub --ready /run/cruisers/hub.json",
    )  # fmt: skip
    parser.add_argument("--home", type=Path, required=True, help="folder of the hub; reaper.json (status) is written there")
    parser.add_argument("--ready", type=Path, required=True, help="the hub's ready file (it may be absent until the hub is ready)")
    parser.add_argument("--docroot", type=Path, help="folder of the uploads (default: upload in --home)")
    parser.add_argument("--keep-days", type=_positive, default=KEEP_SECONDS / 86_400, help="what has no receipt is kept so long (7)")
    parser.add_argument("--refused-days", type=_positive, default=REFUSED_SECONDS / 86_400, help="what was refused (1)")
    parser.add_argument("--interval", type=_positive, default=INTERVAL_SECONDS, help="seconds between two looks at the disk (30)")
    given = parser.parse_args(arguments)
    docroot = given.docroot or given.home / "upload"
    for folder in (given.home, docroot):
        if not folder.is_dir():
            print(f"hub.reaper: {folder}: no such folder", file=sys.stderr)
            return 2
    logging.basicConfig(level=logging.WARNING, format="hub.reaper: %(message)s")
    keep_s, refused_s = given.keep_days * 86_400, given.refused_days * 86_400
    asyncio.run(_until_told(Settings(given.ready, docroot, given.home / "reaper.json", keep_s, refused_s, given.interval)))
    return 0


async def _until_told(settings: Settings) -> None:
    reaper = Reaper(settings)
    running = asyncio.ensure_future(reaper.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        reaper.write_status()


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


if __name__ == "__main__":
    sys.exit(main())
