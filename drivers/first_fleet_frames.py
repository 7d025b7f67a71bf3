"""Frames of the first fleet's sensor box (project facts, sox.md 2.1, after ychen1986/CarSensorJLib): 9A, code, parameters, XOR of all
bytes before it.

An XOR of 8 bits lets a frame with a lost or doubled byte pass once in 256 times: where that byte was 9A, or the XOR itself. So a frame
counts only when the next one's header, or silence, follows it. Should a box send something between its frames, it is believed after a
while."""

from drivers.portable import const

EVENT_A = const(0x8A)
EVENT_B = const(0x8B)
EVENT_C = const(0x8C)
EVENT_GNSS = const(0x88)
INFORMATION = const(0x90)
RESULT = const(0x8F)
CLEAN_AIR = const(0xBD)
GNSS_STATE = const(0xBC)
_HEADER = const(0x9A)
_LONGEST = const(265)  # an event C with 255 bytes of sentence
_ODD_FRAMES = const(16)  # right but not followed by a header, one after the other: then it is the box's way


def command(code: int, first: int, second: "int | None" = None) -> bytes:
    """The frame of a command with one or two parameters."""
    body = bytes((_HEADER, code, first)) if second is None else bytes((_HEADER, code, first, second))
    total = 0
    for byte in body:
        total ^= byte
    return body + bytes((total,))


def commands(fan: bool) -> "tuple[bytes, ...]":
    """What is sent to start the box, in order; each but the first and the fourth needs its reply."""
    still = 0 if fan else 1
    return command(0x13, 0x00, still), command(0x10, 0), command(0x3D, 0), command(0x3C, 0), command(0x13, 0xFF, still)


def size_of(frame: "bytes | bytearray", filled: int) -> int:
    """Bytes of the frame at the beginning of `frame`, as far as its `filled` bytes say (more than those: wait); 0 if none begins there."""
    if frame[0] != _HEADER:
        return 0
    if filled < 2:
        return 2
    code = frame[1]
    if code == EVENT_A:
        return 39
    if code == EVENT_C:
        return 10 if filled < 9 else 10 + frame[8]
    if code == EVENT_B:
        return 13
    if code == INFORMATION:
        return 21
    if code == CLEAN_AIR:
        return 7
    if code == RESULT:
        return 5
    if code == EVENT_GNSS:
        return 4
    if code == GNSS_STATE:
        return 4
    return 0


class Frames:
    """Finds the frames in a stream of bytes. Allocates nothing after construction.

    After True from `feed` or `again` a verified frame is the first `length` bytes of `frame`, until the next call of `again`, which must
    follow until it is False. `bad` counts places where a frame began and none was."""

    def __init__(self) -> None:
        self.frame = bytearray(_LONGEST + 2)
        self.length = 0
        self.bad = 0
        self._filled = 0
        self._odd = 0

    def clear(self) -> None:
        """Forget what has come so far."""
        self.length = self._filled = self._odd = 0

    def feed(self, byte: int) -> bool:
        """Take one byte; whether a frame is there."""
        self.frame[self._filled] = byte
        self._filled += 1
        return self._look(False)

    def again(self, idle: bool = False) -> bool:
        """The frame is dealt with: whether another one is there. `idle`: the line is silent, nothing follows what has come."""
        if self.length:
            self._drop(self.length)
            self.length = 0
        return self._look(idle)

    def _look(self, idle: bool) -> bool:
        frame = self.frame
        while self._filled:
            size = size_of(frame, self._filled)
            if size > self._filled or (size == self._filled and not idle):
                if not idle:
                    return False
                size = 0  # broken off
            if size and self._whole(size):
                if size == self._filled or frame[size] == _HEADER:
                    self._odd = 0
                elif self._odd < _ODD_FRAMES:
                    self._odd += 1
                    size = 0
                if size:
                    self.length = size
                    return True
            if frame[0] == _HEADER:
                self.bad += 1
            self._resume()
        return False

    def _whole(self, size: int) -> bool:
        total = 0
        for index in range(size):
            total ^= self.frame[index]
        return total == 0

    def _resume(self) -> None:
        """Go on at the next header behind the first byte."""
        begin = 1
        while begin < self._filled and self.frame[begin] != _HEADER:
            begin += 1
        self._drop(begin)

    def _drop(self, count: int) -> None:
        for index in range(count, self._filled):
            self.frame[index - count] = self.frame[index]
        self._filled -= count
