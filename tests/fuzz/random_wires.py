"""Random chips and random serial lines, with the methods of machine.I2C and machine.UART."""

import random
import struct

# What a driver reads to know its chip, by part: register -> bytes. Without these it would never get further.
IDENTITIES: dict[str, dict[int, bytes]] = {
    "icm20948": {0x00: b"\xea"},
    "bmp390": {0x00: b"\x60", 0x02: b"\x00\x70"},
    "bmp390-normal": {0x00: b"\x60", 0x02: b"\x00\x70"},
    "sht45": {},
    "sht45-heater": {},
    "opt3001": {0x7E: b"\x54\x49", 0x7F: b"\x30\x01"},
    "as7331": {0x02: b"\x21"},
    "veml7700": {},
    "sps30_i2c": {},
}
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
    """Registers of random bytes: what was written is read back, and now and then a transfer fails or a byte is another one."""

    def __init__(self, part: str, random_: random.Random) -> None:
        self._random = random_
        self._memory = bytearray(random_.randbytes(256 + 64))
        self._identity = IDENTITIES[part]
        self._words = part in ("sht45", "sht45-heater", "sps30_i2c")  # words with a checksum
        self._failing = random_.choice((0.0, 0.0, 0.05, 0.3))
        self._changing = random_.choice((0.0, 0.02, 0.5))
        self._banks = part == "icm20948"
        self._bank = 0

    def change(self) -> None:
        """Some registers get other contents by themselves."""
        for _ in range(self._random.choice((0, 1, 30))):
            self._memory[self._random.randrange(256)] = self._random.getrandbits(8)

    def _maybe_fail(self) -> None:
        if self._random.random() < self._failing:
            raise OSError(self._random.choice(ERRNOS))

    def readfrom_mem_into(self, address: int, register: int, buf: bytearray | memoryview) -> None:
        self._maybe_fail()
        if self._random.random() < self._changing:
            buf[:] = self._random.randbytes(len(buf))
            return
        known = self._identity.get(register, b"") if not self._bank else b""
        data = known + bytes(self._memory[register : register + len(buf)]) + self._random.randbytes(len(buf))
        buf[:] = data[: len(buf)]

    def writeto_mem(self, address: int, register: int, buf: bytes | bytearray | memoryview) -> None:
        self._maybe_fail()
        if self._banks and register == 0x7F:
            self._bank = buf[0]
        self._memory[register : register + len(buf)] = buf

    def readfrom_into(self, address: int, buf: bytearray | memoryview) -> None:
        self._maybe_fail()
        data = bytearray(self._random.randbytes(len(buf)))
        if self._words and self._random.random() >= self._changing:
            if self._random.random() < 0.5:  # floats that can be
                for start in range(0, len(buf) - 5, 6):
                    number = struct.pack(">f", 10.0 ** self._random.uniform(-3, 5))
                    data[start : start + 2], data[start + 3 : start + 5] = number[:2], number[2:]
            for start in range(0, len(buf) - 2, 3):
                data[start + 2] = crc8(data[start : start + 2])
        buf[:] = data

    def writeto(self, address: int, buf: bytes | bytearray | memoryview) -> int:
        self._maybe_fail()
        return len(buf)


# Each maker below gives a frame of its sensor, and if it is asked, mostly the one that answers `request`.


def _shdlc(random_: random.Random, request: bytes = b"") -> bytes:
    command = random_.choice((0x00, 0x01, 0x03, 0x03, 0x03, 0x11, 0xD0, 0xD1, 0xD2))
    asked = request.lstrip(b"\xff").replace(b"\x7d\x31", b"\x11")
    if len(asked) > 3 and random_.random() < 0.9:
        command = asked[2]
    length = {0x03: 40, 0xD0: 12, 0xD1: 7, 0xD2: 5}.get(command, 0)
    if random_.random() < 0.2:
        length = random_.randrange(60)
    data = random_.randbytes(length)
    if command == 0x03 and length == 40 and random_.random() < 0.7:
        data = struct.pack(">10f", *(10.0 ** random_.uniform(-3, 5) for _ in range(10)))
    body = bytes((0, command, random_.choice((0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x43, 0x02)), length)) + data
    body += bytes((~sum(body) & 0xFF,))
    stuffed = b"".join(bytes((0x7D, byte ^ 0x20)) if byte in (0x7E, 0x7D, 0x11, 0x13) else bytes((byte,)) for byte in body)
    return b"\x7e" + stuffed + b"\x7e"


