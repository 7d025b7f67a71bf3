"""From the head's frames to messages in the journal: half a second of frames becomes one batch (why it cannot be torn: journal.py).

A batch holds what the chips delivered (chip_log.py), what the head says of itself, and at its end the one HeadFrames message that names
the frames."""

import copy
import json
from collections.abc import Collection, Mapping
from typing import Any

from firmware import frames
from gateway.chip_log import ChipLog, show_state
from gateway.clock import Clock, boottime_ns
from gateway.convert import IMU, BadSample, Converter, split_payload
from gateway.head_live import HEAD, MALFORMED, HeadLive, health, missing, state
from gateway.head_positions import HeadPositions
from gateway.head_states import HeadStates, Told
from gateway.imu_gaps import Phase
from gateway.imu_times import HeadClock
from gateway.journal import Entry, Journal, event, gap
from gateway.snapshot import Snapshot
from logbook.channels import HEAD_FRAMES, HEALTH
from logbook.schemas import cruisers_pb2 as pb

IMU_NUMBER = bytes(number for number, sensor in frames.SENSORS.items() if sensor == IMU)


def cause(hello: Mapping[str, Any]) -> str:
    """Why the head started, as far as it says: the chip's word, the program's where it reset itself, and the number of the start."""
    marker, count = hello.get("marker"), hello.get("boot_count")
    words = str(hello.get("reset_cause", "unknown cause")) + (f": {marker}" if marker else "")
    return words + (f", start {count}" if count else "")


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
        self._chips = ChipLog(journal, snapshot, clock, converter, imu_since_ns, positions)
        self._states = HeadStates()
        self._boot = 0
        self._clock = HeadClock()
        self._known = frozenset(known)
        if since_ns:
            self._chips.last[HEAD] = since_ns  # of the newest frame
        self._first = self._newest = 0
        self.frames = 0  # in the batch
        self.malformed = 0

    # --- what the link tells

    def hello(self, boot: int, fields: dict[str, Any], clock: HeadClock, because: str = "") -> None:
        """The head answered: `clock` places the ticks of this `boot`. The batch of another boot must have been committed. `because`: why
        frames of that one may be missing, beside its end."""
        if boot != self._boot:
            since = self._chips.last.get(HEAD, self._clock.boottime_ns(0) if self._boot else None)
            reason = "; ".join(filter(None, (because, f"head restarted ({cause(fields)})")))
            if since is not None and boot not in self._known:
                self._chips.last[HEAD] = max(since, clock.boottime_ns(0))
                self._chips.entries.append(gap(HEAD, reason, since, self._chips.last[HEAD]))
            if not self._boot and boot in self._known:
                self._chips.resume(boot, clock)
            else:
                self._chips.reboot(boot, clock, reason)
            self._boot = boot
            self._clock = clock
            self._states.begin()
            self._snapshot.head(None)
            # what the head is, in the record of what it measured: firmware, runtime, unit, why it started
            self._chips.entries.append(event("head_identity", HEAD, json.dumps(fields)))
        self._converter.unit = str(fields.get("unique_id", ""))
        self._snapshot.head({**fields, "boot": boot})

    def has_way(self, frame: frames.Frame) -> bool:
        """Whether `frame` can be added now. Another range of the IMU cannot stand in a batch with the samples of the one before: they are
        committed first, which a stalled disk may refuse."""
        if frame.type != frames.TRIM or frame.payload[:1] != IMU_NUMBER:
            return True
        return self._chips.takes(frame.payload[1:]) or self.commit()

    def add(self, frame: frames.Frame) -> None:
        """A frame that follows the one before (or a frame without number: TRIM and STATE after HELLO), and that `has_way`."""
        if frame.sequence:
            for told in self._states.due(frame.ticks):
                self._chips.state(*told)
            self._first = self._first or frame.sequence
            self._newest = frame.sequence
            self.frames += 1
            self._snapshot.count("head_frames")
        self._read(frame)
        if frame.sequence:
            self._chips.last[HEAD] = self._clock.boottime_ns(frame.ticks)

    def missing(self, first: int, last: int, reason: str, frame: frames.Frame) -> None:
        """The frames `first`..`last` of this boot will never come; `frame` is the one behind them."""
        to = self._clock.boottime_ns(frame.ticks)
        since = self._chips.last.get(HEAD, min(to, max(0, self._clock.boottime_ns(0))))
        self._chips.entries.append(gap(HEAD, reason, min(since, to), to, last - first + 1))
        # What else the frames may have told is lost with them: whether the chip went on is seen from its samples.
        self._states.lost()
        self._chips.interrupted(reason, Phase.TESTED)

    def live(self) -> HeadLive:
        """For frames that are shown now, and added when they come again."""
        return HeadLive(self._snapshot, self._utc, copy.deepcopy(self._converter))

    # --- the batch

    @property
    def undecided(self) -> bool:
        """Whether a commit should wait a little, for the next drains to tell how many IMU samples a gap is."""
        return self._chips.undecided

    def commit(self) -> bool:
        """Writes the batch; False (and the batch stays) while the disk stalls and memory is nearly full."""
        if not self.frames and not self._chips.entries:
            return True
        if not self._journal.has_room():
            return False
        batch = self._chips.batch()
        token = None
        if self.frames:
            token = (self._boot, self._newest)
            named = pb.HeadFrames(head_boot=self._boot, first_sequence=self._first, last_sequence=self._newest)
            batch.append(Entry(HEAD_FRAMES, self._chips.last.get(HEAD, boottime_ns()), named.SerializeToString()))
        if not self._journal.write(batch, token):
            return False
        self._chips.written()
        self._first = self._newest = self.frames = 0
        return True

    def finish(self) -> None:
        """The recorder stops: what is missing is told as it stands, in the batch that follows."""
        if self._positions is not None:
            self._chips.entries += self._positions.finish()

    def trims(self) -> tuple[Entry, ...]:
        """The trims as last told."""
        return self._chips.trims()

    # --- one frame

    def _read(self, frame: frames.Frame) -> None:
        try:
            if frame.type == frames.SAMPLE:
                self._chips.sample(split_payload(frame.payload, frames.SENSORS), frame.ticks, frame.sequence)
            elif frame.type == frames.TRIM:
                sensor, trim = frames.SENSORS[frame.payload[0]], bytes(frame.payload[1:])
                self._chips.trim(sensor, trim, frame.ticks, restated=not frame.sequence)
            elif frame.type == frames.STATE:
                self._state(frame)
            elif frame.type == frames.GAP:
                self._gap(frame)
            elif frame.type == frames.HEALTH:
                self._health(frame)
            else:
                raise BadSample(f"unknown frame type {frame.type:#04x}")
        except MALFORMED as error:  # kept as an event, with the bytes
            self.malformed += 1
            at = self._clock.boottime_ns(frame.ticks)
            self._chips.entries.append(event("malformed_frame", HEAD, f"{error}: type {frame.type:#04x} {bytes(frame.payload).hex()}", at))

    def _state(self, frame: frames.Frame) -> None:
        source, now, reason, failures = state(frame.payload)
        if not frame.sequence:
            show_state(self._snapshot, source, now, reason)
            self._states.present(Told(source, now, reason, failures, frame.ticks))
            return
        if self._states.changed(source, now, reason):
            self._chips.state(source, now, reason, failures, frame.ticks)
        present = self._states.standing(source, frame.ticks)
        if present is not None:  # the change is history that comes out of the ring
            show_state(self._snapshot, source, present.state, present.reason)

    def _gap(self, frame: frames.Frame) -> None:
        source, reason, count = missing(frame.payload)
        if reason == frames.RING_FULL:  # the hole in the numbering tells the same, with the exact count
            at = self._clock.boottime_ns(frame.ticks)
            self._chips.entries.append(event("ring_full", source, f"the head dropped {count} frames", at))
            return
        self._chips.gap(source, frames.REASONS[reason], count, frame.ticks)

    def _health(self, frame: frames.Frame) -> None:
        at = self._clock.boottime_ns(frame.ticks)
        counters = health(frame.payload)
        message = pb.Health(source=HEAD, boottime_ns=at, counters={name: float(value) for name, value in counters.items()})
        self._chips.entries.append(Entry(HEALTH, at, message.SerializeToString()))
        self._snapshot.head(counters)
