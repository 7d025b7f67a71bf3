"""A u-blox-like GNSS receiver on a pty: one UBX NAV-PVT message per epoch, which is all that gpsd 3.22 needs.

Epochs lie on whole multiples of the period in UTC, as a receiver aligns them, and the message leaves LATENCY later, as long as a
receiver computes. Tried with gpsd 3.22 (`gpsd -N -n -b -S PORT <pty>`): NAV-PVT alone gives a TPV with mode 3, time, ept, lat, lon,
altHAE, altMSL, track, speed, eps (from sAcc), eph (hAcc), epv (vAcc), from the second message on also climb and epc; NAV-EOE changes
nothing, NAV-TIMEGPS adds `leapseconds` and NAV-DOP `sep` only. gpsd gives no epx, epy and epd from UBX (headAcc is not read). Its
rounding: time 1 ms, lat and lon 1e-9° (the message has 1e-7°), speed 1 mm/s, track 1e-4° (the message has 1e-5°), heights 0.1 mm (the
message 1 mm).

gpsd started as root gives up root and may have to open the port again: the pty is therefore readable and writable for everyone.
"""

import fcntl
import math
import os
import struct
import termios
import threading
import tty
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from sim.clock import Clock

LATENCY_US = 40_000
GEOID_HEIGHT = 38.0  # m, geoid over ellipsoid around Fujisawa (EGM96 has 37 to 39 m)
H_ACCURACY_MM, V_ACCURACY_MM, S_ACCURACY_MM_S = 1500, 2400, 50
T_ACCURACY_NS = 25
HEADING_ACCURACY = 0.5  # degrees while driving; at rest the receiver does not know
SATELLITES = 17
LEAP_SECONDS = 18  # GPS minus UTC since 2017
GPS_EPOCH_S = 315_964_800  # 1980-01-06 as UTC since 1970
UNREAD_LIMIT = 1000  # bytes in the pty that nobody fetched: a serial line has no memory, so they are dropped
STOPPED_SLEEP = 0.2  # s, while the clock stands
SENSOR = "gnss"
QUANTITIES = ("latitude", "longitude", "altitude", "speed", "bearing")

_NAV_PVT = struct.Struct("<IHBBBBBBIiBBBBiiiiIIiiiiiIIHBBIihH")


class ReceiverError(Exception):
    """The simulated receiver sends no more; the text says so in one line."""


def ubx(message_class: int, identity: int, payload: bytes) -> bytes:
    """One UBX frame: sync, class, id, length, payload and the 8-bit Fletcher sum over class to payload."""
    body = struct.pack("<BBH", message_class, identity, len(payload)) + payload
    first = second = 0
    for byte in body:
        first = (first + byte) & 0xFF
        second = (second + first) & 0xFF
    return b"\xb5\x62" + body + bytes((first, second))


def nav_pvt(utc_ns: int, values: Mapping[str, float]) -> bytes:
    """The NAV-PVT frame (92 bytes of payload) of the position `values` (SI, angles of place in degrees) valid at `utc_ns`: date, time
    and leap seconds resolved, 3D fix."""
    seconds, nano = divmod(utc_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    week_ms = ((seconds - GPS_EPOCH_S + LEAP_SECONDS) % 604_800) * 1000 + nano // 1_000_000
    height = round(values["altitude"] * 1000)
    speed, bearing = values["speed"], values["bearing"]
    moving = speed > 0.2
    return ubx(
        0x01,
        0x07,
        _NAV_PVT.pack(
            week_ms, moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second,
            0x07, T_ACCURACY_NS, nano, 3, 0x01, 0xE0, SATELLITES,
            round(values["longitude"] * 1e7), round(values["latitude"] * 1e7), height + round(GEOID_HEIGHT * 1000), height,
            H_ACCURACY_MM, V_ACCURACY_MM, round(speed * 1000 * math.cos(bearing)), round(speed * 1000 * math.sin(bearing)), 0,
            round(speed * 1000), round(math.degrees(bearing) * 1e5) % 36_000_000, S_ACCURACY_MM_S,
            round((HEADING_ACCURACY if moving else 30.0) * 1e5), 102, 0, 0, 0, 0, 0, 0,
        ),
    )  # fmt: skip


class Receiver:
    """The receiver of a truck. `source(t_us)` gives the world's values, `log` gets the exact values of each epoch as sensor "gnss";
    `port` is the path of the serial port (also linked as `link`, if given). When the clock stops no epoch comes any more."""

    def __init__(
        self,
        source: Callable[[int], Mapping[str, float]],
        log: Callable[[str, int, Mapping[str, float]], None],
        clock: Clock,
        start_utc_ns: int,
        period_us: int = 1_000_000,
        link: Path | None = None,
    ) -> None:
        self._source = source
        self._log = log
        self._clock = clock
        self._start_utc_ns = start_utc_ns
        self._period_us = period_us
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        os.chmod(self.port, 0o666)
        self._link = link
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(self.port)
        self.epochs = 0
        self.dropped = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)

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
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._master)
        os.close(self._slave)
        if self._link is not None:
            self._link.unlink(missing_ok=True)

    def _next_epoch(self, after_us: int) -> int:
        """The first t_us >= `after_us` that is a whole multiple of the period in UTC."""
        offset = self._start_utc_ns // 1000
        return -(-(after_us + offset) // self._period_us) * self._period_us - offset

    def _run(self) -> None:
        epoch = self._next_epoch(self._clock.now_us())
        while not self._ending.is_set():
            wait = (epoch + LATENCY_US - self._clock.now_us()) / 1e6
            if wait > 0:
                self._ending.wait(STOPPED_SLEEP if self._clock.stopped else wait)
                continue
            self.send(epoch)
            epoch = self._next_epoch(max(epoch + 1, self._clock.now_us() - LATENCY_US))

    def send(self, epoch_us: int) -> None:
        """One epoch on the line; bytes that nobody reads are lost, as on a wire."""
        values = self._source(epoch_us)
        exact = {name: values[name] for name in QUANTITIES}
        frame = nav_pvt(self._start_utc_ns + epoch_us * 1000, exact)
        unread = struct.unpack("i", fcntl.ioctl(self._slave, termios.FIONREAD, b"\0\0\0\0"))[0]
        if unread > UNREAD_LIMIT:
            termios.tcflush(self._slave, termios.TCIFLUSH)
            self.dropped += unread // len(frame)
        try:
            os.write(self._master, frame)
        except BlockingIOError:  # nobody reads, and the kernel has not even moved on what came before
            self.dropped += 1
            return
        self.epochs += 1
        self._log(SENSOR, epoch_us, exact)
