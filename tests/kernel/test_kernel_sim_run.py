"""`cruisers sim run`: the program's exit code and signals are its own, its serial ports real, and nothing stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kernel_rig import cruisers
from typer.testing import CliRunner

from cruisers.__main__ import app
from sim import run

PROGRAM = [sys.executable, "-c"]


def sim(*options: str, program: str) -> "subprocess.CompletedProcess[str]":
    return cruisers("sim", "run", *options, "--", "python", "-c", program)


def test_the_exit_code_is_the_programs(capfd: pytest.CaptureFixture[str]) -> None:
    assert run.run(run.Options(["sh", "-c", "echo here; exit 7"], i2c=1)) == 7
    assert capfd.readouterr().out == "here\n"


def test_a_program_that_a_signal_ended_is_told_as_a_shell_tells_it() -> None:
    assert run.run(run.Options(["sh", "-c", "kill -9 $$"], i2c=1)) == 128 + 9


def test_the_command_finds_the_chips_for_python_a_module_and_a_console_script() -> None:
    look = "import smbus2; print(hex(smbus2.SMBus(4).read_byte_data(0x77, 0)))"
    done = sim("--i2c", "4", program=look)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0x60\n", "")
    module = cruisers("sim", "run", "--i2c", "1", "--", "python", "-m", "timeit", "-n1", "-r1", "import smbus2; smbus2.SMBus(1)")
    assert module.returncode == 0 and "1 loop" in module.stdout
    script = cruisers("sim", "run", "--i2c", "1", "--chips", "sht45", "--", "cruisers", "sense", "--bus", "1", "--once")
    assert script.returncode == 0 and "Humidity" in script.stdout


def test_the_programs_python_is_ours_unless_the_user_has_activated_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", "/usr/bin")
    for active, path in ((None, f"{ours}:/usr/bin"), (sys.prefix, f"{ours}:/usr/bin"), ("/home/her/venv", f"/usr/bin:{ours}")):
        monkeypatch.delenv("VIRTUAL_ENV", raising=False)
        if active:
            monkeypatch.setenv("VIRTUAL_ENV", active)
        assert run.environment({})["PATH"] == path


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--i2c", "3", "--chips", "sht45,opt3001@0x44"], "sht45 and opt3001 clash on I2C bus 3: both at 0x44"),
        (["--i2c", "1", "--chips", "standard,icm20948@0x69"], "sps30 and icm20948 clash on I2C bus 1: both at 0x69"),
        (["--i2c", "1", "--chips", "bmp390@0x10"], "bmp390 cannot sit at 0x10, only at 0x77, 0x76"),
        (["--i2c", "1", "--chips", "bme280"], "--chips: no model of 'bme280'"),
        (["--i2c", "1", "--chips", "bmp390@x"], "--chips: 'x' is not an address"),
        (["--uart", "/tmp/x=gps"], "--uart: no model of 'gps'"),
        (["--uart", "/nowhere/x"], "--uart: /nowhere/x: No such file or directory"),
        (["--uart", "/dev/null"], "--uart: /dev/null: File exists"),
        (["--uart", "/tmp/a=sps30", "--uart", "/tmp/../tmp/a=pms5003"], "--uart: two parts at /tmp/a"),
        (["--i2c", "1", "--faults", "/nowhere/f.json"], "/nowhere/f.json: No such file or directory"),
        (["--i2c", "1", "--truth", "/dev/null"], "--truth: /dev/null/truth: Not a directory"),
        ([], "nothing to simulate: name a bus"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(options: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["sim", "run", *options, "--", "true"])
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and done.stderr.startswith(f"cruisers sim run: {told}"), done.stderr


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ('{"faults": [', "faults: Input data was truncated"),
        ('{"faults": [{"kind": "nak", "chip": "sht45"}]}', "faults: Invalid enum value 'nak' - at `$.faults[0].kind`"),
        ('{"faults": [{"kind": "unplugged", "chip": "bme280"}]}', "there is no bme280 here (there are sht45)"),
        ('{"faults": [{"kind": "unplugged", "chip": "0x45"}]}', "there is no 0x45 here (there are sht45)"),
    ],
)
def test_a_script_of_faults_that_would_do_nothing_is_refused(script: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text(script)
    done = CliRunner().invoke(app, ["sim", "run", "--i2c", "1", "--chips", "sht45", "--faults", str(path), "--", "true"])
    assert (done.exit_code, done.stderr) == (2, f"cruisers sim run: {path}: {told}\n")


def test_an_option_that_is_none_is_told_and_the_programs_own_options_are_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    done = CliRunner().invoke(app, ["sim", "run", "--i2x", "1", "--", "true"])
    assert done.exit_code == 2 and "No such option" in done.stderr
    assert CliRunner().invoke(app, ["sim", "run", "--i2c", "-1", "true"]).exit_code == 2
    assert CliRunner().invoke(app, ["sim", "run", "--i2c", "1", "echo", "--seed", "x", "--", "--i2c"]).exit_code == 0
    assert capfd.readouterr().out == "--seed x -- --i2c\n"


def test_a_link_that_leads_somewhere_is_left_alone_and_one_that_a_killed_run_left_is_not(tmp_path: Path) -> None:
    link = tmp_path / "serial0"
    link.symlink_to("/dev/null")  # as /dev/serial0 of a Raspberry Pi leads to its own port
    with pytest.raises(run.RunError, match="File exists"):
        run.run(run.Options(["true"], uarts=((link, "sps30"),)))
    assert os.readlink(link) == "/dev/null"
    link.unlink()
    link.symlink_to("/dev/pts/99999")
    assert run.run(run.Options(["test", "-c", str(link)], uarts=((link, "sps30"),))) == 0
    assert not os.path.lexists(link)


def test_a_program_that_is_not_there_is_one_line_and_exit_code_2() -> None:
    done = CliRunner().invoke(app, ["sim", "run", "--i2c", "1", "--", "no-such-program"])
    assert (done.exit_code, done.stderr) == (2, "cruisers sim run: no-such-program: No such file or directory\n")


def test_faults_from_a_file_strike_the_program(tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text('{"faults": [{"kind": "unplugged", "chip": "bmp390"}]}')
    look = "import smbus2\ntry:\n    smbus2.SMBus(1).read_byte_data(0x77, 0)\nexcept OSError as error:\n    print(error.errno)"
    assert sim("--i2c", "1", "--faults", str(tmp_path / "faults.json"), program=look).stdout == "121\n"


def test_a_serial_port_has_its_chip_at_the_chips_speed_only_and_its_link_goes_with_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "pm"
    talk = """
