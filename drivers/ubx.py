"""u-blox UBX frames: B5 62, class, id, length (LE16), payload, and an 8-bit Fletcher sum over class to payload.

Layouts and keys: integration manual UBX-19014286, SparkFun u-blox_config_keys.h, pyubx2 (project facts 1.11). The head of VALGET's
request and reply (version, layer, position u2) is from public drivers, not from a vector of the facts."""

import struct

from drivers.portable import const

_SYNC_1 = const(0xB5)
_SYNC_2 = const(0x62)
# What we ask for ends below 500 bytes (MON-VER: 40 + 30 * extensions). A damaged length must not make us wait for what never comes.
_LONGEST = const(500)

# Class and id as one number.
NAV_PVT = const(0x0107)
ACK_NAK = const(0x0500)
ACK_ACK = const(0x0501)
CFG_VALSET = const(0x068A)
CFG_VALGET = const(0x068B)
MON_VER = const(0x0A04)

# Layers of VALSET. VALGET counts them instead: 0 is RAM.
RAM = const(1)
BBR = const(2)  # lives on the backup supply
FLASH = const(4)

# Bits 28 to 30 of a key are the size of its value: 1 bit (in a byte), 1, 2 or 4 bytes. No `const`: on the RP2040 they are big integers.
RATE_MEAS = 0x30210001  # u2, ms
NAVSPG_DYNMODEL = 0x20110021
UART1_BAUDRATE = 0x40520001
UART1INPROT_UBX = 0x10730001
UART1OUTPROT_UBX = 0x10740001
UART1OUTPROT_NMEA = 0x10740002
MSGOUT_NAV_PVT_UART1 = 0x20910007
USBOUTPROT_UBX = 0x10780001  # these three: ubxtool, SparkFun; not in the facts
USBOUTPROT_NMEA = 0x10780002
MSGOUT_NAV_PVT_USB = 0x20910009
AUTOMOTIVE = const(4)  # NAVSPG_DYNMODEL

_SIZES = (0, 1, 1, 2, 4)

_HUNTING, _SECOND, _CLASS, _ID, _LENGTH, _LENGTH_HIGH, _PAYLOAD, _SUM_A, _SUM_B = range(9)


def frame(kind: int, payload: bytes = b"") -> bytes:
    """The bytes to send for a message; without payload it polls the message `kind`."""
    body = bytes((kind >> 8, kind & 0xFF, len(payload) & 0xFF, len(payload) >> 8)) + payload
    a = b = 0
    for byte in body:
        a = (a + byte) & 0xFF
        b = (b + a) & 0xFF
    return bytes((_SYNC_1, _SYNC_2)) + body + bytes((a, b))


def values(*pairs: "tuple[int, int]") -> bytes:
    """(key, value) pairs as VALSET and VALGET's reply carry them."""
    out = b""
    for key, value in pairs:
        out += struct.pack("<I", key) + struct.pack("<I", value)[: _SIZES[key >> 28]]
    return out


def valset(layers: int, *pairs: "tuple[int, int]") -> bytes:
    """Sets (key, value) pairs in the sum of `layers`, all or none; the answer is ACK-ACK or ACK-NAK."""
    return frame(CFG_VALSET, bytes((0, layers, 0, 0)) + values(*pairs))


def valget(*keys: int) -> bytes:
    """Asks for what is in force (RAM); the reply's payload is 01 00 00 00 and the `values` in the order asked for."""
    out = bytes(4)
    for key in keys:
        out += struct.pack("<I", key)
    return frame(CFG_VALGET, out)


class Reader:
    """Collects frames byte by byte. Allocates nothing after construction.

    After `feed` returned True: `kind` is class and id, `length` the payload's, `payload` its first bytes (as many as fit, the rest is
    only summed up). `bad` counts frames with a wrong checksum or an impossible length, and those broken off (modulo 2**16)."""

    def __init__(self, capacity: int) -> None:
        self.payload = bytearray(capacity)
        self.kind = 0
        self.length = 0
        self.bad = 0
        self._state = _HUNTING
        self._taken = 0
        self._a = 0
        self._b = 0

    def clear(self) -> None:
        """Forget a frame that has begun: it will not go on."""
        if self._state >= _CLASS:
            self._spoil()
        self._state = _HUNTING

    def feed(self, byte: int) -> bool:
        """Take one byte; True when it ended a frame with the right checksum."""
        state = self._state
        if state == _PAYLOAD:
            if self._taken < len(self.payload):
                self.payload[self._taken] = byte
            self._taken += 1
            if self._taken == self.length:
                self._state = _SUM_A
        elif state <= _SECOND:
            # B5 B5 62 begins with the second B5.
            self._state = _SECOND if byte == _SYNC_1 else _CLASS if state == _SECOND and byte == _SYNC_2 else _HUNTING
            self._a = self._b = 0
            return False
        elif state == _SUM_A:
            if byte != self._a:
                return self._lose(byte)
            self._state = _SUM_B
            return False
        elif state == _SUM_B:
            if byte != self._b:
                return self._lose(byte)
            self._state = _HUNTING
            return True
        else:
            self._head(state, byte)
        self._a = (self._a + byte) & 0xFF
        self._b = (self._b + self._a) & 0xFF
        return False

    def _head(self, state: int, byte: int) -> None:
        """One byte of class, id or length."""
        self._state = state + 1
        if state == _CLASS:
            self.kind = byte << 8
        elif state == _ID:
            self.kind |= byte
        elif state == _LENGTH:
            self.length = byte
        else:
            self.length |= byte << 8
            self._taken = 0
            if self.length > _LONGEST:
                self._spoil()
                self._state = _HUNTING
            elif self.length == 0:
                self._state = _SUM_A

    def _lose(self, byte: int) -> bool:
        """A wrong checksum. Where a byte was lost, `byte` is the first one of the next frame."""
        self._spoil()
        self._state = _SECOND if byte == _SYNC_1 else _HUNTING
        return False

    def _spoil(self) -> None:
        self.bad = (self.bad + 1) & 0xFFFF
