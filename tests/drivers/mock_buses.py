"""Register maps with side effects at the level of I2C bytes and SHDLC frames: what the driver tests talk to, on both interpreters.

Not the simulated truck's chip models (sim/chips): these do only what a driver's state machine can notice, at times the test sets."""

import errno
import struct


class Bus:
    """machine.I2C's methods over mock chips. `now` (ms) is the chips' time; `errors` are raised by the next transactions, one each."""

    def __init__(self, *chips):
        self.chips = {chip.address: chip for chip in chips}
        self.now = 0
        self.errors = []
        self.transactions = 0

    def advance(self, now):
        self.now = now
        for address in self.chips:
            self.chips[address].advance(now)

    def _chip(self, address, read):
        self.transactions += 1
        if self.errors:
            code = self.errors.pop(0)
            if code:
                raise OSError(code)
        chip = self.chips.get(address)
        if chip is None or not chip.acknowledges(read):
            raise OSError(errno.EIO)
        return chip

    def writeto(self, address, buf):
        chip = self._chip(address, False)
        chip.begin()
        for byte in buf:
            chip.write(byte)
        chip.stop()

    def readfrom_into(self, address, buf):
        chip = self._chip(address, True)
        for index in range(len(buf)):
            buf[index] = chip.read()
        chip.stop()

    def writeto_mem(self, address, register, buf):
        chip = self._chip(address, False)
        chip.begin()
        chip.write(register)
        for byte in buf:
            chip.write(byte)
        chip.stop()

    def readfrom_mem_into(self, address, register, buf):
        chip = self._chip(address, False)
        chip.begin()
        chip.write(register)
        for index in range(len(buf)):
            buf[index] = chip.read()
        chip.stop()


class Registers:
    """256 byte registers behind a pointer that counts up."""

    def __init__(self, address):
        self.address = address
        self.registers = bytearray(256)
        self.now = 0
        self._pointer = 0
        self._first = True

    def acknowledges(self, read):
        return True

    def begin(self):
        self._first = True

    def write(self, byte):
        if self._first:
            self._pointer = byte
            self._first = False
        else:
            self.written(self._pointer, byte)
            self._pointer = (self._pointer + 1) & 0xFF

    def read(self):
        value = self.reading(self._pointer)
        self._pointer = (self._pointer + 1) & 0xFF
        return value

    def stop(self):
        pass

    def advance(self, now):
        self.now = now

    def written(self, register, value):
        self.registers[register] = value

    def reading(self, register):
        return self.registers[register]


class Bmp390(Registers):
    def __init__(self, nvm, address=0x77):
        super().__init__(address)
        self.nvm = nvm
        self.raw = bytes(6)
        self.conversions = 0
        self.dead = False  # a conversion never ends
        self.reset()

    def reset(self):
        for register in range(256):
            self.registers[register] = 0
        self.registers[0x00] = 0x60
        self.registers[0x1C] = 0x02
        self.registers[0x31:0x46] = self.nvm
        self.done_at = None

    def written(self, register, value):
        if register == 0x7E and value == 0xB6:
            self.reset()
            return
        self.registers[register] = value
        if register == 0x1B and value == 0x13:
            assert self.registers[0x1C] == 0x03
            self.registers[0x03] &= ~0x60
            self.done_at = self.now + 19

    def advance(self, now):
        self.now = now
        if self.done_at is not None and now >= self.done_at and not self.dead:
            self.done_at = None
            self.conversions += 1
            self.registers[0x04:0x0A] = self.raw
            self.registers[0x03] |= 0x60

    def reading(self, register):
        if 4 <= register <= 9:
            self.registers[0x03] &= ~0x60
        return self.registers[register]


