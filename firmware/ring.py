"""What the head keeps until the gateway has it on disk: encoded frames, oldest first, in one block of bytes allocated once.

An entry is one byte (length of the frame minus 1; a frame is at most 256 bytes) and the frame. Sequence numbers of the entries follow each
other without a hole, so the oldest and the newest say all. When a new frame does not fit, the oldest go, counted in `dropped`.

Nothing here allocates after construction."""

from drivers.portable import const

RING_BYTES = const(65536)  # 21 s of the standard fit, 20 s of the largest (tests/firmware/test_firmware_frames.py counts)


class Ring:
    """`used` bytes of `size`; `oldest` and `newest` sequence (0, 0 when nothing was ever kept; oldest = newest + 1 when empty)."""

    def __init__(self, size: int = RING_BYTES) -> None:
        self._buffer = bytearray(size)
        self.size = size
        self.used = 0
        self.dropped = 0
        self.oldest = 0
        self.newest = 0
        self._tail = 0  # offset of the oldest entry
        self._head = 0  # offset behind the newest
        self._next = 0  # offset of the entry to be sent next
        self.next_sequence = 0

    def append(self, frame: bytearray, n: int, sequence: int) -> None:
        """Keep frame[:n] under `sequence`, which follows the newest."""
        if not 0 < n <= 256 or n >= self.size:
            raise ValueError("frame does not fit into the ring")
        if self.newest == 0:
            self.oldest = self.next_sequence = sequence
        elif sequence != self.newest + 1:
            raise ValueError("sequence out of order")
        while self.used + n + 1 > self.size:
            self._drop_oldest()
            self.dropped += 1
        buffer, size, head = self._buffer, self.size, self._head
        buffer[head] = n - 1
        head += 1
        for index in range(n):
            if head == size:
                head = 0
            buffer[head] = frame[index]
            head += 1
        self._head = 0 if head == size else head
        self.used += n + 1
        self.newest = sequence

    def release(self, sequence: int) -> None:
        """Forget everything up to and with `sequence`; a number that was never kept is not believed."""
        if sequence > self.newest:
            return
        while self.used and self.oldest <= sequence:
            self._drop_oldest()

    def rewind(self) -> None:
        """Send again from the oldest frame on."""
        self._next = self._tail
        self.next_sequence = self.oldest

    def take_next(self, out: bytearray) -> int:
        """Copy the next frame that was not sent yet into `out` (256 bytes); returns its length, 0 if there is none."""
        if self.used == 0 or self.next_sequence > self.newest:
            return 0
        buffer, size, offset = self._buffer, self.size, self._next
        n = buffer[offset] + 1
        offset += 1
        for index in range(n):
            if offset == size:
                offset = 0
            out[index] = buffer[offset]
            offset += 1
        self._next = 0 if offset == size else offset
        self.next_sequence += 1
        return n

    def _drop_oldest(self) -> None:
        whole = self._buffer[self._tail] + 2
        if self.next_sequence == self.oldest:
            self._next = self._after(self._next, whole)
            self.next_sequence += 1
        self._tail = self._after(self._tail, whole)
        self.oldest += 1
        self.used -= whole

    def _after(self, offset: int, distance: int) -> int:
        offset += distance
        return offset - self.size if offset >= self.size else offset