def _pms(random_: random.Random, request: bytes = b"") -> bytes:
    words = [random_.choice((random_.randrange(100), random_.getrandbits(16))) for _ in range(12)]
    frame = struct.pack(">2sH12HBB", b"BM", 28, *words, 0x97, random_.choice((0, 0, 0, random_.getrandbits(8))))
    return frame + struct.pack(">H", sum(frame) & 0xFFFF)


def _ubx(random_: random.Random, request: bytes = b"") -> bytes:
    kind = random_.choice(((1, 7, 92), (1, 7, 92), (1, 7, 92), (5, 1, 2), (5, 0, 2), (0x0A, 4, 40), (1, 7, random_.randrange(120))))
    if len(request) > 3 and random_.random() < 0.9:
        kind = (5, 1, 2) if request[2:4] == b"\x06\x8a" else (request[2], request[3], 92 if request[2] == 1 else 40)
    payload = bytearray(random_.randbytes(kind[2]))
    if kind == (5, 1, 2):
        payload[:] = request[2:4] or b"\x06\x8a"
    if kind[:2] == (1, 7) and len(payload) == 92 and random_.random() < 0.8:
        payload[11], payload[20], payload[21] = 0x07, random_.randrange(6), random_.getrandbits(2)
        struct.pack_into("<ii", payload, 24, random_.randrange(-(2**31), 2**31), random_.randrange(-(10**9), 10**9))
    body = struct.pack("<BBH", kind[0], kind[1], len(payload)) + payload
    first = second = 0
    for byte in body:
        first = (first + byte) & 0xFF
        second = (second + first) & 0xFF
    return b"\xb5\x62" + body + bytes((first, second))


def _box(random_: random.Random, request: bytes = b"") -> bytes:
    sizes = {0x8A: 36, 0x8B: 10, 0x90: 18, 0x8F: 2, 0xBD: 4, 0xBC: 1, 0x88: 1, 0x8C: 0}
    code = random_.choice((0x8A, 0x8A, 0x8A, *sizes))
    if len(request) > 1 and random_.random() < 0.9:
        code = {0x10: 0x90, 0x13: 0x8F, 0x3D: 0xBD, 0x3C: 0xBC}.get(request[1], code)
    size = sizes[code]
    params = bytearray(random_.randbytes(size))
    if code == 0x8A and random_.random() < 0.7:
        params[5] = 0
    if code == 0x8C:
        sentence = b"$GPGGA," + bytes(random_.choice(b"0123456789.,NEWS") for _ in range(random_.randrange(60)))
        total = 0
        for byte in sentence[1:]:
            total ^= byte
        sentence += b"*%02X\r\n" % total
        params = bytearray(random_.randbytes(5) + bytes((0, len(sentence))) + sentence)
    frame = bytes((0x9A, code)) + params
    total = 0
    for byte in frame:
        total ^= byte
    return frame + bytes((total,))


STREAMS = {"sps30": _shdlc, "pms5003": _pms, "neo_m9n": _ubx, "first_fleet": _box}


class RandomLine:
    """A serial line on which frames made by `make`, whole or spoilt, and noise come."""

    def __init__(self, make, random_: random.Random) -> None:  # type: ignore[no-untyped-def]
        self._make = make
        self._random = random_
        self._spoiling = random_.choice((0.0, 0.1, 0.9))
        self._waiting = bytearray()

    def change(self) -> None:
        """More bytes come."""
        for _ in range(self._random.randrange(3)):
            self._send(b"")

    def _send(self, request: bytes) -> None:
        random_ = self._random
        frame = bytearray(self._make(random_, request))
        if random_.random() < self._spoiling:
            way = random_.randrange(4)
            at = random_.randrange(len(frame))
            if way == 0:
                frame[at] ^= 1 << random_.randrange(8)
            elif way == 1:
                del frame[at]
            elif way == 2:
                frame.insert(at, random_.getrandbits(8))
            else:
                frame = bytearray(random_.randbytes(random_.randrange(1, 50)))
        self._waiting += frame

    def init(self, baudrate: int = 0) -> None:
        """Another speed: what is on its way is lost."""
        self._waiting.clear()

    def write(self, buf: bytes | bytearray | memoryview) -> int:
        if self._random.random() < 0.95:
            self._send(bytes(buf))
        return len(buf)

    def any(self) -> int:
        return len(self._waiting)

    def readinto(self, buf: bytearray | memoryview, nbytes: int = -1) -> int | None:
        count = min(len(buf) if nbytes < 0 else nbytes, len(self._waiting), self._random.choice((1, 7, 64, 256)))
        if not count:
            return None
        buf[:count] = self._waiting[:count]
        del self._waiting[:count]
        return count
