import json
import math
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_recording import Bench, Reading, wait_for

import gateway.fixes
import gateway.positions
from gateway.clock import BUILD_UTC_NS
from gateway.fixes import location_fix
from gateway.positions import Positions, position, values_of
from sim.clock import Clock as SimulatedClock
from sim.receiver import Receiver

pytestmark = pytest.mark.timeout(60)

GPSD = shutil.which("gpsd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
START_UTC_NS = BUILD_UTC_NS + 200 * 86_400 * 10**9

# gpsd 3.22, 3D fix; field names and units: gpsd.io/gpsd_json.html (facts 1.11)
TPV: dict[str, Any] = {
    "class": "TPV", "device": "/dev/ttyACM0", "mode": 3, "time": "2026-11-21T19:13:13.250Z", "leapseconds": 18, "ept": 0.005,
    "lat": 35.3412345, "lon": 139.4912347, "altHAE": 59.1, "altMSL": 21.1, "alt": 21.1, "epv": 2.4, "eph": 1.5,
    "track": 14.3003, "speed": 7.654, "climb": 0.010, "eps": 0.05, "epd": 0.5,
}  # fmt: skip


def line(report: dict[str, Any]) -> bytes:
    return json.dumps(report).encode()


def without(*names: str, **changed: Any) -> dict[str, Any]:
    return {**{name: value for name, value in TPV.items() if name not in names}, **changed}


# --- one report


def test_a_fix_becomes_si_values_and_its_errors() -> None:
    message = position(TPV, 5, line(TPV))
    assert message.valid and (message.mode, message.boottime_ns) == (3, 5)
    assert (message.latitude, message.longitude, message.altitude, message.speed) == (35.3412345, 139.4912347, 21.1, 7.654)
    assert message.bearing == pytest.approx(math.radians(14.3003))
    assert (message.horizontal_error, message.speed_error, message.time_error) == (1.5, 0.05, 0.005)
    assert message.bearing_error == pytest.approx(math.radians(0.5))
    assert message.utc_ns == 1_795_288_393_250_000_000
    assert json.loads(message.raw) == TPV and message.reason == ""


def test_what_gpsd_did_not_send_is_absent_and_never_zero() -> None:
    message = position({"class": "TPV", "mode": 2, "lat": 1.0, "lon": 2.0}, 5, b"{}")
    assert message.valid
    absent = ("utc_ns", "altitude", "speed", "bearing", "horizontal_error", "speed_error", "bearing_error", "time_error")
    assert [field for field in absent if message.HasField(field)] == []
    assert values_of({"mode": 2, "lat": 1.0, "lon": 2.0})["speed"] == "not reported"


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ({"class": "TPV", "device": "/dev/ttyUSB0", "mode": 1}, "no fix"),
        ({"class": "TPV", "mode": 0}, "no fix"),
        ({"class": "TPV"}, "no fix"),
        (without(mode=1), "no fix"),  # coordinates of a lost fix
        (without("lat"), "no coordinates"),
        (without(lat=float("nan")), "no coordinates"),
        (without(lat=91.0), "no coordinates"),
        (without(lon="139"), "no coordinates"),
        (without(mode="3"), "no fix"),
    ],
)
def test_without_a_fix_a_position_is_invalid_with_the_reason(report: dict[str, Any], reason: str) -> None:
    message = position(report, 5, b"")
    assert (message.valid, message.reason) == (False, reason)
    assert not message.HasField("latitude") and not message.HasField("speed") and not message.HasField("utc_ns")
    assert set(values_of(report).values()) == {"no fix"}


def test_older_gpsd_says_only_alt_and_errors_by_axis() -> None:
    message = position(without("altMSL", "altHAE", "eph", epx=3.0, epy=4.0), 5, b"")
    assert (message.altitude, message.horizontal_error) == (21.1, 5.0)


def test_a_date_that_cannot_be_true_is_left_out_while_the_position_counts() -> None:
    message = position(without(time="2019-04-02T00:00:00.000Z"), 5, b"")  # gpsd made this of 1980-01-01 at mode 3
    assert message.valid and not message.HasField("utc_ns")


def test_an_implausible_speed_is_a_reason() -> None:
    assert values_of(without(speed=250.0))["speed"] == "implausible"
    assert not position(without(speed=250.0), 5, b"").HasField("speed")


def test_a_fix_for_foxglove_has_its_covariance() -> None:
    fix = location_fix(position(TPV, 5, b""), 1_795_288_393_250_000_000, 2.0)
    assert (fix.latitude, fix.longitude, fix.altitude) == (35.3412345, 139.4912347, 21.1)
    assert list(fix.position_covariance) == [2.25, 0, 0, 0, 2.25, 0, 0, 0, 4.0]
    assert fix.timestamp.ToNanoseconds() == 1_795_288_393_250_000_000
    assert not location_fix(position(without("eph"), 5, b""), 0, None).HasField("timestamp")


# --- the stream


class FakeGpsd:
    """Speaks the JSON stream; `say(line)` to whoever watches."""

    def __init__(self, port: int = 0) -> None:
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port = self.listener.getsockname()[1]
        self.connection: socket.socket | None = None
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self) -> None:
        connection, _ = self.listener.accept()
        assert connection.recv(100).startswith(b"?WATCH=")
        connection.sendall(b'{"class":"VERSION","release":"3.22"}\r\n{"class":"DEVICES","devices":[]}\r\n')
        self.connection = connection

    def say(self, data: bytes) -> None:
        wait_for(lambda: self.connection, "a watcher")
        assert self.connection is not None
        self.connection.sendall(data)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.listener.close()


