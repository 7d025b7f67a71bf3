"""Objects to and from the hub's upload service over HTTPS, for links that are slow, metered and cut at any time.

Limits: no resume (XEP-0363 has none: a broken PUT costs the object and its slot), so keep objects at 8-64 MB. There is no limit on
the total time, only on silence: a transfer is cut when for STALL_SECONDS no byte moved. "Moved" means acknowledged by the other
end's kernel (Linux TCP_INFO), not handed to ours: a socket buffer of some MB swallows an object long before a slow link carries it.

Success of a PUT is 200 or 201 and nothing else; redirects are not followed. It is no receipt: only the center's receipt is.
Cancelling the task cuts the transfer at once. Addresses are capabilities and never appear in an error's text.
"""

import asyncio
import hashlib
import inspect
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs

from sox.client import Slot
from sox.errors import SoxError, TransferError
from sox.stream import tls_context

__all__ = ["STALL_SECONDS", "TransferError", "fetch", "put_file"]

STALL_SECONDS = 15.0  # design section 4
CHUNK = 64 * 1024  # bytes read, sent and reported at a time; at 1 Mbit/s half a second
UNSENT = 256 * 1024  # bytes our kernel may hold unsent: pacing and cutting act on nothing older
CONTENT_TYPE = "application/octet-stream"
DELIVERED = (200, 201)

_TCP_NOTSENT_LOWAT = 25  # linux/tcp.h; Python's socket module has no name for it before 3.12
_BYTES_ACKED_AT = 120  # tcpi_bytes_acked (u64) in struct tcp_info, after 8 bytes, 24 u32 and two u64 (linux/tcp.h, since 4.1)

Progress = Callable[[int], Awaitable[None] | None]
_Result = TypeVar("_Result")


async def put_file(
    slot: Slot,
    path: str | Path,
    ca_file: str | Path,
    on_progress: Progress | None = None,
    stall_seconds: float = STALL_SECONDS,
    content_type: str = CONTENT_TYPE,
) -> int:
    """Upload the file `path` to `slot`; returns its size in bytes when the server took it, else raises TransferError.

    `on_progress(bytes)` is called with the bytes handed over so far; if it is a coroutine the transfer waits for it (pacing; its
    waits count as silence). The size is the file's when it is opened: one that changes meanwhile is an error, not another object.
    """
    context = _context(slot.put, ca_file)
    with _open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        headers = {**slot.headers, hdrs.CONTENT_LENGTH: str(size), hdrs.CONTENT_TYPE: content_type}
        link = _Link()

        async def put() -> None:
            body = _body(file, size, link, on_progress)
            async with link.session(context) as session, session.put(slot.put, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status not in DELIVERED:
                    raise TransferError("http", f"upload not taken: {answer.status} {answer.reason}", answer.status)

        await _watched(put(), link, stall_seconds)
    return size


async def fetch(url: str, ca_file: str | Path, target: str | Path, expected_size: int, stall_seconds: float = STALL_SECONDS) -> str:
    """Fetch `url` into the new file `target`, durable when this returns; returns the SHA-256 of its bytes (lower-case hex).

    Exactly `expected_size` bytes must come (else TransferError `size`; reading stops at the first byte too many). On any error
    `target` is removed. It must not exist before. Rename it to its final name afterwards, and sync the folder.
    """
    context = _context(url, ca_file)
    digest = hashlib.sha256()
    file = _open(target, "xb")
    try:
        with file:
            link = _Link()

            async def get() -> None:
                headers = {hdrs.ACCEPT_ENCODING: "identity"}
                async with link.session(context) as session, session.get(url, headers=headers, allow_redirects=False) as answer:
                    if answer.status != 200:
                        raise TransferError("http", f"object not given: {answer.status} {answer.reason}", answer.status)
                    async for chunk in answer.content.iter_chunked(CHUNK):
                        link.moved += len(chunk)
                        if link.moved > expected_size:
                            raise TransferError("size", f"the object is longer than {expected_size} bytes")
                        digest.update(chunk)
                        await asyncio.to_thread(_write, file, chunk)

            await _watched(get(), link, stall_seconds)
            if link.moved != expected_size:
                raise TransferError("size", f"the object has {link.moved} bytes, not {expected_size}")
            await asyncio.to_thread(_sync, file)
    except BaseException:
        _remove(target)  # not in a thread: a cancelled task could not wait for it
        raise
    return digest.hexdigest()


class _Link:
    """The connection of one transfer: how far it got, and what our side of it went wrong with."""

    def __init__(self) -> None:
        self.moved = 0  # bytes that passed through our hands
        self.error: TransferError | None = None
        self._sockets: list[socket.socket] = []

    def session(self, context: ssl.SSLContext) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=context, force_close=True, socket_factory=self._socket)
        # aiohttp's own limits (300 s in all) would end every large object on a slow link.
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False)

    def mark(self) -> tuple[int, int]:
        """Two counters of which one changes whenever a byte moves."""
        return self.moved, sum(_bytes_acknowledged(made) for made in self._sockets if made.fileno() >= 0)

    def _socket(self, address: tuple) -> socket.socket:
        made = socket.socket(address[0], address[1], address[2])
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT)
        self._sockets.append(made)
        return made


