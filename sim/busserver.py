"""Carries the simulated head's I2C, UART, watchdog and reset requests to the truck: loopback TCP, one request and one reply at a time.

The other end is sim/micropython/truck_wire.py, which says how requests and replies look. The server runs in a thread of its own; all
chips are touched under `lock` only.
"""

import errno
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from sim.bus import I2CBus, NoAcknowledge, TimeOut, UartLine
from sim.serving import Connection, Server

_I2C_OPEN, _I2C_TRANSFER, _I2C_SCAN, _UART_OPEN, _UART_WRITE, _UART_ANY, _UART_READ = 1, 2, 3, 4, 5, 6, 7
_WATCHDOG_START, _WATCHDOG_FEED, _RESET, _RESET_CAUSE, _UNIQUE_ID, _INTERRUPT_CHAR = 8, 9, 10, 11, 12, 13
_PIN_READ, _PIN_DRIVE = 14, 15
_NO_INTERRUPT = 0xFF

# (controller, SDA, SCL) or (UART, TX, RX) → what is soldered there.
Wiring = tuple[int, int, int]


class Control(Protocol):
    """The head's processor as its program sees it through `machine`."""

    def watchdog_start(self, milliseconds: int) -> None:
        """Starts the watchdog, which then cannot be stopped."""

    def watchdog_feed(self) -> None:
        """Puts the watchdog off by its whole time."""

    def request_reset(self) -> None:
        """Ends and restarts the program; its connection closes."""

    def reset_cause(self) -> int:
        """machine.reset_cause()."""

    def unique_id(self) -> bytes:
        """machine.unique_id()."""

    def interrupt_char(self, char: int | None) -> None:
        """Which byte on the serial line interrupts the program."""


class _Connection(Connection):
    """One run of the program, and which controllers it opened."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.i2c: list[I2CBus] = []
        self.uart: list[UartLine] = []


class BusServer(Server[_Connection]):
    """Listens on a free loopback `port` from `start` to `stop`. `pins`: what else a pin drives, high until a program drives it low."""

    def __init__(
        self,
        i2c: Mapping[Wiring, I2CBus],
        uart: Mapping[Wiring, UartLine],
        control: Control,
        pins: Mapping[int, Callable[[int], None]] | None = None,
    ) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        super().__init__("bus server", listener, length_bytes=2)
        self.port: int = listener.getsockname()[1]
        self.lock = threading.Lock()
        self.transactions = 0
        self._i2c = i2c
        self._uart = uart
        self._control = control
        self._pins = pins or {}
        self._nothing = I2CBus((), _Still())
        self._silent = UartLine(_Silence(), _Still())

    def _connected(self, sock: socket.socket) -> _Connection:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            for drive in self._pins.values():  # the reset before has made inputs of them
                drive(1)
        return _Connection(sock)

    def _reply(self, connection: _Connection, request: bytes) -> bytes | None:
        with self.lock:
            return self._answer(connection, request[0], request[1:])

    def _answer(self, connection: _Connection, operation: int, body: bytes) -> bytes | None:
        """The reply to one request; None = the program gets none (it is being reset)."""
        self.transactions += 1
        if operation == _I2C_TRANSFER:
            return _transfer(connection, body)
        if operation == _RESET:
            self._control.request_reset()
            return None
        return _reply(
            self._open(connection, operation, body) if operation in (_I2C_OPEN, _UART_OPEN) else self._other(connection, operation, body)
        )

    def _open(self, connection: _Connection, operation: int, body: bytes) -> bytes:
        """Handle of a controller on its pins; on other pins than the soldered ones it reaches nothing."""
        wiring = (body[0], body[1], body[2])
        if operation == _I2C_OPEN:
            bus = self._i2c.get(wiring, self._nothing)
            bus.release()  # the controller has the pins now
            if bus not in connection.i2c:  # it is made anew after each recovery
                connection.i2c.append(bus)
            return bytes([connection.i2c.index(bus)])
        baud, rxbuf = struct.unpack_from("<IH", body, 3)
        line = self._uart.get(wiring, self._silent)
        line.open(baud, rxbuf)
        if line not in connection.uart:  # it is opened anew for another speed
            connection.uart.append(line)
        return bytes([connection.uart.index(line)])

    def _other(self, connection: _Connection, operation: int, body: bytes) -> bytes:
        """Data of the reply to everything that cannot fail."""
        if operation == _I2C_SCAN:
            return bytes(connection.i2c[body[0]].scan())
        if operation == _UART_WRITE:
            connection.uart[body[0]].write(body[1:])
        elif operation == _UART_ANY:
            return connection.uart[body[0]].any().to_bytes(2, "little")
        elif operation == _UART_READ:
            return connection.uart[body[0]].read(int.from_bytes(body[1:3], "little"))
        elif operation == _WATCHDOG_START:
            self._control.watchdog_start(int.from_bytes(body[:4], "little"))
        elif operation == _WATCHDOG_FEED:
            self._control.watchdog_feed()
        elif operation == _RESET_CAUSE:
            return bytes([self._control.reset_cause()])
        elif operation == _UNIQUE_ID:
            return self._control.unique_id()
        elif operation == _INTERRUPT_CHAR:
            self._control.interrupt_char(None if body[0] == _NO_INTERRUPT else body[0])
        elif operation in (_PIN_READ, _PIN_DRIVE):
            return self._pin(operation == _PIN_DRIVE, body)
        else:
            raise ValueError(f"unknown operation {operation} from the head")
        return b""

    def _pin(self, drive: bool, body: bytes) -> bytes:
        """Level of an I2C pin (after driving it); empty: nothing is soldered to this pin, or nothing that drives it."""
        if drive and body[0] in self._pins:
            self._pins[body[0]](body[1])
        for (_, sda, scl), bus in self._i2c.items():
            if body[0] == sda:
                if drive:
                    bus.drive_sda(body[1])
                return bytes([bus.sda()])
            if body[0] == scl:
                if drive:
                    bus.drive_scl(body[1])
                return bytes([bus.scl()])
        return b""


def _transfer(connection: _Connection, body: bytes) -> bytes:
    """One I2C transaction: handle, address, flags (bit 0 stop), bytes to read, bytes to write."""
    handle, address, flags, read_n = struct.unpack_from("<BBBH", body)
    try:
        return _reply(connection.i2c[handle].transfer(address, body[5:], read_n, stop_at_end=bool(flags & 1)))
    except NoAcknowledge:
        # rp2: hardware I2C says EIO; a transfer without data goes through its software I2C, which says ENODEV.
        return struct.pack("<BH", errno.EIO if read_n or len(body) > 5 else errno.ENODEV, 0)
    except TimeOut:
        return struct.pack("<BH", errno.ETIMEDOUT, 0)


def _reply(data: bytes) -> bytes:
    return struct.pack("<BH", 0, len(data)) + data


class _Still:
    """A clock for wires that lead nowhere."""

    def now_us(self) -> int:
        return 0

    def running_us(self) -> int:
        return 0

    def wait_us(self, microseconds: int, /) -> None:
        """Nothing goes on."""


class _Silence:
    """A UART with nothing behind it."""

    def write(self, data: bytes) -> None:
        """Nobody listens."""

    def read(self, count: int) -> bytes:
        return b""

    def any(self) -> int:
        return 0

    def advance(self, now_us: int) -> None:
        """Nothing happens."""
