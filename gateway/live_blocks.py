"""Once a second the IMU's newest samples go to the uplink as one column block (docs/formats.md 4, `packed`): P0 beside the snapshot.

The IMU's thread only hands over the blocks that it writes; joining them (about 2 ms) is for the main thread, with its snapshot. Blocks of
another boot of the head, or of other columns, begin a datagram of their own, and so does what does not fit into MOST_NS: a head that
delivers its ring after a pause. Nothing here is the only copy."""

import struct
import threading
from collections import deque

from gateway.clock import NANO, Clock
from gateway.journal import Entry, Journal
from gateway.live import KIND, LiveSender
from logbook import block
from logbook.channels import IMU_BLOCK

PACKED = "packed"
MOST_NS = 2 * NANO  # of one datagram, first sample to last block's first; a block's times may span 4.29 s
MOST_BLOCKS = 64  # that wait: 32 s of them, more than a head's ring gives at once

_HEAD_BOOT = struct.Struct("<I")  # at 6 in a block (docs/formats.md 3)


class LiveBlocks:
    """Observes what `journal` writes of the IMU; `send()` once a second. `passed_over` counts blocks that were not sent, for
    the main thread came too late."""

    def __init__(self, truck: str, boot: str, clock: Clock, journal: Journal, sender: LiveSender) -> None:
        self._truck = truck
        self._boot = boot
        self._clock = clock
        self._journal = journal
        self._sender = sender
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, Entry]] = deque()  # columns, block
        self._number = 0
        self.passed_over = 0
        journal.observe(IMU_BLOCK, self._hear)

    def _hear(self, entry: Entry) -> None:
        columns = self._journal.described(IMU_BLOCK).get("columns", "")
        with self._lock:
            if len(self._waiting) == MOST_BLOCKS:
                self._waiting.popleft()
                self.passed_over += 1
            self._waiting.append((columns, entry))

    def send(self) -> None:
        """Sends what has come since the last call; dropped if nobody listens."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        while waiting:
            columns, first = waiting[0]
            alike = 1
            while alike < len(waiting) and self._joins(first, columns, *waiting[alike]):
                alike += 1
            self._send(columns, [entry for _, entry in waiting[:alike]])
            del waiting[:alike]

    @staticmethod
    def _joins(first: Entry, columns: str, other_columns: str, other: Entry) -> bool:
        same_head = _HEAD_BOOT.unpack_from(first.data, 6) == _HEAD_BOOT.unpack_from(other.data, 6)
        return columns == other_columns and same_head and 0 <= other.log_time - first.log_time < MOST_NS

    def _send(self, columns: str, blocks: list[Entry]) -> None:
        mapping = self._clock.mapping(blocks[0].log_time)
        self._number += 1
        self._sender.send({
            KIND: PACKED,
            "truck": self._truck,
            "boot": self._boot,
            "number": self._number,
            "boottime_ns": mapping.boottime_ns,
            "utc_ns": mapping.utc_ns,
            "utc_source": mapping.source,
            "utc_error_s": mapping.error_s if mapping.utc_ns else None,
            "columns": columns,
            "block": block.live([entry.data for entry in blocks]),
        })  # fmt: skip
