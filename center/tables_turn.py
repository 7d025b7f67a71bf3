"""Whose turn it is to table: one process of an archive at a time, the one that holds `<state>/_tables.lock`; the others see to it that
somebody does. A lock of the kernel: it ends with its process, however that ends."""

import asyncio
import contextlib
import fcntl
import logging
import sqlite3
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from center.archive import Archive
from center.config import Tables as Settings

if TYPE_CHECKING:
    from center.tables import Tables

log = logging.getLogger("center.tables")


@contextlib.contextmanager
def turn(archive: Archive, wait: bool = False) -> Iterator[bool]:
    """Whether it is our turn while the context lasts; with `wait`, once it is. Raises OSError."""
    with (archive.folder / "_tables.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


async def tabling(archive: Archive, settings: Settings) -> None:
    """Table what waits, and keep the tables' files few, until cancelled. A batch under way is then left for whoever comes next."""
    stopping = threading.Event()
    work = asyncio.create_task(asyncio.to_thread(_work, archive, settings, stopping))
    try:
        await asyncio.shield(work)
    finally:
        stopping.set()
        await work


def _work(archive: Archive, settings: Settings, stopping: threading.Event) -> None:
    from deltalake.exceptions import DeltaError  # here: the page must not wait for 100 MB of libraries

    from center.tables import Stopped, Tables

    tables: Tables | None = None
    while not stopping.is_set():
        try:
            with turn(archive) as ours:
                if ours:
                    tables = tables or Tables(archive, stopping.is_set)
                    _table(tables, settings)
        except Stopped:
            return
        except (OSError, DeltaError, sqlite3.Error) as error:
            log.error("tables: %s", error)
        except Exception:  # a fault of ours: the segments are safe and wait; what else this process does must go on
            log.exception("tables")
        stopping.wait(settings.every_s)


def _table(tables: "Tables", settings: Settings) -> None:
    """All that waits now, in batches, and the tables tidied."""
    waiting = sum(tables.books.waiting())
    while waiting > 0 and (done := tables.table(settings.segments)):
        waiting -= done
    tables.tidy(settings.compact_every_s, settings.keep_hours)
