"""A box of the first fleet (sim/chips/first_fleet.py) on a pty, for a recorder that opens it as a serial port. Its cable can be pulled."""

import contextlib
import fcntl
import os
import struct
import termios
import threading
import tty
from pathlib import Path

from sim.chips.first_fleet import FirstFleetBox
from sim.clock import Clock

LOOK_S = 0.005  # between two looks at the clock: five milliseconds of bytes leave together, as through a USB adapter
UNREAD_LIMIT = 3000  # bytes in the pty that nobody fetched: a serial line has no memory, so they are dropped
COMMANDS = 256  # bytes read at once; what is more comes at the next look


class BoxOnPty:
    """Serves `chip` at the path `link`, which stands for a udev name, from construction until `close`. It is plugged in at first.

    The chip runs on by `clock` while it is unplugged (it has power of its own). `dropped` counts bytes that nobody read or that were sent
    while the cable was out. Use it with `chip` untouched by others, or under `lock`."""

    def __init__(self, chip: FirstFleetBox, clock: Clock, link: Path) -> None:
        self.chip = chip
        self.lock = threading.Lock()
        self.dropped = 0
        self._clock = clock
        self._link = link
        self._ends: tuple[int, int] | None = None
        self._ending = threading.Event()
        self.plug()
        self._thread = threading.Thread(target=self._run, name="box", daemon=True)
        self._thread.start()

    def plug(self) -> None:
        """The cable is in: a port appears at the link."""
        with self.lock:
            if self._ends is not None:
                return
            ends = os.openpty()
            tty.setraw(ends[1])
            os.set_blocking(ends[0], False)
            self._ends = ends
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(os.ttyname(ends[1]))

    def unplug(self) -> None:
        """The cable is out: the port is gone, for whoever has it open, too."""
        with self.lock:
            if self._ends is None:
                return
            for end in self._ends:
                os.close(end)
            self._ends = None
            self._link.unlink(missing_ok=True)

    def close(self) -> None:
        """Ends the thread and takes the port away."""
        self._ending.set()
        self._thread.join()
        self.unplug()

    def _run(self) -> None:
        while not self._ending.wait(LOOK_S):
            with self.lock:
                self._exchange()

    def _exchange(self) -> None:
        """What was said to the box, and what it has said since the last time."""
        self.chip.advance(self._clock.now_us())
        if self._ends is None:
            self.dropped += len(self.chip.read(self.chip.any()))
            return
        master, slave = self._ends
        with contextlib.suppress(BlockingIOError):  # nothing was said
            self.chip.write(os.read(master, COMMANDS))
        data = self.chip.read(self.chip.any())
        unread = struct.unpack("i", fcntl.ioctl(slave, termios.FIONREAD, bytes(4)))[0]
        if unread > UNREAD_LIMIT:
            termios.tcflush(slave, termios.TCIFLUSH)
            self.dropped += unread
        if data:
            try:
                sent = os.write(master, data)
            except BlockingIOError:
                sent = 0
            self.dropped += len(data) - sent
