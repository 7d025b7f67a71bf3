"""A truck whose disk is crash_disk.Disk: both streams are written at the real pace of commits, the oracle takes notes, and power cuts are
taken without stopping the work: what the disk would hold is copied, and judged elsewhere."""

import errno
import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from crash_disk import KINDS, Disk, Image
from crash_fuse import mounted
from crash_judge import CAMERA, Known, entries_of

from logbook import channels
from logbook.segment import CHUNK_SECONDS, Segments

# Messages a second, and segments so small that every life changes them several times.
PACE = {channels.READINGS: 60.0, channels.IMAGES: 12.0}
READINGS_SECONDS = 1.3
IMAGES_SECONDS = 1.7
IMAGES_BYTES = 200_000
SYNC_SECONDS = 0.2  # at most, unless it stalls: long enough that many a cut comes between a write and its sync
BEAT_SECONDS = 0.02
CUT_SECONDS = 0.23  # on average from cut to cut: against 0.5 s commits every phase of a chunk's life is met


class Cut(NamedTuple):
    """What the judge gets."""

    seed: int
    kind: str
    image: Image
    known: dict[str, Known]
    recovery_cut: int | None  # cut again at this operation of the recovery


@dataclass
class Notes:
    """The oracle's book of one stream."""

    written: list[float] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    errors: list[OSError] = field(default_factory=list)


class Truck:
    """One recorder's two streams on `disk`, mounted at `spool`; see `driving`."""

    def __init__(self, disk: Disk, spool: Path, seed: int, chunk_seconds: float = CHUNK_SECONDS) -> None:
        self.disk = disk
        self.seed = seed
        self.notes = {stream: Notes() for stream in channels.STREAMS}
        self._stop = threading.Event()
        number = itertools.count(1).__next__
        self.segments = {
            stream: Segments(
                spool,
                "truck-1",
                "89abcdef-boot",
                stream,
                f"89abcdef-{seed & 0xFFFF_FFFF:08x}",
                number,
                READINGS_SECONDS if stream == channels.READINGS else IMAGES_SECONDS,
                None if stream == channels.READINGS else IMAGES_BYTES,
                chunk_seconds,
                on_durable=self.notes[stream].acknowledged.append,  # type: ignore[arg-type]
                on_sealed=lambda path: None,
                on_error=self.notes[stream].errors.append,
                topics=[CAMERA] if stream == channels.IMAGES else [],
            )
            for stream in channels.STREAMS
        }
        self._lags: list[tuple[float, float]] = []
        self._threads = [threading.Thread(target=self._produce, args=(stream,), daemon=True) for stream in channels.STREAMS]
        self._threads.append(threading.Thread(target=self._measure_lag, daemon=True))
        for thread in self._threads:
            thread.start()

    def _produce(self, stream: str) -> None:
        notes, segments = self.notes[stream], self.segments[stream]
        began = time.monotonic()
        for number in itertools.count():
            if self._stop.wait(max(0.0, began + number / PACE[stream] - time.monotonic())):
                return
            entries = entries_of(self.seed, stream, number)
            if not segments.write_group(entries, number):
                notes.refused.add(number)
            notes.written.append(time.monotonic())

    def _measure_lag(self) -> None:
        """Notes how long this process was kept from running by others on the machine: no recorder's fault, and no disk's."""
        while not self._stop.is_set():
            began = time.monotonic()
            time.sleep(BEAT_SECONDS)
            late = time.monotonic() - began - BEAT_SECONDS
            if late > BEAT_SECONDS:
                self._lags.append((began + BEAT_SECONDS + late, late))

    def _lag(self, since: float) -> float:
        return sum(late for at, late in self._lags if at > since)

    def cut(self, dice: random.Random, kind: str | None = None) -> Cut:
        """What a power cut at this moment leaves. What was acknowledged before it is an obligation; what was written before it may be lost,
        if not for longer than promised; what is written while the image is taken may be in it or not."""
        kind = kind or dice.choice(KINDS)
        before = {}
        for stream, notes in self.notes.items():
            stall = self.segments[stream].stats().stall_s
            acknowledged = notes.acknowledged[-1] + 1 if notes.acknowledged else 0
            before[stream] = acknowledged, stall, len(notes.written)
        image = self.disk.image(dice, kind)
        now = time.monotonic()
        known = {}
        for stream, (acknowledged, stall, written) in before.items():
            notes = self.notes[stream]
            ages = [now - at for at in notes.written[acknowledged:written]]
            lag = self._lag(now - ages[0]) if ages else 0.0
            known[stream] = Known(acknowledged, ages, len(notes.written) + 1, frozenset(notes.refused), stall, lag)
        return Cut(self.seed, kind, image, known, dice.randrange(1, 16) if dice.random() < 0.5 else None)

    def end(self) -> bool:
        """Stops, seals; whether all of it could be written."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return all([segments.close() for segments in self.segments.values()])


@contextmanager
def driving(folder: Path, seed: int, faults: bool) -> Iterator[Truck]:
    """A truck on a disk of its own, mounted in `folder`; with `faults` the disk also stalls and refuses now and then."""
    disk = Disk(seed)
    misfortune = _Misfortune(seed)
    with ExitStack() as stack:
        spool = stack.enter_context(mounted(disk, folder / f"disk-{seed}"))
        disk.before_sync = misfortune.before_sync
        truck = Truck(disk, spool, seed)
        stack.callback(truck.end)
        if faults:  # not before the first files are there: without them no disk can tell what it refused
            disk.fault = misfortune.fault
            misfortune.stalls = 0.03
        yield truck


class _Misfortune:
    """A disk of an SD card's pace, which may also stall up to 0.7 s and refuse one operation in forty."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._lock = threading.Lock()  # both streams' writers ask
        self.stalls = 0.0

    def before_sync(self, path: str) -> None:
        with self._lock:
            wait = self._dice.uniform(0, 0.7 if self._dice.random() < self.stalls else SYNC_SECONDS)
        time.sleep(wait)

    def fault(self, operation: str, path: str) -> int | None:
        with self._lock:
            if operation in ("sync", "write", "create") and self._dice.random() < 0.025:
                return self._dice.choice([errno.EIO, errno.ENOSPC])
        return None
