"""A workbench for tests: chips on a bus, a clock moved by hand, and the faces of machine.I2C and machine.UART on it."""

import errno
from collections.abc import Mapping

from sim.bus import I2CBus, I2CChip, NoAcknowledge, TimeOut, UartChip, UartLine
from sim.chips.faces import Source
from sim.clock import Clock

# What an SPS30 measures: another number for each quantity.
PARTICLES = {
    "pm1": 1.5e-9,
    "pm2_5": 2.5e-9,
    "pm4": 3.5e-9,
    "pm10": 4.5e-9,
    "particles_0_5": 10e6,
    "particles_1": 11e6,
    "particles_2_5": 12e6,
    "particles_4": 13e6,
    "particles_10": 14e6,
    "particle_size": 0.5e-6,
}


class Bench:
    """Time stands still except in `wait_us`; `log` is what chips built with `bench.record` report: (sensor, t_us, values)."""

    def __init__(self) -> None:
        self._now_ns = 0
        self.clock = Clock(lambda: self._now_ns, self.wait_us)
        self.log: list[tuple[str, int, dict[str, float]]] = []

    def record(self, sensor: str, t_us: int, values: Mapping[str, float]) -> None:
        """The `log` of a chip."""
        self.log.append((sensor, t_us, dict(values)))

    def wait_us(self, microseconds: int) -> None:
        """Time passes."""
        self._now_ns += microseconds * 1000

    def i2c(self, *chips: I2CChip) -> "BenchI2C":
        """A bus with `chips` on it."""
        return BenchI2C(I2CBus(chips, self.clock))

    def uart(self, chip: UartChip, baud: int = 115_200) -> "BenchUart":
        """A line to `chip`, which the controller opens at `baud`."""
        return BenchUart(UartLine(chip, self.clock, baud))


class BenchI2C:
    """machine.I2C's methods on a simulated bus; a missing acknowledge is OSError EIO as on the RP2040."""

    def __init__(self, bus: I2CBus) -> None:
        self.bus = bus

    def _transfer(self, address: int, write: bytes, read_n: int) -> bytes:
        try:
            return self.bus.transfer(address, write, read_n)
        except NoAcknowledge as error:
            raise OSError(errno.EIO, str(error)) from error
        except TimeOut as error:
            raise OSError(errno.ETIMEDOUT, str(error)) from error

    def scan(self) -> list[int]:
        """Addresses that acknowledge."""
        return self.bus.scan()

    def writeto(self, addr: int, buf: bytes, stop: bool = True) -> int:
        """Writes `buf`; returns the number of acknowledged bytes."""
        self._transfer(addr, bytes(buf), 0)
        return len(buf)

    def readfrom_into(self, addr: int, buf: bytearray | memoryview, stop: bool = True) -> None:
        """Fills `buf`."""
        buf[:] = self._transfer(addr, b"", len(buf))

    def readfrom(self, addr: int, nbytes: int) -> bytes:
        """Reads `nbytes`."""
        return self._transfer(addr, b"", nbytes)

    def writeto_mem(self, addr: int, memaddr: int, buf: bytes) -> None:
        """Writes `buf` to the register `memaddr`."""
        self._transfer(addr, bytes([memaddr]) + bytes(buf), 0)

    def readfrom_mem_into(self, addr: int, memaddr: int, buf: bytearray | memoryview) -> None:
        """Fills `buf` from the register `memaddr`."""
        buf[:] = self._transfer(addr, bytes([memaddr]), len(buf))

    def readfrom_mem(self, addr: int, memaddr: int, nbytes: int) -> bytes:
        """Reads `nbytes` from the register `memaddr`."""
        return self._transfer(addr, bytes([memaddr]), nbytes)


class BenchUart:
    """machine.UART's methods on a simulated line, with time-out 0."""

    def __init__(self, line: UartLine) -> None:
        self.line = line

    def init(self, baudrate: int) -> None:
        """Opens the line anew at another speed."""
        self.line.open(baudrate, self.line.rxbuf)

    def write(self, buf: bytes) -> int:
        """Sends `buf`."""
        return self.line.write(bytes(buf))

    def any(self) -> int:
        """Bytes received."""
        return self.line.any()

    def readinto(self, buf: bytearray | memoryview, nbytes: int | None = None) -> int | None:
        """Received bytes into the beginning of `buf`; None when there are none."""
        data = self.line.read(len(buf) if nbytes is None else min(nbytes, len(buf)))
        buf[: len(data)] = data
        return len(data) or None


def steady(values: Mapping[str, float]) -> Source:
    """A world in which nothing changes."""
    return lambda t_us: values
