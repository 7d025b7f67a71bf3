"""From what chips deliver to messages, whoever reads them: a head (head_log.py) or this machine itself (own_parts.py).

One column block of all IMU samples of a batch, typed IMU values ten times a second, one Reading per slow sample, Trims at each change,
states as events, and what is missing as Gaps. `ticks` are µs of the clock that the reader names with `resume` or `reboot`: the head's
counter, or boot time itself."""

from collections import Counter, deque
from typing import Any

import numpy as np

from calibration.profile import Calibrated
from drivers import icm20948, neo_m9n
from drivers.errors import POWER_ON_VALUES
from firmware import frames
from gateway.clock import Clock
from gateway.convert import IMU, IMU_AT_ONCE, IMU_TRIM, BadSample, Converter, Samples, imu_rows, raw_numbers
from gateway.head_positions import HeadPositions
from gateway.imu_gaps import ImuSamples, Phase, Settled, Times
from gateway.imu_times import HeadClock
from gateway.journal import Entry, Journal, event, gap
from gateway.parts import NO_NEW_SAMPLE
from gateway.snapshot import Snapshot
from logbook import block
from logbook.channels import IMU as IMU_TOPIC
from logbook.channels import IMU_BLOCK, TRIM, reading_topic
from logbook.schemas import cruisers_pb2 as pb

TYPED_NS = 95_000_000  # /imu ten times a second, from drains that come every 50 ms, give or take
STOPPED = (frames.ABSENT, frames.CONFIGURING, frames.FAILED)  # states in which a chip does not deliver and is started again


