"""Switches of the truck as a source: bookmark button, contact of the box's lid, ignition, as keys of Linux input devices (gpio-keys).

What the kernel gives (linux/input.h, drivers/input/evdev.c): a read returns whole `struct input_event`s, (seconds, microseconds, type u16,
code u16, value s32) with seconds and microseconds as longs: 24 bytes on a 64-bit kernel's native programs, 16 on a 32-bit one. Keys are
EV_KEY with value 1 pressed, 0 released, 2 held (autorepeat: passed over). The time is CLOCK_REALTIME unless EVIOCSCLOCKID asks for another:
we ask for CLOCK_BOOTTIME, and take the moment of reading where that is refused. If we are too slow the kernel throws events away and
says SYN_DROPPED; what follows up to the next SYN_REPORT is not to be used, then the state is asked for (EVIOCGKEY). Which keys a device has
at all says EVIOCGBIT: of each of ours one that has it is enough, be they on one device or three. Devices are shared: whoever else reads
one gets the same events. Contact bounce is the kernel's duty (debounce-interval, 5 ms by default).

The state at the start. A recorder runs while the ignition is on and the box is closed: what differs from that when a device is opened,
for the first time or again, is told as an event of that moment. A button that is held then is not a bookmark.

Ignition. A starter dips the supply for seconds: off counts when it stays off for `ignition_seconds`, and the event has the moment at which
it went off. A device that is gone says nothing of the ignition: it ends no shift."""

import errno
import os
import select
import struct
import threading
from collections.abc import Callable
from fcntl import ioctl

from gateway import config
from gateway.clock import boottime_ns
from gateway.events import Events
from gateway.journal import Journal, gap
from gateway.snapshot import Snapshot
from gateway.supervision import NANO, Outage

SOURCE = "inputs"
BUTTON, LID, IGNITION = "button", "lid", "ignition"
BOX_OPENED, BOX_CLOSED = "box_opened", "box_closed"
IGNITION_ON, IGNITION_OFF = "ignition_on", "ignition_off"

EVENT = struct.Struct("@llHHi")
EV_SYN, EV_KEY = 0, 1
SYN_REPORT, SYN_DROPPED = 0, 3
RELEASED, PRESSED = 0, 1
CLOCK_BOOTTIME = 7  # linux/time.h
KEY_BYTES = 96  # KEY_CNT, 768, in bits; in longs of the machine, which must be little endian (all that run this are)
EVIOCGKEY = 2 << 30 | KEY_BYTES << 16 | ord("E") << 8 | 0x18  # _IOC(_IOC_READ, 'E', 0x18, len)
EVIOCGBIT_KEY = 2 << 30 | KEY_BYTES << 16 | ord("E") << 8 | 0x20 + EV_KEY  # _IOC(_IOC_READ, 'E', 0x20 + ev, len)
EVIOCSCLOCKID = 1 << 30 | struct.calcsize("i") << 16 | ord("E") << 8 | 0xA0  # _IOW('E', 0xa0, int)

AT_ONCE = 64  # events of a read; the kernel's queue of a keyboard holds as many
LOOK_SECONDS = 0.25  # how long a stop, and the end of the ignition, may wait
REOPEN_SECONDS = 1.0

Key = Callable[[int, bool, int, bool], None]  # code, pressed, boot time (ns), whether found so and not seen to change


