"""What goes between recorder and uplink (docs/formats.md 4): one JSON object per datagram on a local Unix socket. A datagram without
`kind` is the live snapshot; others are a second of the IMU (`packed`, gateway/live_blocks.py) or an event (gateway/live_events.py).

The receiver (the uplink) owns the socket file; the recorder only sends. Sending never blocks and never fails: the recorder must go on
writing to disk whether or not an uplink is there, so a datagram nobody can take is dropped and counted. Nothing is lost by that: what
counts is in the segments, the snapshot only shows the newest values.
"""

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

SNAPSHOT_BYTES = 65_536  # of one datagram; a snapshot of all quantities takes about 6 kB
KIND = "kind"  # the key that says what a datagram is; a snapshot has none
SOCKET_MODE = 0o600  # live positions of a truck are for its own processes only


class LiveError(OSError):
    """The live socket cannot be bound: says which and why, in one line."""


class LiveSender:
    """Sends datagrams to the socket file `path`, from any thread. `sent` and `dropped` count them."""

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.sent = 0
        self.dropped = 0

    def send(self, snapshot: dict[str, Any]) -> bool:
        """True if the kernel took the datagram; False if it was dropped (no uplink, its queue full, or too large)."""
        try:
            self._socket.sendto(msgspec.json.encode(snapshot), self._path)
        except OSError:  # ENOENT, ECONNREFUSED: no uplink. EAGAIN, ENOBUFS: it is busy. EMSGSIZE: too large. All are counted.
            self.dropped += 1
            return False
        self.sent += 1
        return True

    def close(self) -> None:
        """Closes the socket; the file belongs to the receiver."""
        self._socket.close()


class LiveReceiver:
    """Binds the socket file `path` and gives the datagrams that arrive. Raises LiveError if another process listens there.

    Has `fileno()`, so an event loop can wait for it (`loop.add_reader(receiver, ...)`) and then call `receive(0)`.
    `malformed` counts datagrams that were not a JSON object."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.malformed = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._bind()
        except OSError as error:
            self._socket.close()
            raise LiveError(error.errno, f"live socket {self._path}: {error.strerror}") from error

    def _bind(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            self._remove_if_stale()
        self._socket.bind(str(self._path))
        os.chmod(self._path, SOCKET_MODE)

    def _remove_if_stale(self) -> None:
        """A killed receiver leaves its socket file behind: nobody answers there. A file somebody listens on, or that is no socket, is
        left alone."""
        if not self._path.is_socket():  # connecting to it would be refused all the same
            raise OSError(errno.EEXIST, "is there and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink(missing_ok=True)
                return
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._socket.fileno()

    def receive(self, timeout: float | None = None) -> dict[str, Any] | None:
        """The next datagram; None if none came within `timeout` seconds (0: do not wait, None: wait for ever)."""
        self._socket.settimeout(timeout)
        while True:
            try:
                data = self._socket.recv(SNAPSHOT_BYTES)
            except (TimeoutError, BlockingIOError):
                return None
            try:
                return msgspec.json.decode(data, type=dict[str, Any])
            except msgspec.DecodeError:
                self.malformed += 1

    def waiting(self) -> list[dict[str, Any]]:
        """All that waits, in the order of sending; of the snapshots among it only the newest (live data is conflated)."""
        found: list[dict[str, Any]] = []
        while (datagram := self.receive(0)) is not None:
            found.append(datagram)
        newest = max((index for index, datagram in enumerate(found) if KIND not in datagram), default=0)
        return [datagram for index, datagram in enumerate(found) if KIND in datagram or index == newest]

    def newest(self) -> dict[str, Any] | None:
        """The newest waiting snapshot; what else waits is passed over. None if none waits."""
        return next((datagram for datagram in self.waiting() if KIND not in datagram), None)

    def close(self) -> None:
        """Closes the socket and removes its file."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
