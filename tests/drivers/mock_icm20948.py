"""An ICM-20948 and the AK09916 behind it for driver tests: four banks, FIFO, slaves 0 and 4; single faults can be put in by the test."""

import struct

from mock_buses import Bus, Registers
from turns import running

from drivers import icm20948

FRAME = 23


class Icm20948(Registers):
    """Frames are numbered: accel x is the number of the sample. `spoil(bank, register, value)` may return another value (or None: lost)
    for what is written, `misread(bank, register, value)` for what is read."""

    def __init__(self, address=0x68, ranges=(0x1D, 0x1B)):
        super().__init__(address)
        self.ranges = ranges  # what the driver is expected to set: a sample with others is an error of the test
        self.spoil = None
        self.misread = None
        self.mag_mode_lost = False  # the magnetometer takes no mode
        self.mag_answers_after = 0  # identity questions that get no acknowledge first
        self.mag_ready = True
        self.mag_away = False  # it acknowledges nothing
        self.field = b"\x01" + struct.pack("<3h", 100, -50, 7) + b"\0\x10"  # what slave 0 read last
        self.samples = 0
        self.resets = 0
        self.master_resets = 0
        self.fifo = bytearray()
        self.overflowed = False
        self.frozen = False
        self.reset()

    def reset(self):
        self.banks = [bytearray(128) for _ in range(4)]
        self.banks[0][0x00] = 0xEA
        self.banks[0][0x06] = 0x41
        self.banks[0][0x05] = 0x40
        self.bank = 0
        self.fifo = bytearray()
        self.next_at = None
        self.mag = {0x00: 0x48, 0x01: 0x09, 0x31: 0, 0x32: 0}

    def written(self, register, value):
        register &= 0x7F
        if self.spoil is not None:
            value = self.spoil(self.bank, register, value)
            if value is None:
                return
        if register == 0x7F:
            self.bank = value >> 4 & 3
            return
        bank = self.banks[self.bank]
        bank[register] = value
        if self.bank == 0:
            if register == 0x06 and value & 0x80:
                self.resets += 1
                self.reset()
            elif register == 0x03:
                self.master_resets += value >> 1 & 1
                bank[register] = value & ~0x02
            elif register == 0x68 and value & 1:
                self.fifo = bytearray()
        elif self.bank == 3 and register == 0x15 and value & 0x80:
            self._transfer(bank)

    def _transfer(self, bank):
        status = 0x40
        assert bank[0x13] & 0x7F == 0x0C and bank[0x01] == 0x17 and self.banks[0][0x03] & 0x20
        if bank[0x13] & 0x80:
            if self.mag_answers_after or self.mag_away:
                self.mag_answers_after -= 1 if self.mag_answers_after else 0
                status = 0x50
            else:
                bank[0x17] = self.mag[bank[0x14]]
        else:
            if not (self.mag_mode_lost and bank[0x14] == 0x31):
                self.mag[bank[0x14]] = bank[0x16]
        self.banks[0][0x17] = status

    def reading(self, register):
        register &= 0x7F
        value = self._reading(register)
        if self.misread is not None and not (self.bank == 0 and register == 0x72):
            value = self.misread(self.bank, register, value)
        return value

    def _reading(self, register):
        if register == 0x7F:
            return self.bank << 4
        if self.bank == 0:
            if register == 0x70:
                return len(self.fifo) >> 8
            if register == 0x71:
                return len(self.fifo) & 0xFF
            if register == 0x72:
                byte = self.fifo[0] if self.fifo else 0xFF
                self.fifo = self.fifo[1:]
                self._pointer -= 1  # the FIFO's register does not count up
                return byte
            if register == 0x1B:
                flag = 0x01 if self.overflowed else 0
                self.overflowed = False
                return flag
            if register == 0x17:
                status = self.banks[0][0x17]
                self.banks[0][0x17] = 0
                return status
        return self.banks[self.bank][register]

    def running(self):
        zero = self.banks[0]
        return zero[0x06] == 0x01 and zero[0x03] & 0x40 and zero[0x66] == 1 and zero[0x67] == 0x1F and zero[0x68] & 1 == 0

    def advance(self, now):
        self.now = now
        if self.frozen or not self.running():
            self.next_at = None
            return
        if self.next_at is None:
            self.next_at = now + 9.778
        while self.next_at <= now:
            self.next_at += 9.778
            self.push()

    def push(self):
        """One sample into the FIFO; in stream mode the oldest bytes go when it is full."""
        assert bytes(self.banks[3][3:6]) == b"\x8c\x10\x89" and (self.banks[2][0x14], self.banks[2][0x01]) == self.ranges
        assert self.banks[2][0x00] == self.banks[2][0x11] == 10 and self.mag[0x31] in (0, 8)
        self.samples += 1
        if self.mag_away:
            self.banks[0][0x17] |= 0x01  # and the bytes stay
        else:
            self.field = bytes((1 if self.mag_ready and self.mag[0x31] == 8 else 0,)) + self.field[1:]
        self.fifo += struct.pack(">7h", self.samples & 0x7FFF, 0, 4096, 0, 0, 0, 1335) + self.field
        if len(self.fifo) > 512:
            self.overflowed = True
            self.fifo = self.fifo[len(self.fifo) - 512 :]


class Wire(Bus):
    """The bus counts its bits; the next read of frames is of another register, or breaks off after so many bytes of them."""

    def __init__(self, chip):
        super().__init__(chip)
        self.bits = 0
        self.fifo_bits = 0
        self.elsewhere = None
        self.break_after = None
        self.before_fifo = None

    def writeto_mem(self, address, register, buf):
        self.bits += 1 + 9 * (2 + len(buf)) + 1
        super().writeto_mem(address, register, buf)

    def readfrom_mem_into(self, address, register, buf):
        bits = 1 + 18 + 1 + 9 + 9 * len(buf) + 1
        self.bits += bits
        if register == 0x70 and len(buf) > 2:
            self.fifo_bits += 9 * (len(buf) - 2)
            if self.before_fifo is not None:
                self.before_fifo()
                self.before_fifo = None
            if self.elsewhere is not None:
                register = self.elsewhere
                self.elsewhere = None
            elif self.break_after is not None:
                part = bytearray(2 + self.break_after)
                self.break_after = None
                super().readfrom_mem_into(address, register, part)
                raise OSError(110)
        super().readfrom_mem_into(address, register, buf)


def made(**options):
    """A chip, its bus, and its driver after 400 ms."""
    chip = Icm20948(**options)
    bus = Wire(chip)
    driver = icm20948.ICM20948(bus)
    running(driver, bus)
    return chip, bus, driver


def numbers(samples):
    return [icm20948.split(raw)[0] for raw in samples]
