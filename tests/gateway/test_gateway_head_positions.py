"""A receiver on the head: its NAV-PVT payloads become positions, in the batch of their frames."""

import struct
from pathlib import Path

import msgspec
import pytest
from gateway_recording import Bench, truck

from firmware import frames
from gateway.clock import boottime_ns
from gateway.config import Box, Gpsd, Receiver
from gateway.convert import Converter
from gateway.disk_trouble import DiskTrouble
from gateway.head_log import HeadLog
from gateway.head_positions import HeadPositions
from gateway.imu_times import HeadClock
from gateway.sources import Sources
from logbook.scan import chunk_messages, scan

pytestmark = pytest.mark.timeout(60)

# Real messages (project facts 1.11, pyubx2): 2021-12-04 11:34:59, 26 satellites; 2020-10-23 11:33:15, 15 satellites.
FIRST = bytes.fromhex(
    "08b56221e5070c040b223b371a0000003c7bfaff0303ea1ad928aafedceedb1f30640100cda60000d305000011080000f9ffffff0400000009000000"
    "08000000000000000301000080a8120165000000ee134f2f0000000000000000"
)
SECOND = bytes.fromhex(
    "c8c23a1ce4070a170b210f371100000038ce000003010a0f6c28aafec3ecdb1fb32701004f6a00009a180000a51f00001b000000fcffffff0b000000"
    "1b000000cac10b00cb020000ad973b0087000000e04a23000000000000000000"
)
NEO, BOOT = 9, 77
NOW = 10**15  # boot time of the head's tick 0
VERSION = b"EXT CORE 4.04 (7f89f7)"
UTC = 1_795_288_393_000_000_000  # 2026-11-21 19:13:13


def dated(raw: bytes) -> bytes:
    """`raw` of that moment, which can be true."""
    changed = bytearray(raw)
    struct.pack_into("<HBBBBB", changed, 4, 2026, 11, 21, 19, 13, 13)
    struct.pack_into("<i", changed, 16, 0)
    return bytes(changed)


class Head:
    """A head's frames into a HeadLog; its tick 0 was at boot time `started`."""

    def __init__(self, folder: Path, positions: bool = True, since_ns: int | None = None, started: int = NOW) -> None:
        self.bench = Bench(folder)
        own = HeadPositions(self.bench.clock, self.bench.snapshot, since_ns) if positions else None
        self.log = HeadLog(self.bench.journal, self.bench.snapshot, self.bench.clock, Converter(), positions=own)
        clock = HeadClock()
        clock.exchange(started, 0, started)
        self.log.hello(BOOT, {}, clock)
        self.sequence = 0
        self.add(frames.TRIM, bytes((NEO,)) + VERSION, 0)

    def add(self, kind: int, payload: bytes, ticks: int) -> None:
        self.sequence += 1
        self.log.add(frames.Frame(kind, BOOT, self.sequence, ticks, payload))

    def sample(self, raw: bytes, ticks: int) -> None:
        self.add(frames.SAMPLE, bytes((NEO, 1)) + raw, ticks)

    def state(self, state: int, reason: int, ticks: int) -> None:
        self.add(frames.STATE, struct.pack("<BBBH", NEO, state, reason, 1), ticks)


def test_a_fix_is_a_position_for_us_and_for_foxglove_and_the_payload_is_kept(tmp_path: Path) -> None:
    head = Head(tmp_path)
    for number, raw in enumerate((FIRST, SECOND)):
        head.sample(raw, 1_000_000 * (number + 1))
    assert head.log.commit()
    assert head.bench.clock.rejected == 2, "2021 and 2020: before this program was built"
    values = head.bench.snapshot.build()["values"]
    recording = head.bench.close()
    first, second = recording.decoded("/position")
    assert (first.valid, first.mode, first.raw, first.boottime_ns, first.utc_ns) == (True, 3, FIRST, NOW + 10**9, 0)
    assert (first.latitude, first.longitude, first.altitude) == pytest.approx((53.4507228, -2.2402855, 42.701), abs=1e-9)
    assert first.speed == pytest.approx(0.008) and not first.HasField("bearing") and first.horizontal_error == pytest.approx(1.491)
    assert (second.raw, second.altitude) == (SECOND, pytest.approx(27.215)) and second.bearing == pytest.approx(0.1344787, abs=1e-6)
    fixes = recording.decoded("/position/fix")
    assert [(fix.latitude, fix.longitude) for fix in fixes] == [(first.latitude, first.longitude), (second.latitude, second.longitude)]
    readings = recording.decoded("/reading/neo_m9n")
    assert [reading.raw for reading in readings] == [FIRST, SECOND]
    assert values["latitude"]["value"] == pytest.approx(53.4506691) and values["latitude"]["raw"] == "534506691"


