"""The truck's end of the simulated /dev/i2c-N: a Unix socket that any number of programs and threads may open, one transaction at a time.

Request: u32 length, then u8 bus number, u8 number of messages, and each message as u16 address, u16 flags (I2C_M_RD, I2C_M_RECV_LEN),
u16 length, and its bytes unless it reads. Reply: u32 length, then u16 errno (0: done), and u16 length and the bytes of each that reads.
Little endian; the other end is sim/kernel/fake.py. The socket is abstract (unix(7)): it leaves no file behind, whatever ends the truck.
"""

import errno
import secrets
import socket
import struct
import threading
from collections.abc import Mapping

from sim.bus import I2CBus, NoAcknowledge, TimeOut
from sim.serving import Connection, Server

_READ, _RECEIVE_LENGTH = 0x0001, 0x0400
_MESSAGE = struct.Struct("<HHH")


class KernelServer(Server[Connection]):
    """Serves `buses` (by number) from `start` to `stop` on the socket `name`; chips are touched under `lock` only."""

    def __init__(self, buses: Mapping[int, I2CBus], lock: threading.Lock) -> None:
        self.name = f"cruisers-{secrets.token_hex(8)}"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("\0" + self.name)
        listener.listen(64)
        super().__init__("simulated kernel", listener, length_bytes=4)
        self.transactions = 0
        self._buses = buses
        self._lock = lock

    def _connected(self, sock: socket.socket) -> Connection:
        return Connection(sock)

    def _reply(self, connection: Connection, request: bytes) -> bytes:
        reply = self._answer(request)
        return struct.pack("<I", len(reply)) + reply

    def _answer(self, request: bytes) -> bytes:
        self.transactions += 1
        bus = self._buses.get(request[0])
        if bus is None:
            return struct.pack("<H", errno.ENODEV)
        try:
            with self._lock:
                return struct.pack("<H", 0) + b"".join(struct.pack("<H", len(data)) + data for data in _combined(bus, _messages(request)))
        except NoAcknowledge:
            return struct.pack("<H", errno.EREMOTEIO)
        except TimeOut:
            return struct.pack("<H", errno.ETIMEDOUT)


def _messages(request: bytes) -> list[tuple[int, int, int, bytes]]:
    """(address, flags, length, data) of each message of a request."""
    found = []
    at = 2
    for _ in range(request[1]):
        address, flags, length = _MESSAGE.unpack_from(request, at)
        at += _MESSAGE.size
        data = b"" if flags & _READ else request[at : at + length]
        at += len(data)
        found.append((address, flags, length, data))
    return found


def _combined(bus: I2CBus, messages: list[tuple[int, int, int, bytes]]) -> list[bytes]:
    """Messages with repeated starts between them and one stop at the end; what the reading ones read. Raises what the bus raises."""
    results = []
    at = 0
    while at < len(messages):
        address, flags, length, data = messages[at]
        reading = flags & _READ
        pair = not reading and length and at + 1 < len(messages) and messages[at + 1][1] & _READ and messages[at + 1][0] == address
        if pair:
            at += 1
            _, flags, length, _ = messages[at]
            reading = _READ
        at += 1
        # A read without data cannot be seen by a chip model: it gets a byte to read, which is thrown away.
        result = bus.transfer(address, data, max(1, length) if reading else 0, stop_at_end=at == len(messages))
        if reading:
            results.append(result[: 1 + result[0]] if flags & _RECEIVE_LENGTH else result[:length])
    return results
