"""From the head's frames to messages in the journal: half a second of frames becomes one batch (why it cannot be torn: journal.py).

A batch holds one column block of all IMU samples, typed IMU values ten times a second, one Reading per slow sample, what the head
says of itself and of its sensors, and at its end the one HeadFrames message that names the frames."""

import json
import struct
from collections import deque
from collections.abc import Collection
from typing import Any

import numpy as np

from drivers import icm20948, neo_m9n
from drivers.errors import POWER_ON_VALUES
from firmware import frames
from gateway.clock import Clock, boottime_ns
from gateway.convert import IMU, IMU_AT_ONCE, IMU_TRIM, BadSample, Converter, Samples, imu_rows, raw_numbers, split_payload
from gateway.head_positions import HeadPositions
from gateway.imu_gaps import ImuSamples, Phase, Settled, Times
from gateway.imu_times import HeadClock
from gateway.journal import Entry, Journal, event, gap
from gateway.snapshot import Snapshot
from logbook import block
from logbook.channels import HEAD_FRAMES, HEALTH, IMU_BLOCK, TRIM, reading_topic
from logbook.channels import IMU as IMU_TOPIC
from logbook.schemas import cruisers_pb2 as pb

TYPED_NS = 95_000_000  # /imu ten times a second, from drains that come every 50 ms, give or take
HEAD = "head"
NO_NEW_SAMPLE = "no new sample"
STOPPED = (frames.ABSENT, frames.CONFIGURING, frames.FAILED)  # states in which a chip does not deliver and is started again
HEALTH_COUNTERS = ("heap_free", "ring_used", "ring_dropped", "longest_loop_us", "uptime_s", "refused")
IMU_NUMBER = bytes(number for number, sensor in frames.SENSORS.items() if sensor == IMU)
_HEALTH = struct.Struct("<6I")
_STATE = struct.Struct("<BBBH")
_GAP = struct.Struct("<BBI")


