"""How small the IMU's readings get, without loss, against rows in zstd, Parquet and pco: on the recorded drive where ../shared/data is
there, else on the simulated world, and the rows say so.

The drive goes the product's whole way: it moves our model of the ICM-20948 (±8 g, ±500 °/s, 102.27 Hz, the magnetometer behind it at its
own 100 Hz with data-ready), our driver drains its FIFO every 50 to 70 ms, the gateway's estimate dates the samples and cuts a commit
0.5 s after its first drain. Against all this stand raw rows: nine int16 a sample, no times, no temperature, no status. Sizes do not
depend on the machine."""

import random
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import zstandard
from pcodec import ChunkConfig, standalone  # type: ignore[import-untyped]

from bench.measure import Row
from drivers import icm20948
from gateway.convert import IMU_TRIM, imu_rows
from gateway.imu_gaps import ImuSamples, Settled
from gateway.imu_times import HeadClock
from logbook import block, channels
from logbook.export import Wanted, export
from logbook.schemas.cruisers_pb2 import ClockMapping
from logbook.segment_writer import Entry, Identity, SegmentWriter
from sim.bus import I2CBus
from sim.chips.icm20948 import ICM20948
from sim.clock import Clock
from sim.drive import overlay
from sim.world import World

DRIVE = Path(__file__).parents[2] / "shared" / "data" / "drive-comma2k19"
AXES = [0, 1, 2, 3, 4, 5, 7, 8, 9]  # of a block's columns; the others are temperature and status
ROW_BYTES = 2 * len(AXES)
SECONDS = 60.0
WARM_UP_US = 20_000_000  # the truck stands as long, until the gateway's clock of the samples has settled (gateway/imu_times.py)
COMMIT_US = 500_000
DRAIN_US, JITTER_US = 50_000, 20_000  # the head's loop
CRYSTAL = 30e-6  # the head's, slow
UTC_NS = 1_790_000_000_000_000_000
LEVEL = 3  # zstd's own default, which the segment uses


Buffer = bytearray | memoryview


class Commit(NamedTuple):
    """What stands in one chunk: boot times in ns [n], columns int16 [n, 11]."""

    times: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int16]


class Wire:
    """machine.I2C's methods on the simulated bus."""

    def __init__(self, bus: I2CBus) -> None:
        self._bus = bus

    def readfrom_mem_into(self, address: int, register: int, buffer: Buffer, /) -> None:
        """Fills `buffer` from a register on."""
        buffer[:] = self._bus.transfer(address, bytes([register]), len(buffer))

    def writeto_mem(self, address: int, register: int, data: bytes | Buffer, /) -> None:
        """Writes `data` from a register on."""
        self._bus.transfer(address, bytes([register]) + bytes(data), 0)

    def readfrom_into(self, address: int, buffer: Buffer, /) -> None:
        """Fills `buffer`."""
        buffer[:] = self._bus.transfer(address, b"", len(buffer))

    def writeto(self, address: int, data: bytes | Buffer, /) -> int:
        """Writes `data`; how many bytes were acknowledged."""
        self._bus.transfer(address, bytes(data), 0)
        return len(data)


