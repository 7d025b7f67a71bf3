"""SPS30 particulate matter sensor on I2C (facts/sensors-and-head.md 1.2): two-byte commands, a CRC-8 behind every two bytes, 100 kHz.

Modelled: commands with their arguments and waiting times, replies only after a stop and the wait, data-ready flag, wake that is not
acknowledged the first time, status, cleaning, interval, identity, reset. A command without sense in its mode is acknowledged and changes
nothing, and a reply asked for too early is not acknowledged: both unverified. How long a reply takes is unknown, too: at most 5 ms, and so
long it takes here by default; the vendor's own driver (sensirion-i2c-sps30) reads at once, so silicon must be quicker. Not modelled: the
limit of 100 kHz.
"""

from sim.chips.checksums import crc8, with_crc
from sim.chips.faces import Log, Source
from sim.chips.sps30_core import BOOT_US, EPSILON, FLOAT, IDLE, INTEGER, MEASURING, PRODUCT_TYPE, RANGE, SLEEPING, SPS30Core

_START, _STOP, _READY, _READ, _SLEEP, _WAKE, _CLEAN, _INTERVAL = 0x0010, 0x0104, 0x0202, 0x0300, 0x1001, 0x1103, 0x5607, 0x8004
_TYPE, _SERIAL, _VERSION, _STATUS, _CLEAR, _RESET = 0xD002, 0xD033, 0xD100, 0xD206, 0xD210, 0xD304
_ARGUMENTS = {_START: (1,), _INTERVAL: (0, 2)}  # words that may follow the command
_SINCE = {_SLEEP: (2, 0), _WAKE: (2, 0), _STATUS: (2, 2), _CLEAR: (2, 2)}
LONGEST_WAIT_US = 5_000
_LONG_WAIT_US = 20_000  # start, stop, and the interval when it is written
_WAKE_WITHIN_US = 100_000


class SPS30I2C:
    """The sensor at 0x69; `core` is what measures. `wait_us`: from a command that has a reply to that reply."""

    SENSOR = "sps30"
    RANGE = RANGE
    EPSILON = EPSILON

    def __init__(
        self,
        source: Source,
        log: Log,
        address: int = 0x69,
        ppm: float = 300.0,
        serial: bytes = b"5A1D0C0FFEE00301",
        version: tuple[int, int] = (2, 3),
        wait_us: int = LONGEST_WAIT_US,
    ) -> None:
        self.address = address
        self._wait_us = wait_us
        self.core = SPS30Core(source, log, ppm, serial, version)
        self.power_cycle()

    @property
    def samples(self) -> int:
        """Samples measured."""
        return self.core.samples

    def power_cycle(self) -> None:
        """A brown-out: idle, nothing to read."""
        self.core.power_cycle()
        self._received = bytearray()
        self._writing = self._reading = False
        self._reply = b""
        self._ready_at = 0  # the reply can be read from then on
        self._deaf_until = 0
        self._listens_until = 0  # asleep: a first wake was seen

    def advance(self, now_us: int) -> None:
        """Makes the samples due until `now_us`."""
        self.core.advance(now_us)

    def start(self, read: bool) -> bool:
        """Acknowledges unless it boots, sleeps, or is asked for a reply it does not have (yet)."""
        now = self.core.now
        if now < self._deaf_until:
            return False
        if self.core.mode == SLEEPING and now >= self._listens_until:
            self._listens_until = now + _WAKE_WITHIN_US
            return False
        self._received.clear()
        self._writing = not read
        self._reading = read and bool(self._reply) and now >= self._ready_at
        return self._writing or self._reading

    def write(self, byte: int) -> bool:
        """A byte of a command; it is obeyed at the stop."""
        self._received.append(byte)
        return True

    def read(self) -> int:
        """The next byte of the reply; after its end the bus floats high."""
        if self._writing or not self._reply:  # a repeated start: the command was not ended by a stop
            return 0xFF
        byte, self._reply = self._reply[0], self._reply[1:]
        return byte

    def stop(self) -> None:
        """Ends a command (which is then obeyed) or a reply (of which the rest is gone)."""
        if self._writing and self._received:
            self._reply = b""
            self._ready_at = self.core.now + self._wait_us
            words = self._arguments()
            if words is not None:
                self._obey(int.from_bytes(self._received[:2], "big"), words)
        elif self._reading:
            self._reply = b""
        self._writing = self._reading = False
        self._received.clear()

    def _arguments(self) -> bytes | None:
        """The words behind the command, without their checksums; None if it is not a whole command."""
        data = bytes(self._received)
        if len(data) < 2 or (len(data) - 2) % 3:
            return None
        words = [data[at : at + 3] for at in range(2, len(data), 3)]
        if len(words) not in _ARGUMENTS.get(int.from_bytes(data[:2], "big"), (0,)):
            return None
        if any(crc8(word[:2]) != word[2] for word in words):
            return None
        return b"".join(word[:2] for word in words)

    def _obey(self, command: int, words: bytes) -> None:
        core = self.core
        if core.version < _SINCE.get(command, (0, 0)):
            return
        if core.mode == SLEEPING:
            if command == _WAKE:
                core.rest(IDLE)
            return
        answers = {_TYPE: PRODUCT_TYPE, _SERIAL: core.serial.ljust(32, b"\0"), _VERSION: bytes(core.version)}
        if command in answers:
            self._say(answers[command])
        elif command == _READY:
            self._say(bytes((0, core.new is not None)))
        elif command == _READ:
            self._say(core.take())
        elif command == _STATUS:
            self._say(core.status.to_bytes(4, "big"))
        elif command == _CLEAR:
            core.status = 0
        elif command == _INTERVAL and not words:
            self._say(core.interval())
        else:
            self._change(command, words)

    def _change(self, command: int, words: bytes) -> None:
        core = self.core
        if command == _INTERVAL:
            core.set_interval(words)
            self._ready_at = core.now + _LONG_WAIT_US
        elif command == _START and core.mode == IDLE and words[0] in (FLOAT, INTEGER):
            core.start(words[0])
            self._ready_at = core.now + _LONG_WAIT_US
        elif command == _STOP and core.mode == MEASURING:
            core.rest(IDLE)
        elif command == _SLEEP and core.mode == IDLE:
            core.rest(SLEEPING)
            self._listens_until = 0
        elif command == _CLEAN and core.mode == MEASURING:
            core.clean()
        elif command == _RESET:
            self.power_cycle()
            self._deaf_until = core.now + BOOT_US

    def _say(self, data: bytes) -> None:
        self._reply = b"".join(with_crc(int.from_bytes(data[at : at + 2], "big")) for at in range(0, len(data), 2))
