"""This machine's I2C buses and serial ports as the recorder uses them: they may be absent at the start, and go and come back (adapters on
USB).

The faces are those of linux_bus.py; a device that is not there is ENODEV of every call, so its parts say that they are absent, and each
call tries to open it. `trouble` says why there is no device, "" while there is one; `heard_ns` when one was last heard on it.

An I2C adapter that was pulled is not always told by its driver: some say "not acknowledged" for ever, and an open file keeps the kernel
from making the new one under the old name. So a bus on which nothing answers is closed after SILENT_SECONDS, and opened again."""

import errno
from collections.abc import Callable
from typing import TypeVar

from gateway.clock import boottime_ns
from gateway.linux_bus import Buffer, LinuxI2C, LinuxUart

SILENT_SECONDS = 5.0
NANO = 1_000_000_000

T = TypeVar("T")


class OwnI2C:
    """The bus `device` ("/dev/i2c-1")."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._bus: LinuxI2C | None = None
        self._since_ns = 0  # it was opened, or answered last
        self.trouble = ""
        self.heard_ns = 0

    def writeto(self, addr: int, buf: Buffer, stop: bool = True, /) -> int:
        """As LinuxI2C's, and so are the other calls."""
        return self._call(lambda bus: bus.writeto(addr, buf, stop))

    def readfrom_into(self, addr: int, buf: bytearray | memoryview, /) -> None:
        """Fills `buf`."""
        self._call(lambda bus: bus.readfrom_into(addr, buf))

    def writeto_mem(self, addr: int, memaddr: int, buf: Buffer, /) -> None:
        """Writes `buf` to a register."""
        self._call(lambda bus: bus.writeto_mem(addr, memaddr, buf))

    def readfrom_mem_into(self, addr: int, memaddr: int, buf: bytearray | memoryview, /) -> None:
        """Fills `buf` from a register."""
        self._call(lambda bus: bus.readfrom_mem_into(addr, memaddr, buf))

    def close(self) -> None:
        """Closes the device; the next call opens it again."""
        if self._bus is not None:
            self._bus.close()
        self._bus = None

    def _call(self, transfer: Callable[[LinuxI2C], T]) -> T:
        bus = self._opened()
        try:
            result = transfer(bus)
        except OSError as error:
            if error.errno == errno.ENODEV:
                self._gone(error)
            elif boottime_ns() - self._since_ns > SILENT_SECONDS * NANO:
                self.close()
            raise
        self._since_ns = self.heard_ns = boottime_ns()
        return result

    def _opened(self) -> LinuxI2C:
        if self._bus is None:
            try:
                self._bus = LinuxI2C(self._device)
            except OSError as error:
                self._gone(error)
                raise OSError(errno.ENODEV, self.trouble) from error
            self.trouble = ""
            self._since_ns = boottime_ns()
        return self._bus

    def _gone(self, error: OSError) -> None:
        self.close()
        self.trouble = error.strerror or str(error)


class OwnUart:
    """The serial port `port` (8N1)."""

    def __init__(self, port: str, baud: int) -> None:
        self._port = port
        self._baud = baud
        self._uart: LinuxUart | None = None  # it opens itself again, once it was there
        self.trouble = ""
        self.heard_ns = 0

    def init(self, baudrate: int) -> None:
        """As LinuxUart's, and so are the other calls."""
        self._call(lambda uart: uart.init(baudrate))

    def write(self, buf: Buffer, /) -> int:
        """Sends `buf`; returns its length."""
        return self._call(lambda uart: uart.write(buf))

    def readinto(self, buf: bytearray | memoryview, /) -> int | None:
        """Received bytes into the beginning of `buf`; None when there are none."""
        count = self._call(lambda uart: uart.readinto(buf))
        if count:
            self.heard_ns = boottime_ns()
        return count

    def any(self) -> int:
        """Bytes received."""
        return self._call(lambda uart: uart.any())

    def close(self) -> None:
        """Closes the port."""
        if self._uart is not None:
            self._uart.close()

    def _call(self, use: Callable[[LinuxUart], T]) -> T:
        try:
            if self._uart is None:
                self._uart = LinuxUart(self._port, self._baud, replug=True)
            result = use(self._uart)
        except OSError as error:
            if error.errno == errno.ETIMEDOUT:  # it is there, and takes nothing
                raise
            self.trouble = error.strerror or str(error)
            raise OSError(errno.ENODEV, self.trouble) from error
        self.trouble = ""
        return result