class ChipLog:
    """The messages of one reader's chips: `batch()` are those to write now, `written()` says that they are. One thread.

    `trims()` (any thread) are the messages to restate at the start of a segment. `last` is the boot time of the newest sample by sensor;
    `imu_since_ns` that of the newest IMU sample of a recorder before this one (0: there is none in this boot of the kernel). `positions`
    make the truck's positions of a receiver among the chips; None: another source does."""

    def __init__(
        self,
        journal: Journal,
        snapshot: Snapshot,
        clock: Clock,
        converter: Converter,
        imu_since_ns: int = 0,
        positions: HeadPositions | None = None,
    ) -> None:
        self._journal = journal
        self._snapshot = snapshot
        self._utc = clock
        self._converter = converter
        self._positions = positions
        self._boot = 0
        self._clock = HeadClock()
        self._imu_samples = ImuSamples(self._clock, last_ns=imu_since_ns)
        self._trims: tuple[Entry, ...] = ()
        self._typed_ns = 0
        self._rows: list[np.ndarray] = []
        self._times: list[np.ndarray] = []
        self._drain: list[bytes] = []  # IMU samples of a drain that goes on in the next frame: they are dated together
        self._drain_ticks = 0
        self._undated: deque[list[bytes]] = deque()  # drains behind a gap, until it is decided how many samples that is
        self._columns = ""
        self.last: dict[str, int] = {}
        self.entries: list[Entry] = []  # of the batch, beside the IMU's blocks
        self.first: dict[str, int] = {}  # boot time of a sensor's first sample in the batch
        self.samples: Counter[str] = Counter()  # in the batch
        self._describe(IMU_TRIM)

    # --- whose ticks

    def resume(self, boot: int, clock: HeadClock) -> None:
        """`clock` places the ticks from here on, of a head's `boot` (0: of this machine). The IMU's next sample follows the one before."""
        self._imu_samples.resume(clock)
        self._begin(boot, clock)

    def reboot(self, boot: int, clock: HeadClock, reason: str) -> None:
        """As `resume`, but ticks and the IMU begin anew, because of `reason`."""
        self._settled(self._imu_samples.reboot(clock, reason))
        self._begin(boot, clock)

    def _begin(self, boot: int, clock: HeadClock) -> None:
        self._boot, self._clock = boot, clock
        self._converter.forget()

    # --- the batch

    @property
    def undecided(self) -> bool:
        """Whether a batch should wait a little, for the next drains to tell how many IMU samples a gap is."""
        return self._imu_samples.undecided

    def batch(self) -> list[Entry]:
        """All there is to write, with what is known of gaps by now."""
        self._date()
        self._settled(self._imu_samples.settle())
        return [*self._blocks(), *self.entries]

    def written(self) -> None:
        """The batch was taken; the next one begins."""
        self.entries, self._rows, self._times = [], [], []
        self.first = {}
        self.samples.clear()

    def trims(self) -> tuple[Entry, ...]:
        """The trims as last told."""
        return self._trims

    def _blocks(self) -> list[Entry]:
        """The IMU samples as column blocks: one, or more where they span more than a block can (the ring after a long outage)."""
        if not self._rows:
            return []
        rows, times = np.concatenate(self._rows), np.concatenate(self._times)
        entries = []
        start = 0
        while start < len(times):
            limit = times[start] + np.uint64(block.MAX_SPAN_NS)
            end = min(int(np.searchsorted(times, limit, side="right")), start + block.MAX_SAMPLES)
            entries.append(Entry(IMU_BLOCK, int(times[start]), block.encode(self._boot, times[start:end], rows[start:end])))
            start = end
        return entries

    # --- what chips deliver

    def sample(self, samples: Samples, ticks: int, sequence: int) -> None:
        """Samples that were read at `ticks`. Of the IMU all pieces of one drain carry the same ticks. Raises BadSample."""
        self._snapshot.count(f"samples.{samples.sensor}", len(samples.raw))
        if samples.sensor == IMU:
            self._imu(samples.raw, ticks)
            return
        at = self._clock.boottime_ns(ticks)
        for raw in samples.raw:
            typed = self._converter.typed(samples.sensor, raw, self._utc.utc_ns(at))
            reading = pb.Reading(
                sensor=samples.sensor, head_boot=self._boot, sequence=sequence, boottime_ns=at, raw=raw, profile=typed.profile
            )
            _fill(reading.values, typed.values)
            self.entries.append(Entry(reading_topic(samples.sensor), at, reading.SerializeToString()))
            show(self._snapshot, at, samples.sensor, raw, typed)
            if self._positions is not None and samples.sensor == neo_m9n.SENSOR:
                self.entries += self._positions.take(self._converter.trims.get(samples.sensor, b""), raw, at)
        self._count(samples.sensor, len(samples.raw), at, at)

    def _imu(self, raw: list[bytes], ticks: int) -> None:
        """All pieces of a drain but the last are full, the last may be."""
        if ticks != self._drain_ticks:
            self._date(whole=True)
        self._drain += raw
        self._drain_ticks = ticks
        if len(raw) < IMU_AT_ONCE:
            self._date(whole=True)

    def _date(self, whole: bool = False) -> None:
        """The drain's samples get their times, at once if nothing is missing before them. `whole`: nothing of it is still to come."""
        if not self._drain:
            return
        raw, self._drain = self._drain, []
        self._undated.append(raw)
        self._settled(self._imu_samples.drained(self._drain_ticks, len(raw), whole))

    def _settled(self, settled: list[Settled]) -> None:
        for times, missing in settled:
            if missing is not None and (missing.samples or not missing.counted):
                self.entries.append(gap(IMU, missing.reason, missing.from_ns, missing.to_ns, missing.samples))
            elif missing is not None:
                self.entries.append(event("nothing_missing", IMU, missing.reason, missing.to_ns))
            if len(times):
                self._dated(self._undated.popleft(), times)

    def _dated(self, raw: list[bytes], times: Times) -> None:
        self._rows.append(imu_rows(raw))
        self._times.append(times)
        newest = int(times[-1])
        self._count(IMU, len(raw), int(times[0]), newest)
        if newest - self._typed_ns < TYPED_NS:
            return
        self._typed_ns = newest
        typed = self._converter.typed(IMU, raw[-1], self._utc.utc_ns(newest))
        message = pb.Imu(boottime_ns=newest)
        _fill(message.values, _new(typed.values))
        self.entries.append(Entry(IMU_TOPIC, newest, message.SerializeToString()))
        show(self._snapshot, newest, IMU, raw[-1], typed)

    def _count(self, sensor: str, number: int, first_ns: int, last_ns: int) -> None:
        self.first.setdefault(sensor, first_ns)
        self.samples[sensor] += number
        self.last[sensor] = last_ns

    # --- what chips are

    def takes(self, trim: bytes) -> bool:
        """Whether this trim of the IMU can stand in the batch: another range cannot, with samples of the one before (the file says once
        how to read its columns)."""
        return not (self._rows or self._drain or self._undated) or _columns(trim) == self._columns

    def trim(self, sensor: str, trim: bytes, ticks: int, restated: bool = False) -> None:
        """The constants of a chip, for all its samples from here on; the IMU's only where the batch `takes` them. `restated`: they may be
        as known, and are then not written. Raises BadSample."""
        changed = self._converter.trim(sensor, trim)
        if restated and not changed:
            return
        at = self._clock.boottime_ns(ticks)
        entry = Entry(TRIM, at, pb.Trim(sensor=sensor, head_boot=self._boot, trim=trim).SerializeToString())
        self.entries.append(entry)
        by_sensor = {pb.Trim.FromString(old.data).sensor: old for old in self._trims}
        self._trims = tuple({**by_sensor, sensor: entry}.values())
        if sensor == IMU and changed:
            self._describe(trim)

    def _describe(self, trim: bytes) -> None:
        """How to read the columns from here on; the batch is empty of samples where that changes (`takes`)."""
        columns = _columns(trim)
        if not columns:
            raise BadSample(f"trim of {IMU}: {trim.hex()}")
        self._settled(self._imu_samples.configured(1e6 / icm20948.sample_rate(trim)))
        if columns != self._columns:
            self._columns = columns
            self._journal.describe(IMU_BLOCK, {"columns": columns})

    def state(self, source: str, state: int, reason: int, failures: int, ticks: int) -> None:
        """The state of a sensor (numbers of firmware/frames.py)."""
        why = show_state(self._snapshot, source, state, reason)
        detail = f"{frames.STATES[state]}{': ' if why else ''}{why}, {failures} failures"
        self.entries.append(event("sensor_state", source, detail, self._clock.boottime_ns(ticks)))
        if self._positions is not None and source == neo_m9n.SENSOR and state in (frames.ABSENT, frames.FAILED):
            self.entries += self._positions.missing(why or frames.STATES[state])
        if source == IMU and state in STOPPED:
            # A chip that is set up for the first time is no reason: whatever began anew has told its own.
            said = why or ("" if state == frames.CONFIGURING else frames.STATES[state])
            self.interrupted(said, Phase.ANEW if reason == POWER_ON_VALUES else Phase.TESTED)

    def gap(self, source: str, reason: str, count: int, ticks: int) -> None:
        """The reader says that `count` samples are missing before the next one (0: it cannot know). Of the IMU it is written when the
        samples behind it tell how many they are."""
        if source == IMU:
            self._date()
            self._settled(self._imu_samples.missing(reason, ticks))
            return
        at = self._clock.boottime_ns(ticks)
        self.entries.append(gap(source, reason, self.last.get(source, at), at, count))

    def interrupted(self, reason: str, phase: Phase) -> None:
        """The IMU does not deliver, or what it said is lost; when it does again, samples may be missing."""
        self._date()
        self._settled(self._imu_samples.interrupted(reason, phase))


def show(snapshot: Snapshot, at_ns: int, sensor: str, raw: bytes, typed: Calibrated) -> None:
    """One sample in the live view."""
    snapshot.values(at_ns, _new(typed.values), raw_numbers(sensor, raw), typed.corrected)


def show_state(snapshot: Snapshot, source: str, state: int, reason: int) -> str:
    """A state in the live view; the reason in words."""
    why = frames.REASONS[reason] if reason else ""
    snapshot.sensor(source, frames.STATES[state], why)
    return why


def _new(values: dict[str, float | str]) -> dict[str, float | str]:
    """The magnetometer has its own clock: a frame without a new sample of it leaves the one before standing."""
    return {quantity: value for quantity, value in values.items() if value != NO_NEW_SAMPLE}


def _columns(trim: bytes) -> str:
    """The `columns` metadata for this trim of the IMU, "" if it is none."""
    try:
        return block.describe(icm20948.columns(trim))
    except ValueError:
        return ""


def _fill(rows: Any, values: dict[str, float | str]) -> None:
    """Adds Value messages: a number or a reason."""
    for quantity, value in values.items():
        if isinstance(value, str):
            rows.add(quantity=quantity, reason=value)
        else:
            rows.add(quantity=quantity, number=value)
