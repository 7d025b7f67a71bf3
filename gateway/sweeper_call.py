"""The call for the sweeper: a writer that the disk has refused for want of room does not wait for the sweeper's next look.

`<spool>/sweeper.sock`, a Unix datagram socket that the sweeper makes, mode 0600; what a datagram holds means nothing. The call is a hint:
one that nobody hears costs nothing, for the sweeper looks by itself every few seconds."""

import contextlib
import os
import select
import socket
from pathlib import Path

from gateway.uplink_socket import short_path

SOCKET_NAME = "sweeper.sock"


def call(spool: Path | str) -> bool:
    """Calls the sweeper; True if it will hear it. Never blocks, never raises for what the disk or the sweeper does."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as caller, short_path(Path(spool), SOCKET_NAME) as path:
            caller.setblocking(False)
            caller.sendto(b"full", path)
    except BlockingIOError:  # calls wait already
        return True
    except OSError:  # no sweeper, or no spool
        return False
    return True


class Bell:
    """The sweeper's end: `wait` returns early when somebody calls. Raises OSError where the socket cannot be made."""

    def __init__(self, spool: Path) -> None:
        self._path = spool / SOCKET_NAME
        self._path.unlink(missing_ok=True)  # a killed sweeper's
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        try:
            with short_path(spool, SOCKET_NAME) as path:
                self._socket.bind(path)
                os.chmod(path, 0o600)
        except OSError:
            self._socket.close()
            raise
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wait(self, seconds: float) -> bool:
        """Until somebody calls, `ring` is called, or `seconds` are over; True if somebody called since the last time."""
        select.select([self._socket.fileno(), self._woken], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._woken, 4096)
        called = False
        with contextlib.suppress(BlockingIOError):
            while self._socket.recv(16) is not None:  # all that wait are one call
                called = True
        return called

    def ring(self) -> None:
        """End a `wait`, without a call. For a signal handler: a pipe, for a lock might be held by whom the signal interrupted."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"\0")

    def close(self) -> None:
        """Nobody is heard any more."""
        self._path.unlink(missing_ok=True)
        self._socket.close()
        os.close(self._woken)
        os.close(self._wake)
