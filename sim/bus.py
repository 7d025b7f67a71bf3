"""Wires between the head and the chips: an I2C bus with acknowledges, and a UART line with the time its bytes take.

Chips are pure state machines; a bus brings them to the present (`advance`) before it moves the first bit of a transaction. What goes wrong
on the way is asked of sim/faults.py; the levels of SDA and SCL are those of sim/lines.py.
"""

from collections import deque
from collections.abc import Iterable
from typing import NoReturn, Protocol

from sim.faults import Faults, Strike
from sim.lines import Lines

TIME_OUT_US = 50_000  # rp2's machine.I2C gives up after so long
_LOOK_US = 5_000  # how often a controller that waits for a line looks at it, here


class ClockFace(Protocol):
    """What the wires need of sim.clock.Clock."""

    def now_us(self) -> int:
        """Chip time in µs (frozen by ignition-off)."""

    def running_us(self) -> int:
        """Time of the wires in µs (never frozen)."""

    def wait_us(self, microseconds: int, /) -> None:
        """Lets so much time pass."""


class I2CChip(Protocol):
    """A chip as the bus sees it: events of one transaction, byte by byte, and the passing of time."""

    address: int

    def start(self, read: bool) -> bool:
        """A (repeated) start with this chip's address; returns the acknowledge."""

    def write(self, byte: int) -> bool:
        """One byte from the controller; returns the acknowledge."""

    def read(self) -> int:
        """One byte to the controller."""

    def stop(self) -> None:
        """The stop condition."""

    def advance(self, now_us: int) -> None:
        """Everything that happened inside the chip until `now_us`."""


class UartChip(Protocol):
    """A chip behind a UART: bytes in, bytes out."""

    def write(self, data: bytes) -> None:
        """Bytes from the controller."""

    def read(self, count: int) -> bytes:
        """Takes at most `count` bytes of its output."""

    def any(self) -> int:
        """Bytes of output waiting."""

    def advance(self, now_us: int) -> None:
        """Everything that happened inside the chip until `now_us`."""


class NoAcknowledge(Exception):
    """Nobody acknowledged the address (`sent` = 0) or data byte number `sent` (from 1)."""

    def __init__(self, address: int, sent: int) -> None:
        super().__init__(f"no acknowledge from 0x{address:02x} after {sent} bytes")
        self.address = address
        self.sent = sent


class TimeOut(Exception):
    """A line was low for longer than the controller waits; the time has passed."""

    def __init__(self, address: int) -> None:
        super().__init__(f"time-out in a transfer with 0x{address:02x}")
        self.address = address


