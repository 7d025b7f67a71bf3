"""What the log makes of single frames, and why a batch cannot be torn."""

import json
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from gateway_head import SHT45_RAW, imu_raw
from gateway_recording import Bench

from drivers import icm20948
from firmware import frames
from gateway.clock import boottime_ns
from gateway.convert import IMU_AT_ONCE, IMU_TRIM, Converter
from gateway.head_log import HeadLog
from gateway.imu_times import HeadClock
from gateway.journal import Entry
from logbook import block, reader
from logbook.scan import chunk_messages, scan
from logbook.schemas import cruisers_pb2 as pb

pytestmark = pytest.mark.timeout(60)

BOOT = 77
NOW = 10**15
SECOND = 10**9


class Logging:
    """A HeadLog on a bench whose head's tick 0 was at boot time NOW."""

    def __init__(self, folder: Path, known: Collection[int] = (), since_ns: int = 0, imu_since_ns: int = 0) -> None:
        self.bench = Bench(folder)
        self.log = HeadLog(self.bench.journal, self.bench.snapshot, self.bench.clock, Converter(), known, since_ns, imu_since_ns)
        self.sequence = 0
        self.greet(BOOT)

    def greet(self, boot: int, started: int = NOW, more: Mapping[str, object] | None = None) -> None:
        clock = HeadClock()
        clock.exchange(started, 0, started)
        self.boot = boot
        self.log.hello(boot, {"unique_id": "u", "reset_cause": "watchdog", "oldest": 1, **(more or {})}, clock)

    def add(self, kind: int, payload: bytes, ticks: int = 1_000_000, numbered: bool = True) -> frames.Frame:
        self.sequence += numbered
        frame = frames.Frame(kind, self.boot, self.sequence if numbered else 0, ticks, payload)
        assert self.log.has_way(frame)
        self.log.add(frame)
        return frame

    def imu(self, first: int, count: int, ticks: int) -> None:
        self.add(frames.SAMPLE, bytes((1, count)) + b"".join(imu_raw(first + index) for index in range(count)), ticks)


@pytest.fixture
def logging(tmp_path: Path) -> Logging:
    return Logging(tmp_path)


def test_each_chunk_has_the_data_and_the_record_of_the_same_frames(logging: Logging) -> None:
    """The requirement of acknowledging: in no chunk stands one without the other, whoever else writes meanwhile."""
    for batch in range(6):
        for drain in range(10):
            logging.imu((batch * 10 + drain) * 5, 5, 50_000 * (batch * 10 + drain + 1))
        assert logging.log.commit()
        logging.bench.journal.write([Entry("/event", NOW, pb.Event(kind="noise").SerializeToString())])
        logging.bench.readings.flush()
    recording = logging.bench.close()
    samples_by_chunk: list[tuple[int, int]] = []
    for path in recording.paths:
        data = path.read_bytes()
        found = scan(data)
        for chunk in found.chunks:
            frames_named = samples = 0
            for message in chunk_messages(data, chunk):
                topic = found.channels[message.channel].topic
                if topic == "/head/frames":
                    named = pb.HeadFrames.FromString(message.data)
                    frames_named += named.last_sequence - named.first_sequence + 1
                elif topic == "/imu/block":
                    samples += len(block.decode(message.data)[1])
            samples_by_chunk.append((frames_named, samples))
    assert sum(frames_named for frames_named, _ in samples_by_chunk) == 60
    assert all(samples == 5 * frames_named for frames_named, samples in samples_by_chunk)


def test_the_token_of_a_batch_is_its_boot_and_last_sequence(logging: Logging) -> None:
    logging.imu(0, 5, 50_000)
    logging.imu(5, 5, 100_000)
    assert logging.log.commit() and logging.log.frames == 0
    assert logging.log.commit()  # nothing to write, nothing written
    recording = logging.bench.close()
    assert logging.bench.durable == [(BOOT, 2)]
    assert recording.resume == {BOOT: 2}


