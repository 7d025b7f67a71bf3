"""The truth log: what every chip really converted, for the comparison with what arrived at the center.

A file `truth/<sensor>-<n>.bin` per sensor and set of quantities: a line of JSON {"sensor", "quantities", "start_boottime_ns"}, then
rows of little endian int64 t_us and one float64 per quantity (SI). `log` only packs into memory (about 3 µs); a thread writes twice a
second, and `flush` and `close` write the rest. After a SIGKILL the last row may be torn: the reader drops it.
"""

import json
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

WRITE_EVERY = 0.5  # s

Series = tuple[np.ndarray, dict[str, np.ndarray]]


class _File:
    """One file being written; `pending` holds the rows that are not in it yet."""

    def __init__(self, file: BinaryIO, quantities: tuple[str, ...]) -> None:
        self.file = file
        self.quantities = quantities
        self.row = struct.Struct(f"<q{len(quantities)}d")
        self.pending = bytearray()


class TruthLog:
    """Writes below `folder`/truth; `start_boottime_ns` is the CLOCK_BOOTTIME of t_us = 0. Any thread may log."""

    def __init__(self, folder: Path, start_boottime_ns: int) -> None:
        self._folder = folder / "truth"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._start = start_boottime_ns
        self._files: dict[tuple[str, tuple[str, ...]], _File] = {}
        self._counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._closing = threading.Event()
        self._writer = threading.Thread(target=self._run, name="truth", daemon=True)
        self._writer.start()

    def log(self, sensor: str, t_us: int, values: Mapping[str, float]) -> None:
        """Notes that `sensor` converted exactly `values` (SI, by quantity id) at `t_us`."""
        key = (sensor, tuple(values))
        with self._lock:
            entry = self._files.get(key) or self._open(key)
            entry.pending += entry.row.pack(t_us, *values.values())
            self._counts[sensor] = self._counts.get(sensor, 0) + 1

    def counts(self) -> dict[str, int]:
        """Rows logged so far by sensor."""
        with self._lock:
            return dict(self._counts)

    def flush(self) -> None:
        """Returns when all that was logged before is in the files."""
        with self._write_lock:
            with self._lock:
                work = [(entry, bytes(entry.pending)) for entry in self._files.values() if entry.pending]
                for entry, _ in work:
                    entry.pending.clear()
            for entry, rows in work:
                entry.file.write(rows)
                entry.file.flush()

    def close(self) -> None:
        """Flushes and closes; further calls of `log` are an error."""
        self._closing.set()
        self._writer.join()
        self.flush()
        for entry in self._files.values():
            entry.file.close()

    def _open(self, key: tuple[str, tuple[str, ...]]) -> _File:
        sensor, quantities = key
        number = sum(1 for name, _ in self._files if name == sensor)
        file = open(self._folder / f"{sensor}-{number}.bin", "wb")  # noqa: SIM115 - closed in close()
        head = {"sensor": sensor, "quantities": quantities, "start_boottime_ns": self._start}
        file.write(json.dumps(head).encode() + b"\n")
        entry = self._files[key] = _File(file, quantities)
        return entry

    def _run(self) -> None:
        while not self._closing.wait(WRITE_EVERY):
            self.flush()


def read(folder: str | Path) -> dict[str, Series]:
    """The log below `folder`/truth: sensor -> (boottime_ns int64 rising, quantity -> float64 of the same length). Where a sensor logged
    different sets of quantities at different times, NaN stands for what a row did not have."""
    parts: dict[str, list[tuple[np.ndarray, dict[str, np.ndarray]]]] = {}
    for path in sorted((Path(folder) / "truth").glob("*.bin")):
        line, _, data = path.read_bytes().partition(b"\n")
        if not line.endswith(b"}"):
            continue  # killed before the first line was out: there are no rows either
        head = json.loads(line)
        row = np.dtype([("t_us", "<i8"), ("values", "<f8", (len(head["quantities"]),))])
        rows = np.frombuffer(data, row, count=len(data) // row.itemsize)
        times = rows["t_us"] * 1000 + head["start_boottime_ns"]
        columns = {name: rows["values"][:, k] for k, name in enumerate(head["quantities"])}
        parts.setdefault(head["sensor"], []).append((times, columns))
    return {sensor: _merged(series) for sensor, series in parts.items()}


def _merged(parts: list[tuple[np.ndarray, dict[str, np.ndarray]]]) -> Series:
    """All parts of one sensor in the order of time."""
    times = np.concatenate([part[0] for part in parts])
    order = np.argsort(times, kind="stable")
    names = dict.fromkeys(name for _, columns in parts for name in columns)
    merged = {}
    for name in names:
        pieces = [columns.get(name, np.full(len(part_times), np.nan)) for part_times, columns in parts]
        merged[name] = np.concatenate(pieces)[order]
    return times[order], merged
