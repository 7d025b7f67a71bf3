"""Random serial lines, with the methods of machine.UART: frames of a sensor, whole or spoilt, and noise."""

import random
import struct

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
    if command == 0xD2 and random_.random() < 0.9:  # no fault
        data = b"\x00" * length
    state = 0 if random_.random() < 0.9 else random_.choice((0x80, 0x43, 0x02))
    body = bytes((0, command, state, length)) + data
    body += bytes((~sum(body) & 0xFF,))
    stuffed = b"".join(bytes((0x7D, byte ^ 0x20)) if byte in (0x7E, 0x7D, 0x11, 0x13) else bytes((byte,)) for byte in body)
    return b"\x7e" + stuffed + b"\x7e"


def _pms(random_: random.Random, request: bytes = b"") -> bytes:
    if request and request[2:3] != b"\xe2":  # an echo, or nothing
        echo = b"BM\x00\x04" + request[2:3] + request[4:5]
        return echo + struct.pack(">H", sum(echo)) if random_.random() < 0.5 else b""
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
        self._unasked = random_.choice((0, 0, 0, 1, 3))
        self._waiting = bytearray()

    def change(self) -> None:
        """More bytes come, on a line where something comes unasked."""
        for _ in range(self._random.randrange(self._unasked + 1)):
            self._send(b"")

    def _send(self, request: bytes) -> None:
        random_ = self._random
        frame = bytearray(self._make(random_, request))
        if frame and random_.random() < self._spoiling:
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
