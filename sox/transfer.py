"""Objects to and from the hub's upload service over HTTPS, for links that are slow, metered and cut at any time.

Limits: no resume (XEP-0363 has none: a broken PUT costs the object and its slot), so keep objects at 8-64 MB. There is no limit on
the total time, only on silence: a transfer is cut when for STALL_SECONDS no byte moved. "Moved" means acknowledged by the other
end's kernel (Linux TCP_INFO), not handed to ours: a socket buffer of some MB swallows an object long before a slow link carries it.

Success of a PUT is 200 or 201 and nothing else; redirects are not followed. It is no receipt: only the center's receipt is. A PUT is tried
once: its slot is spent with it, and an answer that is lost leaves an object at the hub that nobody announces (the reaper takes it in time).
Cancelling the task cuts the transfer at once, by a reset. Addresses are capabilities and never appear in an error's text.
"""

import asyncio
import hashlib
import inspect
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs

from sox.errors import SoxError, TransferError
from sox.tls import tls_context
from sox.transfer_wire import Wire

if TYPE_CHECKING:
    from sox.client import Slot  # not at run time: a worker that only fetches needs no XMPP

__all__ = ["CHUNK", "STALL_SECONDS", "TransferError", "fetch", "put_file"]

STALL_SECONDS = 15.0  # design section 4
CHUNK = 16 * 1024  # bytes sent and reported at a time; at 1 Mbit/s an eighth of a second
BLOCK = 16 * CHUNK  # bytes read from the disk at a time
LOOK_SECONDS = 0.5  # between two looks at the progress
CONTENT_TYPE = "application/octet-stream"
DELIVERED = (200, 201)
# What the numbers mean for the one who reads the status; others are told as the server names them.
IN_WORDS = {
    409: "the hub says that something is there already",
    413: "the hub takes no object of this size",
    507: "the hub's disk is full",
}

Progress = Callable[[int], Awaitable[None] | None]
_Result = TypeVar("_Result")


async def put_file(
    slot: "Slot",
    path: str | Path,
    ca_file: str | Path,
    on_progress: Progress | None = None,
    stall_seconds: float = STALL_SECONDS,
    content_type: str = CONTENT_TYPE,
    on_wire: Callable[[int], None] | None = None,
) -> int:
    """Upload the file `path` to `slot`; returns its size in bytes when the server took it, else raises TransferError.

    `on_progress(bytes)` is called with the bytes handed over so far, first with 0 when the connection stands; if it is a coroutine the
    transfer waits for it (pacing). `on_wire(bytes)` is told every LOOK_SECONDS what went over the link since, repeats and headers
    included. The size is the file's when it is opened: one that changes meanwhile is an error, not another object.
    """
    context = _context(slot.put, ca_file)
    with _open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        headers = {**slot.headers, hdrs.CONTENT_LENGTH: str(size), hdrs.CONTENT_TYPE: content_type}
        link = _Link(on_wire)

        async def put() -> None:
            body = _body(file, size, link, on_progress)
            async with link.session(context) as session, session.put(slot.put, data=body, headers=headers, allow_redirects=False) as answer:
                if answer.status not in DELIVERED:
                    words = f" ({IN_WORDS[answer.status]}: {size} bytes)" if answer.status in IN_WORDS else ""
                    text = f"upload not taken: {answer.status} {answer.reason}{words}"
                    raise TransferError("http", text, answer.status, _retry_after(answer.headers))

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
            link = _Link(None)

            async def get() -> None:
                headers = {hdrs.ACCEPT_ENCODING: "identity"}
                async with link.session(context) as session, session.get(url, headers=headers, allow_redirects=False) as answer:
                    if answer.status != 200:
                        raise TransferError("http", f"object not given: {answer.status} {answer.reason}", answer.status)
                    async for chunk in answer.content.iter_chunked(BLOCK):
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

    def __init__(self, on_wire: Callable[[int], None] | None) -> None:
        self.moved = 0  # bytes that passed through our hands
        self.held = False  # we wait, not the other end
        self.error: TransferError | None = None
        self.wire = Wire()
        self._on_wire = on_wire
        self._connector: aiohttp.TCPConnector | None = None

    def session(self, context: ssl.SSLContext) -> aiohttp.ClientSession:
        connector = self._connector = aiohttp.TCPConnector(ssl=context, force_close=True, socket_factory=self.wire.socket)
        # aiohttp's own limits (300 s in all) would end every large object on a slow link.
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False)

    async def abort(self) -> None:
        """End the connection at once: only closed, it would go on to send what is waiting."""
        if self._connector is not None:
            await self._connector.close(abort_ssl=True)

    def count(self) -> None:
        """Tell what went over the link since the last time."""
        if self._on_wire is not None:
            self._on_wire(self.wire.bytes_since())


async def _watched(work: Coroutine[None, None, _Result], link: _Link, stall_seconds: float) -> _Result:
    """The result of `work`, cut when `link` does not move for `stall_seconds`; everything that goes wrong as TransferError."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    seen, since = link.wire.mark(), loop.time()
    result_came = False
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=min(LOOK_SECONDS, stall_seconds / 4))
            link.count()
            mark = link.wire.mark()
            if mark != seen or (link.held and not link.wire.outstanding()):
                seen, since = mark, loop.time()
            elif loop.time() - since >= stall_seconds and not task.done():
                raise TransferError("stalled", f"no byte moved for {stall_seconds:g} s")
        result = task.result()
        if link.error is not None:
            raise link.error
        result_came = True
        return result
    except aiohttp.ClientSSLError as error:
        reason = getattr(error, "certificate_error", None) or error.os_error
        raise TransferError("certificate", getattr(reason, "verify_message", None) or str(reason)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise link.error or TransferError("connection", f"the transfer broke: {type(error).__name__}") from error
    finally:
        if not result_came:
            await link.abort()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        link.count()
        link.wire.close(reset=not result_came)


async def _body(file: BinaryIO, size: int, link: _Link, on_progress: Progress | None) -> AsyncIterator[bytes]:
    await _tell(link, on_progress)
    while link.moved < size:
        try:
            block = await asyncio.to_thread(file.read, min(BLOCK, size - link.moved))
        except OSError as error:
            link.error = TransferError("file", f"{file.name}: {error.strerror}")
            raise link.error from error
        if not block:
            link.error = TransferError("file", f"{file.name} became shorter while it was sent")
            raise link.error
        for start in range(0, len(block), CHUNK):
            chunk = block[start : start + CHUNK]
            yield chunk  # aiohttp comes back when the connection has room again
            link.moved += len(chunk)
            await _tell(link, on_progress)
    if os.fstat(file.fileno()).st_size != size:
        link.error = TransferError("file", f"{file.name} changed while it was sent")
        raise link.error


async def _tell(link: _Link, on_progress: Progress | None) -> None:
    waiting = on_progress(link.moved) if on_progress is not None else None
    if inspect.isawaitable(waiting):
        link.held = True
        await waiting
        link.held = False


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks us to stay away (RFC 9110, 10.2.3), or None. A date counts against the server's own clock."""
    text = headers.get(hdrs.RETRY_AFTER, "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(headers[hdrs.DATE])).total_seconds())
    except (KeyError, TypeError, ValueError):  # none, or neither a number nor a date
        return None


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
