"""The local socket through which the sweeper asks the ledger: `<spool>/ledger.sock`, one JSON object a line, one answer a line.

    {"ask": "deletable", "limit": 100}          -> {"segments": [{"segment_id", "path", "size"}, ...]}     receipted, oldest first
    {"tell": "deleted", "segment_ids": [...]}   -> {"forgotten": n}                                      their files are gone
    anything else                               -> {"error": "..."}

Who may ask: processes of the same user, or root (SO_PEERCRED), beside the file's mode 0600: whoever can tell "deleted" could make the
ledger forget. A Unix socket's path is limited to 107 bytes and a spool's is not, so both sides go through /proc/self/fd/<folder>.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

SOCKET_NAME = "ledger.sock"
LINE_BYTES = 1 << 20  # 100 segments of an answer take about 20 kB
ANSWER_SECONDS = 5.0  # the ledger's disk may stall; the sweeper then comes again later

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Refused(ValueError):
    """A request that cannot be answered; the text goes back to the one who asked."""


class NoUplink(Exception):
    """The uplink does not answer (away, restarting, busy); the text says how."""


@contextlib.contextmanager
def _short_path(spool: Path) -> Iterator[str]:
    folder = os.open(spool, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)


async def serve(spool: Path, handler: Handler) -> asyncio.Server:
    """Answer requests until the server is closed. The caller holds the spool's lock, so a socket file found here is a dead one."""
    (spool / SOCKET_NAME).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_path(spool) as path:
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
                reply = await handler(msgspec.json.decode(line, type=dict[str, Any]))
            except (msgspec.DecodeError, Refused) as error:
                reply = {"error": str(error)}
            writer.write(msgspec.json.encode(reply) + b"\n")
            await writer.drain()
    except (ConnectionError, ValueError):  # the other side went away, or sent more than LINE_BYTES without an end
        return
    finally:
        writer.close()


def _may_ask(peer: socket.socket) -> bool:
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return uid in (0, os.geteuid())


def ask(spool: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The uplink's answer to one request; raises NoUplink, or Refused with its error text. Blocks up to ANSWER_SECONDS."""
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(ANSWER_SECONDS)
            with _short_path(spool) as path:
                client.connect(path)
            client.sendall(msgspec.json.encode(request) + b"\n")
            while not answer.endswith(b"\n"):
                block = client.recv(65_536)
                if not block or len(answer) > LINE_BYTES:
                    raise NoUplink("no whole answer from the uplink")
                answer += block
    except OSError as error:
        raise NoUplink(f"no uplink at {spool / SOCKET_NAME}: {error.strerror or 'no answer in time'}") from error
    try:
        reply = msgspec.json.decode(answer, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise NoUplink(f"answer of the uplink: {error}") from error
    if "error" in reply:
        raise Refused(str(reply["error"]))
    return reply
