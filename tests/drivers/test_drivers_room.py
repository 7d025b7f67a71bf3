"""The room as a whole: compiles for the head, imports there, knows the quantities of the one table, keeps its promises for any bytes."""

import ast
import importlib
import math
from pathlib import Path

import both_interpreters as both
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware import frames
from logbook import quantities

CHIPS = ("icm20948", "bmp390", "sht45", "opt3001", "as7331", "sps30", "veml7700", "pms5003", "neo_m9n")
FILES = sorted((both.REPO / "drivers").glob("*.py"))
REASONS = {"saturated", "bad checksum", "not ready", "implausible", "no new sample", "no fix"}

TRIMS = {
    "icm20948": bytes((0x1D, 0x1B, 0, 10, 10)),
    "bmp390": bytes.fromhex("a86bd749f9a2feb0f62300a061d67503f6064018c4"),
    "sht45": bytes(4),
    "opt3001": b"\x30\x01",
    "as7331": b"\xa6\x40\x40",
    "sps30": b"\x02\x03ABC",
    "veml7700": b"\x00\x10",
    "pms5003": b"\x97",
    "neo_m9n": b"EXT CORE 4.04 (7f89f7)",
}


def driver(chip: str):
    return importlib.import_module(f"drivers.{chip}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_compiles_with_mpy_cross(file: Path, tmp_path: Path) -> None:
    both.compiles(file, tmp_path)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_file_imports_nothing_micropython_lacks(file: Path) -> None:
    assert both.imported(ast.walk(ast.parse(file.read_text()))) <= {"drivers", "struct", "micropython"}


def test_every_driver_is_imported_by_micropython() -> None:
    names = [f"drivers.{file.stem}" for file in FILES if file.stem != "__init__"]
    result = both.micropython("-c", "import " + ", ".join(names) + "; print('imported')")
    assert result.stdout == "imported\n", result.stdout + result.stderr


@pytest.mark.parametrize("chip", CHIPS)
def test_driver_has_the_common_face(chip: str) -> None:
    module = driver(chip)
    kind = getattr(module, chip.upper().replace("_", ""))
    assert {module.SENSOR, kind.SENSOR} == {chip}
    assert kind.RAW_SIZE == module.RAW_SIZE and kind.TRIM_SIZE == module.TRIM_SIZE
    made = kind(object())
    assert made.configured is False and made.trim() == b"" and made.degraded == 0 and made.gap_reason == 0
    assert frames.PAYLOAD_MAX >= 2 + module.RAW_SIZE and frames.PAYLOAD_MAX >= 1 + module.TRIM_SIZE


def test_sensor_numbers_and_raw_sizes_are_those_of_the_formats() -> None:
    assert dict(enumerate(CHIPS, 1)) == frames.SENSORS
    assert [driver(chip).RAW_SIZE for chip in CHIPS] == [23, 6, 6, 4, 11, 40, 4, 32, 92]


@pytest.mark.parametrize("chip", CHIPS)
def test_decode_gives_exactly_the_quantities_the_driver_names_and_all_of_the_table(chip: str) -> None:
    module = driver(chip)
    values = module.decode(TRIMS[chip], bytes(module.RAW_SIZE))
    assert set(values) == set(module.QUANTITIES) <= set(quantities.BY_ID)
    assert {quantity.id for quantity in quantities.TABLE if quantity.sensor == chip} <= set(values)


def test_icm20948_columns_are_the_table_and_the_magnetometer_status() -> None:
    columns = driver("icm20948").columns(TRIMS["icm20948"])
    expected = [quantity.id for quantity in quantities.TABLE if quantity.sensor == "icm20948"]
    assert sorted(column["id"] for column in columns) == sorted([*expected, "mag_status"])
    for column in columns:
        assert set(column) == {"id", "scale", "offset", "lowest", "highest", "status", "mask", "value"}
    assert [column["id"] for column in columns] == [*driver("icm20948").QUANTITIES, "mag_status"]
    for column in columns[:-1]:
        assert abs(column["scale"]) == pytest.approx(quantities.BY_ID[column["id"]].resolution, rel=1e-12)


@pytest.mark.parametrize("chip", CHIPS)
@given(data=st.data())
def test_any_bytes_give_a_plausible_number_or_a_reason(chip: str, data: st.DataObject) -> None:
    module = driver(chip)
    raw = data.draw(st.binary(min_size=module.RAW_SIZE, max_size=module.RAW_SIZE))
    for quantity, value in module.decode(TRIMS[chip], raw).items():
        if isinstance(value, str):
            assert value in REASONS
        else:
            row = quantities.BY_ID[quantity]
            margin = row.resolution
            assert math.isfinite(value) and row.low - margin <= value <= row.high + margin, (quantity, value)
