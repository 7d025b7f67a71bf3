"""The truck's end of the simulated /dev/i2c-N: a Unix socket that any number of programs and threads may open, one transaction at a time.

Request: u32 length, then u8 bus number, u8 number of messages, and each message as u16 address, u16 flags (I2C_M_RD, I2C_M_RECV_LEN),
u16 length, and its bytes unless it reads. Reply: u32 length, then u16 errno (0: done), and u16 length and the bytes of each that reads.
Little endian; the other end is sim/kernel/fake.py. The socket is abstract (unix(7)): it leaves no file behind, whatever ends the truck.
"""

import errno
import logging
import secrets
import selectors
import socket
import struct
import threading
from collections.abc import Mapping

from sim.bus import I2CBus, NoAcknowledge, TimeOut

_READ, _RECEIVE_LENGTH = 0x0001, 0x0400
_MESSAGE = struct.Struct("<HHH")

_log = logging.getLogger(__name__)


class KernelServer:
    """Serves `buses` (by number) from `start` to `stop`, in a thread of its own; chips are touched under `lock` only.

    `name` is the socket's, `error` the exception that ended it, if one did."""

    def __init__(self, buses: Mapping[int, I2CBus], lock: threading.Lock) -> None:
        self.error: Exception | None = None
        self.transactions = 0
        self._buses = buses
        self._lock = lock
        self.name = f"cruisers-{secrets.token_hex(8)}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind("\0" + self.name)
        self._listener.listen(64)
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="kernel-server", daemon=True)

    def start(self) -> None:
        """Begins to serve; programs may connect before."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and closes every socket."""
        self._wake_write.send(b"x")
        if self._thread.is_alive():
            self._thread.join()
        for sock in (self._listener, self._wake_read, self._wake_write):
            sock.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            try:
                self._serve(selector)
            except Exception as error:  # noqa: BLE001  a chip or the world failed: the programs lose their bus, and the owner sees why
                self.error = error
                _log.exception("the simulated kernel ended")
            finally:
                for key in list(selector.get_map().values()):
                    if isinstance(key.data, bytearray) and isinstance(key.fileobj, socket.socket):
                        key.fileobj.close()

    def _serve(self, selector: selectors.BaseSelector) -> None:
        while True:
            for key, _ in selector.select():
                if key.fileobj is self._wake_read:
                    return
                if key.fileobj is self._listener:
                    selector.register(self._listener.accept()[0], selectors.EVENT_READ, bytearray())
                    continue
                assert isinstance(key.fileobj, socket.socket)
                if not self._receive(key.fileobj, key.data):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()

    def _receive(self, sock: socket.socket, received: bytearray) -> bool:
        """Answers what has come; False when the program has closed its file."""
        try:
            chunk = sock.recv(65536)
            received += chunk
            while len(received) >= 4:
                size = int.from_bytes(received[:4], "little")
                if len(received) < 4 + size:
                    break
                request = bytes(received[4 : 4 + size])
                del received[: 4 + size]
                reply = self._answer(request)
                sock.sendall(struct.pack("<I", len(reply)) + reply)
        except ConnectionError:
            return False
        return bool(chunk)

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