def _has(bits: bytearray, code: int) -> bool:
    return bool(bits[code // 8] >> code % 8 & 1)


class Device:
    """One input device: opened again whenever it is gone. Tells `key` of those of the keys `codes` that it has, and `gone` of the same when
    nothing is known of them any more."""

    def __init__(
        self, path: str, codes: list[int], key: Key, gone: Callable[[list[int]], None], journal: Journal, snapshot: Snapshot
    ) -> None:
        self._path = path
        self._wanted = codes
        self._codes: list[int] = []
        self._key = key
        self._gone = gone
        self._journal = journal
        self._snapshot = snapshot
        self._label = f"{SOURCE}/{os.path.basename(path)}"
        self._outage = Outage(journal, self._label)
        self._reopen_ns = 0
        self._dropped = False
        self._own_time = False  # its events have boot times
        self._seen_ns = 0
        self.fd = -1

    def open(self, now_ns: int) -> None:
        """Opens it if it is closed and due; what differs from what is known is told."""
        if self.fd >= 0 or now_ns < self._reopen_ns:
            return
        try:
            self.fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._own_time = self._takes_boot_time()
            self._codes = self._keys()
            self._ask(now_ns)
        except OSError as error:
            self.lost(error, now_ns)
            return
        self._dropped = False
        self._outage.seen(now_ns)
        self._snapshot.sensor(self._label, "ok", "")

    def read(self, now_ns: int) -> None:
        """Reads what waits."""
        try:
            data = os.read(self.fd, AT_ONCE * EVENT.size)
            if not data:
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            if len(data) % EVENT.size:
                raise OSError(errno.EPROTO, "not an input device")
            for seconds, microseconds, kind, code, value in EVENT.iter_unpack(data):
                at = (seconds * 1_000_000 + microseconds) * 1000 if self._own_time else now_ns
                self._take(kind, code, value, at)
        except BlockingIOError:
            return
        except OSError as error:
            self.lost(error, now_ns)

    def lost(self, error: OSError, now_ns: int) -> None:
        """It cannot be used, because of `error`; tried again later."""
        self.close()
        self._gone(self._codes)
        self._reopen_ns = now_ns + int(REOPEN_SECONDS * NANO)
        reason = error.strerror or str(error)
        self._outage.lost(reason)
        self._snapshot.sensor(self._label, "failed", reason)

    def close(self) -> None:
        """The recorder stops, or it is gone."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def _takes_boot_time(self) -> bool:
        try:
            ioctl(self.fd, EVIOCSCLOCKID, struct.pack("i", CLOCK_BOOTTIME))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return False
        return True

    def _keys(self) -> list[int]:
        """Those of the wanted keys that it has. Raises OSError, also if it has none."""
        bits = bytearray(KEY_BYTES)
        ioctl(self.fd, EVIOCGBIT_KEY, bits)
        codes = [code for code in self._wanted if _has(bits, code)]
        if not codes:
            raise OSError(errno.ENXIO, f"has none of the keys {', '.join(map(str, self._wanted))}")
        return codes

    def _ask(self, now_ns: int) -> None:
        """The state of its keys, now. Raises OSError."""
        bits = bytearray(KEY_BYTES)
        ioctl(self.fd, EVIOCGKEY, bits)
        self._seen_ns = now_ns
        for code in self._codes:
            self._key(code, _has(bits, code), now_ns, True)

    def _take(self, kind: int, code: int, value: int, at_ns: int) -> None:
        if kind == EV_SYN and code == SYN_DROPPED:
            self._dropped = True
        elif self._dropped:
            if kind == EV_SYN and code == SYN_REPORT:
                self._dropped = False
                self._journal.write([gap(SOURCE, "events dropped by the kernel", self._seen_ns, at_ns)])
                self._ask(at_ns)
        elif kind == EV_KEY and code in self._codes and value in (RELEASED, PRESSED):
            self._seen_ns = at_ns
            self._key(code, value == PRESSED, at_ns, False)


class Inputs:
    """The source: `run(stop)` reads the switches until `stop` is set. `ignition(on)` is called in its thread when the ignition has gone off
    for good, and when it is on again."""

    def __init__(
        self, settings: config.Inputs, events: Events, journal: Journal, snapshot: Snapshot, ignition: Callable[[bool], None]
    ) -> None:
        self._settings = settings
        self._events = events
        self._ignition = ignition
        codes = [code for code in (settings.bookmark, settings.opened, settings.ignition) if code is not None]
        self._devices = [Device(path, codes, self._key, self._gone, journal, snapshot) for path in settings.devices]
        self._open = False
        self._on = True
        self._off_ns: int | None = None  # since when it may be off

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        try:
            while not stop.is_set():
                now = boottime_ns()
                for device in self._devices:
                    device.open(now)
                self._wait(stop)
                self._pass_time(boottime_ns())
        finally:
            for device in self._devices:
                device.close()

    def _wait(self, stop: threading.Event) -> None:
        """Until something can be read, or a while has passed."""
        poll = select.poll()
        opened = {device.fd: device for device in self._devices if device.fd >= 0}
        for fd in opened:
            poll.register(fd, select.POLLIN)
        if not opened:
            stop.wait(LOOK_SECONDS)
        for fd, _ in poll.poll(LOOK_SECONDS * 1000) if opened else ():
            opened[fd].read(boottime_ns())  # also where it hung up: the read says why

    def _key(self, code: int, pressed: bool, at_ns: int, found: bool) -> None:
        if code == self._settings.bookmark:
            if pressed and not found:
                self._events.bookmark(BUTTON, at_ns=at_ns)
        elif code == self._settings.opened:
            if pressed != self._open:
                self._open = pressed
                self._events.tell(BOX_OPENED if pressed else BOX_CLOSED, LID, "found so" if found else "", at_ns)
        elif code == self._settings.ignition:
            if pressed:
                self._ignition_on(at_ns)
            elif self._on and self._off_ns is None:
                self._off_ns = at_ns

    def _gone(self, codes: list[int]) -> None:
        if self._settings.ignition in codes:
            self._off_ns = None

    def _ignition_on(self, at_ns: int) -> None:
        self._off_ns = None
        if not self._on:
            self._on = True
            self._events.tell(IGNITION_ON, IGNITION, at_ns=at_ns)
            self._ignition(True)

    def _pass_time(self, now_ns: int) -> None:
        if self._off_ns is not None and now_ns - self._off_ns >= self._settings.ignition_seconds * NANO:
            at, self._off_ns = self._off_ns, None
            self._on = False
            self._events.tell(IGNITION_OFF, IGNITION, at_ns=at)
            self._ignition(False)


def ignition_is_on(settings: config.Inputs) -> bool | None:
    """Whether the key of the ignition is pressed now; None where no device says so, or none is wired. For a truck that is parked."""
    if settings.ignition is None:
        return None
    for path in settings.devices:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue  # another may have the key; if none has, that is the answer
        try:
            has, pressed = bytearray(KEY_BYTES), bytearray(KEY_BYTES)
            ioctl(fd, EVIOCGBIT_KEY, has)
            ioctl(fd, EVIOCGKEY, pressed)
        except OSError:
            continue
        finally:
            os.close(fd)
        if _has(has, settings.ignition):
            return _has(pressed, settings.ignition)
    return None
