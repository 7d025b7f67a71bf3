"""The gateway's own I2C bus and serial ports as machine.I2C and machine.UART: the drivers run on a Pi as they do on the head.

smbus2's `i2c_rdwr` carries every transfer: its SMBus block reads end at 32 bytes. Errors are OSError with the kernel's errno (121 no
acknowledge on a Raspberry Pi, 6 on other adapters, 110 time-out), which drivers.errors.from_oserror knows. Transfers longer than the
kernel's 8192 bytes, and memory addresses wider than a byte, no driver needs.

Nothing here frees a data line that a chip holds low: the pins are the kernel's. i2c-bcm2835 and i2c-gpio do not do it either (their sources
have no bus_recovery_info); i2c-bcm2835 gives up on a stretched clock after 35 ms with EIO, and on a transfer that does not end after 1 s.
"""

import errno
import fcntl
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import serial
from smbus2 import SMBus, i2c_msg

Buffer = bytes | bytearray | memoryview

_FIRST, _LAST = 0x08, 0x77  # what a scan asks: the addresses below and above are reserved


class LinuxI2C:
    """`device` ("/dev/i2c-1", or 1 for it) with machine.I2C's methods. Raises OSError if it cannot be opened."""

    def __init__(self, device: str | int) -> None:
        self._bus = SMBus(device)

    def close(self) -> None:
        """Closes the device."""
        self._bus.close()

    def scan(self) -> list[int]:
        """Addresses 0x08 to 0x77 that acknowledge being written to (an SMBus quick write)."""
        found = []
        for address in range(_FIRST, _LAST + 1):
            try:
                self._bus.write_quick(address)
            except OSError as error:
                if error.errno not in (errno.EREMOTEIO, errno.ENXIO, errno.ETIMEDOUT, errno.EIO):
                    raise
                continue
            found.append(address)
        return found

    def writeto(self, addr: int, buf: Buffer, stop: bool = True, /) -> int:
        """Writes `buf`; returns its length. OSError: not acknowledged. Without a stop nothing can be left on a Linux bus: ValueError."""
        if not stop:
            raise ValueError("Linux ends every transfer with a stop")
        self._bus.i2c_rdwr(i2c_msg.write(addr, bytes(buf)))
        return len(buf)

    def readfrom_into(self, addr: int, buf: bytearray | memoryview, /) -> None:
        """Fills `buf`, in a transfer of its own."""
        message = i2c_msg.read(addr, len(buf))
        self._bus.i2c_rdwr(message)
        buf[:] = bytes(message)

    def readfrom(self, addr: int, nbytes: int, /) -> bytes:
        """Reads `nbytes`, in a transfer of its own."""
        message = i2c_msg.read(addr, nbytes)
        self._bus.i2c_rdwr(message)
        return bytes(message)

    def writeto_mem(self, addr: int, memaddr: int, buf: Buffer, /) -> None:
        """Writes `buf` to the register `memaddr`."""
        self._bus.i2c_rdwr(i2c_msg.write(addr, bytes((memaddr,)) + bytes(buf)))

    def readfrom_mem_into(self, addr: int, memaddr: int, buf: bytearray | memoryview, /) -> None:
        """Fills `buf` from the register `memaddr`: address written, repeated start, bytes read."""
        buf[:] = self.readfrom_mem(addr, memaddr, len(buf))

    def readfrom_mem(self, addr: int, memaddr: int, nbytes: int, /) -> bytes:
        """Reads `nbytes` from the register `memaddr`."""
        message = i2c_msg.read(addr, nbytes)
        self._bus.i2c_rdwr(i2c_msg.write(addr, (memaddr,)), message)
        return bytes(message)


class LinuxUart:
    """The serial port `port` (8N1) with machine.UART's methods; nothing waits. OSError, with the port's name, if it cannot be opened.

    A port that goes (a USB adapter that is pulled) is an OSError of every call. With `replug` the next call opens it again."""

    def __init__(self, port: str, baud: int = 115_200, replug: bool = False) -> None:
        self._port = port
        self._replug = replug
        self._serial = serial.Serial(None, baud, timeout=0, write_timeout=1.0, exclusive=True)
        self._serial.port = port
        self._open()

    def close(self) -> None:
        """Closes the port."""
        self._serial.close()

    def init(self, baudrate: int) -> None:
        """Another speed, after what was written is out; what was received at the old one is thrown away, as machine.UART does."""
        with self._call():
            self._serial.flush()
            self._serial.baudrate = baudrate
            self._serial.reset_input_buffer()

    def write(self, buf: Buffer, /) -> int:
        """Sends `buf`; returns its length. OSError (time-out) if the port takes nothing for a second."""
        with self._call():
            return int(self._serial.write(bytes(buf)) or 0)

    def readinto(self, buf: bytearray | memoryview, /) -> int | None:
        """Received bytes into the beginning of `buf`; None when there are none."""
        with self._call():
            data = self._serial.read(len(buf))
        buf[: len(data)] = data
        return len(data) or None

    def any(self) -> int:
        """Bytes received."""
        with self._call():
            return int(struct.unpack("i", fcntl.ioctl(self._serial.fileno(), termios.FIONREAD, bytes(4)))[0])

    def _open(self) -> None:
        try:
            self._serial.open()
        except (serial.SerialException, termios.error) as error:
            wrapped = error.__context__ if isinstance(error, serial.SerialException) else None  # pyserial's sentence hides what was said
            number, words = _said(wrapped or error)
            raise OSError(number, "locked by another program" if number == errno.EAGAIN else words, self._port) from error

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Every trouble within is an OSError; one that means that the port has gone closes it, if it is to be opened again."""
        if self._replug and not self._serial.is_open:
            try:
                self._open()
            except OSError as error:
                raise OSError(errno.ENODEV, str(error)) from error
        try:
            yield
        except serial.SerialTimeoutException as error:
            raise OSError(errno.ETIMEDOUT, str(error)) from error
        except (OSError, termios.error) as error:  # pyserial lets termios.error through
            if self._replug:
                self._serial.close()
            raise OSError(*_said(error)) from error


def _said(error: BaseException) -> tuple[int, str]:
    """Number and words of the kernel's error; ENODEV where pyserial gives only words: the port has gone."""
    if len(error.args) > 1 and isinstance(error.args[0], int):
        return error.args[0], str(error.args[1])
    return errno.ENODEV, str(error)
