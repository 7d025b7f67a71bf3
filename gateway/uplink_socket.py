"""The local socket through which the sweeper asks the ledger: `<spool>/ledger.sock`, one JSON object a line, one answer a line.

What can be asked stands in gateway/uplink_desk.py. A connection is also a lease: segments that were taken on it are given back when it
ends, however it ends, so that a sweeper that is killed holds nothing.

Who may ask: processes of the same user, or root (SO_PEERCRED), beside the file's mode 0600: whoever can tell "deleted" could make the
ledger forget. A Unix socket's path is limited to 107 bytes and a spool's is not, so both sides go through /proc/self/fd/<folder>.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import msgspec

SOCKET_NAME = "ledger.sock"
LINE_BYTES = 1 << 20  # 100 segments of an answer take about 20 kB
ANSWER_SECONDS = 5.0  # the ledger's disk may stall; the sweeper then comes again later


class Handler(Protocol):
    """Who answers. `connection` is the same object for all requests of one connection."""

    async def answer(self, request: dict[str, Any], connection: object) -> dict[str, Any]:
        """The answer to one request; raises Refused."""

    def closed(self, connection: object) -> None:
        """A connection ended."""


class Refused(ValueError):
    """A request that cannot be answered; the text goes back to the one who asked."""


class NoUplink(Exception):
    """The uplink does not answer (away, restarting, busy); the text says how."""


@contextlib.contextmanager
def short_path(spool: Path, name: str) -> Iterator[str]:
    """A short path of the socket file `name` in the spool, for as long as it is needed. Raises OSError."""
    folder = os.open(spool, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)


async def serve(spool: Path, handler: Handler) -> asyncio.Server:
    """Answer requests until the server is closed. The caller holds the spool's lock, so a socket file found here is a dead one."""
    (spool / SOCKET_NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(spool, SOCKET_NAME) as path:
            listener.bind(path)
            os.chmod(path, 0o600)  # before it listens: until then nobody can connect, whatever the mode
        listener.setblocking(False)
        return await asyncio.start_unix_server(lambda r, w: _answer(r, w, handler), sock=listener, limit=LINE_BYTES)
    except BaseException:
        listener.close()
        raise


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
    """One connection: requests until the other side closes or sends what is not a line."""
    try:
        if not _may_ask(writer.get_extra_info("socket")):
            return
        while line := await reader.readline():
            try:
                reply = await handler.answer(msgspec.json.decode(line, type=dict[str, Any]), writer)
            except (msgspec.DecodeError, Refused) as error:
                reply = {"error": str(error)}
            writer.write(msgspec.json.encode(reply) + b"\n")
            await writer.drain()
    except (ConnectionError, ValueError):  # the other side went away, or sent more than LINE_BYTES without an end
        return
    finally:
        handler.closed(writer)
        writer.close()


def _may_ask(peer: socket.socket) -> bool:
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (0, os.geteuid())


class Line:
    """A connection to the uplink, as a context manager; connects at the first request. Blocks up to ANSWER_SECONDS for an answer."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._socket: socket.socket | None = None

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The uplink's answer to one request; raises Refused with its error text, or NoUplink: then what was taken is given back, and
        no later request on this line is answered."""
        answer = bytearray()
        try:
            if self._socket is None:
                self._socket = self._connect()
            self._socket.sendall(msgspec.json.encode(request) + b"\n")
            while not answer.endswith(b"\n"):
                block = self._socket.recv(65_536)
                if not block or len(answer) > LINE_BYTES:
                    self._socket.close()
                    raise NoUplink("no whole answer from the uplink")
                answer += block
        except OSError as error:
            if self._socket is not None:
                self._socket.close()  # an answer that comes later would be taken for that to another request
            raise NoUplink(f"no uplink at {self._spool / SOCKET_NAME}: {error.strerror or 'no answer in time'}") from error
        try:
            reply = msgspec.json.decode(answer, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise NoUplink(f"answer of the uplink: {error}") from error
        if "error" in reply:
            raise Refused(str(reply["error"]))
        return reply

    def _connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.settimeout(ANSWER_SECONDS)
            with short_path(self._spool, SOCKET_NAME) as path:
                client.connect(path)
        except OSError:
            client.close()
            raise
        return client