def test_a_batch_that_the_disk_cannot_take_stays(logging: Logging, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.imu(0, 5, 50_000)
    monkeypatch.setattr(logging.bench.journal, "has_room", lambda: False)
    assert not logging.log.commit() and logging.log.frames == 1
    monkeypatch.undo()
    monkeypatch.setattr(logging.bench.readings, "write_group", lambda entries, token=None: False)
    assert not logging.log.commit() and logging.log.frames == 1
    monkeypatch.undo()
    assert logging.log.commit()
    assert logging.bench.close().imu_numbers == [0, 1, 2, 3, 4]


def test_samples_that_span_more_than_a_block_can_become_several(logging: Logging) -> None:
    """The ring after a long outage comes at once: 20 s in one batch."""
    for drain in range(400):
        logging.imu(drain * 5, 5, 48_890 * (drain + 1))
    assert logging.log.commit()
    recording = logging.bench.close()
    assert len(recording.messages["/imu/block"]) >= 4
    assert recording.imu_numbers == list(range(2_000))
    assert len(recording.messages["/head/frames"]) == 1


def test_the_samples_of_a_first_drain_that_fills_several_frames_are_an_interval_apart(logging: Logging) -> None:
    """After an outage the first drain may hold 22 samples: two full frames and 2 with the same ticks."""
    for first, count in ((0, IMU_AT_ONCE), (IMU_AT_ONCE, IMU_AT_ONCE), (2 * IMU_AT_ONCE, 2)):
        logging.imu(first, count, 1_000_000)
    assert logging.log.commit()
    (message,) = logging.bench.close().messages["/imu/block"]
    _, times, columns = block.decode(message.data)
    assert len(columns) == 2 * IMU_AT_ONCE + 2
    steps = [int(step) for step in times[1:] - times[:-1]]
    assert min(steps) > 9_000_000 and max(steps) < 10_500_000
    assert NOW + 980_000_000 < int(times[-1]) <= NOW + 1_000_000_000, "before the drain, by its reading and less than an interval"


def test_a_slow_sample_is_stored_raw_and_typed_at_its_own_time(logging: Logging) -> None:
    logging.add(frames.TRIM, bytes((3,)) + bytes.fromhex("0a0b0c0d"))
    logging.add(frames.SAMPLE, bytes((3, 1)) + SHT45_RAW, ticks=2_500_000)
    logging.log.commit()
    (reading,) = logging.bench.close().decoded("/reading/sht45")
    assert (reading.sensor, reading.head_boot, reading.sequence, reading.raw) == ("sht45", BOOT, 2, SHT45_RAW)
    assert reading.boottime_ns == NOW + 2_500_000_000 and reading.profile == ""
    values = {value.quantity: value.number for value in reading.values}
    assert values == {"temperature": pytest.approx(298.15267, abs=1e-4), "humidity": pytest.approx(56.50095, abs=1e-4)}


def test_typed_imu_values_come_ten_times_a_second_with_the_last_magnetometer(logging: Logging) -> None:
    logging.add(frames.TRIM, bytes((1,)) + IMU_TRIM)
    for drain in range(40):
        logging.imu(drain * 5, 5, 50_000 * (drain + 1))
    logging.log.commit()
    recording = logging.bench.close()
    assert 18 <= len(recording.decoded("/imu")) <= 21  # 2 s
    assert {value.quantity for value in recording.decoded("/imu")[0].values} >= {"acceleration_z", "angular_rate_x", "magnetic_field_y"}
    assert logging.bench.snapshot.counts()["samples.icm20948"] == 200


def test_a_frame_without_a_new_magnetometer_sample_leaves_the_one_before(logging: Logging) -> None:
    logging.add(frames.TRIM, bytes((1,)) + IMU_TRIM)
    logging.imu(0, 1, 100_000)
    stale = bytearray(imu_raw(1))
    stale[14] = 0  # ST1
    stale[15] ^= 0xFF
    logging.add(frames.SAMPLE, bytes((1, 1)) + bytes(stale), 300_000)
    value = logging.bench.snapshot.build()["values"]["magnetic_field_x"]
    assert value["value"] == pytest.approx(30e-6) and value["reason"] is None
    logging.bench.close()


def test_trims_are_restated_and_another_imu_range_describes_its_columns_in_a_new_segment(logging: Logging) -> None:
    logging.add(frames.TRIM, bytes((1,)) + IMU_TRIM)
    logging.imu(0, 5, 50_000)
    logging.log.commit()
    wide = bytes((0x1F, 0x1B, 0, 10, 10))  # ±16 g
    logging.imu(5, 5, 100_000)  # still in the batch, sampled with the range before
    logging.add(frames.TRIM, bytes((1,)) + wide)
    logging.imu(10, 5, 150_000)
    logging.log.commit()
    recording = logging.bench.close()
    assert [trim.trim for trim in map(lambda entry: pb.Trim.FromString(entry.data), logging.log.trims())] == [wide]
    described = {}
    for path in recording.paths:
        for message in reader.read(path):
            if message.topic == "/imu/block":
                described[path.name] = message.metadata["columns"]
    assert list(described.values()) == [block.describe(icm20948.columns(IMU_TRIM)), block.describe(icm20948.columns(wide))]


def test_another_range_waits_until_the_disk_has_the_samples_of_the_one_before(logging: Logging, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.imu(0, 5, 50_000)
    same = frames.Frame(frames.TRIM, BOOT, 2, 60_000, bytes((1,)) + IMU_TRIM)
    wide = frames.Frame(frames.TRIM, BOOT, 2, 60_000, bytes((1, 0x1F, 0x1B, 0, 10, 10)))
    monkeypatch.setattr(logging.bench.journal, "has_room", lambda: False)
    assert logging.log.has_way(same) and not logging.log.has_way(wide)
    monkeypatch.undo()
    assert logging.log.has_way(wide) and logging.log.frames == 0
    logging.bench.close()


def test_states_gaps_and_health_of_the_head_are_written_and_shown(logging: Logging) -> None:
    logging.imu(0, 5, 50_000)
    logging.add(frames.STATE, struct.pack("<BBBH", 2, frames.FAILED, 1, 4))
    logging.add(frames.GAP, struct.pack("<BBI", 1, 6, 0), ticks=400_000)
    logging.add(frames.GAP, struct.pack("<BBI", 2, 2, 3))
    logging.add(frames.HEALTH, struct.pack("<6I", 50_000, 123, 7, 2_000, 60, 1))
    logging.log.commit()
    snapshot = logging.bench.snapshot.build()
    recording = logging.bench.close()
    assert snapshot["sensors"]["bmp390"] == {"state": "failed", "reason": "no acknowledge"}
    assert recording.events("sensor_state")[0].detail == "failed: no acknowledge, 4 failures"
    (overflow,) = recording.gaps("icm20948")
    assert overflow.reason == "FIFO overflow" and NOW < overflow.from_boottime_ns < overflow.to_boottime_ns == NOW + 400_000_000
    assert 32 <= overflow.count <= 36  # the batch ended before a sample came: so many are missing for sure
    (lost,) = recording.gaps("bmp390")
    assert (lost.reason, lost.count) == ("time-out", 3)
    assert recording.decoded("/health")[0].counters["ring_dropped"] == 7.0
    assert snapshot["head"]["heap_free"] == 50_000 and snapshot["head"]["boot"] == BOOT
    assert snapshot["counts"]["gaps"] == 2


def test_what_the_head_is_stands_in_the_record_once_a_boot(logging: Logging) -> None:
    """Dated when the recorder meets it: the head may have run for hours, and a segment begins with its oldest message."""
    began = boottime_ns()
    logging.greet(BOOT)  # asked again
    logging.greet(BOOT + 1, NOW + 5 * SECOND)
    logging.log.commit()
    identities = logging.bench.close().events("head_identity")
    assert [event.source for event in identities] == ["head", "head"]
    assert began - SECOND < identities[0].boottime_ns <= identities[1].boottime_ns <= boottime_ns()
    assert json.loads(identities[0].detail) == {"unique_id": "u", "reset_cause": "watchdog", "oldest": 1}


def test_a_restart_of_the_head_is_a_gap_from_its_newest_frame_to_its_start(logging: Logging) -> None:
    logging.imu(0, 5, 50_000)
    logging.log.commit()
    logging.greet(BOOT + 1, NOW + 5 * SECOND)
    logging.log.commit()
    (gap,) = logging.bench.close().gaps("head")
    assert (gap.from_boottime_ns, gap.to_boottime_ns) == (NOW + 50_000_000, NOW + 5 * SECOND)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "head restarted (watchdog)"),
        ({"boot_count": 3}, "head restarted (watchdog, start 3)"),
        ({"boot_count": 3, "marker": "trial over"}, "head restarted (watchdog: trial over, start 3)"),
    ],
)
def test_a_restart_tells_which_start_it_was_and_whether_the_program_made_it(logging: Logging, more: dict[str, object], words: str) -> None:
    logging.greet(BOOT + 1, NOW + 5 * SECOND, more)
    logging.log.commit()
    recording = logging.bench.close()
    (gap,) = recording.gaps("head")
    assert gap.reason == words
    assert json.loads(recording.events("head_identity")[-1].detail).items() >= more.items()