def test_a_date_that_can_be_true_dates_the_boot(tmp_path: Path) -> None:
    started = boottime_ns() - 10 * 10**9
    head = Head(tmp_path, started=started)
    head.sample(dated(SECOND), 9_000_000)
    mapping = head.bench.clock.mapping(started + 9 * 10**9)
    assert (mapping.source, head.bench.clock.rejected) == ("gnss", 0) and abs(mapping.utc_ns - UTC) < 1_000_000
    assert head.log.commit()
    recording = head.bench.close()
    assert recording.decoded("/position")[0].utc_ns == UTC
    assert recording.decoded("/position/fix")[0].timestamp.ToNanoseconds() == UTC


def test_positions_stand_in_the_chunk_of_their_frames(tmp_path: Path) -> None:
    """What is sent again after a crash must not be there already."""
    head = Head(tmp_path)
    for batch in range(4):
        for number in range(3):
            head.sample(SECOND, 1_000_000 * (3 * batch + number + 1))
        assert head.log.commit()
        head.bench.readings.flush()
    recording = head.bench.close()
    told = []
    for path in recording.paths:
        data = path.read_bytes()
        found = scan(data)
        for chunk in found.chunks:
            topics = [found.channels[message.channel].topic for message in chunk_messages(data, chunk)]
            if "/position" in topics:
                told.append((topics.count("/position"), topics.count("/position/fix"), 3 * topics.count("/head/frames")))
    assert sum(count for count, _, _ in told) == 12 and all(len(set(counts)) == 1 for counts in told)


def test_without_a_fix_there_is_a_reason_and_no_fix(tmp_path: Path) -> None:
    head = Head(tmp_path)
    blind = bytearray(SECOND)
    blind[20] = 0
    head.sample(bytes(blind), 1_000_000)
    head.log.commit()
    assert head.bench.snapshot.build()["sensors"]["gnss"] == {"state": "degraded", "reason": "no fix"}
    recording = head.bench.close()
    (position,) = recording.decoded("/position")
    assert (position.valid, position.mode, position.reason) == (False, 1, "no fix") and recording.decoded("/position/fix") == []


def test_a_receiver_that_is_away_is_a_gap_of_the_positions(tmp_path: Path) -> None:
    started = boottime_ns() - 10 * 10**9
    head = Head(tmp_path, started=started)
    head.sample(SECOND, 1_000_000)
    head.state(frames.FAILED, 2, 4_000_000)
    head.sample(SECOND, 9_000_000)
    head.log.commit()
    recording = head.bench.close()
    (gap,) = recording.gaps("gnss")
    assert (gap.reason, gap.from_boottime_ns, gap.to_boottime_ns) == ("time-out", started + 10**9, started + 9 * 10**9)
    assert [event.detail for event in recording.events("source_lost") if event.source == "gnss"] == ["time-out"]


def test_a_receiver_that_stays_away_is_told_when_the_recorder_stops(tmp_path: Path) -> None:
    since = boottime_ns() - 60 * 10**9
    head = Head(tmp_path, since_ns=since)
    head.state(frames.ABSENT, 2, 1_000_000)
    head.log.commit()
    head.log.finish()
    head.log.commit()
    (gap,) = head.bench.close().gaps("gnss")
    assert (gap.from_boottime_ns, gap.reason) == (since, "time-out")


def test_a_head_without_a_receiver_misses_none(tmp_path: Path) -> None:
    head = Head(tmp_path, since_ns=1)
    head.log.finish()
    head.log.commit()
    recording = head.bench.close()
    assert recording.gaps("gnss") == [] and recording.decoded("/position") == []


def test_where_another_source_gives_positions_the_payload_is_only_a_reading(tmp_path: Path) -> None:
    head = Head(tmp_path, positions=False)
    head.sample(SECOND, 1_000_000)
    head.state(frames.FAILED, 2, 4_000_000)
    head.log.finish()
    head.log.commit()
    recording = head.bench.close()
    assert len(recording.decoded("/reading/neo_m9n")) == 1
    assert recording.decoded("/position") == [] and recording.gaps("gnss") == []


@pytest.mark.parametrize("other", [None, "gpsd", "receiver", "box"])
def test_the_heads_receiver_counts_where_the_configuration_names_no_other_source(tmp_path: Path, other: str | None) -> None:
    sources = {"gpsd": Gpsd(), "receiver": Receiver("/dev/null"), "box": Box("/dev/null")}
    config = truck(tmp_path, tmp_path / "head.tty")
    if other is not None:
        config = msgspec.structs.replace(config, **{other: sources[other]})
    bench = Bench(tmp_path)
    made = Sources(config, bench.clock, bench.journal, bench.snapshot, None, {}, {}, DiskTrouble(), lambda on: None)
    clock = HeadClock()
    clock.exchange(NOW, 0, NOW)
    made._log.hello(BOOT, {}, clock)
    made._log.add(frames.Frame(frames.SAMPLE, BOOT, 1, 1_000_000, bytes((NEO, 1)) + SECOND))
    assert made._log.commit()
    assert len(bench.close().decoded("/position")) == (1 if other is None else 0)
