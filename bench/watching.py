"""What finding events costs: a minute of the IMU, on disk as blocks of half a second, looked at for shocks and tilt."""

import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.decoding import TRIM, fifo_frames
from bench.measure import Row, own
from drivers import icm20948
from gateway.clock import Clock
from gateway.config import Hub, Truck
from gateway.convert import imu_rows
from gateway.events import Events
from gateway.journal import Entry, Journal
from gateway.live import LiveSender
from gateway.snapshot import Snapshot
from gateway.watch import RATE_HZ, Watch
from logbook import block
from logbook.channels import IMU_BLOCK, READINGS
from logbook.segment import Segments

RUNS = 5
BLOCK_SAMPLES = 51


def _refuse(error: OSError) -> None:
    raise error


def _watch(folder: Path, blocks: list[Entry]) -> float:
    """CPU seconds of looking at all `blocks`."""
    segments = Segments(
        folder, "truck-1", "0" * 32, READINGS, "bench", itertools.count(1).__next__, 3600,
        on_durable=lambda token: None, on_sealed=lambda path: None, on_error=_refuse,
    )  # fmt: skip
    clock = Clock(system=lambda: None)
    journal = Journal(segments, clock)
    live = LiveSender(folder / "live")
    snapshot = Snapshot("truck-1", "bench", clock, live)
    config = Truck("truck-1", str(folder), "", Hub("hub.test", "127.0.0.1", 5222, "", ""))
    watch = Watch(config, Events(journal, snapshot), journal, snapshot)
    journal.describe(IMU_BLOCK, {"columns": json.dumps(icm20948.columns(TRIM))})
    for entry in blocks:
        journal.write([entry])
    while segments.stats().waiting_bytes:  # the writer's CPU is not to be counted
        time.sleep(0.01)
    cost = own(watch.finish).cpu
    segments.close()
    live.close()
    return cost


def rows() -> Iterator[Row]:
    """Real time over CPU time, and CPU over that of reading the blocks alone."""
    rows = imu_rows(fifo_frames())
    times = (1_000_000_000_000 + np.arange(len(rows)) * 1e9 / RATE_HZ).astype(np.uint64)
    seconds = len(rows) / RATE_HZ
    blocks = []
    for start in range(0, len(rows), BLOCK_SAMPLES):
        part = slice(start, start + BLOCK_SAMPLES)
        blocks.append(Entry(IMU_BLOCK, int(times[start]), block.encode(7, times[part], rows[part])))
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for run in range(RUNS + 1):
            (Path(folder) / str(run)).mkdir()
            ours = _watch(Path(folder) / str(run), blocks)
            found.append((ours, own(lambda: [block.decode(entry.data) for entry in blocks]).cpu))
    yield Row("events in the IMU: speed", "real time, one core", [seconds / ours for ours, _ in found[1:]], ">= 100")
    yield Row("events in the IMU: CPU", "reading the blocks alone", [ours / reading for ours, reading in found[1:]])