def reading_of(folder: Path, port: int) -> Reading[Positions]:
    """Positions on a bench."""
    bench = Bench(folder)
    return Reading(bench, Positions("127.0.0.1", port, bench.clock, bench.journal, bench.snapshot))


@pytest.fixture
def fake() -> Iterator[FakeGpsd]:
    made = FakeGpsd()
    yield made
    made.close()


def test_positions_valid_and_not_are_written_and_only_valid_ones_are_fixes(tmp_path: Path, fake: FakeGpsd) -> None:
    reading = reading_of(tmp_path, fake.port)
    fake.say(line({"class": "TPV", "mode": 1}) + b"\n" + line(TPV)[:40])
    wait_for(lambda: reading.count() == 1, "the first report")
    assert reading.state() == {"state": "degraded", "reason": "no fix"}
    fake.say(line(TPV)[40:] + b"\r\n" + line({"class": "SKY"}) + b"\n")  # a report may come in pieces
    wait_for(lambda: reading.count() == 2, "the second report")
    assert reading.state() == {"state": "ok", "reason": ""}
    snapshot = reading.bench.snapshot.build()
    recording = reading.end()
    assert [message.valid for message in recording.decoded("/position")] == [False, True]
    assert len(recording.decoded("/position/fix")) == 1
    assert snapshot["values"]["latitude"]["value"] == 35.3412345 and snapshot["values"]["latitude"]["raw"] == "35.3412345"
    assert snapshot["utc_source"] == "gnss"
    assert reading.bench.sender.dropped >= 1  # a snapshot at the fix


def test_lines_that_are_not_gpsds_are_counted_and_passed_over(tmp_path: Path, fake: FakeGpsd) -> None:
    reading = reading_of(tmp_path, fake.port)
    fake.say(b"not json\n[1,2]\n\xff\xfe\n" + line(TPV) + b"\n")
    wait_for(lambda: reading.count() == 1, "the report")
    assert reading.source.malformed == 3
    assert len(reading.end().decoded("/position")) == 1


def test_gpsd_may_restart_and_what_is_missing_is_a_gap(tmp_path: Path, fake: FakeGpsd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.fixes, "GAP_SECONDS", 0.3)
    reading = reading_of(tmp_path, fake.port)
    fake.say(line(TPV) + b"\n")
    wait_for(lambda: reading.count() == 1, "the report")
    fake.close()
    wait_for(lambda: "gpsd" in reading.state().get("reason", ""), "the loss being noticed")
    lost = reading.bench.snapshot.build()["values"]["latitude"]
    assert lost["value"] is None and lost["reason"].startswith("gpsd")  # never the old value as if it were new
    time.sleep(0.4)
    again = FakeGpsd(fake.port)
    again.say(line(TPV) + b"\n")
    wait_for(lambda: reading.count() == 2, "the report after the return")
    again.close()
    recording = reading.end()
    gaps = recording.gaps("gnss")
    assert gaps and gaps[0].reason.startswith("gpsd") and gaps[0].to_boottime_ns - gaps[0].from_boottime_ns > 300_000_000


def test_a_receiver_that_falls_silent_is_told(tmp_path: Path, fake: FakeGpsd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.positions, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(gateway.fixes, "GAP_SECONDS", 0.5)
    reading = reading_of(tmp_path, fake.port)
    fake.say(line(TPV) + b"\n")
    wait_for(lambda: reading.state() == {"state": "failed", "reason": "no report from the receiver"}, "the silence being noticed")
    fake.say(line(TPV) + b"\n")
    wait_for(lambda: reading.count() == 2, "the report after the silence")
    assert reading.state() == {"state": "ok", "reason": ""}
    assert reading.end().gaps("gnss")[0].reason == "no report from the receiver"


def test_a_stream_without_line_ends_is_cut_off(tmp_path: Path, fake: FakeGpsd) -> None:
    reading = reading_of(tmp_path, fake.port)
    fake.say(b"x" * 100_000)
    wait_for(lambda: reading.state().get("state") == "failed", "the stranger being noticed")
    assert reading.source.malformed >= 1
    reading.end()


# --- the real gpsd


@pytest.mark.skipif(GPSD is None, reason="gpsd is not installed")
def test_the_real_gpsd_gives_valid_positions_and_utc(tmp_path: Path) -> None:
    place = {"latitude": 35.3412345, "longitude": 139.4912347, "altitude": 21.0, "speed": 7.654, "bearing": 1.25}
    receiver = Receiver(lambda t_us: place, lambda *_: None, SimulatedClock(), START_UTC_NS, period_us=200_000)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert GPSD is not None
    gpsd = subprocess.Popen([GPSD, "-N", "-n", "-b", "-S", str(port), receiver.port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    reading = reading_of(tmp_path, port)
    try:
        receiver.start()
        wait_for(lambda: reading.count() >= 8, "reports of the real gpsd", 30)
        mapping = reading.bench.clock.mapping()
        assert mapping.source == "gnss" and mapping.error_s < 5
    finally:
        recording = reading.end()
        gpsd.terminate()
        gpsd.wait(10)
        receiver.stop()
    valid = [message for message in recording.decoded("/position") if message.valid]
    assert len(valid) >= 5
    assert len({message.utc_ns for message in valid}) == len(valid)  # no epoch twice
    last = valid[-1]
    assert last.latitude == pytest.approx(35.3412345, abs=1e-7) and last.longitude == pytest.approx(139.4912347, abs=1e-7)
    assert last.speed == pytest.approx(7.654, abs=1e-3) and last.bearing == pytest.approx(1.25, abs=2e-6)
    assert last.horizontal_error == pytest.approx(1.5)
    assert recording.gaps("gnss") == []
