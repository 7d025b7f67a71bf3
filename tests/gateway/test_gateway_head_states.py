"""The present state of each sensor behind HELLO: the live view knows it at once, and the record tells each change once."""

import struct
from pathlib import Path

import pytest
from gateway_head import imu_raw
from gateway_recording import Bench

from drivers.errors import NO_ACKNOWLEDGE
from firmware import frames
from gateway.convert import Converter
from gateway.head_log import HeadLog
from gateway.imu_times import HeadClock

pytestmark = pytest.mark.timeout(60)

BOOT = 77
NOW = 10**15
SHT45, OPT3001 = 3, 4
ABSENT, OK, FAILED = frames.ABSENT, frames.OK, frames.FAILED


class Logging:
    """A HeadLog on a bench; moments are the head's ticks in ms, from boot time NOW on."""

    def __init__(self, folder: Path, resumed: bool = False) -> None:
        self.bench = Bench(folder)
        self.log = HeadLog(self.bench.journal, self.bench.snapshot, self.bench.clock, Converter(), {BOOT} if resumed else (), NOW)
        self.sequence = 0
        self.greet()

    def greet(self) -> None:
        clock = HeadClock()
        clock.exchange(NOW, 0, NOW)
        self.log.hello(BOOT, {"unique_id": "u"}, clock)

    def kept(self, kind: int, payload: bytes, at: int) -> None:
        self.sequence += 1
        self.log.add(frames.Frame(kind, BOOT, self.sequence, at * 1000, payload))

    def changes(self, sensor: int, state: int, reason: int, at: int, failures: int = 1) -> None:
        self.kept(frames.STATE, struct.pack("<BBBH", sensor, state, reason, failures), at)

    def stands(self, sensor: int, state: int, reason: int, at: int, failures: int = 1) -> None:
        self.log.add(frames.Frame(frames.STATE, BOOT, 0, at * 1000, struct.pack("<BBBH", sensor, state, reason, failures)))

    def samples(self, at: int) -> None:
        self.kept(frames.SAMPLE, bytes((1, 1)) + imu_raw(self.sequence), at)

    def loses(self, count: int, at: int) -> None:
        """So many frames, before one that is made at `at`."""
        self.sequence += count
        behind = frames.Frame(frames.SAMPLE, BOOT, self.sequence + 1, at * 1000, b"")
        self.log.missing(self.sequence - count + 1, self.sequence, "ring full", behind)

    def shown(self, sensor: str) -> str | None:
        state = self.bench.snapshot.build()["sensors"].get(sensor)
        return None if state is None else f"{state['state']} {state['reason']}".strip()

    def written(self) -> list[tuple[str, str, int]]:
        """Source, detail and moment of each state."""
        assert self.log.commit()
        events = self.bench.close().events("sensor_state")
        return [(event.source, event.detail, (event.boottime_ns - NOW) // 1_000_000) for event in events]


def test_a_recorder_that_was_just_started_shows_what_stands_and_writes_nothing_of_it(tmp_path: Path) -> None:
    log = Logging(tmp_path, resumed=True)
    log.stands(SHT45, OK, 0, 9000)
    log.stands(OPT3001, ABSENT, NO_ACKNOWLEDGE, 9001, 900)
    assert (log.shown("sht45"), log.shown("opt3001")) == ("ok", "absent no acknowledge")
    assert log.log.frames == 0 and log.log.commit() and log.bench.durable == []  # nothing that could be acknowledged
    log.samples(9050)
    assert log.written() == []


def test_a_present_state_that_is_known_is_no_event_however_often_the_head_is_asked(tmp_path: Path) -> None:
    log = Logging(tmp_path)
    log.changes(SHT45, FAILED, NO_ACKNOWLEDGE, 100)
    for at in (200, 400):
        log.greet()
        log.stands(SHT45, FAILED, NO_ACKNOWLEDGE, at, 8)
        log.samples(at + 50)
    assert log.written() == [("sht45", "failed: no acknowledge, 1 failures", 100)]


def test_a_change_that_is_still_to_come_out_of_the_ring_is_shown_at_once_and_written_once(tmp_path: Path) -> None:
    log = Logging(tmp_path)
    log.changes(SHT45, OK, 0, 100, 0)
    log.greet()
    log.stands(SHT45, FAILED, NO_ACKNOWLEDGE, 900, 4)
    log.samples(150)
    for at, state, reason in ((200, FAILED, NO_ACKNOWLEDGE), (300, OK, 0), (400, FAILED, NO_ACKNOWLEDGE)):
        log.changes(SHT45, state, reason, at)
        assert log.shown("sht45") == "failed no acknowledge"  # what comes is history
    log.samples(950)
    log.changes(SHT45, OK, 0, 960)
    assert log.shown("sht45") == "ok"
    assert [(detail[:4], at) for _, detail, at in log.written()] == [
        ("ok, ", 100),
        ("fail", 200),
        ("ok, ", 300),
        ("fail", 400),
        ("ok, ", 960),
    ]


@pytest.mark.parametrize("known", [True, False])
def test_a_change_that_was_lost_is_written_from_what_stands_with_its_own_moment(tmp_path: Path, known: bool) -> None:
    log = Logging(tmp_path, resumed=not known)
    if known:
        log.changes(SHT45, OK, 0, 100, 0)
        log.changes(OPT3001, OK, 0, 101, 0)
    log.greet()
    log.stands(SHT45, FAILED, NO_ACKNOWLEDGE, 900, 4)
    log.stands(OPT3001, OK, 0, 901, 0)
    log.loses(10, 500)
    log.samples(500)
    log.changes(OPT3001, OK, 0, 600, 0)
    log.samples(950)
    log.samples(1000)
    before = [("sht45", "ok, 0 failures", 100), ("opt3001", "ok, 0 failures", 101)] if known else []
    assert log.written() == [*before, ("opt3001", "ok, 0 failures", 600), ("sht45", "failed: no acknowledge, 4 failures", 900)]


def test_what_stands_in_the_place_of_a_lost_change_is_not_written_again_when_the_head_says_it_late(tmp_path: Path) -> None:
    """A contact that rattles: more changes than the head says at once."""
    log = Logging(tmp_path)
    log.stands(SHT45, FAILED, NO_ACKNOWLEDGE, 900, 40)
    log.loses(10, 500)
    log.samples(950)
    log.changes(SHT45, FAILED, NO_ACKNOWLEDGE, 2400, 41)
    log.changes(SHT45, OK, 0, 2500, 41)
    assert log.written() == [("sht45", "failed: no acknowledge, 40 failures", 900), ("sht45", "ok, 41 failures", 2500)]


def test_a_change_behind_a_lost_one_comes_after_it(tmp_path: Path) -> None:
    log = Logging(tmp_path)
    log.stands(SHT45, FAILED, NO_ACKNOWLEDGE, 900, 4)
    log.loses(10, 950)
    log.changes(SHT45, OK, 0, 950, 4)
    assert log.written() == [("sht45", "failed: no acknowledge, 4 failures", 900), ("sht45", "ok, 4 failures", 950)]
    assert log.shown("sht45") == "ok"
