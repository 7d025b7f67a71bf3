"""Particle sensors at the level of their bytes, for driver checks on both interpreters: an SPS30 on either wire, a PMS5003.

Not the simulated truck's chip models (sim/chips): these do only what a driver's state machine can notice, at times the test sets."""

import errno
import struct


def encode_reply(command, state, data):
    """A reply frame, stuffed by another way than the driver's."""
    body = bytes((0, command, state, len(data))) + data
    body += bytes((0xFF - sum(body) & 0xFF,))
    for plain, coded in ((b"\x7d", b"\x7d\x5d"), (b"\x7e", b"\x7d\x5e"), (b"\x11", b"\x7d\x31"), (b"\x13", b"\x7d\x33")):
        body = body.replace(plain, coded)
    return b"\x7e" + body + b"\x7e"


class Line:
    """machine.UART's methods; `out` is what the driver can read."""

    def __init__(self):
        self.out = b""
        self.now = 0

    def any(self):
        return len(self.out)

    def readinto(self, buf):
        if not self.out:
            return None
        count = min(len(buf), len(self.out))
        buf[:count] = self.out[:count]
        self.out = self.out[count:]
        return count

    def late(self, data):
        """Bytes that come by themselves."""
        self.out += data


class Sensor:
    """An SPS30 behind either wire: a sample a second, numbered."""

    def __init__(self):
        self.measuring = False
        self.asleep = False
        self.version = (2, 3)
        self.samples = 0
        self.now = 0
        self.next_at = None
        self.fresh = False
        self.status = 0
        self.failing = 0
        self.interval = 604800
        self.cleanings = 0

    def advance(self, now):
        self.now = now
        while self.next_at is not None and now >= self.next_at:
            self.next_at += 1000
            self.samples += 1
            self.fresh = True
            self.status |= self.failing

    def begin(self):
        self.measuring = True
        self.next_at = self.now + 1000

    def stop(self):
        self.measuring = self.fresh = False
        self.next_at = None

    def brown_out(self):
        self.stop()
        self.asleep = False
        self.status = 0

    def take(self):
        self.fresh = False
        return struct.pack(">10f", *([float(self.samples)] * 10))


class Sps30Line(Line):
    """An SPS30 on its serial line. `chip` speaks whole frames; `answers` overrides replies (b"" = silence)."""

    def __init__(self):
        super().__init__()
        self.sensor = Sensor()
        self.commands = []
        self.answers = []
        self.state = 0

    def advance(self, now):
        self.sensor.advance(now)

    def write(self, data):
        data = bytes(data)
        body = data.strip(b"\xff").strip(b"\x7e")
        for coded, plain in ((b"\x7d\x5e", b"\x7e"), (b"\x7d\x31", b"\x11"), (b"\x7d\x33", b"\x13"), (b"\x7d\x5d", b"\x7d")):
            body = body.replace(coded, plain)
        assert sum(body) & 0xFF == 0xFF and body[2] == len(body) - 4, data
        self.commands.append(body[1])
        answer = self.answers.pop(0) if self.answers else None
        self.out += self._reply(body[1], body[3:-1]) if answer is None else answer
        return len(data)

    def _reply(self, command, data):
        sensor = self.sensor
        state, out = 0, b""
        if command == 0x11:
            state = 0 if sensor.asleep else 0x43 if sensor.version >= (2, 0) else 0x02
            sensor.asleep = False
        elif (command in (0x01, 0x03, 0x56) and not sensor.measuring) or sensor.asleep:
            state = 0x43
        elif command == 0x01:
            sensor.stop()
        elif command == 0xD1:
            out = bytes(sensor.version) + bytes((0, 7, 0, 2, 0))
        elif command == 0xD0:
            out = b"ABC123\0"
        elif command == 0x00:
            assert data == b"\x01\x03"
            sensor.begin()
        elif command == 0x03 and sensor.fresh:
            out = sensor.take()
        elif command == 0xD2:
            assert sensor.version >= (2, 2)
            out = struct.pack(">IB", sensor.status, 0)
            if data == b"\x01":
                sensor.status = 0
        elif command == 0x56:
            sensor.cleanings += 1
        elif command == 0x10:
            assert sensor.version >= (2, 0) and not sensor.measuring
            sensor.asleep = True
        elif command == 0x80 and data == b"\x00":
            out = struct.pack(">I", sensor.interval)
        elif command == 0x80:
            sensor.interval = struct.unpack(">I", data[1:])[0]
        flag = 0x80 if sensor.status else self.state
        return encode_reply(command, state | flag, out)


CRC = {}  # of the words that these checks use; a table, so that it is not the driver's own arithmetic


def crc(word):
    """CRC-8 of a word by division of polynomials: x^8 + x^5 + x^4 + 1, the word's first bits inverted for the start value FF."""
    if word not in CRC:
        rest = (word[0] ^ 0xFF) << 16 | word[1] << 8
        for bit in range(23, 7, -1):
            if rest >> bit & 1:
                rest ^= 0x131 << (bit - 8)
        CRC[word] = rest
    return CRC[word]


def with_crc(data):
    """`data` with a checksum behind every two bytes."""
    out = b""
    for at in range(0, len(data), 2):
        out += data[at : at + 2] + bytes((crc(data[at : at + 2]),))
    return out


