"""`cruisers sense` on a simulated Linux machine: table and JSON, states as on the head, and what cannot be done in one line."""

import importlib
import io
import json
import sys
import unicodedata
from pathlib import Path

import pytest
from kernel_rig import cruisers
from rich.console import Console
from typer.testing import CliRunner

from cruisers.__main__ import app
from drivers.addresses import LEGAL
from drivers.errors import NO_ACKNOWLEDGE
from firmware import frames
from gateway import parts, sense
from gateway.parts import I2C_DRIVERS, UART_DRIVERS, PartError, Place, on_i2c, on_uarts
from logbook.quantities import BY_ID
from sim import truth


def cells(line: str) -> int:
    """Columns that a line may take where characters of ambiguous width take two, as in terminals set for Japanese."""
    return sum(2 if unicodedata.east_asian_width(character) in "AWF" else 1 for character in line)


def test_the_table_shows_every_chip_with_values_units_raw_numbers_and_state(tmp_path: Path) -> None:
    pm = str(tmp_path / "pm")
    options = ["--i2c", "1", "--chips", "icm20948,bmp390,sht45,opt3001,as7331", "--uart", pm]
    done = cruisers("sim", "run", *options, "--", "cruisers", "sense", "--bus", "1", "--uart", f"{pm}=sps30", "--once", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(cells, lines)) <= 80
    heads = {line.split()[0]: line for line in lines if line and not line.startswith(" ")}
    for part, address in {"icm20948": "0x68", "bmp390": "0x77", "sht45": "0x44", "opt3001": "0x45", "as7331": "0x74", "sps30": pm}.items():
        _, place, state, *age = heads[part].split()
        assert address.endswith(place.lstrip("…")) and state == "ok" and age[1:] == ["s", "ago"]
    assert heads["absent:"] == "absent: veml7700 0x10"
    for label, unit in {"Acceleration X Y Z": "m/s²", "Pressure": "hPa", "Humidity": "%", "PM1 2.5 4 10": "µg/m³", "UV-A": "W/m²"}.items():
        line = next(line for line in lines if line.strip().startswith(label))
        assert f" {unit} " in line and line.split(unit)[1].strip(), line  # the raw numbers stand behind


def test_json_is_one_object_with_the_worlds_values_and_the_states_of_the_faults(tmp_path: Path) -> None:
    faults = {"faults": [{"kind": "unplugged", "chip": "sht45"}, {"kind": "flip", "chip": "as7331", "part": "read", "byte": 0, "bit": 3}]}
    (tmp_path / "faults.json").write_text(json.dumps(faults))
    done = cruisers(
        *("sim", "run", "--i2c", "1", "--chips", "bmp390,sht45,opt3001,as7331", "--faults", str(tmp_path / "faults.json")),
        *("--truth", str(tmp_path), "--", "cruisers", "sense", "--bus", "/dev/i2c-1", "--json", "--seconds", "2"),
    )
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    found = json.loads(done.stdout)
    assert found["bus"] == "/dev/i2c-1"
    by_part = {part["part"]: part for part in found["parts"]}
    assert set(by_part) == set(I2C_DRIVERS)
    assert {name: by_part[name]["state"] for name in ("bmp390", "sht45", "opt3001", "icm20948")} == {
        "bmp390": "ok", "sht45": "absent", "opt3001": "ok", "icm20948": "absent",
    }  # fmt: skip
    assert by_part["sht45"]["reason"] == "no acknowledge" and by_part["sht45"]["samples"] == 0
    assert by_part["as7331"]["state"] == "failed" and by_part["as7331"]["reason"] == "wrong identity"
    _, true = truth.read(tmp_path)["bmp390"]
    pressure = by_part["bmp390"]["values"]["pressure"]
    assert min(abs(pressure["value"] - true["pressure"])) < 0.05
    assert pressure["unit"] == BY_ID["pressure"].unit and pressure["shown"] == f"{pressure['value'] / 100:.2f} hPa"
    assert int(pressure["raw"]) > 0 and by_part["bmp390"]["age_s"] <= 2.1