async def _watched(work: Coroutine[None, None, _Result], link: _Link, stall_seconds: float) -> _Result:
    """The result of `work`, cut when `link` does not move for `stall_seconds`; everything that goes wrong as TransferError."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    seen, since = link.mark(), loop.time()
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=min(0.5, stall_seconds / 4))
            mark = link.mark()
            if mark != seen:
                seen, since = mark, loop.time()
            elif loop.time() - since >= stall_seconds and not task.done():
                raise TransferError("stalled", f"no byte moved for {stall_seconds:g} s")
        result = task.result()
        if link.error is not None:
            raise link.error
        return result
    except aiohttp.ClientSSLError as error:
        reason = getattr(error, "certificate_error", None) or error.os_error
        raise TransferError("certificate", getattr(reason, "verify_message", None) or str(reason)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise link.error or TransferError("connection", f"the transfer broke: {type(error).__name__}") from error
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _body(file: BinaryIO, size: int, link: _Link, on_progress: Progress | None) -> AsyncIterator[bytes]:
    while link.moved < size:
        try:
            chunk = await asyncio.to_thread(file.read, min(CHUNK, size - link.moved))
        except OSError as error:
            link.error = TransferError("file", f"{file.name}: {error.strerror}")
            raise link.error from error
        if not chunk:
            link.error = TransferError("file", f"{file.name} became shorter while it was sent")
            raise link.error
        yield chunk  # aiohttp comes back when the connection has room again
        link.moved += len(chunk)
        if on_progress is not None:
            waiting = on_progress(link.moved)
            if inspect.isawaitable(waiting):
                await waiting
    if os.fstat(file.fileno()).st_size != size:
        link.error = TransferError("file", f"{file.name} changed while it was sent")
        raise link.error


def _bytes_acknowledged(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED_AT + 8)
    return struct.unpack_from("<Q", info.ljust(_BYTES_ACKED_AT + 8, b"\0"), _BYTES_ACKED_AT)[0]


def _context(url: str, ca_file: str | Path) -> ssl.SSLContext:
    try:
        scheme = urlsplit(url).scheme
    except ValueError:  # its text would repeat the address
        scheme = ""
    if scheme != "https":
        raise TransferError("bad-address", "only https addresses are used")
    try:
        return tls_context(ca_file)
    except SoxError as error:
        raise TransferError(error.condition, error.text) from error


def _open(path: str | Path, mode: str) -> BinaryIO:
    try:
        return open(path, mode)  # type: ignore[return-value]  # binary in both modes used here
    except OSError as error:
        raise TransferError("file", f"{path}: {error.strerror}") from error


def _remove(path: str | Path) -> None:
    Path(path).unlink(missing_ok=True)


def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise TransferError("file", f"{file.name}: {error.strerror}") from error


def _sync(file: BinaryIO) -> None:
    try:
        file.flush()
        os.fsync(file.fileno())
    except OSError as error:
        raise TransferError("file", f"{file.name}: {error.strerror}") from error