class I2CBus:
    """One I2C bus with its chips; two chips of one address are a wiring error (ValueError)."""

    def __init__(self, chips: Iterable[I2CChip], clock: ClockFace, faults: Faults | None = None) -> None:
        self.chips: dict[int, I2CChip] = {}
        self.faults = faults if faults is not None else Faults()
        self._clock = clock
        self._lines = Lines()
        self._holder: Strike | None = None  # the fault that left a chip in the middle of a byte
        self._stretched_until_us = 0
        self._addressed: list[I2CChip] = []  # chips that heard their address in this transfer
        for chip in chips:
            if chip.address in self.chips:
                raise ValueError(f"two chips at address 0x{chip.address:02x}")
            self.chips[chip.address] = chip

    def advance(self) -> None:
        """Brings every chip to the present."""
        for chip in self.chips.values():
            self._present(chip)

    def scan(self) -> list[int]:
        """Addresses 0x08 to 0x77 that acknowledge, as machine.I2C.scan finds them."""
        found = []
        for address in range(0x08, 0x78):
            try:
                self.transfer(address, b"", 0)
            except (NoAcknowledge, TimeOut):
                continue
            found.append(address)
        return found

    def transfer(self, address: int, write: bytes, read_n: int, stop_between: bool = False, stop_at_end: bool = True) -> bytes:
        """Writes `write`, then reads `read_n` bytes (with a repeated start between, or with stop and start).

        With nothing to write and nothing to read only the address is sent. Raises NoAcknowledge (a stop has then been sent, if it could
        be), or TimeOut after 50 ms of a line held low.
        """
        self._seize(address)
        self._lines.forget()  # a START ends whatever a chip was in
        self._addressed.clear()
        chip = self.chips.get(address)
        strikes = []
        if chip is not None and self.faults.strikes:
            strikes = self.faults.transaction(chip, self._clock.running_us(), len(write), read_n)
        self._stretch(address, strikes)
        if write or not read_n:
            self._write(address, write, strikes)
            if read_n and stop_between:
                self._stop()
        data = self._read(address, read_n, strikes, second=bool(write)) if read_n else b""
        if stop_at_end:
            self._stop()
        return data

    # --- the lines, for a controller that has let go of its pins

    def sda(self) -> int:
        """Level of SDA."""
        self._hold()
        return self._lines.sda

    def scl(self) -> int:
        """Level of SCL."""
        self._hold()
        return self._lines.scl

    def drive_sda(self, level: int) -> None:
        """The open-drain pin on SDA; 1 lets go."""
        self._hold()
        self._lines.drive_sda(level, self.chips.values())

    def drive_scl(self, level: int) -> None:
        """The open-drain pin on SCL; 1 lets go."""
        self._hold()
        self._lines.drive_scl(level)

    def release(self) -> None:
        """The controller takes its pins back."""
        self._lines.release()

    # --- one transfer

    def _present(self, chip: I2CChip) -> bool:
        """Brings the chip to the present; whether it is there at all."""
        if self.faults.strikes:
            cuts = self.faults.cuts
            present = self.faults.powered(chip, self._clock.running_us(), self._clock.now_us())
            if self._holder is not None and self._holder.fault.means(chip) and (self.faults.cuts != cuts or not present):
                self._let_go()
            if not present:
                return False
        chip.advance(self._clock.now_us())
        return True

    def _hold(self) -> None:
        """What pulls the lines low now whatever is clocked."""
        if not self.faults.strikes:
            return
        now = self._clock.running_us()
        chips = self.chips.values()
        self._lines.held_sda = self.faults.lines(chips, "stuck_sda", now) is not None
        self._lines.held_scl = now < self._stretched_until_us or self.faults.lines(chips, "stuck_scl", now) is not None
        if self._holder is not None:
            for chip in chips:
                self._present(chip)
        if self._holder is not None and not self._holder.within(now):
            self._let_go()

    def _let_go(self) -> None:
        self._holder = None
        self._lines.forget()

    def _seize(self, address: int) -> None:
        """Waits until both lines are high, as a controller does, and no longer."""
        self._hold()
        if self._lines.idle:
            return
        now = self._clock.running_us()
        strike = self._holder or self.faults.lines(self.chips.values(), "stuck_sda", now)
        if self._lines.scl and strike is not None and strike.fault.error == "no acknowledge":
            raise NoAcknowledge(address, 0)
        for _ in range(TIME_OUT_US // _LOOK_US):
            self._clock.wait_us(_LOOK_US)
            self._hold()
            if self._lines.idle:
                return
        raise TimeOut(address)

    def _stretch(self, address: int, strikes: list[Strike]) -> None:
        """A chip that holds SCL: the transfer takes longer, or the controller gives up."""
        for strike in strikes:
            if strike.fault.kind == "stretch" and strike.fault.microseconds:
                begin = self._clock.running_us()
                self._clock.wait_us(min(strike.fault.microseconds, TIME_OUT_US))
                if strike.fault.microseconds > TIME_OUT_US:
                    self._stretched_until_us = begin + strike.fault.microseconds
                    raise TimeOut(address)

    def _address(self, address: int, read: bool, strikes: list[Strike], second: bool) -> tuple[I2CChip, bool]:
        """Sends the (second) address byte; the chip that acknowledged it, and whether it understood "read"."""
        byte = address << 1 | read
        refused = False
        for strike in strikes:
            if strike.part == "address" and strike.byte == second:
                byte ^= 1 << strike.bit if strike.fault.kind == "flip" else 0
                refused |= strike.fault.kind == "nack"
        chip = self.chips.get(byte >> 1)
        known = chip in self._addressed
        if refused or chip is None or not (known or self._present(chip)):
            self._refuse(address, 0)
        assert chip is not None
        if not known:
            self._addressed.append(chip)
        if not chip.start(bool(byte & 1)):
            self._refuse(address, 0)
        return chip, bool(byte & 1)

    def _write(self, address: int, write: bytes, strikes: list[Strike]) -> None:
        chip, reads = self._address(address, False, strikes, second=False)
        for index, byte in enumerate(write):
            if reads:  # it sends a byte itself and waits for an acknowledge, as the controller does
                chip.read()
                self._refuse(address, index + 1)
            kinds = {}
            for strike in strikes:
                if strike.part == "written" and strike.byte == index:
                    kinds[strike.fault.kind] = strike
                    byte ^= 1 << strike.bit if strike.fault.kind == "flip" else 0
            heard = chip.write(byte)
            if "stuck_sda" in kinds:
                self._lines.leave_acknowledging(chip)
                self._break_off(address, kinds["stuck_sda"], index + 1)
            if not heard or "nack" in kinds:  # a glitch in the acknowledge: the chip has taken the byte
                self._refuse(address, index + 1)

    def _read(self, address: int, read_n: int, strikes: list[Strike], second: bool) -> bytes:
        chip, reads = self._address(address, True, strikes, second)
        data = bytearray()
        for index in range(read_n):
            if not reads:  # it listens: nobody pulls SDA low, so it hears ones, and so does the controller
                chip.write(0xFF)
                data.append(0xFF)
                continue
            byte = chip.read()
            for strike in strikes:
                if strike.part == "read" and strike.byte == index:
                    if strike.fault.kind == "stuck_sda":
                        self._lines.leave_sending([0] * strike.clocks)
                        self._break_off(address, strike, index)
                    byte ^= 1 << strike.bit if strike.fault.kind == "flip" else 0
            data.append(byte)
        return bytes(data)

    def _stop(self) -> None:
        for chip in self._addressed:
            chip.stop()

    def _refuse(self, address: int, sent: int) -> NoReturn:
        self._stop()
        raise NoAcknowledge(address, sent)

    def _break_off(self, address: int, strike: Strike, sent: int) -> NoReturn:
        """The chip holds SDA: no STOP can be sent."""
        self._holder = strike
        if strike.fault.error == "no acknowledge":
            raise NoAcknowledge(address, sent)
        self._clock.wait_us(TIME_OUT_US)
        raise TimeOut(address)


class UartLine:
    """One UART (8N1) between controller and chip: replies arrive after the chip's latency, then byte by byte at the baud rate.

    `wired_baud` is the chip's speed, unless it has a `baud` of its own, which may change. At another speed than the controller's, bytes are
    framing errors, that is, nothing. Bytes that arrive while the controller's receive buffer is full are lost and counted in `lost`.
    """

    LATENCY_US = 2_000  # the SPS30 answers within 20 ms (facts 1.2); a real one takes a few

    def __init__(self, chip: UartChip, clock: ClockFace, baud: int = 115_200, rxbuf: int = 256, faults: Faults | None = None) -> None:
        self.chip = chip
        self.faults = faults if faults is not None else Faults()
        self._clock = clock
        self.baud = baud
        self.wired_baud = baud
        self.rxbuf = rxbuf
        self.lost = 0
        self._flying: deque[tuple[float, int, int]] = deque()  # arrival in µs, byte, speed
        self._received: deque[int] = deque()
        self._line_free_us = 0.0

    def open(self, baud: int, rxbuf: int) -> None:
        """The controller (re)opens its side: its receive buffer starts empty."""
        self.advance()
        self.baud = baud
        self.rxbuf = rxbuf
        self._received.clear()

    @property
    def speed(self) -> int:
        """The chip's baud rate now."""
        return int(getattr(self.chip, "baud", self.wired_baud))

    def advance(self) -> None:
        """Brings the chip and the flying bytes to the present."""
        now = self._clock.running_us()
        if self.faults.at_work and not self.faults.powered(self.chip, now, self._clock.now_us()):
            self._flying.clear()
            return
        self.chip.advance(self._clock.now_us())
        waiting = self.chip.any()
        if waiting:
            speed = self.speed  # behind the last byte it may change
            byte_us = 10e6 / speed
            arrival = max(now + self.LATENCY_US, self._line_free_us)
            hit = self.faults.any_byte(self.chip, now)
            for sent in self.chip.read(waiting):
                for later, byte in self.faults.byte(self.chip, "read", sent, now) if hit else ((0, sent),):
                    arrival += byte_us + later
                    self._flying.append((arrival, byte, speed))
            self._line_free_us = arrival
        while self._flying and self._flying[0][0] <= now:
            _, byte, speed = self._flying.popleft()
            if speed != self.baud:
                continue
            if len(self._received) < self.rxbuf:
                self._received.append(byte)
            else:
                self.lost += 1

    def write(self, data: bytes) -> int:
        """Sends `data` to the chip; at another baud rate than the chip's it arrives as framing errors, that is, not at all."""
        self.advance()
        if self.baud != self.speed:
            return len(data)
        now = self._clock.running_us()
        arriving = data
        if self.faults.at_work:
            if not self.faults.powered(self.chip, now, self._clock.now_us()):
                return len(data)
            arriving = bytes(byte for sent in data for _, byte in self.faults.byte(self.chip, "written", sent, now))
        self.chip.write(arriving)
        self.advance()
        return len(data)

    def any(self) -> int:
        """Bytes in the controller's receive buffer."""
        self.advance()
        return len(self._received)

    def read(self, count: int) -> bytes:
        """Takes at most `count` bytes from the receive buffer; never waits."""
        self.advance()
        return bytes(self._received.popleft() for _ in range(min(count, len(self._received))))
