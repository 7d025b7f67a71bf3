"""The RP2040's `machine` for the unix port: I2C, UART and watchdog of the simulated truck, pins, reset.

Signatures and errors are those of MicroPython's rp2 port (facts/sensors-and-head.md 2.1, 4): a chip that does not acknowledge is OSError
5 (19 for a transfer without data, which rp2 does in software), a line that is low for 50 ms is OSError 110, pins that cannot carry a
function are a ValueError, a watchdog cannot be stopped. The pins of an I2C bus are on its lines: they read the level that chips and pin
make together, also while the controller has them, and open-drain pins pull low.
"""

import os

import truck_wire as wire
import umachine
import utime

PWRON_RESET = 1
WDT_RESET = 3

idle = umachine.idle
mem8 = umachine.mem8
mem16 = umachine.mem16
mem32 = umachine.mem32

_pin_values = {}


class _Words:
    """Words 0 to 3 of CRUISERS_BACKUP, a file that outlives a reset; whoever takes the power empties it. On the board: a memoryview."""

    def __init__(self, path):
        self._file = open(path, "r+b")  # noqa: SIM115  # until the power goes

    def _seek(self, index):
        if not 0 <= index < 4:
            raise IndexError("index out of range")
        self._file.seek(4 * index)

    def __getitem__(self, index):
        self._seek(index)
        return int.from_bytes(self._file.read(4), "little")

    def __setitem__(self, index, value):
        self._seek(index)
        self._file.write(value.to_bytes(4, "little"))


if os.getenv("CRUISERS_BACKUP"):  # MicroPython 1.29; 1.28 has none
    _words = _Words(os.getenv("CRUISERS_BACKUP"))

    def mem_backup(region=0):
        """The watchdog's scratch registers 0 to 3."""
        return _words


def unique_id():
    """The 8 bytes of the board's flash chip."""
    return wire.receive(wire.call(wire.UNIQUE_ID, 0))


def reset_cause():
    """PWRON_RESET, or WDT_RESET after a watchdog and after machine.reset() alike (micropython#19409)."""
    return wire.receive(wire.call(wire.RESET_CAUSE, 0))[0]


def reset():
    """Restarts the head; does not return: the truck ends this process."""
    wire.call(wire.RESET, 0)


def freq():
    """The processor clock, Hz."""
    return 125_000_000


class Pin:
    """A GPIO: on the lines of an I2C bus, or with its own memory (nothing outside is connected, so an input reads its pull)."""

    IN = 0
    OUT = 1
    OPEN_DRAIN = 2
    ALT = 3
    PULL_UP = 1
    PULL_DOWN = 2
    ALT_UART = 2

    def __init__(self, id, mode=-1, pull=-1, *, value=None, alt=31):
        if isinstance(id, Pin):
            id = id.id
        if isinstance(id, str):
            id = 25 if id == "LED" else int(id[2:]) if id[:2] == "GP" else -1
        if not 0 <= id <= 29:
            raise ValueError("invalid pin")
        self.id = id
        self.init(mode, pull, value=value, alt=alt)

    def init(self, mode=-1, pull=-1, *, value=None, alt=31):
        if pull != -1 and self.id not in _pin_values:
            _pin_values[self.id] = 1 if pull == Pin.PULL_UP else 0
        if mode == Pin.ALT:
            value = 1  # what the line of a UART rests at
        if value is not None:
            self.value(value)

    def value(self, x=None):
        wire.request[wire.BODY] = self.id
        if x is None:
            size = wire.call(wire.PIN_READ, 1)
        else:
            wire.request[wire.BODY + 1] = 1 if x else 0
            size = wire.call(wire.PIN_DRIVE, 2)
        if size:
            level = wire.receive(size)[0]
        elif x is None:
            level = _pin_values.get(self.id, 0)
        else:
            _pin_values[self.id] = 1 if x else 0
        return level if x is None else None

    def __call__(self, x=None):
        return self.value(x)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    high = on
    low = off

    def toggle(self):
        self.value(not self.value())


def _number(pin, default):
    return default if pin is None else pin.id if isinstance(pin, Pin) else Pin(pin).id


