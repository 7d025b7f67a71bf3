"""The newest seconds of a truck's IMU, as its packed blocks bring them. Blocks are kept as they came and decoded when somebody asks:
each truck sends one a second, and nobody looks at all of them."""

from collections import deque

from sox.packed import BadPacked, Packed, Samples, columns_id, samples

KEPT = 10  # seconds


class PackedLive:
    """The packed blocks of one truck. `items` came; `missing` did not, by their numbers, within one recorder's run; `unreadable` could not
    be read."""

    def __init__(self) -> None:
        self._kept: deque[Packed] = deque(maxlen=KEPT)
        self._columns: dict[str, str] = {}  # by their id: those of the newest description, and of the one before
        self.items = 0
        self.missing = 0
        self.unreadable = 0

    @property
    def newest(self) -> Packed | None:
        """The newest one."""
        return self._kept[-1] if self._kept else None

    def describe(self, columns: str) -> None:
        """The meta node says how the columns of the blocks that follow are read."""
        identity = columns_id(columns)
        self._columns.pop(identity, None)
        self._columns[identity] = columns
        while len(self._columns) > 2:
            del self._columns[next(iter(self._columns))]

    def take(self, packed: Packed) -> bool:
        """One item; False if it is not newer than the newest (items may come twice)."""
        newest = self.newest
        if newest is not None and newest.boot == packed.boot:
            if packed.number <= newest.number:
                return False
            self.missing += packed.number - newest.number - 1
        self.items += 1
        self._kept.append(packed)
        return True

    def seconds(self) -> list[Samples]:
        """The kept blocks decoded, oldest first; one that cannot be read, or whose columns are not described, is left out and counted."""
        found = []
        for packed in self._kept:
            try:
                found.append(samples(packed, self._columns.get(packed.columns_id, "")))
            except BadPacked:
                self.unreadable += 1
        return found
