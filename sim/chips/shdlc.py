"""SHDLC frames as a Sensirion device sees them (facts/sensors-and-head.md 1.2): requests in, replies out."""

from typing import NamedTuple

_MARK, _ESCAPE = 0x7E, 0x7D
_STUFFED = frozenset((0x7E, 0x7D, 0x11, 0x13))


class Request(NamedTuple):
    """One request frame, unstuffed and checked."""

    address: int
    command: int
    data: bytes


def reply(address: int, command: int, state: int, data: bytes) -> bytes:
    """The bytes on the wire of a reply: mark, stuffed content with checksum, mark."""
    content = bytes([address, command, state, len(data)]) + data
    content += bytes([~sum(content) & 0xFF])
    wire = bytearray([_MARK])
    for byte in content:
        wire += bytes([_ESCAPE, byte ^ 0x20]) if byte in _STUFFED else bytes([byte])
    wire.append(_MARK)
    return bytes(wire)


class RequestReader:
    """Turns received bytes into requests; frames that are too short, of a wrong length or checksum are counted in `bad` and dropped."""

    def __init__(self) -> None:
        self.bad = 0
        self._content: bytearray | None = None
        self._escaped = False

    def feed(self, data: bytes) -> list[Request]:
        """The requests completed by `data`."""
        found = []
        for byte in data:
            if byte == _MARK:
                if self._content:
                    request = self._parse(bytes(self._content))
                    if request is None:
                        self.bad += 1
                    else:
                        found.append(request)
                self._content = bytearray()
                self._escaped = False
            elif self._content is not None:
                if byte == _ESCAPE:
                    self._escaped = True
                else:
                    self._content.append(byte ^ 0x20 if self._escaped else byte)
                    self._escaped = False
        return found

    @staticmethod
    def _parse(content: bytes) -> Request | None:
        if len(content) < 4 or len(content) != 4 + content[2] or sum(content) & 0xFF != 0xFF:
            return None
        return Request(content[0], content[1], content[3:-1])