WATCH = """
import json, time
from gateway.parts import on_i2c, open_parts
part, = open_parts("/dev/i2c-1", on_i2c([], ["icm20948", "bmp390", "opt3001", "as7331", "veml7700", "sps30"], 1, []), [])
states = []
def turn():
    part.step(time.monotonic_ns() // 1_000_000)
    if not states or states[-1] != [part.state, part.reason]:
        states.append([part.state, part.reason])
    time.sleep(0.004)
part.start(time.monotonic_ns() // 1_000_000)
end = time.monotonic() + 30
while states[-1:] != [["ok", ""]] and time.monotonic() < end:
    turn()
while part.state != "failed" and time.monotonic() < end:
    turn()
while part.state != "ok" and time.monotonic() < end:
    turn()
print(json.dumps(states))
"""


def test_a_part_that_is_unplugged_fails_with_the_reason_and_is_ok_again_when_it_is_back(tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text('{"faults": [{"kind": "unplugged", "chip": "sht45", "begin_s": 3, "end_s": 4.5}]}')
    options = ("--i2c", "1", "--chips", "sht45", "--faults", str(tmp_path / "faults.json"))
    done = cruisers("sim", "run", *options, "--", sys.executable, "-c", WATCH)
    states = json.loads(done.stdout)
    assert states[0][0] == "configuring" and ["ok", ""] in states and states[-1] == ["ok", ""], states
    assert ["degraded", "no acknowledge"] in states and ["failed", "no acknowledge"] in states


def test_a_part_at_another_address_is_found_there() -> None:
    done = cruisers(
        *("sim", "run", "--i2c", "1", "--chips", "opt3001@0x46"),
        *("--", "cruisers", "sense", "--bus", "1", "--chip", "opt3001@0x46", "--once"),
    )
    assert done.returncode == 0 and done.stdout.startswith("opt3001   0x46")


def test_where_nothing_answers_it_says_so_and_the_exit_code_is_1() -> None:
    done = cruisers("sim", "run", "--i2c", "5", "--chips", "sht45", "--", "cruisers", "sense", "--bus", "5", "--without", "sht45", "--once")
    assert (done.returncode, done.stderr) == (1, "cruisers sense: nothing answers on /dev/i2c-5\n")


def test_a_part_that_needs_its_time_is_not_said_to_be_silent(tmp_path: Path) -> None:
    pm = str(tmp_path / "pm")
    done = cruisers(
        "sim", "run", "--uart", f"{pm}=pms5003", "--", "cruisers", "sense", "--uart", f"{pm}=pms5003", "--once", "--seconds", "1"
    )
    assert (done.returncode, done.stderr) == (1, "cruisers sense: no sample yet of pms5003 (--seconds 60 waits longer)\n")


@pytest.mark.parametrize("how", ["--json", "--seconds=0.5"])
def test_output_that_cannot_be_written_is_one_line(how: str) -> None:
    done = cruisers("sim", "run", "--i2c", "1", "--chips", "sht45", "--", "sh", "-c", f"cruisers sense --bus 1 {how} >/dev/full")
    assert (done.returncode, done.stderr) == (2, "cruisers sense: cannot write: No space left on device\n")


def test_the_live_table_ends_in_order_with_ctrl_c_however_often_it_comes(tmp_path: Path) -> None:
    shown, ended = tmp_path / "shown", tmp_path / "ended"
    typing = f"until grep -qs Humidity {shown}; do sleep 0.05; done; for time in 1 2 3; do printf '\\003'; sleep 0.02; done"
    # A terminal of its own. `exec`: dash would stay in front of the program, and end with 130 by the same Ctrl-C.
    program = f"({typing}) | script -qefc 'exec cruisers sense --bus 1' {shown}; echo $? > {ended}"
    done = cruisers("sim", "run", "--i2c", "1", "--chips", "sht45", "--", "sh", "-c", program, TERM="xterm")
    last = done.stdout.rpartition("\x1b[?25h")[2]  # the cursor shows again: what follows stays on the screen
    assert "Humidity" in last and "Traceback" not in done.stdout + done.stderr
    assert ended.read_text() == "0\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--bus", "1", "--chip", "opt3001@0x44"], "sht45 and opt3001 clash on I2C bus 1: both at 0x44"),
        (["--bus", "/dev/i2c-7", "--chip", "bmp390@0x76", "--chip", "as7331@0x76"], "bmp390 and as7331 clash on I2C bus 7: both at 0x76"),
        (["--bus", "1", "--chip", "bmp390@0x12"], "bmp390 cannot sit at 0x12, only at 0x77, 0x76"),
        (["--bus", "1", "--chip", "bme280"], "no driver for 'bme280'"),
        (["--bus", "1", "--without", "bme280"], "no driver for 'bme280'"),
        (["--bus", "1", "--chip", "bmp390@high"], "'high' is not an address"),
        (["--bus", "/dev/i2c-99"], "/dev/i2c-99: No such file or directory"),
        (["--uart", "/dev/nowhere=sps30"], "/dev/nowhere: No such file or directory"),
        (["--uart", "/dev/null=sps30"], "/dev/null: it is not a serial port"),
        (["--uart", "/dev/a=sps30", "--uart", "/dev/../dev/a=pms5003"], "sps30 and pms5003 clash: both on /dev/../dev/a"),
        (["--uart", "/dev/a=sps30", "--chip", "opt3001@0x44"], "--chip and --without are about a bus"),
        (["--bus", "/dev/null"], "/dev/null: it is not an I2C bus"),
        (["--bus", "here"], "here: No such file or directory\n"),
        (["--bus", ""], "--bus takes a device"),
        (["--bus", "1", *[word for part in LEGAL for word in ("--without", part)]], "nothing to read"),
        (["--bus", "1", "--chip", "bme280@0x76"], "no driver for 'bme280'"),
        (["--bus", "1", "--chip", "@0x44"], "no driver for ''"),
        (["--bus", "1", "--chip", "bmp390@"], "'' is not an address"),
        (["--bus", "1", "--chip", "bmp390@0x76", "--chip", "bmp390"], "bmp390 is named twice"),
        (["--bus", "1", "--chip", "bmp390@0x76", "--without", "bmp390"], "bmp390 is to be read, and to be left out"),
        (["--bus", "1", "--seconds", "-1"], "--seconds -1: it must be more than 0"),
        (["--bus", "1", "--seconds", "nan"], "--seconds nan: it must be more than 0"),
        (["--uart", "/dev/serial0=gps"], "--uart /dev/serial0=gps: it takes PATH=PART"),
        ([], "nothing to read"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["sense", *arguments])
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith(f"cruisers sense: {told}") and done.stderr.count("\n") == 1, done.stderr