class Sps30Words:
    """machine.I2C's methods with an SPS30 at 0x69. `errors` are raised by the next transactions; `damage` is xored into the next reply."""

    def __init__(self):
        self.sensor = Sensor()
        self.commands = []
        self.errors = []
        self.damage = {}  # place -> bits
        self.wakes = 0
        self._reply = b""
        self._ready_at = 0

    def advance(self, now):
        self.sensor.advance(now)

    def writeto(self, address, buf):
        sensor = self.sensor
        self._check(address)
        command = buf[0] << 8 | buf[1]
        self.commands.append(command)
        if sensor.asleep:
            assert command == 0x1103
            self.wakes += 1
            if self.wakes == 1:
                raise OSError(errno.EIO)
            sensor.asleep = False
        self._reply = b""
        self._ready_at = sensor.now + 5
        data = bytes(buf[2:])
        for at in range(0, len(data), 3):
            assert data[at + 2] == crc(data[at : at + 2])
        if command == 0x0010 and not sensor.measuring:
            assert data == b"\x03\x00\xac"
            sensor.begin()
            self._ready_at = sensor.now + 20
        elif command == 0x0104:
            sensor.stop()
            self._ready_at = sensor.now + 20
        elif command == 0x0202:
            self._reply = with_crc(bytes((0, sensor.fresh)))
        elif command == 0x0300:
            self._reply = with_crc(sensor.take())
        elif command == 0xD100:
            self._reply = with_crc(bytes(sensor.version))
        elif command == 0xD033:
            self._reply = with_crc(b"ABC123" + bytes(26))
        elif command == 0xD206:
            assert sensor.version >= (2, 2)
            self._reply = with_crc(struct.pack(">I", sensor.status))
        elif command == 0xD210:
            sensor.status = 0
        elif command == 0x5607:
            assert sensor.measuring
            sensor.cleanings += 1
        elif command == 0x1001:
            assert not sensor.measuring and sensor.version >= (2, 0)
            sensor.asleep = True
            self.wakes = 0
        elif command == 0x8004 and not data:
            self._reply = with_crc(struct.pack(">I", sensor.interval))
        elif command == 0x8004:
            sensor.interval = struct.unpack(">I", data[:2] + data[3:5])[0]

    def readfrom_into(self, address, buf):
        self._check(address)
        assert self.sensor.now >= self._ready_at and len(buf) == len(self._reply), (len(buf), self._reply)
        for index in range(len(buf)):
            buf[index] = self._reply[index] ^ self.damage.get(index, 0)
        self._reply = b""
        if len(buf) == 60:
            self.damage = {}

    def _check(self, address):
        assert address == 0x69
        if self.errors:
            code = self.errors.pop(0)
            if code:
                raise OSError(code)


class PmsLine(Line):
    """A PMS5003: active after power and after a wake, one frame each `pace` ms; passive on request, after `delays` ms (the last one stays).
    Values count the frames. `began` is when its power last came."""

    def __init__(self):
        super().__init__()
        self.requests = []
        self.answers = []  # override the replies to the next read requests (b"" = silence)
        self.error = 0
        self.frames = 0
        self.asleep = False
        self.deaf_until = 0
        self.next_at = 1000
        self.pace = 1000
        self.delays = [0]
        self.began = 0
        self._answer_at = None

    def brown_out(self, milliseconds=2000):
        self.asleep = False
        self.out = b""
        self.began = self.now
        self.deaf_until = self.now + milliseconds
        self.next_at = self.deaf_until
        self._answer_at = None

    def advance(self, now):
        self.now = now
        while self.next_at is not None and now >= self.next_at:
            self.next_at += self.pace
            self.out += self.frame()
        if self._answer_at is not None and now >= self._answer_at:
            self._answer_at = None
            self.out += self.frame()

    def frame(self):
        self.frames += 1
        words = [1, 2, 3, self.frames, self.frames, self.frames, 6, 5, 4, 3, 2, 1, 0x9700 | self.error]
        data = b"\x42\x4d\x00\x1c" + struct.pack(">13H", *words)
        return data + struct.pack(">H", sum(data))

    def write(self, data):
        data = bytes(data)
        assert len(data) == 7 and data[:2] == b"BM" and sum(data[:5]) == data[5] << 8 | data[6], data
        self.requests.append(data[2:5])
        if self.now < self.deaf_until:
            return 7
        if data[2:5] == b"\xe4\x00\x00":
            self.asleep = True
            self.next_at = None
        elif data[2:5] == b"\xe4\x00\x01":
            if self.asleep:
                self.brown_out(1500)
        elif data[2:5] == b"\xe1\x00\x00" and not self.asleep:
            self.next_at = None
            self.out += b"\x42\x4d\x00\x04\xe1\x00\x01\x74"
        elif data[2:5] == b"\xe2\x00\x00" and self.next_at is None and not self.asleep:
            if self.answers:
                self.out += self.answers.pop(0)
            else:
                delay = self.delays.pop(0) if len(self.delays) > 1 else self.delays[0]
                self._answer_at = self.now + delay
                self.advance(self.now)
        return 7
