"""Register maps with side effects at the level of I2C bytes: what the driver tests talk to, on both interpreters.

Not the simulated truck's chip models (sim/chips): these do only what a driver's state machine can notice, at times the test sets."""

import errno


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
        self.registers[0x10] = 0x01
        self.registers[0x1C] = 0x02
        self.registers[0x31:0x46] = self.nvm
        self.done_at = None

    def written(self, register, value):
        if register == 0x7E and value == 0xB6:
            self.reset()
            return
        self.registers[register] = value
        if register == 0x1B and value in (0x13, 0x33):
            self.registers[0x03] &= ~0x60
            self.done_at = self.now + 19

    def advance(self, now):
        self.now = now
        if self.done_at is not None and now >= self.done_at and not self.dead:
            self.done_at = None
            self.conversions += 1
            self.registers[0x04:0x0A] = self.raw
            self.registers[0x03] |= 0x60
            if self.registers[0x1B] == 0x33:
                self.done_at = self.now + (5 << self.registers[0x1D])
            else:
                self.registers[0x1B] = 0x03

    def reading(self, register):
        value = self.registers[register]
        if 4 <= register <= 9:
            self.registers[0x03] &= ~0x60
        elif register in (0x02, 0x10):
            self.registers[register] = 0
        return value


class Sht45:
    """Commands and replies; busy means no acknowledge to a read."""

    def __init__(self, serial, reply, address=0x44):
        self.address = address
        self.serial = serial
        self.reply = reply
        self.measurements = 0
        self.pulses = 0
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
        self.pulses += command == 0x2F
        self.out = self.serial if command == 0x89 else self.reply
        assert command in (0xFD, 0x89, 0x2F)
        self.ready_at = self.now + (1100 if command == 0x2F else 9)

    def read(self):
        byte = self.out[0]
        self.out = self.out[1:]
        return byte

    def stop(self):
        if not self.out:
            self.ready_at = None


class Words:
    """16-bit registers: `_bytes` came since the start, of which the first is the register; `_high` turns with each byte read."""

    def __init__(self, address):
        self.address = address
        self.now = 0
        self._bytes = []

    def acknowledges(self, read):
        return True

    def begin(self):
        self._bytes = []
        self._high = True

    def write(self, byte):
        self._bytes.append(byte)


class Opt3001(Words):
    """16-bit registers, high byte first; single shots of 800 ms."""

    def __init__(self, address=0x45):
        super().__init__(address)
        self.registers = {0: 0, 1: 0xC810, 0x7E: 0x5449, 0x7F: 0x3001}
        self.result = 0x789A
        self.overflow = False
        self.dead = False
        self.next_at = None
        self.conversions = 0

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
            assert self.registers[1] & 0x0600 == 0x0200
            self.next_at = None if self.dead else self.now + 800

    def advance(self, now):
        self.now = now
        if self.next_at is not None and now >= self.next_at:
            self.next_at = None
            self.conversions += 1
            self.registers[0] = self.result
            self.registers[1] = self.registers[1] & ~0x0600 | 0x80 | (0x100 if self.overflow else 0)


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
        self.new_data = 0
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
                self.new_data = 0
                self.done_at = self.now + 64
        else:
            assert self.osr & 7 == 2
            self.configuration[register] = value

    def read(self):
        if self.osr & 7 == 2:
            return super().read()
        word = self._words()[self._pointer]
        if self._pointer:
            self.new_data = 0  # reading results makes them old
        self._low = not self._low
        if not self._low:
            return word & 0xFF
        self._pointer += 1
        return word >> 8

    def reading(self, register):
        return self.osr if register == 0 else self.configuration[register]

    def _words(self):
        status = self.words[0] | (0x0400 if self.done_at is not None else self.new_data) | self.osr
        return (status,) + tuple(self.words[1:])

    def advance(self, now):
        self.now = now
        if self.done_at is not None and now >= self.done_at:
            self.done_at = None
            self.osr &= ~0x80
            self.new_data = 0x0800
            self.conversions += 1


class Veml7700(Words):
    """16-bit registers behind command codes, low byte first; an integration of 100 to 400 ms once it is awake, and again and again."""

    def __init__(self, address=0x10):
        super().__init__(address)
        self.counts = 20_000
        self.integrations = 0
        self.reset()

    def reset(self):
        self.registers = [0x0001, 0, 0, 0, 0, 0, 0]
        self.next_at = None

    def read(self):
        value = self.registers[self._bytes[0]]
        self._high = not self._high
        return value >> 8 if self._high else value & 0xFF

    def stop(self):
        if len(self._bytes) == 3:
            register, value = self._bytes[0], self._bytes[1] | self._bytes[2] << 8
            asleep = self.registers[0] & 1
            self.registers[register] = value
            if register == 0:
                if value & 1:
                    self.next_at = None
                elif asleep:
                    self.next_at = self.now + 3 + self._time()

    def _time(self):
        return 100 << (self.registers[0] >> 6 & 3)

    def advance(self, now):
        self.now = now
        while self.next_at is not None and now >= self.next_at:
            self.next_at += self._time()
            self.integrations += 1
            self.registers[4] = self.counts