class Sht45:
    """Commands and replies; busy means no acknowledge to a read."""

    def __init__(self, serial, reply, address=0x44):
        self.address = address
        self.serial = serial
        self.reply = reply
        self.measurements = 0
        self.resets = 0
        self.now = 0
        self.ready_at = None
        self.out = b""

    def advance(self, now):
        self.now = now

    def acknowledges(self, read):
        return not read or (self.ready_at is not None and self.now >= self.ready_at)

    def begin(self):
        pass

    def write(self, command):
        if command == 0x94:
            self.resets += 1
            self.ready_at = None
            return
        self.measurements += command == 0xFD
        self.out = self.reply if command == 0xFD else self.serial
        assert command in (0xFD, 0x89)
        self.ready_at = self.now + 9

    def read(self):
        byte = self.out[0]
        self.out = self.out[1:]
        return byte

    def stop(self):
        if not self.out:
            self.ready_at = None


class Opt3001:
    """16-bit registers, high byte first; a conversion every 800 ms once continuous."""

    def __init__(self, address=0x45):
        self.address = address
        self.registers = {0: 0, 1: 0xC810, 0x7E: 0x5449, 0x7F: 0x3001}
        self.result = 0x789A
        self.overflow = False
        self.now = 0
        self.next_at = None
        self.conversions = 0
        self._bytes = []

    def acknowledges(self, read):
        return True

    def begin(self):
        self._bytes = []
        self._high = True

    def write(self, byte):
        self._bytes.append(byte)

    def read(self):
        register = self._bytes[0]
        value = self.registers[register]
        self._high = not self._high
        if not self._high:
            return value >> 8
        if register == 1:
            self.registers[1] &= ~0x80
        return value & 0xFF

    def stop(self):
        if len(self._bytes) == 3:
            assert self._bytes[0] == 1
            self.registers[1] = self._bytes[1] << 8 | self._bytes[2]
            self.next_at = self.now + 800

    def advance(self, now):
        self.now = now
        while self.next_at is not None and now >= self.next_at:
            self.next_at += 800
            self.conversions += 1
            self.registers[0] = self.result
            self.registers[1] |= 0x80 | (0x100 if self.overflow else 0)


class As7331(Registers):
    """The same address is another register in configuration (DOS 2) and in measurement state (DOS 3)."""

    def __init__(self, address=0x74):
        super().__init__(address)
        self.words = (0x0000, 1838, 100, 200, 300)
        self.conversions = 0
        self.traffic = 0  # bytes that came while it converted
        self.reset()

    def reset(self):
        self.configuration = bytearray(16)
        self.configuration[0x02] = 0x21
        self.configuration[0x06:0x0C] = b"\xa6\x40\x50\x19\x01\x73"
        self.osr = 0x42
        self.done_at = None

    def begin(self):
        super().begin()
        self._low = True

    def write(self, byte):
        self.traffic += self.done_at is not None
        super().write(byte)

    def written(self, register, value):
        if register == 0:
            if value & 0x08:
                self.reset()
            self.osr = value & ~0x08
            if value & 0x80:
                assert value & 7 == 3
                self.done_at = self.now + 64
        else:
            assert self.osr & 7 == 2
            self.configuration[register] = value

    def read(self):
        if self.osr & 7 == 2:
            return super().read()
        word = self._words()[self._pointer]
        self._low = not self._low
        if not self._low:
            return word & 0xFF
        self._pointer += 1
        return word >> 8

    def reading(self, register):
        return self.osr if register == 0 else self.configuration[register]

    def _words(self):
        status = self.words[0] | (0x0400 if self.done_at is not None else 0x0800) | self.osr
        return (status,) + tuple(self.words[1:])

    def advance(self, now):
        self.now = now
        if self.done_at is not None and now >= self.done_at:
            self.done_at = None
            self.conversions += 1


