"""Frames between head and gateway as the head needs them (docs/formats.md section 1): COBS(body, CRC-32 of the body), one 00 behind it.

The gateway's side is firmware/frames.py: the head has no room for it. A 32-bit word is a big integer on the RP2040, so the CRC is kept as
two halves of 16 bits and nothing here exceeds 2**30 on the head's paths. Nothing here allocates after it is loaded."""

from array import array

from drivers.portable import const

HELLO = const(0x01)
TRIM = const(0x02)
PONG = const(0x03)
SAMPLE = const(0x10)
STATE = const(0x11)
GAP = const(0x12)
HEALTH = const(0x13)
HELLO_REQUEST = const(0x80)
ACK = const(0x81)
PING = const(0x82)
MAINTENANCE = const(0x83)

HEADER_SIZE = const(17)
PAYLOAD_MAX = const(233)
BODY_MAX = const(250)
BODY_BUFFER = const(254)  # a body and room for its CRC
ENCODED_MAX = const(256)  # with the delimiter

HEAD = 0  # the sensor number of the head itself
SENSORS = {1: "icm20948", 2: "bmp390", 3: "sht45", 4: "opt3001", 5: "as7331", 6: "sps30", 7: "veml7700", 8: "pms5003", 9: "neo_m9n"}
ABSENT, CONFIGURING, OK, DEGRADED, FAILED = range(5)
RING_FULL = const(9)
PARTS_REFUSED = const(15)
POWER_SWITCHED = const(16)

_CRC_SIZE = const(4)


def _table() -> tuple[array, array]:
    """CRC-32 (polynomial 0xEDB88320, reflected) of each byte, as low and high halves."""
    low, high = array("H", bytes(512)), array("H", bytes(512))
    for byte in range(256):
        lo, hi = byte, 0
        for _ in range(8):
            carry = lo & 1
            lo = lo >> 1 | (hi & 1) << 15
            hi >>= 1
            if carry:
                lo ^= 0x8320
                hi ^= 0xEDB8
        low[byte] = lo
        high[byte] = hi
    return low, high


_LOW, _HIGH = _table()


def _put_crc(buf: bytearray, n: int) -> None:
    """Write zlib's CRC-32 of buf[:n] to buf[n:n + 4], low half first, each little endian."""
    low_table, high_table = _LOW, _HIGH
    lo = hi = 0xFFFF
    for index in range(n):
        entry = (lo ^ buf[index]) & 0xFF
        lo = (lo >> 8 | (hi & 0xFF) << 8) ^ low_table[entry]
        hi = hi >> 8 ^ high_table[entry]
    buf[n] = lo & 0xFF ^ 0xFF
    buf[n + 1] = lo >> 8 ^ 0xFF
    buf[n + 2] = hi & 0xFF ^ 0xFF
    buf[n + 3] = hi >> 8 ^ 0xFF


def encode(body: bytearray, n: int, out: bytearray) -> int:
    """Encode body[:n] (1 <= n <= 250) into `out` (256 bytes); returns the length with its 00. body[n:n + 4] is overwritten by the CRC.

    ValueError if n does not fit. Allocates nothing."""
    if not 0 < n <= BODY_MAX:
        raise ValueError("frame body of wrong length")
    _put_crc(body, n)
    code = 0  # where the length of the run under way stands
    end = 1
    for index in range(n + _CRC_SIZE):
        byte = body[index]
        if byte:
            out[end] = byte
        else:
            out[code] = end - code
            code = end
        end += 1
    # A run of 254 bytes without zero needs a code of its own inside longer data; n + 4 <= 254, so it can only end at the end.
    out[code] = end - code
    out[end] = 0
    return end + 1


def decode_in_place(buf: bytearray, n: int) -> int:
    """Undo COBS of buf[:n] (without its 00) in place; returns the length of the body, -1 if it is damaged. Allocates nothing.

    The CRC is computed over the CRC's own place, so what stands behind the body in `buf` afterwards is the computed one."""
    read = 0
    end = 0
    while read < n:
        code = buf[read]
        last = read + code
        if code == 0 or last > n:
            return -1
        read += 1
        while read < last:
            byte = buf[read]
            if byte == 0:
                return -1
            buf[end] = byte
            end += 1
            read += 1
        if code < 0xFF and read < n:
            buf[end] = 0
            end += 1
    size = end - _CRC_SIZE
    if size < HEADER_SIZE:
        return -1
    crc0 = buf[size]  # one statement for four values would make a tuple
    crc1 = buf[size + 1]
    crc2 = buf[size + 2]
    crc3 = buf[size + 3]
    _put_crc(buf, size)
    if buf[size] != crc0 or buf[size + 1] != crc1 or buf[size + 2] != crc2 or buf[size + 3] != crc3:
        return -1
    return size
