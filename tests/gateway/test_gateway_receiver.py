import configparser
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gateway_recording
import pytest
from gateway_recording import Bench, Reading, Running, wait_for

import gateway.fixes
from drivers import nav_pvt
from gateway import receiver as tool
from gateway.clock import BUILD_UTC_NS
from gateway.config import ConfigError, load
from gateway.config import Receiver as Settings
from gateway.positions import Positions
from gateway.receiver import Receiver, main, position, set_up
from sim.chips import neo_m9n as model
from sim.chips.ubx import nav_pvt as message
from sim.clock import Clock as SimulatedClock
from sim.receiver import Receiver as SimulatedReceiver

pytestmark = pytest.mark.timeout(60)

GPSD = shutil.which("gpsd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
START_UTC_NS = BUILD_UTC_NS + 200 * 86_400 * 10**9
PLACE = {"latitude": 35.3412345, "longitude": 139.4912347, "altitude": 21.0, "speed": 7.654, "bearing": 1.25}
TOML = (
    'name = "truck-1"\nspool = "{0}/spool"\nlive_socket = "{0}/live.sock"\n'
    '[hub]\ndomain = "h"\nhost = "h"\nport = 1\nca_file = "c"\npassword_file = "p"\n'
)


def simulated(**options: Any) -> SimulatedReceiver:
    return SimulatedReceiver(lambda t_us: PLACE, lambda *_: None, SimulatedClock(), START_UTC_NS, **options)


@pytest.fixture
def delivered() -> Iterator[SimulatedReceiver]:
    made = simulated(as_delivered=True)
    made.start()
    yield made
    made.stop()


# --- before gpsd


def run(argument: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "gateway.receiver", argument], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.skipif(GPSD is None, reason="gpsd is not installed")
def test_a_receiver_as_delivered_is_set_up_and_the_real_gpsd_which_writes_nothing_reads_it(
    tmp_path: Path, delivered: SimulatedReceiver
) -> None:
    began = time.monotonic()
    done = run(delivered.port)
    assert (done.returncode, done.stderr) == (0, "") and time.monotonic() - began < 10
    assert done.stdout == f"{delivered.port}: EXT CORE 4.04 (7f89f7): 115200 baud, NAV-PVT every 1000 ms, no NMEA, automotive model\n"
    assert delivered.chip.ram == model.TRUCK and delivered.chip.flash == model.TRUCK
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert GPSD is not None
    gpsd = subprocess.Popen([GPSD, "-N", "-n", "-b", "-S", str(port), delivered.port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    bench = Bench(tmp_path)
    stop = threading.Event()
    positions = Positions("127.0.0.1", port, bench.clock, bench.journal, bench.snapshot)
    thread = threading.Thread(target=positions.run, args=(stop,), daemon=True)
    thread.start()
    try:
        wait_for(lambda: bench.snapshot.counts().get("samples.gnss", 0) >= 4, "reports of the real gpsd", 40)
    finally:
        stop.set()
        thread.join()
        gpsd.terminate()
        gpsd.wait(10)
    valid = [one for one in bench.close().decoded("/position") if one.valid]
    assert valid and valid[-1].mode == 3 and valid[-1].latitude == pytest.approx(PLACE["latitude"], abs=1e-7)
    assert valid[-1].horizontal_error == pytest.approx(1.5)  # from NAV-PVT: NMEA has no such thing
    assert delivered.chip.ram == model.TRUCK, "gpsd -b wrote to the receiver"


@pytest.mark.parametrize("baud", [9600, 115200])
def test_it_is_found_at_another_speed(baud: int) -> None:
    receiver = simulated(as_delivered=True)
    receiver.chip.flash[model.BAUDRATE] = baud
    receiver.chip.power_cycle()
    receiver.start()
    try:
        assert set_up(receiver.port, 200) == "EXT CORE 4.04 (7f89f7)"
        assert receiver.chip.ram == {**model.TRUCK, model.RATE_MEAS: 200}
    finally:
        receiver.stop()


def test_the_port_comes_from_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    receiver = simulated(link=tmp_path / "gps")
    receiver.start()
    path = tmp_path / "truck.toml"
    try:
        path.write_text(TOML.format(tmp_path) + f'[gpsd]\nport = 1\ndevice = "{tmp_path}/gps"\n')
        assert main([str(path)]) == 0
        path.write_text(TOML.format(tmp_path) + f'[receiver]\nport = "{tmp_path}/gps"\nperiod_ms = 500\n')
        assert main([str(path)]) == 0 and receiver.chip.ram[model.RATE_MEAS] == 500
    finally:
        receiver.stop()
    assert [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()] == [f"{tmp_path}/gps"] * 2


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "truck.toml"
    path.write_text(TOML.format(tmp_path) + "[gpsd]\nport = 1\n")
    for argument, words in (
        ("/dev/no-such-port", "/dev/no-such-port: No such file or directory"),
        (str(tmp_path / "none.toml"), "none.toml: No such file or directory"),
        (str(path), "names no receiver"),
        ("/dev/null", "/dev/null"),
        (str(tmp_path), str(tmp_path)),
    ):
        assert main([argument]) == 2
        line = capsys.readouterr().err
        assert line.startswith("receiver: ") and line.count("\n") == 1 and words in line
    assert main([]) == 2 and main(["a", "b"]) == 2


def test_where_nobody_answers_it_says_so_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    receiver = simulated()  # its thread does not run: nobody is there
    try:
        began = time.monotonic()
        assert main([receiver.port], 2.5) == 1
        assert time.monotonic() - began < 5
        assert capsys.readouterr().err == f"receiver: {receiver.port}: no receiver answers at 38400, 9600, 115200 baud\n"
    finally:
        receiver.stop()


def test_its_ten_seconds_begin_with_the_process_not_with_the_search() -> None:
    code = "import time; time.sleep(1.2); from gateway.receiver import age_seconds; print(age_seconds())"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert 1.2 <= float(done.stdout) <= time.monotonic() - began + 0.05
    assert tool.LIMIT_SECONDS < 10


def test_the_example_for_systemd_calls_it_and_gives_it_its_time() -> None:
    text = (Path(__file__).parents[2] / "fleet" / "units" / "gpsd.service.conf").read_text()
    unit = configparser.ConfigParser()
    unit.read_string(text)
    command = unit["Service"]["ExecStartPre"].split()
    assert command[0].startswith("-/"), "gpsd starts in any case"
    assert command[1:] == ["-m", "gateway.receiver", "/etc/cruisers/truck.toml"]
    assert int(unit["Service"]["TimeoutStartSec"]) > 2 * tool.LIMIT_SECONDS


def test_a_receiver_of_an_older_generation_is_named_as_not_supported(capsys: pytest.CaptureFixture[str]) -> None:
    receiver = simulated()
    receiver.chip = model.NEOM9N(lambda t_us: PLACE, lambda *_: None, START_UTC_NS, generation=8)
    receiver.start()
    try:
        with pytest.raises(tool.NoReceiver, match=r"\(ROM CORE 3.01 \(107888\)\) does not take its settings; generation 8 and older"):
            set_up(receiver.port, seconds=4)
    finally:
        receiver.stop()


def test_a_port_that_another_program_has_is_refused() -> None:
    receiver = simulated()
    taken = tool.open_port(receiver.port)
    try:
        with pytest.raises(tool.BadPort, match=receiver.port):
            set_up(receiver.port)
    finally:
        taken.close()
        receiver.stop()


# --- configuration


def test_gpsd_and_an_own_receiver_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "truck.toml"
    path.write_text(TOML.format(tmp_path) + '[gpsd]\n[receiver]\nport = "/dev/x"\n')
    with pytest.raises(ConfigError, match=r"\[gpsd\] and \[receiver\]"):
        load(path)
    path.write_text(TOML.format(tmp_path) + '[receiver]\nport = "/dev/x"\nperiod_ms = 50\n')
    with pytest.raises(ConfigError, match="period_ms of .receiver. is 50"):
        load(path)
    path.write_text(TOML.format(tmp_path) + '[receiver]\nport = "/dev/x"\n')
    assert load(path).receiver == Settings("/dev/x", 1000)


# --- one message


def payload(utc_ns: int = START_UTC_NS, fix: bool = True, dated: bool = True, **values: float) -> bytes:
    return message(utc_ns, {**PLACE, **values}, fix, dated)[6:-2]


def test_a_fix_becomes_si_values_its_errors_and_its_time() -> None:
    raw = payload(START_UTC_NS + 999_638_332)  # nano -361668
    made = position(raw, nav_pvt.decode(b"", raw), 5)
    assert made.valid and (made.mode, made.boottime_ns, made.raw, made.reason) == (3, 5, raw, "")
    assert made.utc_ns == START_UTC_NS + 999_638_332
    for name, value in PLACE.items():
        assert getattr(made, name) == pytest.approx(value, abs=1e-6)
    assert (made.horizontal_error, made.speed_error, made.time_error) == pytest.approx((1.5, 0.05, 25e-9))
    assert made.bearing_error == pytest.approx(0.00872664626)


def test_without_a_fix_nothing_is_said_but_the_reason() -> None:
    raw = payload(fix=False)
    made = position(raw, nav_pvt.decode(b"", raw), 5)
    absent = ("utc_ns", *PLACE, "horizontal_error", "bearing_error")
    assert (made.valid, made.mode, made.reason) == (False, 1, "no fix")
    assert [field for field in absent if made.HasField(field)] == []


def test_coordinates_that_cannot_be_are_no_position() -> None:
    raw = bytearray(payload())
    raw[28:32] = (900_000_001).to_bytes(4, "little")
    made = position(bytes(raw), nav_pvt.decode(b"", bytes(raw)), 5)
    assert (made.valid, made.mode, made.reason) == (False, 3, "no coordinates")


# --- the source


def reading_of(folder: Path, port: str) -> Reading[Receiver]:
    """The source on a bench."""
    bench = Bench(folder)
    return Reading(bench, Receiver(port, 200, bench.clock, bench.journal, bench.snapshot))


def test_a_receiver_as_delivered_is_set_up_and_its_positions_written(tmp_path: Path, delivered: SimulatedReceiver) -> None:
    delivered.chip.fix_from_us = delivered.chip.date_from_us = 2_500_000
    reading = reading_of(tmp_path, delivered.port)
    wait_for(lambda: reading.state() == {"state": "degraded", "reason": "no fix"}, "the first message")
    wait_for(lambda: reading.state() == {"state": "ok", "reason": ""}, "the fix")
    before = reading.count()
    wait_for(lambda: reading.count() >= before + 4, "more of them")
    snapshot = reading.bench.snapshot.build()
    mapping = reading.bench.clock.mapping()
    recording = reading.end()
    written = recording.decoded("/position")
    valid = [one for one in written if one.valid]
    assert not written[0].valid and len(valid) == len(recording.decoded("/position/fix")) >= 4
    assert len({one.utc_ns for one in valid}) == len(valid) and all(one.utc_ns % 200_000_000 == 0 for one in valid)
    assert snapshot["values"]["longitude"]["value"] == pytest.approx(PLACE["longitude"], abs=1e-7)
    assert snapshot["values"]["longitude"]["raw"] == "1394912347" and snapshot["utc_source"] == "gnss"
    assert mapping.source == "gnss" and mapping.error_s < 1
    assert recording.gaps("gnss") == [] and reading.source.malformed == 0
    assert recording.decoded("/position/fix")[-1].position_covariance[8] == pytest.approx(2.4**2)


def test_a_date_that_cannot_be_true_is_counted_and_dates_nothing(tmp_path: Path, delivered: SimulatedReceiver) -> None:
    delivered.chip.weeks = -1024
    reading = reading_of(tmp_path, delivered.port)
    wait_for(lambda: reading.count() >= 3, "messages")
    rejected, source = reading.bench.clock.rejected, reading.bench.clock.mapping().source
    written = reading.end().decoded("/position")
    assert rejected >= 3 and source == "none"
    assert all(one.valid and not one.HasField("utc_ns") for one in written)


def test_damage_on_the_line_is_counted_and_costs_one_message(tmp_path: Path) -> None:
    receiver = simulated(period_us=200_000)
    receiver.start()
    reading = reading_of(tmp_path, receiver.port)
    try:
        wait_for(lambda: reading.count() >= 2, "messages")
        damaged = bytearray(message(START_UTC_NS, PLACE))
        damaged[50] ^= 1
        receiver.chip.disturb(bytes(damaged))
        wait_for(lambda: reading.source.malformed == 1, "the damage being counted")
        before = reading.count()
        wait_for(lambda: reading.count() >= before + 3, "messages behind it")
    finally:
        recording = reading.end()
        receiver.stop()
    assert all(one.latitude == pytest.approx(PLACE["latitude"], abs=1e-7) for one in recording.decoded("/position"))


def test_a_receiver_pulled_out_is_told_and_another_one_set_up_when_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.fixes, "GAP_SECONDS", 0.3)
    link = tmp_path / "gps"
    first = simulated(period_us=200_000, link=link)
    first.start()
    reading = reading_of(tmp_path, str(link))
    wait_for(lambda: reading.count() >= 2, "messages")
    first.stop()
    wait_for(lambda: reading.state().get("state") == "failed", "the loss being noticed")
    lost = reading.bench.snapshot.build()["values"]["latitude"]
    assert lost["value"] is None and lost["reason"].startswith(str(link))
    second = simulated(as_delivered=True, link=link)
    second.start()
    try:
        before = reading.count()
        wait_for(lambda: reading.count() >= before + 2, "messages of the other one")
        assert second.chip.baud == 115_200
    finally:
        recording = reading.end()
        second.stop()
    assert recording.gaps("gnss")[0].reason.startswith(str(link))


def test_a_silent_receiver_is_told_with_the_reason(tmp_path: Path) -> None:
    receiver = simulated(period_us=200_000)
    receiver.start()
    reading = reading_of(tmp_path, receiver.port)
    try:
        wait_for(lambda: reading.count() >= 2, "messages")
        receiver.chip.replace()  # as delivered again: 38400 baud, NMEA
        wait_for(lambda: reading.state().get("state") == "failed", "the silence being noticed")
        before = reading.count()
        wait_for(lambda: reading.count() >= before + 2, "messages after it was set up again")
        assert receiver.chip.ram == {**model.TRUCK, model.RATE_MEAS: 200}
    finally:
        reading.end()
        receiver.stop()


def test_the_recorder_reads_a_receiver_itself(tmp_path: Path, delivered: SimulatedReceiver) -> None:
    config = gateway_recording.truck(tmp_path)
    config.receiver = Settings(delivered.port, 200)
    running = Running(config)
    with running as recorder:
        wait_for(lambda: recorder._snapshot.counts().get("samples.gnss", 0) >= 3, "positions")
    assert running.whole