def test_every_part_is_looked_for_at_its_default_address_unless_it_is_on_a_uart() -> None:
    assert on_i2c([], [], 1, []) == [Place(part, addresses[0]) for part, addresses in LEGAL.items()]
    without = on_i2c(["opt3001@0x44"], ["sht45"], 1, ["sps30"])
    assert Place("opt3001", 0x44) in without and not {"sht45", "sps30"} & {place.part for place in without}
    assert on_uarts(["/dev/by=id=pms5003"]) == [Place("pms5003", "/dev/by=id")]
    with pytest.raises(PartError):
        on_uarts(["/dev/serial0"])


def test_every_part_has_a_driver_that_can_be_made() -> None:
    assert set(I2C_DRIVERS) == set(LEGAL)
    for module, kind in I2C_DRIVERS.values():
        assert hasattr(importlib.import_module(f"drivers.{module}"), kind)
    for module, kind, _ in UART_DRIVERS.values():
        assert hasattr(importlib.import_module(f"drivers.{module}"), kind)


def test_in_a_low_window_the_last_parts_keep_their_states_and_the_first_their_values() -> None:
    class Module:
        SENSOR, RAW_SIZE, QUANTITIES = "scripted", 1, ("pressure", "humidity", "temperature")

        @staticmethod
        def decode(trim: bytes, raw: bytes) -> dict[str, float | str]:
            return dict.fromkeys(Module.QUANTITIES, 300.0)

    made = [parts.Part(Place(name, 0x50), Scripted([b"x"]), Module) for name in ("one", "two", "three")]  # type: ignore[arg-type]
    made.append(parts.Part(Place("away", 0x51), Scripted([]), Module))  # type: ignore[arg-type]
    for part in made:
        part.start(5)
        part.step(10)
    made[3]._watched.state = frames.ABSENT

    def shown(height: int | None) -> list[str]:
        console = Console(width=78, record=True, file=io.StringIO())
        console.print(sense.table(made, 20, height))
        return console.export_text().splitlines()

    assert len(shown(None)) == 13 == len(shown(13)) and "higher" not in shown(13)[-1]
    for height in range(5, 13):
        lines = shown(height)
        assert len(lines) <= height and [line.split()[0] for line in lines if line[0] != " "] == ["one", "two", "three", "absent:", "a"]
    assert [line.strip().split("  ")[0] for line in shown(8)][1:4] == ["Pressure", "Humidity", "Temperature"]


