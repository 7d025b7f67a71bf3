"""The gateway's side of a soak: the head's frames go through the gateway's own log, and everything that it would write is counted."""

import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firmware import frames
from gateway.clock import Clock
from gateway.convert import Converter
from gateway.head import TAKE, Intake
from gateway.head_log import HeadLog
from gateway.imu_times import HeadClock
from gateway.journal import Entry
from gateway.live import LiveSender
from gateway.snapshot import Snapshot
from logbook import block
from logbook.channels import GAP, HEAD_FRAMES, IMU_BLOCK
from logbook.schemas import cruisers_pb2 as pb

US = 1_000  # ns
SECOND = 1_000_000  # µs
BATCH_US = 500_000
PING_US = SECOND
ASK_US = 6 * SECOND  # the first HELLO?, after some PINGs
IMU = "icm20948"


class _Journal:
    """A disk that is always there: what a batch holds is counted and forgotten, so an hour fits in memory; of the IMU's samples the times
    are kept, and the acceleration along x."""

    def __init__(self) -> None:
        self.imu_times: list[int] = []  # ns
        self.imu_codes: list[int] = []  # raw
        self.missing: Counter[str] = Counter()  # samples by source
        self.gaps: list[pb.Gap] = []
        self.last_ns = 0
        self.readings: Counter[str] = Counter()
        self.numbers = 0
        self.reasons: Counter[str] = Counter()
        self.durable = 0

    def has_room(self) -> bool:
        return True

    def describe(self, topic: str, metadata: dict[str, str]) -> None:
        pass

    def write(self, entries: Sequence[Entry], token: object = None) -> bool:
        for entry in entries:
            if entry.topic == IMU_BLOCK:
                _, times, columns = block.decode(entry.data)
                assert int(times[0]) > self.last_ns and all(times[1:] > times[:-1]), "times must rise"
                self.last_ns = int(times[-1])
                self.imu_times += times.tolist()
                self.imu_codes += columns[:, 0].tolist()
            elif entry.topic == GAP:
                gap = pb.Gap.FromString(entry.data)
                self.gaps.append(gap)
                self.missing[gap.source] += gap.count
            elif entry.topic.startswith("/reading/"):
                reading = pb.Reading.FromString(entry.data)
                self.readings[reading.sensor] += 1
                for value in reading.values:
                    if value.WhichOneof("result") == "reason":
                        self.reasons[f"{reading.sensor}: {value.reason}"] += 1
                    else:
                        self.numbers += 1
            elif entry.topic == HEAD_FRAMES:
                self.durable = pb.HeadFrames.FromString(entry.data).last_sequence
        return True


class SoakedGateway:
    """Answers a head in virtual time as gateway/head.py does: PING, HELLO?, ACK. `journal` has the counts."""

    def __init__(self, folder: Path) -> None:
        self.journal = _Journal()
        self._sender = LiveSender(folder / "live.sock")
        utc = Clock(system=lambda: None)
        self._snapshot = Snapshot("truck-1", "soak", utc, self._sender)
        self._log = HeadLog(self.journal, self._snapshot, utc, Converter())  # type: ignore[arg-type]
        self._intake = Intake({})
        self._clock = HeadClock()
        self._pinged = -PING_US
        self._committed = 0
        self._asked = self._greeted = False
        self.heap_free: list[tuple[int, int]] = []  # (µs, bytes)
        self.uptime_s = 0
        self.ring_dropped = 0
        self.states: list[tuple[int, str, str, str]] = []  # µs, sensor, state, reason

    def close(self) -> None:
        """Writes what is left."""
        assert self._log.commit()
        self._sender.close()

    def turn(self, found: list[frames.Frame], now_us: int) -> bytes:
        """Takes the frames that came; returns what goes to the head."""
        answer = b""
        for frame in found:
            answer += self._take(frame, now_us)
        if now_us - self._committed >= BATCH_US:
            self._committed = now_us
            if self._greeted and self._log.commit():
                answer += _command(frames.ACK, self._intake.boot, self.journal.durable)
        if now_us - self._pinged >= PING_US:
            self._pinged = now_us
            answer += frames.pack(frames.PING, 0, 0, 0, 0, struct.pack("<Q", now_us))
        if not self._asked and now_us >= ASK_US:
            self._asked = True
            answer += _command(frames.HELLO_REQUEST, 0, 0)
        return answer

    def _take(self, frame: frames.Frame, now_us: int) -> bytes:
        if frame.type == frames.PONG:
            (sent_us,) = struct.unpack("<Q", frame.payload)
            self._clock.exchange(sent_us * US, frame.ticks, now_us * US)
        elif frame.type == frames.HELLO:
            if self._asked:
                fields: dict[str, Any] = {}
                self._log.hello(frame.boot, fields, self._clock)
                self._intake.hello(frame.boot, 1)
                self._greeted = True
        elif not frame.sequence:
            if self._greeted:
                self._log.add(frame)
        elif self._intake.decide(frame.boot, frame.sequence) == TAKE:
            assert self._intake.hole is None, f"frames are missing: {self._intake.hole}"
            self._note(frame, now_us)
            assert self._log.has_way(frame)
            self._log.add(frame)
        return b""

    def _note(self, frame: frames.Frame, now_us: int) -> None:
        if frame.type == frames.HEALTH:
            free, _, dropped, _, uptime, _ = struct.unpack("<6I", frame.payload)
            self.heap_free.append((now_us, free))
            self.uptime_s, self.ring_dropped = uptime, dropped
        elif frame.type == frames.STATE:
            number, state, reason, _ = struct.unpack("<BBBH", frame.payload)
            self.states.append((now_us, frames.SENSORS[number], frames.STATES[state], frames.REASONS[reason]))


def _command(kind: int, boot: int, sequence: int) -> bytes:
    return frames.pack(kind, 0, 0, 0, 0, struct.pack("<II", boot, sequence))
