"""Chips of random registers, with the methods of machine.I2C.

What such a chip holds is random, and what was written to it is read back. To let a driver get as far as delivering, most chips answer
*sensibly* where a driver waits for something: an identity, a flag, the end of a reset (`sense` of each kind below). A chip may be sensible
always, mostly or hardly ever, and its transfers may fail; so drivers meet each of their states, from both sides."""

import random
import struct

ERRNOS = (5, 5, 110, 121)


def crc8(data: bytes) -> int:
    """Sensirion's CRC-8 (facts 1.1)."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x31 if crc & 0x80 else crc << 1) & 0xFF
    return crc


class RandomChip:
    """Registers of a byte each: what was written is read back, now and then a transfer fails or what comes is any bytes."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self._memory = bytearray(random_.randbytes(256 + 64))
        self._failing = random_.choice((0.0, 0.0, 0.02, 0.3))
        self._changing = random_.choice((0.0, 0.0, 0.02, 0.5))
        self._sensible = random_.choice((1.0, 0.97, 0.5))
        self._restless = random_.choice((0, 0, 0, 1, 30))

    def change(self) -> None:
        """Some registers get other contents by themselves."""
        for _ in range(self._restless):
            self._memory[self._random.randrange(256)] = self._random.getrandbits(8)

    def _maybe_fail(self) -> None:
        if self._random.random() < self._failing:
            raise OSError(self._random.choice(ERRNOS))

    def _any(self, buf: bytearray | memoryview) -> bool:
        """Whether the answer is any bytes."""
        if self._random.random() < self._changing:
            buf[:] = self._random.randbytes(len(buf))
            return True
        return False

    def readfrom_mem_into(self, address: int, register: int, buf: bytearray | memoryview) -> None:
        self._maybe_fail()
        if self._any(buf):
            return
        if self._random.random() < self._sensible:
            self.sense(register)
        data = self.take(register, len(buf))
        buf[:] = data + self._random.randbytes(len(buf) - len(data))

    def writeto_mem(self, address: int, register: int, buf: bytes | bytearray | memoryview) -> None:
        self._maybe_fail()
        self.put(register, bytes(buf))

    def readfrom_into(self, address: int, buf: bytearray | memoryview) -> None:
        self._maybe_fail()
        if not self._any(buf):
            buf[:] = self.reply(len(buf))

    def writeto(self, address: int, buf: bytes | bytearray | memoryview) -> int:
        self._maybe_fail()
        return len(buf)

    def take(self, register: int, count: int) -> bytes:
        """`count` bytes from `register` on, at most."""
        return bytes(self._memory[register : register + count])

    def put(self, register: int, data: bytes) -> None:
        """Writes `data` from `register` on."""
        self._memory[register : register + len(data)] = data

    def sense(self, register: int) -> None:
        """Sets what a driver that reads `register` now may be waiting for."""

    def reply(self, count: int) -> bytes:
        """What is read without a register."""
        return self._random.randbytes(count)


class Bmp390(RandomChip):
    """It has measured whenever it is asked, and sleeps after each forced conversion."""

    def sense(self, register: int) -> None:
        memory = self._memory
        memory[0x00], memory[0x02], memory[0x10] = 0x60, 0x00, 0x00
        memory[0x03] |= 0x60
        if memory[0x1B] == 0x13:
            memory[0x1B] = 0x03


class Words(RandomChip):
    """Registers of two bytes each."""

    def take(self, register: int, count: int) -> bytes:
        return bytes(self._memory[2 * (register & 0x7F) :][:count])

    def put(self, register: int, data: bytes) -> None:
        super().put(2 * (register & 0x7F), data)


class Opt3001(Words):
    """A single shot has ended whenever it is asked."""

    def sense(self, register: int) -> None:
        memory = self._memory
        memory[2 * 0x7E : 2 * 0x7F + 2] = b"\x54\x49\x30\x01"
        memory[2] &= 0xF9  # its mode is shutdown again
        memory[3] |= 0x80


