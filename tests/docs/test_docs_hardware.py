"""hardware.md against the firmware, the drivers, the configuration, the commands and its own drawings."""

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from commands_named import reached

from drivers import addresses
from firmware import board, parts
from fleet import provision_files, provision_inputs, provision_plan
from gateway.config import Inputs
from sim.chips import board as simulated

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "hardware.md").read_text()
EXAMPLE = (ROOT / "docs" / "truck.example.toml").read_text()


@pytest.fixture(scope="module")
def scripts() -> Iterator[Path]:
    """The folder of the drawings' scripts, on the path while the tests of this file run."""
    folder = str(ROOT / "docs")
    sys.path.insert(0, folder)
    yield Path(folder)
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def shapes(scripts: Path) -> ModuleType:
    return importlib.import_module("draw_shapes")


def test_every_address_is_one_that_the_part_can_have_and_none_clash(shapes: ModuleType) -> None:
    rows = shapes.table("Addresses on the head's buses")
    for bus, chip, address, *_ in rows:
        _, _, wire, first, _ = parts.PARTS[chip]
        assert (bus, int(address, 16)) == (wire, first), chip
        assert first == addresses.LEGAL[chip][0], chip
    fitted = [(chip, int(bus[3]), int(address, 16)) for bus, chip, address, *_ in rows if chip in parts.STANDARD]
    assert {chip for chip, _, _ in fitted} == {name for name in parts.STANDARD if parts.PARTS[name][2].startswith("I2C")}
    assert addresses.clash(fitted) == ""


def test_every_pin_that_the_board_names_is_wired_and_stands_where_the_pico_has_it(scripts: Path, shapes: ModuleType) -> None:
    pins = importlib.import_module("draw_pico").PINS
    assert len(pins) == 40
    rows = shapes.table("Pins of the Pico")
    for signal, gpio, pin, *_ in rows:
        assert pins[int(pin) - 1] == (gpio if gpio != "–" else signal), signal
    # Whoever gives the board another wire has a row to write here.
    named = {name: value for name, value in vars(board).items() if re.match(r"(I2C|UART)_[A-Z]+$", name) and isinstance(value, tuple)}
    assert set(named) == {"I2C_MAIN", "I2C_UV", "UART_PM", "UART_GNSS"}
    wired = {int(gpio.removeprefix("GP")) for _, gpio, *_ in rows if gpio.startswith("GP")}
    assert wired == {pin for _, *both in named.values() for pin in both} | {board.POWER_PM}
    power = {signal: int(gpio.removeprefix("GP")) for signal, gpio, *_ in rows if gpio.startswith("GP")}["PM power"]
    assert power == board.POWER_PM == simulated.POWER
    assert f"| 3 ON | GP{power} (violet)" in TEXT


def test_the_speeds_of_buses_and_uart_are_those_of_the_firmware() -> None:
    assert board.I2C_FREQUENCY == 400_000 and "Both I2C buses run at 400 kHz" in TEXT
    assert f"the UART at {parts.PARTS['sps30'][4]} 8N1 (PMS5003: {parts.PARTS['pms5003'][4]};" in TEXT


def test_no_colour_means_two_things_among_supplies(shapes: ModuleType) -> None:
    rows = {row[0]: row for row in shapes.table("Pins of the Pico")}
    assert (rows["3V3(OUT)"][3], rows["VBUS"][3], rows["GND"][3]) == ("red", "orange", "black")
    signals = [row[3] for name, row in rows.items() if name not in ("3V3(OUT)", "VBUS", "GND")]
    assert not {"red", "orange", "black"} & set(signals)
    assert all(row[3] in shapes.WIRES for row in rows.values())


