"""A stand-in for an uplink that is not there, so that a full disk does not end the recording.

Nothing that is not receipted goes without the uplink's leave, because only it knows what is on its way. An uplink that never runs (a wrong
password, a hub not yet set up) would let the disk run full, and then nothing at all could be written, neither readings nor the record
of what is missing. So at the hard floor the sweeper takes the uplink's lock: then no uplink is running and none can begin, nothing is
being sent, and the ledger says what was uploaded or announced and still waits for its receipt. It answers itself at the uplink's desk,
with the uplink's code, for a few steps, and lets go. An uplink that starts meanwhile waits that long."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.ledger import LEDGER_NAME, Ledger
from gateway.uplink_books import Books
from gateway.uplink_desk import Desk
from gateway.uplink_lock import lock
from gateway.uplink_socket import SOCKET_NAME, serve


@contextmanager
def stand_in(spool: Path, truck: str) -> Iterator[None]:
    """While it lasts, the spool's ledger socket is answered by a thread of this process. Raises InUse if there is an uplink,
    sqlite3.Error or OSError if no ledger can be kept."""
    held = lock(spool)
    try:
        books = Books(Ledger(spool / LEDGER_NAME))
        try:
            with answering(spool, Desk(spool, truck, books, lambda: None, lambda: None)):
                yield
        finally:
            books.close()
    finally:
        held.close()


@contextmanager
def answering(spool: Path, desk: Desk) -> Iterator[None]:
    """While it lasts, a thread answers at the spool's ledger socket; the caller holds the spool's lock."""
    loop = asyncio.new_event_loop()
    try:
        server = loop.run_until_complete(serve(spool, desk))
        thread = threading.Thread(target=loop.run_forever, name="desk")
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            server.close()
            (spool / SOCKET_NAME).unlink(missing_ok=True)
            loop.run_until_complete(_end_connections())
    finally:
        loop.close()


async def _end_connections() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
