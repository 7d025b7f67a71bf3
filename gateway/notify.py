"""What a process of the truck tells systemd (sd_notify(3)): it is ready, it is alive, it stops.

One datagram each to the Unix socket that systemd names in NOTIFY_SOCKET ("@": an abstract one). Without systemd nothing happens. A
message never waits and never fails: what systemd does not hear costs a restart at worst, which every process of the truck survives.

`alive` is called where the process goes round: the recorder's main loop, the uplink's event loop, the sweeper's sweeps. The units
(fleet/units) say within which time; a loop that hangs longer ends by SIGABRT, and faulthandler writes to the journal where it hung."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

BEAT_SECONDS = 5.0  # of an event loop; the units wait for a minute at least


def ready() -> None:
    """The process does its duty from now on."""
    _tell(b"READY=1")


def alive() -> None:
    """The process still goes round."""
    _tell(b"WATCHDOG=1")


def stopping() -> None:
    """The process ends in order."""
    _tell(b"STOPPING=1")


@contextlib.asynccontextmanager
async def beating(seconds: float = BEAT_SECONDS) -> AsyncIterator[None]:
    """`alive` every so often, as long as the running event loop turns."""
    loop = asyncio.get_running_loop()
    next_beat: list[asyncio.Handle] = []

    def beat() -> None:
        alive()
        next_beat[:] = [loop.call_later(seconds, beat)]

    next_beat.append(loop.call_soon(beat))
    try:
        yield
    finally:
        next_beat[0].cancel()


def _tell(message: bytes) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.setblocking(False)
        line.sendto(message, b"\0" + address[1:].encode() if address[0] == "@" else address)
