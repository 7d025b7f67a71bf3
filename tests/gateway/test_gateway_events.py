"""Events become records, counts and calls; finding them costs the sampling thread nothing."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gateway_recording import wait_for
from imu_watched import RATE, SECOND, START_NS, Watched, details, entry, still, times, with_pulse

import gateway.watch
from drivers import icm20948
from gateway.clock import boottime_ns
from gateway.config import Depot
from gateway.journal import Entry
from gateway.supervision import Supervisor
from logbook import block
from logbook.channels import IMU_BLOCK, POSITION
from logbook.schemas import cruisers_pb2 as pb

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.release()


def test_an_event_is_written_counted_and_heard(watched: Watched) -> None:
    before = boottime_ns()
    assert watched.events.tell("depot_in", "gnss", "south", 7) and watched.events.bookmark("center", "ticket 12")
    assert watched.bench.snapshot.counts()["events.depot_in"] == watched.bench.snapshot.counts()["events.bookmark"] == 1
    recording = watched.end()
    (depot,), (bookmark,) = recording.events("depot_in"), recording.events("bookmark")
    assert (depot.source, depot.detail, depot.boottime_ns) == ("gnss", "south", 7)
    assert (bookmark.source, bookmark.detail) == ("center", "ticket 12") and before <= bookmark.boottime_ns <= boottime_ns()
    assert watched.heard == [("depot_in", 7), ("bookmark", bookmark.boottime_ns)]


def test_events_of_many_threads_are_all_there(watched: Watched) -> None:
    def tell(number: int) -> None:
        for at in range(50):
            watched.events.bookmark("button", str(number), at + 1)

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(watched.heard) == 400
    found = [(event.detail, event.boottime_ns) for event in watched.end().events("bookmark")]
    assert sorted(found) == sorted((str(number), at + 1) for number in range(8) for at in range(50))


def test_the_sampling_thread_reads_no_block_and_each_is_read_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    readers: list[threading.Thread] = []

    def decode(data: bytes) -> object:
        readers.append(threading.current_thread())
        return real(data)

    real = block.decode
    monkeypatch.setattr(gateway.watch.block, "decode", decode)
    blocks = 20
    for number in range(blocks):
        watched.samples(still(0.4), START_NS + number * SECOND)
    assert readers == []
    watched.look_until(lambda: len(readers) == blocks, "every block being read")
    watched.watch.finish()
    assert len(readers) == blocks and threading.main_thread() not in readers


def test_a_watch_that_stands_still_bounds_its_memory_and_says_what_it_passed_over(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.watch, "WAITING", 5)
    firsts = [START_NS + number * SECOND for number in range(9)]
    for first in firsts:
        watched.samples(still(0.4), first)
    assert watched.watch.passed_over == 4
    (gap,) = watched.end().gaps("events")
    assert (gap.count, gap.from_boottime_ns, gap.to_boottime_ns) == (4, firsts[5], firsts[8])


def test_behind_what_was_passed_over_there_is_no_false_shock(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.watch, "WAITING", 5)
    behind = watched.samples(still(4.5))  # nine blocks, of which five are looked at
    watched.watch.finish()
    watched.samples(still(2.0, (1, 0, 0)), behind)
    assert watched.end().events("shock") == []


def test_minutes_of_shaking_are_a_bounded_number_of_records(watched: Watched) -> None:
    """A record for each 10 s at most, however many samples are above the threshold."""
    shaking = still(100.0)
    shaking[:, 1] += 20.0 * np.sin(2 * np.pi * 8.0 * np.arange(len(shaking)) / RATE)
    watched.samples(shaking)
    recording = watched.end()
    assert 9 <= len(recording.events("shock")) <= 11
    assert len(watched.heard) <= 22


def test_a_block_that_fails_is_told_and_the_next_ones_are_looked_at(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(data: bytes) -> object:
        if not failed:
            failed.append(data)
            raise block.BlockError("no column block")
        return real(data)

    real, failed = block.decode, list[bytes]()
    monkeypatch.setattr(gateway.watch.block, "decode", decode)
    monkeypatch.setattr("gateway.supervision.RESTART_SECONDS", 0.01)
    watched.samples(with_pulse(still(10.0), 5.0, 30, 40.0))
    stop = threading.Event()
    supervisor = Supervisor(watched.bench.journal, fatal=lambda error: None)
    supervisor.start("events", watched.watch.run, stop)
    wait_for(lambda: "events.shock" in watched.bench.snapshot.counts(), "a shock behind a broken block")
    stop.set()
    assert supervisor.join(10) == []
    monkeypatch.undo()
    recording = watched.end()
    assert [event.detail for event in recording.events("source_failed")] == ["BlockError: no column block"]
    assert len(recording.events("shock")) == 1


def test_the_columns_of_a_block_are_those_at_its_writing(watched: Watched) -> None:
    """The head is set to ±16 g while a block waits: what was written before is still ±8 g."""
    watched.bench.journal.write([entry(times(round(3 * RATE)), with_pulse(still(3.0), 2.0, 30, 20.0))])
    watched.bench.journal.describe(IMU_BLOCK, {"columns": json.dumps(icm20948.columns(bytes((0x1F, 0x1B, 0, 10, 10))))})
    (detail,) = details(watched.end(), "shock")
    assert 10.0 < detail["peak"] < 20.0


def test_positions_are_looked_at_only_where_there_are_depots(tmp_path: Path) -> None:
    position = pb.Position(boottime_ns=5, valid=True, latitude=35.0, longitude=139.0)
    heard = []
    for name, depots in (("none", []), ("one", [Depot("south", 35.0, 139.0)])):
        (tmp_path / name).mkdir()
        watched = Watched(tmp_path / name, lambda config, depots=depots: setattr(config, "depots", depots))
        watched.bench.journal.write([Entry(POSITION, 5, position.SerializeToString())])
        watched.end()
        heard.append(watched.heard)
    assert heard == [[], [("depot_in", 5)]]