def test_a_restart_of_a_head_that_sent_nothing_is_a_gap_from_its_first_start(logging: Logging) -> None:
    logging.greet(BOOT + 1, NOW + 5 * SECOND)
    logging.log.commit()
    (gap,) = logging.bench.close().gaps("head")
    assert (gap.from_boottime_ns, gap.to_boottime_ns) == (NOW, NOW + 5 * SECOND)


def test_a_head_that_restarted_while_no_recorder_ran_is_a_gap(tmp_path: Path) -> None:
    logging = Logging(tmp_path, known={BOOT - 1}, since_ns=NOW - 7 * SECOND)
    logging.log.commit()
    (gap,) = logging.bench.close().gaps("head")
    assert gap.reason == "head restarted (watchdog)"
    assert (gap.from_boottime_ns, gap.to_boottime_ns) == (NOW - 7 * SECOND, NOW)


def test_a_head_that_ran_on_without_a_recorder_is_no_gap_but_what_its_ring_dropped_is(tmp_path: Path) -> None:
    logging = Logging(tmp_path, known={BOOT}, since_ns=NOW + 2 * SECOND)
    logging.log.missing(11, 14, "ring full", frames.Frame(frames.SAMPLE, BOOT, 15, 9_000_000, b""))
    logging.log.commit()
    (gap,) = logging.bench.close().gaps("head")
    assert (gap.reason, gap.count) == ("ring full", 4)
    assert (gap.from_boottime_ns, gap.to_boottime_ns) == (NOW + 2 * SECOND, NOW + 9 * SECOND)