class HeadLog:
    """Collects the frames that the link has accepted; `commit()` writes them as one batch. One thread.

    `trims()` (any thread) are the messages to restate at the start of a segment. `known` are the head's boots of which a recorder before
    this one has frames, `since_ns` is the boot time of the newest of these, `imu_since_ns` that of the newest IMU sample (0: there is
    none in this boot of the kernel). `positions` make the truck's positions of a receiver on the head; None: another source does."""

    def __init__(
        self,
        journal: Journal,
        snapshot: Snapshot,
        clock: Clock,
        converter: Converter,
        known: Collection[int] = (),
        since_ns: int = 0,
        imu_since_ns: int = 0,
        positions: HeadPositions | None = None,
    ) -> None:
        self._journal = journal
        self._snapshot = snapshot
        self._utc = clock
        self._positions = positions
        self._converter = converter
        self._boot = 0
        self._clock = HeadClock()
        self._imu_samples = ImuSamples(self._clock, last_ns=imu_since_ns)
        self._trims: tuple[Entry, ...] = ()
        self._typed_ns = 0
        self._known = frozenset(known)
        self._last: dict[str, int] = {HEAD: since_ns} if since_ns else {}  # boot time of the newest sample or frame, by source
        self._entries: list[Entry] = []
        self._rows: list[np.ndarray] = []
        self._times: list[np.ndarray] = []
        self._drain: list[bytes] = []  # IMU samples of a drain that goes on in the next frame: they are dated together
        self._drain_ticks = 0
        self._undated: deque[list[bytes]] = deque()  # drains behind a gap, until it is decided how many samples that is
        self._first = self._newest = 0
        self.frames = 0  # in the batch
        self.malformed = 0
        self._columns = ""
        self._describe(IMU_TRIM)

    # --- what the link tells

    def hello(self, boot: int, fields: dict[str, Any], clock: HeadClock) -> None:
        """The head answered: `clock` places the ticks of this `boot`. The batch of another boot must have been committed."""
        if boot != self._boot:
            since = self._last.get(HEAD, self._clock.boottime_ns(0) if self._boot else None)
            reason = f"head restarted ({fields.get('reset_cause', 'unknown cause')})"
            if since is not None and boot not in self._known:
                self._last[HEAD] = max(since, clock.boottime_ns(0))
                self._entries.append(gap(HEAD, reason, since, self._last[HEAD]))
            if not self._boot and boot in self._known:
                self._imu_samples.resume(clock)
            else:
                self._settled(self._imu_samples.reboot(clock, reason))
            self._boot = boot
            self._clock = clock
            self._converter.forget()
            self._snapshot.head(None)
            # what the head is, in the record of what it measured: firmware, runtime, unit, why it started
            self._entries.append(event("head_identity", HEAD, json.dumps(fields)))
        self._converter.unit = str(fields.get("unique_id", ""))
        self._snapshot.head({**fields, "boot": boot})

    def has_way(self, frame: frames.Frame) -> bool:
        """Whether `frame` can be added now. Another range of the IMU cannot stand in a batch with the samples of the one before (the
        file says once how to read its columns): they are committed first, which a stalled disk may refuse."""
        if frame.type != frames.TRIM or not (self._rows or self._drain or self._undated) or frame.payload[:1] != IMU_NUMBER:
            return True
        return _columns(frame.payload[1:]) == self._columns or self.commit()

    def add(self, frame: frames.Frame) -> None:
        """A frame that follows the one before (or a frame without number: TRIM after HELLO), and that `has_way`."""
        if frame.sequence:
            self._first = self._first or frame.sequence
            self._newest = frame.sequence
            self.frames += 1
            self._snapshot.count("head_frames")
        self._read(frame)
        if frame.sequence:
            self._last[HEAD] = self._clock.boottime_ns(frame.ticks)

    def missing(self, first: int, last: int, reason: str, frame: frames.Frame) -> None:
        """The frames `first`..`last` of this boot will never come; `frame` is the one behind them."""
        to = self._clock.boottime_ns(frame.ticks)
        since = self._last.get(HEAD, min(to, max(0, self._clock.boottime_ns(0))))
        self._entries.append(gap(HEAD, reason, min(since, to), to, last - first + 1))
        self._date()
        # What else the frames may have told is lost with them: whether the chip went on is seen from its samples.
        self._settled(self._imu_samples.interrupted(reason, Phase.TESTED))

    # --- the batch

    @property
    def undecided(self) -> bool:
        """Whether a commit should wait a little, for the next drains to tell how many IMU samples a gap is."""
        return self._imu_samples.undecided

    def commit(self) -> bool:
        """Writes the batch; False (and the batch stays) while the disk stalls and memory is nearly full."""
        if not self.frames and not self._entries:
            return True
        if not self._journal.has_room():
            return False
        self._date()
        self._settled(self._imu_samples.settle())
        batch = [*self._blocks(), *self._entries]
        token = None
        if self.frames:
            token = (self._boot, self._newest)
            named = pb.HeadFrames(head_boot=self._boot, first_sequence=self._first, last_sequence=self._newest)
            batch.append(Entry(HEAD_FRAMES, self._last.get(HEAD, boottime_ns()), named.SerializeToString()))
        if not self._journal.write(batch, token):
            return False
        self._entries, self._rows, self._times = [], [], []
        self._first = self._newest = self.frames = 0
        return True

    def finish(self) -> None:
        """The recorder stops: what is missing is told as it stands, in the batch that follows."""
        if self._positions is not None:
            self._entries += self._positions.finish()

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

    # --- one frame

    def _read(self, frame: frames.Frame) -> None:
        try:
            if frame.type == frames.SAMPLE:
                self._sample(frame, split_payload(frame.payload, frames.SENSORS))
            elif frame.type == frames.TRIM:
                self._trim(frame)
            elif frame.type == frames.STATE:
                self._state(frame)
            elif frame.type == frames.GAP:
                self._gap(frame)
            elif frame.type == frames.HEALTH:
                self._health(frame)
            else:
                raise BadSample(f"unknown frame type {frame.type:#04x}")
        except (BadSample, struct.error, KeyError, IndexError) as error:
            # Its CRC is right, so head and gateway disagree about the format: kept as an event, with the bytes.
            self.malformed += 1
            at = self._clock.boottime_ns(frame.ticks)
            self._entries.append(event("malformed_frame", HEAD, f"{error}: type {frame.type:#04x} {bytes(frame.payload).hex()}", at))

    def _sample(self, frame: frames.Frame, samples: Samples) -> None:
        self._snapshot.count(f"samples.{samples.sensor}", len(samples.raw))
        if samples.sensor == IMU:
            self._imu(frame, samples.raw)
            return
        at = self._clock.boottime_ns(frame.ticks)
        for raw in samples.raw:
            typed = self._converter.typed(samples.sensor, raw, self._utc.utc_ns(at))
            reading = pb.Reading(
                sensor=samples.sensor, head_boot=frame.boot, sequence=frame.sequence, boottime_ns=at, raw=raw, profile=typed.profile
            )
            _fill(reading.values, typed.values)
            self._entries.append(Entry(reading_topic(samples.sensor), at, reading.SerializeToString()))
            self._snapshot.values(at, typed.values, raw_numbers(samples.sensor, raw), typed.corrected)
            if self._positions is not None and samples.sensor == neo_m9n.SENSOR:
                self._entries += self._positions.take(self._converter.trims.get(samples.sensor, b""), raw, at)
        self._last[samples.sensor] = at

    def _imu(self, frame: frames.Frame, raw: list[bytes]) -> None:
        """Frames of one drain carry the same ticks; all but the last of them are full, the last may be."""
        if frame.ticks != self._drain_ticks:
            self._date(whole=True)
        self._drain += raw
        self._drain_ticks = frame.ticks
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
                self._entries.append(gap(IMU, missing.reason, missing.from_ns, missing.to_ns, missing.samples))
            elif missing is not None:
                self._entries.append(event("nothing_missing", IMU, missing.reason, missing.to_ns))
            if len(times):
                self._dated(self._undated.popleft(), times)

    def _dated(self, raw: list[bytes], times: Times) -> None:
        self._rows.append(imu_rows(raw))
        self._times.append(times)
        newest = int(times[-1])
        self._last[IMU] = newest
        if newest - self._typed_ns < TYPED_NS:
            return
        self._typed_ns = newest
        typed = self._converter.typed(IMU, raw[-1], self._utc.utc_ns(newest))
        # The magnetometer has its own clock: a frame without a new sample of it leaves the one before standing.
        values = {quantity: value for quantity, value in typed.values.items() if value != NO_NEW_SAMPLE}
        message = pb.Imu(boottime_ns=newest)
        _fill(message.values, values)
        self._entries.append(Entry(IMU_TOPIC, newest, message.SerializeToString()))
        self._snapshot.values(newest, values, raw_numbers(IMU, raw[-1]), typed.corrected)

    def _trim(self, frame: frames.Frame) -> None:
        sensor, trim = frames.SENSORS[frame.payload[0]], bytes(frame.payload[1:])
        changed = self._converter.trim(sensor, trim)
        if not changed and not frame.sequence:
            return
        at = self._clock.boottime_ns(frame.ticks)
        entry = Entry(TRIM, at, pb.Trim(sensor=sensor, head_boot=frame.boot, trim=trim).SerializeToString())
        self._entries.append(entry)
        by_sensor = {pb.Trim.FromString(old.data).sensor: old for old in self._trims}
        self._trims = tuple({**by_sensor, sensor: entry}.values())
        if sensor == IMU and changed:
            self._describe(trim)

    def _describe(self, trim: bytes) -> None:
        """How to read the columns from here on; the batch is empty of samples where that changes (`has_way`)."""
        columns = _columns(trim)
        if not columns:
            raise BadSample(f"trim of {IMU}: {trim.hex()}")
        self._settled(self._imu_samples.configured(1e6 / icm20948.sample_rate(trim)))
        if columns != self._columns:
            self._columns = columns
            self._journal.describe(IMU_BLOCK, {"columns": columns})

    def _state(self, frame: frames.Frame) -> None:
        number, state, reason, failures = _STATE.unpack(frame.payload)
        sensor = _source(number)
        why = frames.REASONS[reason] if reason else ""
        self._snapshot.sensor(sensor, frames.STATES[state], why)
        detail = f"{frames.STATES[state]}{': ' if why else ''}{why}, {failures} failures"
        self._entries.append(event("sensor_state", sensor, detail, self._clock.boottime_ns(frame.ticks)))
        if self._positions is not None and sensor == neo_m9n.SENSOR and state in (frames.ABSENT, frames.FAILED):
            self._entries += self._positions.missing(why or frames.STATES[state])
        if sensor == IMU and state in STOPPED:
            self._date()
            phase = Phase.ANEW if reason == POWER_ON_VALUES else Phase.TESTED
            self._settled(self._imu_samples.interrupted(why or frames.STATES[state], phase))

    def _gap(self, frame: frames.Frame) -> None:
        number, reason, count = _GAP.unpack(frame.payload)
        source, at = _source(number), self._clock.boottime_ns(frame.ticks)
        if reason == frames.RING_FULL:  # the hole in the numbering tells the same, with the exact count
            self._entries.append(event("ring_full", source, f"the head dropped {count} frames", at))
            return
        if source == IMU:  # written when the samples behind it tell how many are missing
            self._date()
            self._settled(self._imu_samples.missing(frames.REASONS[reason], frame.ticks))
            return
        self._entries.append(gap(source, frames.REASONS[reason], self._last.get(source, at), at, count))

    def _health(self, frame: frames.Frame) -> None:
        at = self._clock.boottime_ns(frame.ticks)
        counters = dict(zip(HEALTH_COUNTERS, _HEALTH.unpack(frame.payload), strict=True))
        message = pb.Health(source=HEAD, boottime_ns=at, counters={name: float(value) for name, value in counters.items()})
        self._entries.append(Entry(HEALTH, at, message.SerializeToString()))
        self._snapshot.head(counters)


def _columns(trim: bytes) -> str:
    """The `columns` metadata for this trim of the IMU, "" if it is none."""
    try:
        return json.dumps(icm20948.columns(trim))
    except ValueError:
        return ""


def _source(number: int) -> str:
    return HEAD if number == 0 else frames.SENSORS[number]


def _fill(rows: Any, values: dict[str, float | str]) -> None:
    """Adds Value messages: a number or a reason."""
    for quantity, value in values.items():
        if isinstance(value, str):
            rows.add(quantity=quantity, reason=value)
        else:
            rows.add(quantity=quantity, number=value)
