"""How the center hands announcements to its workers: `<state>/ingest.sock`, a Unix stream socket, one JSON object a line.

    worker → {"worker": name, "slots": n}                        first: takes up to n segments at once
    worker → {"worker": name}                                    again every BEAT_S: alive
    center → {"job": n, "announcement": {…}}
    worker → {"job": n, "receipt": {…}} or {"job": n, "failed": text}

A connection is also the claim: what a worker has not answered when its connection ends, however it ends, is handed out again, and one
that is silent for LAPSE_S (stopped, swapped out) is cut. So a segment is fetched by one worker, and by a second one only if the first is
gone; should the first store it after all, it stores the same bytes under the same name. Announcements hold addresses, which are
capabilities: they go through the kernel and never to the disk. Who may work: the same user or root (SO_PEERCRED, mode 0600).
"""

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec

from sox.segments import Announcement, Receipt

SOCKET_NAME = "ingest.sock"
LINE_BYTES = 1 << 16  # an announcement's address has at most 4096 characters
BEAT_S, LAPSE_S = 5.0, 60.0

log = logging.getLogger("center.ingest")


class WorkerError(OSError):
    """A worker did not answer, or could not do it now."""


class _Worker:
    """One connection of the center's side."""

    def __init__(self, name: str, writer: asyncio.StreamWriter) -> None:
        self.name, self.writer = name, writer
        self.open: dict[int, asyncio.Future[Receipt]] = {}

    def answer(self, line: dict[str, Any]) -> None:
        job = self.open.get(line.get("job", 0))
        if job is None or job.done():
            return
        if "receipt" in line:
            job.set_result(Receipt(**line["receipt"]))
        else:
            job.set_exception(WorkerError(f"{line.get('failed', 'no reason')}"))


class Desk:
    """The center's side: `take` has the signature of Taker.take."""

    def __init__(self, state: Path, lapse_s: float = LAPSE_S) -> None:
        self._state, self._lapse_s = state, lapse_s
        self._free: asyncio.Queue[_Worker] = asyncio.Queue()  # a worker once for each of its free slots
        self._numbers = itertools.count(1)
        self._workers: set[_Worker] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def names(self) -> list[str]:
        """The workers that are there."""
        return sorted(worker.name for worker in self._workers)

    async def take(self, announcement: Announcement) -> Receipt:
        """The receipt that a worker has for it; waits until one is free. Raises WorkerError."""
        while (worker := await self._free.get()) not in self._workers:
            pass  # it has gone meanwhile
        number = next(self._numbers)
        job = worker.open[number] = asyncio.get_running_loop().create_future()
        try:
            worker.writer.write(_line({"job": number, "announcement": announcement._asdict()}))
            return await job
        finally:
            del worker.open[number]
            self._free.put_nowait(worker)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Workers may come while the context lasts. The caller is the center of the archive: a socket found here is a dead one."""
        (self._state / SOCKET_NAME).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with listener:
            with short_path(self._state) as path:
                listener.bind(path)
                os.chmod(path, 0o600)  # before it listens: until then nobody can connect, whatever the mode
            listener.setblocking(False)
            server = await asyncio.start_unix_server(self._came, sock=listener, limit=LINE_BYTES)
            try:
                yield
            finally:
                server.close()
                for worker in list(self._workers):
                    worker.writer.close()
                await asyncio.gather(*self._serving)
                (self._state / SOCKET_NAME).unlink(missing_ok=True)

    def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker: _Worker | None = None
        reason = "went away"
        try:
            if not _may_work(writer.get_extra_info("socket")):
                return
            while line := await asyncio.wait_for(reader.readline(), self._lapse_s):
                told = msgspec.json.decode(line, type=dict[str, Any])
                if worker is None:
                    worker = _Worker(str(told["worker"]), writer)
                    self._workers.add(worker)
                    log.info("worker %s is here", worker.name)
                    for _ in range(int(told["slots"])):
                        self._free.put_nowait(worker)
                elif "job" in told:
                    worker.answer(told)
        except TimeoutError:
            reason = f"was silent for {self._lapse_s:g} s"
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"broke off: {error}"
        finally:
            if worker is not None:
                self._workers.discard(worker)
                log.log(logging.WARNING if worker.open else logging.INFO, "worker %s %s", worker.name, reason)
                for job in worker.open.values():
                    if not job.done():
                        job.set_exception(WorkerError(f"worker {worker.name} {reason}"))
            writer.close()


@contextlib.contextmanager
def short_path(state: Path) -> Iterator[str]:
    """A path of the socket file that fits into the 107 bytes that a socket's path may have, for as long as it is needed."""
    folder = os.open(state, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)


def _line(told: dict[str, Any]) -> bytes:
    return msgspec.json.encode(told) + b"\n"


def _may_work(connection: socket.socket) -> bool:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return struct.unpack("3i", credentials)[1] in (0, os.getuid())