import serial, sys
for baud in (9600, 115200):
    with serial.Serial(sys.argv[1], baud, timeout=0.3) as port:
        port.write(bytes.fromhex("7e00d1002e7e"))
        print(baud, port.read(14).hex())
"""
    assert run.run(run.Options([*PROGRAM, talk, str(link)], uarts=(run.uart(f"{link}=sps30"),))) == 0
    assert capfd.readouterr().out == "9600 \n115200 7e00d1000702030007000200197e\n"
    assert not os.path.lexists(link)


def wait_for(path: Path) -> str:
    """The content of a file that is to come."""
    deadline = time.monotonic() + 30
    while not path.exists() or not path.read_text():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.02)
    return path.read_text()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


WAITING = """
import os, pathlib, signal, sys, time
def end(number, frame):
    pathlib.Path(sys.argv[1] + ".told").write_text(signal.Signals(number).name)
    sys.exit(5)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
path = pathlib.Path(sys.argv[1])
path.with_suffix(".new").write_text(str(os.getpid()))
path.with_suffix(".new").replace(path)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_goes_on_to_the_program_and_all_ends_with_it(number: signal.Signals, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "cruisers", "sim", "run", "--i2c", "1", "--", "python", "-c", WAITING, str(ready)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        pid = int(wait_for(ready))
        process.send_signal(number)
        assert process.wait(30) == 5
        assert wait_for(tmp_path / "ready.told") == number.name and gone(pid)
    finally:
        process.kill()
        process.wait()


def test_when_sim_run_is_killed_the_program_ends_too(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "cruisers", "sim", "run", "--i2c", "1", "--", "python", "-c", WAITING, str(ready)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        pid = int(wait_for(ready))
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 30
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_simulation_that_breaks_says_so(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(self: object, t_us: int) -> dict[str, float]:
        raise ValueError("no such day")

    monkeypatch.setattr(run.World, "at", broken)
    look = """
import smbus2, time
bus = smbus2.SMBus(1)
bus.write_byte(0x44, 0xFD)
time.sleep(0.02)
try:
    bus.read_byte(0x44)
except OSError as error:
    print(error.errno)
"""
    assert run.run(run.Options([*PROGRAM, look], i2c=1, chips=run.chips("sht45"))) == 0
    told = capfd.readouterr()
    assert told.out == "19\n"
    assert told.err.endswith("cruisers sim run: the simulation broke: ValueError: no such day\n")
