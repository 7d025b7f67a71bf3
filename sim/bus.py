"""Wires between the head and the chips: an I2C bus with acknowledges, and a UART line with the time its bytes take.

Chips are pure state machines; a bus brings them to the present (`advance`) before it moves the first bit of a transaction.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol


class ClockFace(Protocol):
    """What the wires need of sim.clock.Clock."""

    def now_us(self) -> int:
        """Chip time in µs (frozen by ignition-off)."""

    def running_us(self) -> int:
        """Time of the wires in µs (never frozen)."""


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


class I2CBus:
    """One I2C bus with its chips; two chips of one address are a wiring error (ValueError)."""

    def __init__(self, chips: Iterable[I2CChip], clock: ClockFace) -> None:
        self.chips: dict[int, I2CChip] = {}
        self._clock = clock
        for chip in chips:
            if chip.address in self.chips:
                raise ValueError(f"two chips at address 0x{chip.address:02x}")
            self.chips[chip.address] = chip

    def advance(self) -> None:
        """Brings every chip to the present."""
        now = self._clock.now_us()
        for chip in self.chips.values():
            chip.advance(now)

    def scan(self) -> list[int]:
        """Addresses 0x08 to 0x77 that acknowledge, as machine.I2C.scan finds them."""
        found = []
        for address in range(0x08, 0x78):
            try:
                self.transfer(address, b"", 0)
            except NoAcknowledge:
                continue
            found.append(address)
        return found

    def transfer(self, address: int, write: bytes, read_n: int, stop_between: bool = False, stop_at_end: bool = True) -> bytes:
        """Writes `write`, then reads `read_n` bytes (with a repeated start between, or with stop and start).

        With nothing to write and nothing to read only the address is sent. Raises NoAcknowledge; a stop has then been sent.
        """
        chip = self.chips.get(address)
        if chip is None:
            raise NoAcknowledge(address, 0)
        chip.advance(self._clock.now_us())
        if write or not read_n:
            self._start(chip, read=False)
            for sent, byte in enumerate(write, 1):
                if not chip.write(byte):
                    chip.stop()
                    raise NoAcknowledge(address, sent)
            if read_n and stop_between:
                chip.stop()
        data = b""
        if read_n:
            self._start(chip, read=True)
            data = bytes(chip.read() for _ in range(read_n))
        if stop_at_end:
            chip.stop()
        return data

    @staticmethod
    def _start(chip: I2CChip, read: bool) -> None:
        if not chip.start(read):
            chip.stop()
            raise NoAcknowledge(chip.address, 0)


class UartLine:
    """One UART (8N1) between controller and chip: replies arrive after the chip's latency, then byte by byte at the baud rate.

    Bytes that arrive while the controller's receive buffer is full are lost and counted in `lost`.
    """

    LATENCY_US = 2_000  # the SPS30 answers within 20 ms (facts 1.2); a real one takes a few

    def __init__(self, chip: UartChip, clock: ClockFace, baud: int = 115_200, rxbuf: int = 256) -> None:
        self.chip = chip
        self._clock = clock
        self.baud = baud
        self.wired_baud = baud
        self.rxbuf = rxbuf
        self.lost = 0
        self._flying: deque[tuple[float, int]] = deque()
        self._received: deque[int] = deque()
        self._line_free_us = 0.0

    def open(self, baud: int, rxbuf: int) -> None:
        """The controller (re)opens its side: its receive buffer starts empty."""
        self.baud = baud
        self.rxbuf = rxbuf
        self._received.clear()

    def advance(self) -> None:
        """Brings the chip and the flying bytes to the present."""
        self.chip.advance(self._clock.now_us())
        now = self._clock.running_us()
        waiting = self.chip.any()
        if waiting:
            byte_us = 10e6 / self.wired_baud
            arrival = max(now + self.LATENCY_US, self._line_free_us)
            for byte in self.chip.read(waiting):
                arrival += byte_us
                self._flying.append((arrival, byte))
            self._line_free_us = arrival
        while self._flying and self._flying[0][0] <= now:
            _, byte = self._flying.popleft()
            if len(self._received) < self.rxbuf:
                self._received.append(byte)
            else:
                self.lost += 1

    def write(self, data: bytes) -> int:
        """Sends `data` to the chip; at another baud rate than the chip's it arrives as framing errors, that is, not at all."""
        self.advance()
        if self.baud == self.wired_baud:
            self.chip.write(data)
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
