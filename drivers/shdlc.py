"""Sensirion's SHDLC: frames between 0x7E, byte stuffing, one checksum byte (Sensirion embedded-uart-common sensirion_shdlc.c).

Request: 7E address command length data checksum 7E. Reply: 7E address command state length data checksum 7E.

The checksum is one byte, the inverted sum. With the length it sees every single wrong bit: a wrong bit in content changes the sum; one
that makes or unmakes a mark or an escape changes the number of bytes (tests try each bit of real frames). Two wrong bits whose
differences cancel pass."""

from drivers.portable import const

_MARK = const(0x7E)
_ESCAPE = const(0x7D)
_STUFFED = b"\x7e\x7d\x11\x13"


def request(command: int, data: bytes = b"", address: int = 0) -> bytes:
    """The bytes to send for a command."""
    body = bytes((address, command, len(data))) + data
    return frame(body)


def frame(body: bytes) -> bytes:
    """`body` with checksum, stuffing and marks."""
    out = bytearray((_MARK,))
    for byte in body + bytes((~sum(body) & 0xFF,)):
        if byte in _STUFFED:
            out.append(_ESCAPE)
            byte ^= 0x20
        out.append(byte)
    out.append(_MARK)
    return bytes(out)


class Reply:
    """Collects the bytes of one reply. Allocates nothing after construction.

    `body` is address, command, state, length, data, checksum, of which `length` bytes count."""

    def __init__(self, capacity: int) -> None:
        self.body = bytearray(capacity)
        self.length = 0
        self._escaped = False
        self._lost = True
        self._complete = False

    def clear(self) -> None:
        """Forget what has come so far; what comes before the next mark is noise, or the end of a frame whose beginning is gone."""
        self.length = 0
        self._escaped = False
        self._lost = True
        self._complete = False

    def feed(self, byte: int) -> bool:
        """Take one byte; True when it closed a frame (which may still be `broken`). Two marks in a row are no frame."""
        if self._complete:
            self.clear()
            self._lost = False  # the mark that ended a frame may also begin the next
        if byte == _MARK:
            if self.length and not self._lost:
                self._complete = True
                return True
            self.clear()
            self._lost = False
        elif byte == _ESCAPE:
            self._escaped = True
        elif self.length == len(self.body):
            self._lost = True
        else:
            self.body[self.length] = byte ^ 0x20 if self._escaped else byte
            self._escaped = False
            self.length += 1
        return False

    def broken(self) -> bool:
        """Whether the frame just closed is too short, of another length than it says, or has a wrong checksum."""
        if self.length < 5 or self.body[3] != self.length - 5:
            return True
        total = 0
        for index in range(self.length):
            total += self.body[index]
        return total & 0xFF != 0xFF
