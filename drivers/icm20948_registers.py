"""The registers of an ICM-20948: four banks behind one selector, and stretches of them that must keep their values.

A bank counts as selected when it was read back, and a second look decides where a value is not what it must be: one bit may flip on the
wire. Steady work allocates nothing. BusError, and OSError of the bus, pass through."""

from drivers.errors import OTHER, BusError
from drivers.portable import TYPE_CHECKING, const

if TYPE_CHECKING:
    from drivers.faces import I2C

_BANK_SELECT = const(0x7F)  # in every bank; the bank stands in bits 5:4


class Registers:
    """Of the chip at `address`. `bank` is the selected one (as in the selector's bits), -1 if that is not known."""

    def __init__(self, i2c: "I2C", address: int) -> None:
        self._i2c = i2c
        self._address = address
        self._one = bytearray(1)
        self.bank = -1

    def select(self, bank: int) -> None:
        """From here on registers are of `bank`. BusError(OTHER) if it cannot be selected."""
        if bank == self.bank:
            return
        self.bank = -1
        for _ in range(2):
            self.write(_BANK_SELECT, bank)
            if self.read(_BANK_SELECT) & 0x30 == bank:
                self.bank = bank
                return
        raise BusError(OTHER)

    def read(self, register: int) -> int:
        """One register of the selected bank."""
        self._i2c.readfrom_mem_into(self._address, register, self._one)
        return self._one[0]

    def read_into(self, register: int, buf: bytearray | memoryview) -> None:
        """Registers of the selected bank, from `register` on."""
        self._i2c.readfrom_mem_into(self._address, register, buf)

    def write(self, register: int, value: int) -> None:
        """Set one register of the selected bank."""
        self._one[0] = value
        self._i2c.writeto_mem(self._address, register, self._one)


class Kept:
    """`size` registers of `bank` from `first` on, which shall be as they were at power-on (`note`) but for what was `put`."""

    def __init__(self, registers: Registers, bank: int, first: int, size: int) -> None:
        self._registers = registers
        self._bank = bank
        self._first = first
        self.wanted = bytearray(size)
        self._found = bytearray(size)

    def note(self) -> None:
        """Keep their values as they are now."""
        self._registers.select(self._bank)
        self._registers.read_into(self._first, self.wanted)

    def put(self, index: int, value: int) -> None:
        """Set one of them, and keep that."""
        self.wanted[index] = value
        self._registers.select(self._bank)
        self._registers.write(self._first + index, value)

    def intact(self) -> bool:
        """Whether all of them are as they shall be."""
        self._registers.select(self._bank)
        self._registers.read_into(self._first, self._found)
        if self._found != self.wanted:
            self._registers.read_into(self._first, self._found)
        return self._found == self.wanted