class Icm20948(Registers):
    """Four banks, FIFO, and the AK09916 behind slaves 0 and 4. Frames are numbered: accel x is the number of the sample."""

    def __init__(self, address=0x68):
        super().__init__(address)
        self.mag_answers_after = 0  # identity questions that get no acknowledge first
        self.mag_ready = True
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
            if self.mag_answers_after:
                self.mag_answers_after -= 1
                status = 0x50
            else:
                bank[0x17] = self.mag[bank[0x14]]
        else:
            self.mag[bank[0x14]] = bank[0x16]
        self.banks[0][0x17] = status

    def reading(self, register):
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
        return zero[0x06] == 0x01 and zero[0x03] & 0x40 and zero[0x66] == 1 and zero[0x67] == 0x1E and zero[0x68] & 1 == 0

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
        assert bytes(self.banks[3][3:6]) == b"\x8c\x10\x89" and self.banks[2][0x14] == 0x1D and self.banks[2][0x01] == 0x1B
        assert self.banks[2][0x00] == self.banks[2][0x11] == 10 and self.mag[0x31] in (0, 8)
        self.samples += 1
        st1 = 1 if self.mag_ready and self.mag[0x31] == 8 else 0
        self.fifo += (
            struct.pack(">6h", self.samples & 0x7FFF, 0, 4096, 0, 0, 0) + bytes((st1,)) + struct.pack("<3h", 100, -50, 7) + b"\0\x10"
        )
        if len(self.fifo) > 512:
            self.overflowed = True
            self.fifo = self.fifo[len(self.fifo) - 512 :]


class Sps30Line:
    """machine.UART's methods with an SPS30 behind them. `chip` speaks whole frames; `answers` overrides replies (b"" = silence)."""

    def __init__(self):
        self.measuring = False
        self.samples = 0
        self.now = 0
        self.next_at = None
        self.fresh = False
        self.commands = []
        self.answers = []
        self.status = 0
        self._out = b""

    def advance(self, now):
        self.now = now
        while self.next_at is not None and now >= self.next_at:
            self.next_at += 1000
            self.samples += 1
            self.fresh = True

    def any(self):
        return len(self._out)

    def readinto(self, buf):
        if not self._out:
            return None
        count = min(len(buf), len(self._out))
        buf[:count] = self._out[:count]
        self._out = self._out[count:]
        return count

    def late(self, data):
        """Bytes that come by themselves."""
        self._out += data

    def write(self, data):
        data = bytes(data)
        body = data.strip(b"\xff").strip(b"\x7e")
        for coded, plain in ((b"\x7d\x5e", b"\x7e"), (b"\x7d\x31", b"\x11"), (b"\x7d\x33", b"\x13"), (b"\x7d\x5d", b"\x7d")):
            body = body.replace(coded, plain)
        assert sum(body) & 0xFF == 0xFF and body[2] == len(body) - 4, data
        self.commands.append(body[1])
        answer = self.answers.pop(0) if self.answers else None
        self._out += self._reply(body[1], body[3:-1]) if answer is None else answer
        return len(data)

    def _reply(self, command, data):
        state, out = 0, b""
        if command == 0x11 or (command == 0x01 and not self.measuring):
            state = 0x43
        elif command == 0x01:
            self.measuring = False
            self.next_at = None
        elif command == 0xD1:
            out = bytes((2, 3, 0, 7, 0, 2, 0))
        elif command == 0xD0:
            out = b"ABC123\0"
        elif command == 0x00:
            assert data == b"\x01\x03"
            self.measuring = True
            self.next_at = self.now + 1000
        elif command == 0x03 and self.fresh:
            self.fresh = False
            out = struct.pack(">10f", *([float(self.samples)] * 10))
        return encode_reply(command, state | self.status, out)


def encode_reply(command, state, data):
    """A reply frame, stuffed by another way than the driver's."""
    body = bytes((0, command, state, len(data))) + data
    body += bytes((0xFF - sum(body) & 0xFF,))
    for plain, coded in ((b"\x7d", b"\x7d\x5d"), (b"\x7e", b"\x7d\x5e"), (b"\x11", b"\x7d\x31"), (b"\x13", b"\x7d\x33")):
        body = body.replace(plain, coded)
    return b"\x7e" + body + b"\x7e"
