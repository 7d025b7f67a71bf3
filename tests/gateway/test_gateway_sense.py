"""`cruisers sense` on a simulated Linux machine: table and JSON, states as on the head, and what cannot be done in one line."""

import json
from pathlib import Path

import pytest
from kernel_rig import cruisers
from typer.testing import CliRunner

from cruisers.__main__ import app
from drivers.addresses import LEGAL
from gateway import parts
from gateway.parts import I2C_DRIVERS, UART_DRIVERS, PartError, Place, on_i2c, on_uart
from logbook.quantities import BY_ID
from sim import truth


def test_the_table_shows_every_chip_with_values_units_raw_numbers_and_state(tmp_path: Path) -> None:
    pm = str(tmp_path / "pm")
    options = ["--i2c", "1", "--chips", "icm20948,bmp390,sht45,opt3001,as7331", "--uart", pm]
    done = cruisers("sim", "run", *options, "--", "cruisers", "sense", "--bus", "1", "--uart", f"{pm}=sps30", "--once", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
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


def test_a_part_at_another_address_is_found_there() -> None:
    done = cruisers(
        *("sim", "run", "--i2c", "1", "--chips", "opt3001@0x46"),
        *("--", "cruisers", "sense", "--bus", "1", "--chip", "opt3001@0x46", "--once"),
    )
    assert done.returncode == 0 and done.stdout.startswith("opt3001   0x46")


def test_where_nothing_answers_it_says_so_and_the_exit_code_is_1() -> None:
    done = cruisers("sim", "run", "--i2c", "5", "--chips", "sht45", "--", "cruisers", "sense", "--bus", "5", "--without", "sht45", "--once")
    assert (done.returncode, done.stderr) == (1, "cruisers sense: nothing answers on /dev/i2c-5\n")


def test_the_live_table_ends_in_order_with_ctrl_c(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    program = f"timeout -s INT 1.5 cruisers sense --bus 1; echo $? > {ended}"
    done = cruisers("sim", "run", "--i2c", "1", "--chips", "sht45", "--", "sh", "-c", program)
    assert "Humidity" in done.stdout and "Traceback" not in done.stderr
    assert ended.read_text() in ("0\n", "124\n")  # timeout's own code, where it does not hand the program's on


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
        (["--uart", "/dev/nowhere=sps30"], "could not open port /dev/nowhere"),
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
    assert on_uart("/dev/serial0=pms5003") == Place("pms5003", "/dev/serial0")
    with pytest.raises(PartError):
        on_uart("/dev/serial0")


def test_every_part_has_a_driver_that_can_be_made() -> None:
    import importlib

    assert set(I2C_DRIVERS) == set(LEGAL)
    for module, kind in I2C_DRIVERS.values():
        assert hasattr(importlib.import_module(f"drivers.{module}"), kind)
    for module, kind, _ in UART_DRIVERS.values():
        assert hasattr(importlib.import_module(f"drivers.{module}"), kind)


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
        SENSOR = "scripted"
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
