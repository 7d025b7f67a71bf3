"""u-blox NEO-M9N on its UART (facts/sensors-and-head.md 1.11): 38400 baud and NMEA as delivered, UBX in, a position each epoch.

Modelled: VALSET and VALGET with the layers RAM, backup RAM and flash; acknowledge and refusal; the change of baud, which takes effect
behind the acknowledge (`lost_acknowledge`: before it, as an F9T was seen to do); MON-VER; NAV-PVT polled and periodic; GGA and RMC; a start
without fix or date; a lost count of weeks; a clock beside the whole second. `generation` 8 stands for the receivers before VALSET, which
refuse it and start at 9600 baud.

Epochs lie on whole multiples of the period in UTC, as a receiver aligns them, and the message leaves LATENCY later, as long as a
receiver computes. `baud` is the speed it listens and talks at; a line must lose or garble what comes at another one.
"""

import math
import struct

from sim.chips.faces import Log, SerialOutput, Source
from sim.chips.ubx import Message, MessageReader, nav_pvt, nmea, ubx

LATENCY_US = 40_000
BOOT_US = 300_000  # deaf and mute after power comes; not in the facts
START_UTC_NS = 1_790_000_000_000_000_000  # 2026-09-21, where nobody says otherwise
TX_BUFFER = 1000  # bytes; a message that does not fit is not sent at all. The size is not in the facts
WEEK_NS = 7 * 86_400 * 1_000_000_000

NAV_PVT, MON_VER, VALSET, VALGET, ACK, NAK = 0x0107, 0x0A04, 0x068A, 0x068B, 0x0501, 0x0500

RATE_MEAS, DYNMODEL, BAUDRATE = 0x30210001, 0x20110021, 0x40520001
UBX_IN, UBX_OUT, NMEA_OUT, PVT_OUT = 0x10730001, 0x10740001, 0x10740002, 0x20910007
USB_UBX_OUT, USB_NMEA_OUT, USB_PVT_OUT = 0x10780001, 0x10780002, 0x20910009
DEFAULTS = {
    RATE_MEAS: 1000, DYNMODEL: 0, BAUDRATE: 38400, UBX_IN: 1, UBX_OUT: 1, NMEA_OUT: 1, PVT_OUT: 0,
    USB_UBX_OUT: 1, USB_NMEA_OUT: 1, USB_PVT_OUT: 0,
}  # fmt: skip
# What a truck's receiver has in its flash once it was set up.
TRUCK = {**DEFAULTS, DYNMODEL: 4, BAUDRATE: 115_200, NMEA_OUT: 0, PVT_OUT: 1, USB_NMEA_OUT: 0, USB_PVT_OUT: 1}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4}  # by bits 28 to 30 of the key
_BAUDS = (4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)
_MODELS = (0, 2, 3, 4, 5, 6, 7, 8, 9, 10)
_RAM, _BBR, _FLASH = range(3)

_VERSIONS = {
    8: (b"ROM CORE 3.01 (107888)", b"00080000", (b"FWVER=SPG 3.01", b"PROTVER=18.00")),
    9: (b"EXT CORE 4.04 (7f89f7)", b"00190000", (b"FWVER=SPG 4.04", b"PROTVER=32.01", b"MOD=NEO-M9N", b"GPS;GLO;GAL;BDS", b"SBAS;QZSS")),
}