@pytest.mark.parametrize("encoding", ["euc_jp", "ascii"])
def test_a_terminal_that_is_not_unicode_gets_what_it_can_show(encoding: str) -> None:
    program = ("cruisers", "sense", "--bus", "1", "--once")
    done = cruisers("sim", "run", "--i2c", "1", "--chips", "icm20948", "--", *program, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert " m/s2 " in done.stdout and (" °/s " if encoding == "euc_jp" else " deg/s ") in done.stdout


class Scripted:
    """A driver of one quantity pair whose samples are given."""

    SENSOR, RAW_SIZE, TRIM_SIZE, PERIOD_MS = "scripted", 1, 0, 0
    configured, degraded, gap_reason = True, 0, 0

    def __init__(self, drains: list[bytes]) -> None:
        self.drains = drains

    def start(self, now: int) -> None:
        """Nothing to set up."""

    def poll(self, now: int) -> int:
        return len(self.drains[0]) if self.drains else 0

    def read_into(self, buf: bytearray, offset: int = 0) -> int:
        data = self.drains.pop(0)
        buf[offset : offset + len(data)] = data
        return len(data)

    def trim(self) -> bytes:
        return b""


def test_a_quantity_without_a_new_sample_keeps_its_last_value_and_any_other_reason_replaces_it() -> None:
    class Module:
        SENSOR, RAW_SIZE, FRAMES_AT_ONCE = "scripted", 1, 2
        QUANTITIES = ("pressure", "humidity")

        @staticmethod
        def decode(trim: bytes, raw: bytes) -> dict[str, float | str]:
            humidity = {1: 50.0, 2: "no new sample", 3: "saturated"}[raw[0]]
            return {"pressure": 100_000.0 + raw[0], "humidity": humidity}

    part = parts.Part(Place("scripted", 0x50), Scripted([b"\1\2", b"\3"]), Module)  # type: ignore[arg-type]
    part.start(5)
    part.step(10)
    part.decode()
    assert part.values == {"pressure": 100_002.0, "humidity": 50.0} and part.raw == {"pressure": "02", "humidity": "01"}
    assert part.readings.samples == 2 and part.age_ms(510) == 500 and part.state == "ok"
    part.step(20)
    part.decode()
    assert part.values["humidity"] == "saturated"


def test_what_a_part_said_before_it_failed_is_no_value_any_more() -> None:
    class Module:
        SENSOR, RAW_SIZE, QUANTITIES = "scripted", 1, ("pressure", "humidity")

        @staticmethod
        def decode(trim: bytes, raw: bytes) -> dict[str, float | str]:
            return {"pressure": 1e5, "humidity": "saturated"}

    part = parts.Part(Place("scripted", 0x50), Scripted([b"x"]), Module)  # type: ignore[arg-type]
    part.start(5)
    part.step(10)
    assert sense.as_json("bus", [part], 20)["parts"][0]["values"]["pressure"]["value"] == 1e5
    part._watched.state, part._watched.reason = frames.FAILED, NO_ACKNOWLEDGE
    values = sense.as_json("bus", [part], 20)["parts"][0]["values"]
    assert values["pressure"] == {"raw": "78", "reason": "no acknowledge"} and values["humidity"]["reason"] == "saturated"
    console = Console(width=78, record=True, file=io.StringIO())
    console.print(sense.table([part], 2010))
    assert console.export_text().splitlines() == ["scripted  0x50   failed (no acknowledge)  2.0 s ago"]


def test_a_part_may_hand_over_all_the_samples_its_driver_keeps() -> None:
    for name, kind, _ in UART_DRIVERS.values():
        module = importlib.import_module(f"drivers.{name}")
        part = parts.Part(Place(name, "/dev/serial0"), getattr(module, kind)(Silent()), module)
        most = getattr(module, "FRAMES_AT_ONCE", 1)
        part._watched.driver.read_into = lambda buf, offset=0, size=most * module.RAW_SIZE: fill(buf, size)  # type: ignore[method-assign]
        assert part.readings.sample(0, part._watched.driver) == most


def fill(buffer: bytearray, size: int) -> int:
    """What a driver with so many bytes does."""
    for index in range(size):
        buffer[index] = 1
    return size


class Silent:
    """A serial line on which nothing comes."""

    def any(self) -> int:
        return 0

    def readinto(self, buf: bytearray) -> None:
        return None

    def write(self, buf: bytes) -> int:
        return len(buf)

    def init(self, baudrate: int) -> None:
        """Any speed will do."""