def test_the_names_by_udev_are_those_of_the_example_configuration(shapes: ModuleType) -> None:
    told = {row[2]: row[0] for row in shapes.table("Names on the Pi")}
    example = tomllib.loads(EXAMPLE)
    assert told["[head] port"] == example["head"]["port"]
    assert told["[gpsd] device"] == example["gpsd"]["device"]
    assert (told["[head] port"], told["[gpsd] device"]) == (provision_files.HEAD_PORT, provision_files.GPS_PORT)
    rules = provision_files.rules(provision_plan.Plan("truck-001", "", None, (provision_plan.Camera("front"),), True, "usb"))
    made = {f"/dev/{name}" for name in re.findall(r'SYMLINK\+="([\w-]+)"', rules)}
    assert made == set(told.values()) - {told["[box] port"]}
    assert f'# port = "{told["[box] port"]}"' in EXAMPLE
    assert f'DEVICES="{told["[gpsd] device"]}"' in (ROOT / "fleet" / "units" / "gpsd.default").read_text()


def test_every_overlay_names_the_pin_of_its_row_and_the_key_of_the_example(shapes: ModuleType) -> None:
    rows = {row[0]: row for row in shapes.table("Pins of the Pi")}
    pins = {name: row[1].removeprefix("GPIO") for name, row in rows.items()}
    assert len({row[2] for row in rows.values()}) == len(rows)
    assert f"dtoverlay=pps-gpio,gpiopin={pins['PPS']}" == provision_files.PPS_LINE
    assert f"    {provision_files.PPS_LINE}\n" in TEXT
    assert f"dtoverlay=gpio-shutdown,gpio_pin={pins['power fail']}," in TEXT
    commented = "\n".join(line.removeprefix("# ") for line in EXAMPLE[EXAMPLE.index("# [inputs]") :].split("\n\n", 1)[0].splitlines())
    inputs = tomllib.loads(commented)["inputs"]
    assert set(inputs["devices"]) == {provision_inputs.device(name) for name in provision_inputs.SWITCHES}
    for name, signal in (("bookmark", "bookmark button"), ("lid", "lid contact"), ("ignition", "ignition")):
        switch = provision_inputs.SWITCHES[name]
        assert (str(switch.gpio), switch.code) == (pins[signal], inputs[switch.key]), name
        assert f"    {provision_inputs.overlay(name)}\n" in TEXT, name
    assert len(provision_inputs.SWITCHES) == 3


def test_the_checklist_waits_longer_for_the_ignition_than_the_recorder() -> None:
    waited = re.search(r"ignition off for (\d+) s and on again", TEXT)
    assert waited is not None and float(waited[1]) > Inputs(devices=["/dev/null"], ignition=202).ignition_seconds


def test_every_command_and_option_that_is_named_exists() -> None:
    named = re.findall(r"`(?:sudo )?cruisers ([^`]+)`", TEXT)
    assert {"flash", "provision", "head console", "head update", "doctor", "status", "image make"} <= reached(named)


def test_every_service_that_is_named_is_one_of_ours() -> None:
    named = set(re.findall(r"\b(?:systemctl \w+|journalctl -u) (cruisers-[\w-]+)", TEXT))
    assert named and all((ROOT / "fleet/units" / f"{name}.service").is_file() for name in named)


@pytest.mark.parametrize(
    ("script", "drawing"), [("draw_pico", "pico-wiring"), ("draw_power", "power-and-data"), ("draw_mounting", "mounting")]
)
def test_a_drawing_is_what_its_script_makes_of_the_tables(scripts: Path, script: str, drawing: str) -> None:
    assert (scripts / f"{drawing}.svg").read_text() == importlib.import_module(script).draw()
    assert f"(docs/{drawing}.svg)" in TEXT


def test_the_drawing_of_the_pico_shows_all_forty_pins_and_every_wired_signal(scripts: Path, shapes: ModuleType) -> None:
    svg = (scripts / "pico-wiring.svg").read_text()
    assert svg.count("<circle") == 40
    for signal, _, _, colour, *_ in shapes.table("Pins of the Pico")[:9]:
        assert f">{signal}, {colour}<" in svg
    for _, _, address, *_ in shapes.table("Addresses on the head's buses"):
        assert address in svg


def test_scripts_of_drawings_need_nothing_but_python_itself(scripts: Path) -> None:
    for script in scripts.glob("draw_*.py"):
        imported = {name.name for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Import) for name in node.names}
        imported |= {node.module or "" for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.ImportFrom)}
        assert {name.split(".")[0] for name in imported} <= {"pathlib", "xml", "draw_shapes"}, script.name
