"""A byte FIFO that knows the samples in it: in stream mode new bytes push out the oldest *bytes*, so whole-frame alignment can be lost.

Every sample pushed is in exactly one place at any time: made = taken + overwritten + refused + discarded + waiting.
"""

from collections import deque


class SampleFifo:
    """`size` bytes; `stream` = overwrite the oldest when full, otherwise (snapshot) refuse new samples."""

    EMPTY = 0xFF  # what a read of the empty FIFO gives

    def __init__(self, size: int) -> None:
        self.size = size
        self.stream = True
        self.overflowed = False  # sticky, cleared by the owner
        self.made = 0  # samples pushed, ever
        self.taken = 0  # samples read to their last byte, none of it overwritten
        self.overwritten = 0  # samples that lost at least one unread byte to newer ones
        self.refused = 0  # samples that found no room in snapshot mode
        self.discarded = 0  # samples thrown away by a reset
        self._bytes: deque[int] = deque()
        self._first = 0  # number of the oldest byte here, counted since the beginning
        self._samples: deque[tuple[int, int]] = deque()  # (first byte, byte after the last) of each sample waiting

    def __len__(self) -> int:
        return len(self._bytes)

    @property
    def waiting(self) -> int:
        """Samples not yet read to the end."""
        return len(self._samples)

    def push(self, sample: bytes) -> None:
        """One sample of the sensor."""
        self.made += 1
        if not self.stream and len(self._bytes) + len(sample) > self.size:
            self.refused += 1
            self.overflowed = True
            return
        begin = self._first + len(self._bytes)
        self._bytes.extend(sample)
        self._samples.append((begin, begin + len(sample)))
        while len(self._bytes) > self.size:
            self.overflowed = True
            lost = self._drop()
            if self._samples and self._samples[0][0] <= lost:
                self._samples.popleft()
                self.overwritten += 1

    def pop(self) -> int:
        """Takes the oldest byte; EMPTY when there is none."""
        if not self._bytes:
            return self.EMPTY
        byte = self._bytes[0]
        self._drop()
        if self._samples and self._samples[0][1] == self._first:
            self._samples.popleft()
            self.taken += 1
        return byte

    def clear(self) -> None:
        """A FIFO reset: everything waiting is discarded."""
        self.discarded += len(self._samples)
        self._samples.clear()
        self._first += len(self._bytes)
        self._bytes.clear()

    def _drop(self) -> int:
        """Removes the oldest byte and returns its number."""
        self._bytes.popleft()
        self._first += 1
        return self._first - 1
