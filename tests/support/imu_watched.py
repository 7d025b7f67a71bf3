"""A watched IMU: samples in m/s² as the head writes them down (column blocks of half a second), and what was found in them."""

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gateway_recording import Bench, Recording, truck, wait_for

from drivers import icm20948
from gateway.config import Truck
from gateway.convert import IMU_TRIM
from gateway.events import Events
from gateway.journal import Entry
from gateway.watch import Watch
from logbook import block
from logbook.channels import IMU_BLOCK

G = 9.80665
STEPS = 4096 / G  # per m/s², at ±8 g
RATE = 1125 / 11
SECOND = 1_000_000_000
START_NS = 1_000 * SECOND
BLOCK = 51
AT_END = 32767  # what the chip gives beyond its range

Floats = npt.NDArray[np.float64]


def times(count: int, from_ns: int = START_NS, rate: float = RATE) -> npt.NDArray[np.uint64]:
    """Boot times of `count` samples."""
    return (from_ns + np.arange(count) * SECOND / rate).astype(np.uint64)


def still(seconds: float, up: Sequence[float] = (0, 0, 1)) -> Floats:
    """A box that stands, [n, 3] in m/s²."""
    return np.tile(np.array(up, dtype=float) * G, (round(seconds * RATE), 1))


def with_pulse(acceleration: Floats, at_s: float, milliseconds: float, size: float, axis: int = 2) -> Floats:
    """`acceleration` with a half sine of `size` m/s² on one axis, from `at_s` on."""
    phase = (np.arange(len(acceleration)) / RATE - at_s) * 1000 / milliseconds
    pulse = np.where((phase >= 0) & (phase <= 1), np.sin(np.pi * np.clip(phase, 0, 1)), 0.0) * size
    result = acceleration.copy()
    result[:, axis] += pulse
    return result


def entry(at: npt.NDArray[np.uint64], acceleration: Floats, boot: int = 7) -> Entry:
    """One column block; what is beyond ±8 g is at the end of the range."""
    rows = np.zeros((len(at), 11), dtype=np.int16)
    rows[:, :3] = np.clip(np.rint(acceleration * STEPS), -AT_END - 1, AT_END)
    return Entry(IMU_BLOCK, int(at[0]), block.encode(boot, at, rows))


class Watched:
    """A watch on a bench. `heard` is what a subscriber was told: (kind, boot time)."""

    def __init__(self, folder: Path, change: Callable[[Truck], None] = lambda config: None) -> None:
        config = truck(folder)
        change(config)
        self.bench = Bench(folder)
        self.heard: list[tuple[str, int]] = []
        self.events = Events(self.bench.journal, self.bench.snapshot)
        self.events.subscribe(lambda kind, at_ns: self.heard.append((kind, at_ns)))
        self.watch = Watch(config, self.events, self.bench.journal, self.bench.snapshot)
        self.bench.journal.describe(IMU_BLOCK, {"columns": json.dumps(icm20948.columns(IMU_TRIM))})

    def samples(self, acceleration: Floats, from_ns: int = START_NS, boot: int = 7, rate: float = RATE) -> int:
        """Writes them, half a second at a time; the time of what would come next."""
        at = times(len(acceleration), from_ns, rate)
        for start in range(0, len(at), BLOCK):
            self.bench.journal.write([entry(at[start : start + BLOCK], acceleration[start : start + BLOCK], boot)])
        return int(at[-1]) + round(SECOND / rate)

    def look_until(self, condition: Callable[[], object], what: str) -> None:
        """What waits is looked at, on a thread as in the recorder, until `condition()` is true."""
        stop = threading.Event()
        thread = threading.Thread(target=self.watch.run, args=(stop,), daemon=True)
        thread.start()
        try:
            wait_for(condition, what)
        finally:
            stop.set()
            thread.join()

    def release(self) -> None:
        """Nothing is left that writes into the test's folder; also behind `end`."""
        self.bench.readings.close()
        self.bench.images.close()

    def end(self) -> Recording:
        """What was written, all of it looked at."""
        self.watch.finish()
        return self.bench.close()


def details(recording: Recording, kind: str) -> list[dict[str, Any]]:
    """The details of the events of a kind, which are JSON."""
    return [json.loads(event.detail) for event in recording.events(kind)]
