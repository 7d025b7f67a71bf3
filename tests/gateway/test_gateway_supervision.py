import threading
import time
from pathlib import Path

import pytest
from gateway_recording import Bench, wait_for

import gateway.supervision
from gateway.clock import boottime_ns
from gateway.supervision import Outage, Supervisor
from logbook.segment import WriterDied

pytestmark = pytest.mark.timeout(60)

SECOND = 1_000_000_000


def test_a_source_that_fails_is_told_and_started_again_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gateway.supervision, "RESTART_SECONDS", 0.05)
    bench, stop, runs, turns = Bench(tmp_path), threading.Event(), [], []
    supervisor = Supervisor(bench.journal, fatal=lambda error: None)

    def failing(stop: threading.Event) -> None:
        runs.append(1)
        raise ZeroDivisionError("a library's surprise")

    def steady(stop: threading.Event) -> None:
        while not stop.wait(0.01):
            turns.append(1)

    supervisor.start("failing", failing, stop)
    supervisor.start("steady", steady, stop)
    wait_for(lambda: len(runs) >= 3 and len(turns) >= 3, "restarts beside a steady source")
    stop.set()
    assert supervisor.join(10) == []
    recording = bench.close()
    assert {event.detail for event in recording.events("source_failed")} == {"ZeroDivisionError: a library's surprise"}
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_source_that_hangs_is_named_and_does_not_hold_the_stop(tmp_path: Path) -> None:
    bench, stop, release = Bench(tmp_path), threading.Event(), threading.Event()
    supervisor = Supervisor(bench.journal, fatal=lambda error: None)

    def hanging(stop: threading.Event) -> None:
        release.wait()

    supervisor.start("hanging", hanging, stop)
    stop.set()
    began = time.monotonic()
    assert supervisor.join(0.2) == ["hanging"]
    assert time.monotonic() - began < 10
    release.set()
    bench.close()


def test_when_nothing_can_be_written_any_more_the_recorder_is_told_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    told: list[Exception] = []
    supervisor = Supervisor(bench.journal, fatal=told.append)

    def writes(stop: threading.Event) -> None:
        raise WriterDied("gone")

    supervisor.start("head", writes, threading.Event())
    assert supervisor.join(10) == []
    assert [str(error) for error in told] == ["gone"]
    bench.close()


def test_a_source_that_fails_when_nothing_can_be_written_any_more_tells_the_recorder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    told: list[Exception] = []
    supervisor = Supervisor(bench.journal, fatal=told.append)

    def dead(entries: object, token: object = None) -> bool:
        raise WriterDied("gone")

    def failing(stop: threading.Event) -> None:
        raise ZeroDivisionError("a library's surprise")

    monkeypatch.setattr(bench.journal, "write", dead)
    supervisor.start("failing", failing, threading.Event())
    assert supervisor.join(10) == []
    assert [str(error) for error in told] == ["gone"]
    bench.close()


def test_an_outage_is_a_gap_only_when_it_lasts_longer_than_its_grace(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outage = Outage(bench.journal, "gnss", grace_seconds=2.5)
    start = boottime_ns()
    outage.seen(start)
    outage.lost("short")
    outage.seen(start + 2 * SECOND)
    outage.lost("long")
    outage.lost("long")
    outage.seen(start + 5 * SECOND)
    (gap,) = bench.close().gaps("gnss")
    assert (gap.reason, gap.from_boottime_ns, gap.to_boottime_ns) == ("long", start + 2 * SECOND, start + 5 * SECOND)


def test_a_silence_that_nobody_called_a_loss_is_a_gap_too(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    outage = Outage(bench.journal, "gnss", grace_seconds=2.5)
    start = boottime_ns()
    for second in (0, 1, 3, 7, 8):
        outage.seen(start + second * SECOND)
    recording = bench.close()
    (gap,) = recording.gaps("gnss")
    assert (gap.reason, gap.from_boottime_ns, gap.to_boottime_ns) == ("no data", start + 3 * SECOND, start + 7 * SECOND)
    assert len(recording.events("source_delivers")) == 1


def test_an_outage_that_still_lasts_at_the_end_is_written(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    since = boottime_ns() - 20 * SECOND
    outage = Outage(bench.journal, "camera/front", grace_seconds=3, since_ns=since)
    outage.lost("cannot be opened")
    outage.finish()
    recording = bench.close()
    (gap,) = recording.gaps("camera/front")
    assert gap.from_boottime_ns == since and gap.reason == "cannot be opened"
    assert len(recording.events("source_lost")) == 1