class As7331(RandomChip):
    """Two sets of registers; which one is there the low bits of OSR say, which both have."""

    def __init__(self, random_: random.Random) -> None:
        super().__init__(random_)
        self._results = bytearray(random_.randbytes(32))
        self._measured = False

    def take(self, register: int, count: int) -> bytes:
        return bytes(self._results[2 * register :][:count]) if self._measured else super().take(register, count)

    def put(self, register: int, data: bytes) -> None:
        super().put(register, data)
        if register == 0:
            self._measured = data[0] & 7 == 3
            self._results[2:] = self._random.randbytes(30)

    def sense(self, register: int) -> None:
        self._memory[0x02] = 0x21
        self._results[0], self._results[1] = 0x03, self._results[1] & 0x60 | 0x08


class Icm20948(RandomChip):
    """Four banks; its FIFO holds whole frames, its magnetometer answers."""

    def __init__(self, random_: random.Random) -> None:
        super().__init__(random_)
        self._banks = [bytearray(random_.randbytes(0x80)) for _ in range(4)]
        self._bank = 0

    def take(self, register: int, count: int) -> bytes:
        if register == 0x7F:
            return bytes((self._bank << 4,))
        return bytes(self._banks[self._bank][register:][:count])

    def put(self, register: int, data: bytes) -> None:
        if register == 0x7F:
            self._bank = data[0] >> 4 & 3
        elif self._bank == 0 and register == 0x06 and data[0] & 0x80:
            self._banks[0][0x06] = 0x41
        else:
            self._banks[self._bank][register : register + len(data)] = data

    def sense(self, register: int) -> None:
        bank, third = self._banks[0], self._banks[3]
        bank[0x00], bank[0x17], bank[0x1B] = 0xEA, 0x40, 0x00
        third[0x17] = {0x01: 0x09, 0x31: 0x08}.get(third[0x14], 0)
        if self._bank == 0 and register == 0x70:
            count = 23 * self._random.randrange(1, 22)
            bank[0x70], bank[0x71] = count >> 8, count & 0xFF

    def change(self) -> None:
        for _ in range(self._restless):
            self._banks[self._random.randrange(4)][self._random.randrange(0x80)] = self._random.getrandbits(8)


class Sht45(RandomChip):
    """Every reply is two words with their checksums."""

    def reply(self, count: int) -> bytes:
        return b"".join(self._word() for _ in range(count // 3)) + self._random.randbytes(count % 3)

    def _word(self, word: bytes | None = None) -> bytes:
        word = self._random.randbytes(2) if word is None else word
        return word + bytes((crc8(word),))


class Sps30I2c(Sht45):
    """Replies to the command that was written; floats that can be, a status without fault."""

    def __init__(self, random_: random.Random) -> None:
        super().__init__(random_)
        self._command = b""

    def writeto(self, address: int, buf: bytes | bytearray | memoryview) -> int:
        self._command = bytes(buf[:2])
        return super().writeto(address, buf)

    def reply(self, count: int) -> bytes:
        random_ = self._random
        if random_.random() >= self._sensible:
            return super().reply(count)
        words = []
        for _ in range(count // 6):
            number = struct.pack(">f", 10.0 ** random_.uniform(-3, 5))
            words += [number[:2], number[2:]]
        words += [random_.randbytes(2)] * (count // 3 - len(words))
        if self._command == b"\x02\x02":
            words = [b"\x00\x01"]
        elif self._command == b"\xd1\x00":
            words = [random_.choice((b"\x01\x05", b"\x02\x00", b"\x02\x02", b"\x02\x03"))]
        elif self._command == b"\xd2\x06":
            words = [random_.choice((b"\x00\x00", b"\x00\x20")), b"\x00\x00"]
        return b"".join(self._word(word) for word in words)


# By part. The VEML7700 holds what is written to it, and that is all its driver asks of it.
IMAGES: dict[str, type[RandomChip]] = {
    "icm20948": Icm20948,
    "bmp390": Bmp390,
    "bmp390-normal": Bmp390,
    "sht45": Sht45,
    "sht45-heater": Sht45,
    "opt3001": Opt3001,
    "as7331": As7331,
    "veml7700": Words,
    "sps30_i2c": Sps30I2c,
}