class I2C:
    """Controller 0 or 1; RP2040 pins: SDA on GP(4n + 2 id), SCL on the next."""

    def __init__(self, id, *, scl=None, sda=None, freq=400_000, timeout=50_000):
        if id not in (0, 1):
            raise ValueError(f"I2C({id}) doesn't exist")
        scl = _number(scl, 5 + 2 * id)
        sda = _number(sda, 4 + 2 * id)
        if scl % 4 != 1 + 2 * id:
            raise ValueError("bad SCL pin")
        if sda % 4 != 2 * id:
            raise ValueError("bad SDA pin")
        end = wire.put(0, bytes((id, sda, scl)))
        wire.call(wire.I2C_OPEN, wire.put_number(end, freq, 4))
        self._handle = wire.receive(1)[0]

    def _transfer(self, addr, written, read, stop):
        # The written bytes stand already at offset 5.
        body = wire.request
        body[wire.BODY] = self._handle
        body[wire.BODY + 1] = addr
        body[wire.BODY + 2] = 1 if stop else 0
        body[wire.BODY + 3] = read & 0xFF
        body[wire.BODY + 4] = read >> 8
        return wire.call(wire.I2C_TRANSFER, 5 + written)

    @staticmethod
    def _put_register(memaddr, addrsize):
        if addrsize not in (8, 16):
            raise ValueError("addrsize")
        if addrsize == 8:
            wire.request[wire.BODY + 5] = memaddr
            return 6
        wire.request[wire.BODY + 5] = memaddr >> 8
        wire.request[wire.BODY + 6] = memaddr & 0xFF
        return 7

    def scan(self):
        wire.request[wire.BODY] = self._handle
        return list(wire.receive(wire.call(wire.I2C_SCAN, 1)))

    def writeto(self, addr, buf, stop=True):
        self._transfer(addr, wire.put(5, buf) - 5, 0, stop)
        return len(buf)

    def readfrom_into(self, addr, buf, stop=True):
        wire.receive_into(buf, self._transfer(addr, 0, len(buf), stop))

    def readfrom(self, addr, nbytes, stop=True):
        buf = bytearray(nbytes)
        self.readfrom_into(addr, buf, stop)
        return bytes(buf)

    def writeto_mem(self, addr, memaddr, buf, *, addrsize=8):
        end = wire.put(self._put_register(memaddr, addrsize), buf)
        self._transfer(addr, end - 5, 0, True)

    def readfrom_mem_into(self, addr, memaddr, buf, *, addrsize=8):
        end = self._put_register(memaddr, addrsize)
        wire.receive_into(buf, self._transfer(addr, end - 5, len(buf), True))

    def readfrom_mem(self, addr, memaddr, nbytes, *, addrsize=8):
        buf = bytearray(nbytes)
        self.readfrom_mem_into(addr, memaddr, buf, addrsize=addrsize)
        return bytes(buf)


class UART:
    """UART 0 or 1, 8N1; RP2040 pins: TX on GP0, 12, 16, 28 (0) or GP4, 8, 20, 24 (1), RX on the next."""

    _TX = ((0, 12, 16, 28), (4, 8, 20, 24))

    def __init__(
        self, id, baudrate=115200, bits=8, parity=None, stop=1, *, tx=None, rx=None, rxbuf=256, txbuf=256, timeout=0, timeout_char=0
    ):
        if id not in (0, 1):
            raise ValueError(f"UART({id}) doesn't exist")
        self._id = id
        self._tx = _number(tx, self._TX[id][0])
        self._rx = _number(rx, self._TX[id][0] + 1)
        if self._tx not in self._TX[id]:
            raise ValueError("bad TX pin")
        if self._rx - 1 not in self._TX[id]:
            raise ValueError("bad RX pin")
        self.init(baudrate, bits, parity, stop, rxbuf=rxbuf, timeout=timeout)

    def init(self, baudrate=115200, bits=8, parity=None, stop=1, *, rxbuf=256, txbuf=256, timeout=0, timeout_char=0):
        if (bits, parity, stop) != (8, None, 1):
            raise ValueError("only 8N1 is wired")
        self._timeout = timeout
        end = wire.put(0, bytes((self._id, self._tx, self._rx)))
        end = wire.put_number(end, baudrate, 4)
        wire.call(wire.UART_OPEN, wire.put_number(end, max(32, rxbuf), 2))
        self._handle = wire.receive(1)[0]

    def any(self):
        wire.request[wire.BODY] = self._handle
        wire.receive_into(wire.request, wire.call(wire.UART_ANY, 1))
        return wire.request[0] | wire.request[1] << 8

    def _wait(self, wanted):
        # Like rp2: gives up when the time-out has passed, with what is there.
        begin = utime.ticks_ms()
        while True:
            ready = self.any()
            if ready >= wanted or utime.ticks_diff(utime.ticks_ms(), begin) >= self._timeout:
                return min(ready, wanted)
            utime.sleep_ms(1)

    def readinto(self, buf, nbytes=-1):
        length = self._wait(len(buf) if nbytes < 0 else min(nbytes, len(buf)))
        if not length:
            return None
        wire.request[wire.BODY] = self._handle
        wire.put_number(1, length, 2)
        wire.receive_into(buf, wire.call(wire.UART_READ, 3))
        return length

    def read(self, nbytes=-1):
        buf = bytearray(self.any() if nbytes < 0 else nbytes)
        length = self.readinto(buf) if buf else None
        return None if length is None else bytes(buf[:length])

    def write(self, buf):
        wire.request[wire.BODY] = self._handle
        wire.call(wire.UART_WRITE, wire.put(1, buf))
        return len(buf)


class WDT:
    """The watchdog: at most 8388 ms, and it cannot be stopped."""

    def __init__(self, id=0, timeout=5000):
        if id != 0:
            raise ValueError(f"WDT({id}) doesn't exist")
        if not 1 <= timeout <= 8388:
            raise ValueError("timeout exceeds 8388")
        wire.call(wire.WATCHDOG_START, wire.put_number(0, timeout, 4))

    def feed(self):
        wire.call(wire.WATCHDOG_FEED, 0)