@pytest.mark.parametrize(("known", "reason"), [({BOOT}, "ring full"), ({BOOT - 1}, "head restarted (watchdog)")])
def test_imu_samples_missing_since_the_recorder_before_are_a_gap_from_its_newest_one(
    tmp_path: Path, known: Collection[int], reason: str
) -> None:
    logging = Logging(tmp_path, known=known, since_ns=NOW - 7 * SECOND, imu_since_ns=NOW - 7 * SECOND)
    if BOOT in known:
        logging.sequence = 5
        logging.log.missing(1, 5, "ring full", frames.Frame(frames.SAMPLE, BOOT, 6, 50_000, b""))
    for drain in range(12):
        logging.imu(5 * drain, 5, 1_000_000 + 49_000 * drain)
    logging.log.commit()
    recording = logging.bench.close()
    (gap,) = recording.gaps("icm20948")
    assert (gap.from_boottime_ns, gap.to_boottime_ns) == (NOW - 7 * SECOND, recording.imu_times[0])
    assert gap.reason.startswith(f"{reason} (±")
    uncertain = int(gap.reason.split("±")[1][:-1])
    assert abs(gap.count - 8 * 1125 / 11) <= uncertain < 40


def test_imu_samples_that_go_on_where_the_recorder_before_ended_are_no_gap(tmp_path: Path) -> None:
    logging = Logging(tmp_path, known={BOOT}, since_ns=NOW + 990_000_000, imu_since_ns=NOW + 950_000_000)
    for drain in range(12):
        logging.imu(5 * drain, 5, 1_000_000 + 49_000 * drain)
    logging.log.commit()
    recording = logging.bench.close()
    assert recording.gaps("icm20948") == [] and recording.imu_times[0] > NOW + 950_000_000


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (frames.SAMPLE, b"\x09\x01abc"),
        (frames.SAMPLE, b"\x03\x02abc"),
        (frames.TRIM, b""),
        (frames.TRIM, b"\x01\x00"),
        (frames.STATE, b"\x01\x02"),
        (frames.STATE, struct.pack("<BBBH", 1, 99, 0, 0)),
        (frames.GAP, struct.pack("<BBI", 200, 1, 1)),
        (frames.HEALTH, b"\x00"),
        (0x55, b"later"),
    ],
)
def test_a_frame_that_makes_no_sense_is_kept_as_an_event_and_stops_nothing(logging: Logging, kind: int, payload: bytes) -> None:
    logging.add(kind, payload)
    logging.imu(0, 5, 50_000)
    logging.log.commit()
    recording = logging.bench.close()
    assert logging.log.malformed == 1
    assert payload.hex() in recording.events("malformed_frame")[0].detail
    assert recording.imu_numbers == [0, 1, 2, 3, 4]
    assert recording.resume == {BOOT: 2}