class Recording:
    """The chip, the head's loop and the gateway's clock, in a time of their own (µs)."""

    def __init__(self, source: Callable[[int], dict[str, float]], seed: int) -> None:
        self._now = 0
        self._random = random.Random(seed)
        clock = Clock(lambda: self._now * 1000, self._wait)
        self._driver = icm20948.ICM20948(Wire(I2CBus([ICM20948(source, lambda *_: None)], clock)))
        self._head_clock = HeadClock()
        self._samples = ImuSamples(self._head_clock)
        self._pinged = 0

    def commits(self, until_us: int) -> Iterator[Commit]:
        """What is committed until then."""
        times: list[npt.NDArray[np.uint64]] = []
        frames: list[bytes] = []
        began = 0
        while self._now < until_us:
            self._wait(DRAIN_US + self._random.randrange(JITTER_US))
            self._ping()
            if frames and self._now - began >= COMMIT_US:  # it was due before this drain
                times += [one.times for one in self._samples.settle()]
                yield Commit(np.concatenate(times), imu_rows(frames))
                times, frames = [], []
            drained, settled = self._drain()
            began = began if frames else self._now
            frames += drained
            times += [one.times for one in settled]

    def _drain(self) -> tuple[list[bytes], list[Settled]]:
        buffer = bytearray(icm20948.RAW_SIZE * icm20948.FRAMES_AT_ONCE)
        frames: list[bytes] = []
        while self._driver.poll(self._now // 1000):
            size = self._driver.read_into(buffer)
            frames += [bytes(buffer[at : at + icm20948.RAW_SIZE]) for at in range(0, size, icm20948.RAW_SIZE)]
        return frames, self._samples.drained(self._now + 400, len(frames), whole=True) if frames else []

    def _ping(self) -> None:
        """Once a second the gateway asks for the head's ticks; its own time is boot time here."""
        if self._pinged and self._now - self._pinged < 1_000_000:
            return
        self._pinged = self._now
        there, back = (self._random.randrange(80, 400) for _ in range(2))
        sent, received = (round(at * 1000 * (1 + CRYSTAL)) for at in (self._now - there, self._now + back))
        self._head_clock.exchange(sent, self._now, received)

    def _wait(self, microseconds: int) -> None:
        self._now += microseconds


@cache
def recorded(drive: Path | None, seed: int = 1) -> tuple[Commit, ...]:
    """A minute of commits: of the drive in the folder `drive`, or of the simulated world."""
    world = World(seed=seed)
    source = world if drive is None else overlay(drive, world)
    recording = Recording(lambda t_us: source.at(max(0, t_us - WARM_UP_US)), seed)
    end = WARM_UP_US + int(SECONDS * 1e6)
    return tuple(commit for commit in recording.commits(end) if commit.times[0] >= WARM_UP_US * 1000)


def raw_bytes(commits: tuple[Commit, ...]) -> int:
    """Of nine int16 a sample."""
    return sum(len(commit.rows) for commit in commits) * ROW_BYTES


def segment(commits: tuple[Commit, ...], folder: Path, more: tuple[Entry, ...] = ()) -> Path:
    """A sealed segment of readings that holds them, `more` in its first chunk, and nothing else."""
    name = "89abcdef-01234567"
    identity = Identity(f"truck-001-{name}-000001-readings", "truck-001", channels.READINGS, "89abcdef-0000-4000-8000-000000000000")
    described = {channels.IMU_BLOCK: {"columns": block.describe(icm20948.columns(IMU_TRIM))}}
    path = folder / name / "000001-readings.mcap"
    writer = SegmentWriter.create(path, identity, channels.channel_types(channels.READINGS), described)
    for commit in commits:
        entries = [Entry(channels.IMU_BLOCK, int(commit.times[0]), 0, block.encode(7, commit.times, commit.rows))]
        writer.append([*(more if commit is commits[0] else ()), *entries])
    return writer.seal()


def segment_bytes(commits: tuple[Commit, ...]) -> int:
    """All bytes of that file."""
    with tempfile.TemporaryDirectory() as folder:
        return segment(commits, Path(folder)).stat().st_size


def exported_bytes(commits: tuple[Commit, ...], compact: bool) -> int:
    """All bytes of the table `imu` that `cruisers segment export --parquet` makes of that file, with UTC."""
    at = int(commits[0].times[0])
    mapping = ClockMapping(boottime_ns=at, utc_ns=UTC_NS, source="gnss", error_s=0.3)
    clock = Entry(channels.CLOCK, at, UTC_NS, mapping.SerializeToString())
    with tempfile.TemporaryDirectory() as folder:
        wanted = Wanted(parquet=Path(folder) / "tables", compact=compact)
        export([segment(commits, Path(folder), (clock,))], wanted, lambda what, size: None, lambda size: None)
        return (Path(folder) / "tables" / "imu.parquet").stat().st_size


def block_bytes(commits: tuple[Commit, ...]) -> int:
    """Of the column blocks alone."""
    return sum(len(block.encode(7, *commit)) for commit in commits)


def by_second(commits: tuple[Commit, ...]) -> list[list[Commit]]:
    """The commits that began in each second."""
    seconds: dict[int, list[Commit]] = {}
    for commit in commits:
        seconds.setdefault(int(commit.times[0]) // 1_000_000_000, []).append(commit)
    return list(seconds.values())


def live_bytes(commits: tuple[Commit, ...]) -> list[int]:
    """Of each second's live block, as the base64 that goes over the link."""
    return [len(block.live([block.encode(7, *commit) for commit in second])) for second in by_second(commits)]


# --- the peers; each is given times and all columns, as the block is


def rows_bytes(commits: tuple[Commit, ...]) -> int:
    """Samples one behind the other, in zstd, a frame a commit."""
    packer = zstandard.ZstdCompressor(level=LEVEL)
    row = np.dtype([("time", "<u8"), ("raw", "<i2", 11)])
    total = 0
    for times, columns in commits:
        table = np.zeros(len(times), row)
        table["time"], table["raw"] = times, columns
        total += len(packer.compress(table.tobytes()))
    return total


def pco_bytes(commits: tuple[Commit, ...]) -> int:
    """Each column by pco at its level 8, a commit by itself."""
    config = ChunkConfig(compression_level=8)
    columns = (np.ascontiguousarray(column) for times, rows in commits for column in (times, *rows.T))
    return sum(len(standalone.simple_compress(column, config)) for column in columns)


def parquet_bytes(commits: tuple[Commit, ...]) -> int:
    """A Parquet file of a commit, with the encodings that the export uses."""
    total = 0
    for times, columns in commits:
        table = pa.table({"time": times.astype(np.int64), **{str(index): column for index, column in enumerate(columns.T)}})
        sink = pa.BufferOutputStream()
        encodings = dict.fromkeys(table.column_names, "DELTA_BINARY_PACKED")
        pq.write_table(table, sink, compression="zstd", use_dictionary=False, column_encoding=encodings)
        total += sink.getvalue().size
    return total


def joined(commits: tuple[Commit, ...]) -> tuple[Commit, ...]:
    """All commits as one."""
    return (Commit(np.concatenate([commit.times for commit in commits]), np.concatenate([commit.rows for commit in commits])),)


def rows() -> Iterator[Row]:
    """The table: size saved against raw rows (above 1 is smaller), then the live block in bytes."""
    drive = DRIVE if DRIVE.is_dir() else None
    what = "drive" if drive else "simulated world (no ../shared)"
    commits = recorded(drive)
    raw = raw_bytes(commits)
    against = "raw int16 rows"
    yield Row(f"{what}: segment, all bytes, 0.5 s commits", against, [raw / segment_bytes(commits)], ">= 1.4")
    yield Row("its column blocks alone", against, [raw / block_bytes(commits)])
    yield Row("0.5 s of rows in zstd", against, [raw / rows_bytes(commits)])
    yield Row("0.5 s of columns in pco", against, [raw / pco_bytes(commits)])
    yield Row("0.5 s as Parquet", against, [raw / parquet_bytes(commits)])
    yield Row("60 s: export --parquet --compact", against, [raw / exported_bytes(commits, compact=True)], ">= 1.86")
    yield Row("60 s: export --parquet, raw and typed", against, [raw / exported_bytes(commits, compact=False)])
    yield Row("60 s of rows in zstd", against, [raw / rows_bytes(joined(commits))])
    yield Row("60 s of columns in pco", against, [raw / pco_bytes(joined(commits))])
    live = live_bytes(commits)
    yield Row("live block of a second, base64, bytes", "mean", [sum(live) / len(live)], "<= 1400")
    yield Row("live block of a second, base64, bytes", "largest", [float(max(live))])
    simple = [rows_bytes(joined(tuple(second))) * 4 / 3 for second in by_second(commits)]
    yield Row("rows of a second in zstd, base64, bytes", "mean", [sum(simple) / len(simple)])
