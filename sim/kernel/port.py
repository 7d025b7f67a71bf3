"""A serial port with a simulated chip behind it: a pty that any program opens, at the speed it sets, linked where it looks for it.

The pty itself has no speed: bytes arrive when the line (sim.bus.UartLine) lets them through, and a program that set another speed than the
chip's is heard as noise, that is, not at all. Bytes nobody fetches are lost, as on a wire.
"""

import fcntl
import logging
import os
import select
import struct
import termios
import threading
import tty
from pathlib import Path

from sim.bus import UartLine

RECEIVE_BUFFER = 4096  # bytes a Linux serial port keeps for its program
_SPEEDS = {getattr(termios, name): int(name[1:]) for name in dir(termios) if name[0] == "B" and name[1:].isdigit()}
_BUSY_MS, _QUIET_MS = 2, 10  # between looks at the line while bytes are moving, and otherwise
_STAYS_BUSY = 100  # looks

_log = logging.getLogger(__name__)


class Port:
    """`line` as a serial port, linked at `link` (if given), from `start` to `stop`. `lock` guards the chips; `error` ended the port."""

    def __init__(self, line: UartLine, lock: threading.Lock, link: Path | None = None) -> None:
        self.line = line
        self.error: Exception | None = None
        self._lock = lock
        self._master, self._slave = os.openpty()  # the slave stays open: the port outlives the programs that open it
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path = os.ttyname(self._slave)
        self._link = link
        if link is not None:
            try:
                # Of a run that was killed. One that leads somewhere is somebody's, unless its port is the one we just got.
                if link.is_symlink() and (not link.exists() or os.readlink(link) == self.path):
                    link.unlink()
                link.symlink_to(self.path)
            except OSError:
                os.close(self._master)
                os.close(self._slave)
                raise
        self._speed = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="port", daemon=True)

    def start(self) -> None:
        """Begins to move bytes."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, closes the port and takes the link away."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._master)
        os.close(self._slave)
        if self._link is not None and self._link.is_symlink() and os.readlink(self._link) == self.path:
            self._link.unlink()

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._master, select.POLLIN)
        busy = 0
        try:
            while not self._ending.is_set():
                poller.poll(_BUSY_MS if busy else _QUIET_MS)
                busy = _STAYS_BUSY if self._move() else max(0, busy - 1)
        except Exception as error:  # noqa: BLE001  a chip or the world failed: the port falls silent, and the owner sees why
            self.error = error
            _log.exception("the simulated port ended")

    def _move(self) -> bool:
        """Moves what can be moved now; whether there was anything."""
        try:
            written = os.read(self._master, 4096)
        except BlockingIOError:
            written = b""
        with self._lock:
            self._follow_speed()
            if written:
                self.line.write(written)
            received = self.line.read(4096)
        if received and self._speed == self.line.wired_baud:
            self._deliver(received)
        return bool(written or received)

    def _follow_speed(self) -> None:
        """The program sets its side's speed, a request to the receiver the other's."""
        self.line.wired_baud = getattr(self.line.chip, "baud", self.line.wired_baud)
        speed = _SPEEDS.get(termios.tcgetattr(self._slave)[5], 0)
        if speed != self._speed:
            self._speed = speed
            self.line.open(speed, RECEIVE_BUFFER)

    def _deliver(self, data: bytes) -> None:
        unread = struct.unpack("i", fcntl.ioctl(self._slave, termios.FIONREAD, bytes(4)))[0]
        if unread + len(data) > RECEIVE_BUFFER - 1:
            termios.tcflush(self._slave, termios.TCIFLUSH)  # nobody has read for long: what is there is old
        try:
            os.write(self._master, data)
        except BlockingIOError:
            return  # full, and lost
