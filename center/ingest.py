"""`python -m center.ingest CONFIG --worker NAME`: one worker of an archive, until SIGTERM or SIGINT. Fetches, verifies, stores, tables.

Any number may run beside the center (center/__main__.py starts `workers` of them, which end with it: --with-center). A worker asks the
center for announcements (center/ingest_desk.py), waits for it while it is away, and may be killed at any moment: what it had in hand is
handed out again, an object half fetched is worth nothing, and a batch of tables that was begun is finished by whoever comes next
(center/tables.py). Exit code 2 and one line if it cannot start.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import msgspec

from center.archive import Archive, ArchiveError
from center.config import Center, ConfigError, load
from center.ingest_desk import BEAT_S, LINE_BYTES, short_path
from center.ingest_take import FETCHES, Taker, taker
from center.tables_turn import tabling
from sox.errors import SoxError
from sox.segments import Announcement

RETRY_S = 1.0  # until the center is looked for again

log = logging.getLogger("center.ingest")


class Worker:
    """Does what the center hands out."""

    def __init__(self, archive: Archive, take: Taker, name: str) -> None:
        self._archive, self._taker, self._name = archive, take, name

    async def run(self, with_center: bool) -> None:
        """Work until cancelled; `with_center`: until the center that was there has gone."""
        while True:
            try:
                with short_path(self._archive.folder) as path:
                    reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES)
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(RETRY_S)
                continue
            try:
                await self._session(reader, writer)
            except (OSError, asyncio.IncompleteReadError) as error:
                log.warning("center: %s", error)
            finally:
                writer.close()
            if with_center:
                return
            await asyncio.sleep(RETRY_S)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection to the center, from its beginning to its end. What is in hand then is dropped: the center hands it out again."""
        tasks = {asyncio.create_task(self._beat(writer))}
        try:
            _tell(writer, {"worker": self._name, "slots": FETCHES})
            while line := await reader.readline():
                told = msgspec.json.decode(line, type=dict[str, Any])
                task = asyncio.create_task(self._do(told["job"], Announcement(**told["announcement"]), writer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _do(self, job: int, announcement: Announcement, writer: asyncio.StreamWriter) -> None:
        try:
            receipt = await self._taker.take(announcement)
        except (SoxError, OSError, sqlite3.Error) as error:
            _tell(writer, {"job": job, "failed": str(error) or type(error).__name__})
        except Exception as error:  # a fault of ours: the center must not wait for an answer that never comes
            log.exception("%s", announcement.segment_id)
            _tell(writer, {"job": job, "failed": f"{type(error).__name__}: {error}"})
        else:
            _tell(writer, {"job": job, "receipt": receipt._asdict()})

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            _tell(writer, {"worker": self._name})


def _tell(writer: asyncio.StreamWriter, told: dict[str, Any]) -> None:
    writer.write(msgspec.json.encode(told) + b"\n")


async def run(config: Center, archive: Archive, name: str, with_center: bool) -> None:
    """Work until SIGTERM or SIGINT (`with_center`: or until the center has gone)."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    parts = [
        asyncio.create_task(Worker(archive, taker(config, archive), name).run(with_center), name="worker"),
        asyncio.create_task(tabling(archive, config.tables), name="tables"),
        asyncio.create_task(stop.wait(), name="stop"),
    ]
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()  # a part that ended by itself ended with an error, or its center has gone
    finally:
        for task in parts:
            task.cancel()
        await asyncio.gather(*parts, return_exceptions=True)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m center.ingest", description="A worker: fetch, verify, store, table.")
    parser.add_argument("config", type=Path, help="the center's TOML file (see center/config.py)")
    parser.add_argument("--worker", required=True, metavar="NAME", help="its name in logs")
    parser.add_argument("--with-center", action="store_true", help="end when the center ends, instead of waiting for the next one")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s %(name)s {options.worker} %(levelname)s %(message)s")
    try:
        config = load(options.config)
        archive = Archive.join(config.store(), config.quarantine_bytes, config.state_folder)
    except (ConfigError, ArchiveError) as error:
        print(f"center.ingest: {error}", file=sys.stderr)
        return 2
    with contextlib.closing(archive):
        asyncio.run(run(config, archive, options.worker, options.with_center))
    return 0


if __name__ == "__main__":
    sys.exit(main())