class NEOM9N(SerialOutput):
    """The receiver behind a UART. `flash` is what it was set up with before; None: as delivered.

    For tests: until `fix_from_us` there is no fix, until `date_from_us` no date; `weeks` are added to its date, `clock_offset_ns` to the
    time of its epochs (a real one lies up to a millisecond beside the whole second)."""

    SENSOR = "neo_m9n"
    RANGE = {
        "latitude": (-90.0, 90.0),
        "longitude": (-180.0, 180.0),
        "altitude": (-500.0, 9_000.0),
        "speed": (0.0, 100.0),
        "bearing": (0.0, math.radians(359.99999)),
    }
    # Half a step each: 1e-7°, 1 mm, 1 mm/s, 1e-5°; and what the conversion to double loses.
    EPSILON = {"latitude": 0.501e-7, "longitude": 0.501e-7, "altitude": 0.501e-3, "speed": 0.501e-3, "bearing": math.radians(0.501e-5)}

    def __init__(
        self,
        source: Source,
        log: Log,
        start_utc_ns: int = START_UTC_NS,
        flash: dict[int, int] | None = None,
        generation: int = 9,
        lost_acknowledge: bool = False,
    ) -> None:
        super().__init__()
        self._source = source
        self._log = log
        self._start_utc_ns = start_utc_ns
        self._generation = generation
        self._lost_acknowledge = lost_acknowledge
        self.fix_from_us = 0
        self.date_from_us = 0
        self.weeks = 0
        self.clock_offset_ns = 0
        self.samples = 0  # epochs
        self.backup: dict[int, int] = {}
        self.flash = dict(flash or {})
        self._now = 0
        self._restart(awake_us=0)

    # --- power

    def power_cycle(self, backup: bool = True) -> None:
        """A brown-out: what was in RAM is gone; without its `backup` supply, what was in BBR, too."""
        if not backup:
            self.backup.clear()
        self._restart(self._now + BOOT_US)

    def replace(self) -> None:
        """Another receiver in its place, as delivered."""
        self.flash.clear()
        self.power_cycle(backup=False)

    def _restart(self, awake_us: int) -> None:
        first = {**DEFAULTS, BAUDRATE: 9600 if self._generation < 9 else DEFAULTS[BAUDRATE]}
        self.ram = {**first, **self.flash, **self.backup}
        self.baud = self.ram[BAUDRATE]
        self._new_baud: int | None = None
        self._reader = MessageReader()
        self._output.clear()
        self._awake_us = awake_us
        self._due = self._next_epoch(awake_us)
        self._last = b""

    # --- the line

    def advance(self, now_us: int) -> None:
        """Computes the epochs whose messages are due until `now_us`."""
        while self._due + LATENCY_US <= now_us:
            self._epoch(self._due)
            self._due = self._next_epoch(self._due + 1)
        self._now = max(self._now, now_us)

    def next_output_us(self) -> int:
        """When its next epoch's messages leave."""
        return self._due + LATENCY_US

    def write(self, data: bytes) -> None:
        """Bytes from the controller, at `baud`; requests are answered at once (the line adds the time it takes)."""
        if self._now < self._awake_us or not self.ram[UBX_IN]:
            return
        for message in self._reader.feed(data):
            self._answer(message)

    def disturb(self, data: bytes) -> None:
        """Bytes that its output pin never sent, but the line carries behind what it has sent so far."""
        self._output += data

    def read(self, count: int) -> bytes:
        """Takes at most `count` bytes of its output; behind the last one a new baud takes effect."""
        taken = super().read(count)
        if self._new_baud is not None and not self._output:
            self.baud, self._new_baud = self._new_baud, None
        return taken

    def _say(self, data: bytes, switch: int = UBX_OUT) -> None:
        if self.ram[switch] and len(self._output) + len(data) <= TX_BUFFER:
            self._output += data

    # --- epochs

    def _next_epoch(self, after_us: int) -> int:
        """The first t_us >= `after_us` that is a whole multiple of the period in UTC."""
        offset, period = self._start_utc_ns // 1000, self.ram[RATE_MEAS] * 1000
        return -(-(after_us + offset) // period) * period - offset

    def _epoch(self, t_us: int) -> None:
        fix = t_us >= self.fix_from_us
        world = self._source(t_us)
        values = {name: world[name] for name in self.RANGE}
        utc_ns = self._start_utc_ns + t_us * 1000 + self.clock_offset_ns + self.weeks * WEEK_NS
        self._last = nav_pvt(utc_ns, values, fix, t_us >= self.date_from_us)
        self._say(nmea(utc_ns, values, fix), NMEA_OUT)
        if self.ram[PVT_OUT]:
            self._say(self._last)
        if fix:
            self.samples += 1
            self._log(self.SENSOR, t_us, values)

    # --- requests

    def _answer(self, message: Message) -> None:
        if message.kind == MON_VER and not message.payload:
            software, hardware, extensions = _VERSIONS[self._generation]
            texts = b"".join(text.ljust(30, b"\0") for text in extensions)
            self._say(ubx(MON_VER, software.ljust(30, b"\0") + hardware.ljust(10, b"\0") + texts))
        elif message.kind == NAV_PVT and not message.payload and self._last:
            self._say(self._last)
        elif message.kind >> 8 == VALSET >> 8:
            self._configure(message)

    def _configure(self, message: Message) -> None:
        """One message of class CFG: all of those are acknowledged or refused."""
        taken = False
        if self._generation >= 9 and message.kind == VALSET:
            taken = self._valset(message.payload)
        elif self._generation >= 9 and message.kind == VALGET:
            taken = self._valget(message.payload)
        acknowledge = ubx(ACK if taken else NAK, struct.pack(">H", message.kind))
        if self._new_baud is not None and self._lost_acknowledge:
            acknowledge = bytes(len(acknowledge))
        self._say(acknowledge)

    def _valset(self, payload: bytes) -> bool:
        """All of it or nothing; whether it was taken."""
        if len(payload) < 4 or payload[0] != 0 or not 0 < payload[1] < 8:
            return False
        pairs = _pairs(payload[4:])
        if pairs is None or not all(_allowed(key, value) for key, value in pairs.items()):
            return False
        before = dict(self.ram)
        for bit, layer in enumerate((self.ram, self.backup, self.flash)):
            if payload[1] & 1 << bit:
                layer.update(pairs)
        if self.ram[BAUDRATE] != before[BAUDRATE]:
            self._new_baud = self.ram[BAUDRATE]
        if self.ram[RATE_MEAS] != before[RATE_MEAS]:
            self._due = self._next_epoch(self._now + 1)
        return True

    def _valget(self, payload: bytes) -> bool:
        """Answers with the values; whether it knows all keys in that layer."""
        if len(payload) < 8 or len(payload) % 4 or payload[0] != 0 or payload[2:4] != b"\0\0":
            return False
        layer = {_RAM: self.ram, _BBR: self.backup, _FLASH: self.flash, 7: DEFAULTS}.get(payload[1])
        keys = struct.unpack(f"<{len(payload) // 4 - 1}I", payload[4:])
        if layer is None or not all(key in layer for key in keys):
            return False
        data = b"".join(struct.pack("<I", key) + layer[key].to_bytes(_SIZES[key >> 28], "little") for key in keys)
        self._say(ubx(VALGET, bytes((1, payload[1], 0, 0)) + data))
        return True


def _pairs(data: bytes) -> dict[int, int] | None:
    """Keys and values of a VALSET; None if it is cut off or names a key that does not exist."""
    pairs = {}
    while data:
        key = int.from_bytes(data[:4], "little")
        if len(data) < 4 or key not in DEFAULTS:
            return None
        size = _SIZES[key >> 28]
        if len(data) < 4 + size:
            return None
        pairs[key] = int.from_bytes(data[4 : 4 + size], "little")
        data = data[4 + size :]
    return pairs


def _allowed(key: int, value: int) -> bool:
    """Whether the receiver takes this value."""
    if key == BAUDRATE:
        return value in _BAUDS
    if key == RATE_MEAS:
        return 40 <= value <= 65_535
    if key == DYNMODEL:
        return value in _MODELS
    return key >> 28 == 2 or value <= 1
