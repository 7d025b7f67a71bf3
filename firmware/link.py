"""The head's side of the serial line: sends what is due, takes commands byte by byte, never waits.

On the RP2040 a write to the USB serial blocks up to 500 ms when the host has stopped reading, and POLLOUT only says that at least one
byte fits; the IMU's FIFO holds 215 ms. So pieces of 64 bytes go only to a gateway that spoke within the last 1.5 s (it acknowledges twice
a second); to a silent one it is byte by byte, each after POLLOUT. While nobody has the port open the USB stack takes and loses bytes: the
ring keeps every frame until it is acknowledged, and HELLO? sends them again, behind the trim and present state of every sensor."""

import select
import struct

from drivers.portable import TYPE_CHECKING, const, elapsed
from firmware.outbox import Outbox
from firmware.supervisor import Watched
from firmware.wire import ACK, ENCODED_MAX, HEADER_SIZE, HELLO, HELLO_REQUEST, MAINTENANCE, PING, PONG, decode_in_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from firmware.faces import ByteSink, ByteSource, Poller

_PIECE = const(64)
_HEARD_MS = const(1500)
_COMMAND_SIZE = const(25)  # header and 8 bytes: all commands
_RECEIVE_BUFFER = const(64)  # the longest command takes 30 bytes encoded
_RECEIVE_AT_ONCE = const(128)


class Link:
    """`readable` and `writable` are pollers (select.poll) registered with `source` and `sink`; `hello` makes the payload of HELLO.

    `refused` counts frames from the gateway that did not decode or made no sense; `acknowledged` says whether it ever acknowledged a frame
    of this boot, and `acknowledged_at` when last (milliseconds); `maintenance` says that it wants the head in maintenance."""

    def __init__(
        self,
        outbox: Outbox,
        sensors: "list[Watched]",
        source: "ByteSource",
        sink: "ByteSink",
        readable: "Poller",
        writable: "Poller",
        hello: "Callable[[], bytes]",
    ) -> None:
        self.refused = 0
        self.maintenance = False
        self.acknowledged = False
        self.acknowledged_at = 0
        self._outbox = outbox
        self._ring = outbox.ring
        self._sensors = sensors
        self._source = source
        self._sink = sink
        self._readable = readable
        self._writable = writable
        self._hello = hello
        self._byte = bytearray(1)
        self._received = bytearray(_RECEIVE_BUFFER)
        self._received_length = 0
        self._sending = bytearray(ENCODED_MAX)
        self._length = 0
        self._position = 0
        self._piece = bytearray(_PIECE)
        view = memoryview(self._piece)
        self._pieces = [view[: 1 << power] for power in range(7)]  # 1, 2, 4 .. 64 bytes; made here: a slice allocates
        self._resync_due = True
        self._hello_due = True
        self._greeting = 0  # frames behind HELLO that were looked at, two a sensor
        self._ping = bytearray(8)
        self._pong_due = False
        self._heard = 0
        self._ever_heard = False

    def turn(self, now: int) -> int:
        """One turn; returns the bytes moved either way."""
        return self._receive(now) + self._send(now)

    # --- from the gateway

    def _receive(self, now: int) -> int:
        moved = 0
        while moved < _RECEIVE_AT_ONCE and self._may(self._readable, select.POLLIN):
            if not self._source.readinto(self._byte):
                break
            moved += 1
            self._take(now, self._byte[0])
        return moved

    def _take(self, now: int, byte: int) -> None:
        if byte:
            if self._received_length < _RECEIVE_BUFFER:
                self._received[self._received_length] = byte
            self._received_length += 1  # beyond the buffer it only counts: the frame is refused at its 00
        elif self._received_length:
            length = self._received_length
            self._received_length = 0
            if length > _RECEIVE_BUFFER or decode_in_place(self._received, length) != _COMMAND_SIZE:
                self.refused += 1
            else:
                self._obey(now)

    def _obey(self, now: int) -> None:
        kind = self._received[0]
        boot, sequence = struct.unpack_from("<II", self._received, HEADER_SIZE)
        ours = boot == self._outbox.boot
        if kind == ACK:
            if ours:
                self._ring.release(sequence)
                self.acknowledged = True
                self.acknowledged_at = now
        elif kind == HELLO_REQUEST:
            if ours:
                self._ring.release(sequence)
            self._ring.rewind()
            self._length = self._position = 0  # what was being sent comes again
            self._resync_due = self._hello_due = True
            self._greeting = 0
        elif kind == PING:
            self._ping[:] = self._received[HEADER_SIZE:_COMMAND_SIZE]
            self._pong_due = True
        elif kind == MAINTENANCE:
            self.maintenance = True
        else:
            self.refused += 1
            return
        self._heard = now
        self._ever_heard = True

    # --- to the gateway

    def _send(self, now: int) -> int:
        burst = _PIECE if self._ever_heard and elapsed(now, self._heard) < _HEARD_MS else 1
        moved = 0
        while moved < _PIECE and self._may(self._writable, select.POLLOUT):
            if self._position == self._length and not self._load():
                break
            power = 6
            while 1 << power > burst or 1 << power > self._length - self._position:
                power -= 1
            count = 1 << power
            piece, sending, position = self._piece, self._sending, self._position
            for index in range(count):
                piece[index] = sending[position + index]
            written = self._sink.write(self._pieces[power])
            if not written:
                break
            self._position += written
            moved += written
        return moved

    def _load(self) -> bool:
        """Put the next frame into `_sending`; False if nothing is due. Answers go before the ring, and the ring is never starved."""
        self._position = 0
        self._length = 0
        if self._resync_due:  # ends whatever was half sent: the receiver takes up at the next frame
            self._resync_due = False
            self._sending[0] = 0
            self._length = 1
        elif self._hello_due:
            self._hello_due = False
            self._outbox.ticks.stamp()
            self._length = self._outbox.passing(HELLO, self._hello(), self._sending)
        elif self._pong_due:
            self._pong_due = False
            self._outbox.ticks.stamp()
            self._length = self._outbox.passing(PONG, self._ping, self._sending)
        elif not self._load_greeting():
            self._length = self._ring.take_next(self._sending)
        return self._length > 0

    def _load_greeting(self) -> bool:
        """Behind HELLO: of each sensor its TRIM, if it has one, and its present STATE: the frame of the change may be long gone."""
        while self._greeting < 2 * len(self._sensors):
            watched = self._sensors[self._greeting >> 1]
            self._greeting += 1
            self._outbox.ticks.stamp()
            if self._greeting & 1 == 0:
                self._length = self._outbox.passing_state(watched.sensor, watched.state, watched.reason, watched.failures, self._sending)
                return True
            trim = watched.driver.trim()
            if trim:
                self._length = self._outbox.passing_trim(watched.sensor, trim, self._sending)
                return True
        return False

    def _may(self, poller: "Poller", event: int) -> bool:
        may = False  # any() with a generator would allocate
        for ready in poller.ipoll(0):
            may = may or ready[1] & event != 0
        return may
