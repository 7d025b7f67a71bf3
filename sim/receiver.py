"""The truck's GNSS receiver (sim/chips/neo_m9n.py) on a pty, as on the serial port of a Pi.

A pty has no wire, but it keeps the speed that was set on it (termios): what is sent while that is not the receiver's own baud is garbled
on the way out and lost on the way in. So a program that looks for the right speed has to find it, as on a real port.

Tried with gpsd 3.22 (`gpsd -N -n -b -S PORT <pty>`): NAV-PVT alone gives a TPV with mode 3, time, ept, lat, lon,
altHAE, altMSL, track, speed, eps (from sAcc), eph (hAcc), epv (vAcc), from the second message on also climb and epc; NAV-EOE changes
nothing, NAV-TIMEGPS adds `leapseconds` and NAV-DOP `sep` only. gpsd gives no epx, epy and epd from UBX (headAcc is not read). Its
rounding: time 1 ms, lat and lon 1e-9° (the message has 1e-7°), speed 1 mm/s, track 1e-4° (the message has 1e-5°), heights 0.1 mm (the
message 1 mm).

gpsd started as root gives up root and may have to open the port again: the pty is therefore readable and writable for everyone.
"""

import fcntl
import os
import select
import struct
import termios
import threading
import tty
from collections.abc import Callable, Mapping
from pathlib import Path

from sim.chips.neo_m9n import BAUDRATE, NEOM9N, RATE_MEAS, TRUCK
from sim.clock import Clock

UNREAD_LIMIT = 1000  # bytes in the pty that nobody fetched: a serial line has no memory, so they are dropped
LOOK = 0.2  # s, at most between two looks at the clock and at the end
SENSOR = "gnss"
QUANTITIES = tuple(NEOM9N.RANGE)

_SPEEDS = {getattr(termios, f"B{baud}"): baud for baud in (4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)}
_OUTPUT_SPEED = 5  # in the list of termios.tcgetattr
_INPUT_SPEED = 4


class ReceiverError(Exception):
    """The simulated receiver sends no more; the text says so in one line."""


def garbled(data: bytes) -> bytes:
    """What a port of another speed makes of `data`: neither NMEA nor UBX any more."""
    return bytes(byte * 73 + 41 & 0xFF | 0x80 for byte in data)


class Receiver:
    """The receiver of a truck. `source(t_us)` gives the world's values, `log` gets the exact values of each epoch as sensor "gnss";
    `port` is the path of the serial port (also linked as `link`, if given). When the clock stops no epoch comes any more.

    It comes as a truck's receiver is after its first day: set up for NAV-PVT alone at 115200 baud, the port at that speed. With
    `as_delivered` it is as the maker sends it, and `period_us` is not used: NMEA at 38400 baud, one epoch a second."""

    def __init__(
        self,
        source: Callable[[int], Mapping[str, float]],
        log: Callable[[str, int, Mapping[str, float]], None],
        clock: Clock,
        start_utc_ns: int,
        period_us: int = 1_000_000,
        link: Path | None = None,
        as_delivered: bool = False,
    ) -> None:
        self._clock = clock
        flash = None if as_delivered else {**TRUCK, RATE_MEAS: period_us // 1000}
        self.chip = NEOM9N(source, lambda _, t_us, values: log(SENSOR, t_us, values), start_utc_ns, flash)
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        os.chmod(self.port, 0o666)
        self._set_speed(self.chip.ram[BAUDRATE])
        self._link = link
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(self.port)
        self.dropped = 0  # bytes
        self._ending = threading.Event()
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)

    @property
    def epochs(self) -> int:
        """Epochs with a fix so far."""
        return self.chip.samples

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def check(self) -> None:
        """Raises ReceiverError when it should send and its thread has broken."""
        if not self._thread.is_alive():
            raise ReceiverError("the receiver broke (see the log)")

    def stop(self) -> None:
        """Ends the thread and closes the port."""
        self._ending.set()
        os.close(self._woken)
        if self._thread.is_alive():
            self._thread.join()
        for descriptor in (self._wake, self._master, self._slave):
            os.close(descriptor)
        if self._link is not None:
            self._link.unlink(missing_ok=True)

    def _run(self) -> None:
        while not self._ending.is_set():
            self.step()
            wait = (self.chip.next_output_us() - self._clock.now_us()) / 1e6
            select.select([self._master, self._wake], [], [], LOOK if self._clock.stopped else min(max(wait, 0.0), LOOK))

    def step(self) -> None:
        """Everything up to now: takes what was written to the port, computes the epochs due, sends."""
        self.chip.advance(self._clock.now_us())
        self._send()
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        if self._speed(_OUTPUT_SPEED) == self.chip.baud:
            self.chip.write(data)
            self._send()

    def _send(self) -> None:
        """The chip's output on the line; bytes that nobody reads are lost, as on a wire."""
        baud = self.chip.baud  # of what is sent: behind it the chip may change
        data = self.chip.read(self.chip.any())
        if not data:
            return
        if self._speed(_INPUT_SPEED) != baud:
            data = garbled(data)
        unread = struct.unpack("i", fcntl.ioctl(self._slave, termios.FIONREAD, b"\0\0\0\0"))[0]
        if unread > UNREAD_LIMIT:
            termios.tcflush(self._slave, termios.TCIFLUSH)
            self.dropped += unread
        try:
            self.dropped += len(data) - os.write(self._master, data)
        except BlockingIOError:  # nobody reads, and the kernel has not even moved on what came before
            self.dropped += len(data)

    # --- the port's speed

    def _speed(self, which: int) -> int | None:
        return _SPEEDS.get(termios.tcgetattr(self._slave)[which])

    def _set_speed(self, baud: int) -> None:
        attributes = termios.tcgetattr(self._slave)
        attributes[_INPUT_SPEED] = attributes[_OUTPUT_SPEED] = next(code for code, speed in _SPEEDS.items() if speed == baud)
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
