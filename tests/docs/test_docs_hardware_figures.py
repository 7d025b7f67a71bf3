"""Every figure of hardware.md that follows from others, computed again from the rows of its own tables."""

import importlib
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import firmware.bus as head_bus

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "hardware.md").read_text()
RAIL, LOGIC = 5.0, 3.3  # V
FULL_SCALE_LUX, SUN_LUX = 83_865.6, 120_000.0
EFFICIENCY = 0.9

Table = Callable[[str], list[list[str]]]


@pytest.fixture(scope="module")
def table() -> Table:
    """A table of hardware.md as the drawings read it, bold marks taken away."""
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        read = importlib.import_module("draw_shapes").table
    finally:
        sys.path.pop(0)
    return lambda heading: [[cell.replace("**", "") for cell in row] for row in read(heading)]


def number(cell: str) -> float:
    """The first number of a cell."""
    found = re.search(r"-?\d+(?:\.\d+)?", cell)
    assert found is not None, cell
    return float(found[0])


def same(told: str, computed: float) -> bool:
    """Whether a cell is the computed value, rounded to as many places as the cell has."""
    places = len(told.split(".")[1]) if "." in told else 0
    return abs(float(told) - computed) <= 0.5000001 * 10**-places


def follows(table: Table) -> dict[str, list[str]]:
    """The lines `follows | value | limit` under the current budget."""
    section = TEXT.split("### Current budget\n", 1)[1].split("\n### ", 1)[0].split("| follows |", 1)[1]
    rows = [
        [cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")
    ]
    return {row[0]: row[1:] for row in rows}


def test_a_cell_is_compared_to_as_many_places_as_it_has() -> None:
    assert same("0.49", 0.488) and not same("0.49", 0.482) and same("2766", 2766.1) and not same("2766", 2767.1)


def test_pull_ups_are_between_what_current_and_rise_time_allow(table: Table) -> None:
    for bus, pins, cable, per_cm, boards, total, least, most, fitted, _ in table("Bus capacitance"):
        capacitance = number(pins) + number(cable) * number(per_cm) + number(boards)
        assert number(total) == capacitance <= 400, bus
        assert same(least, (LOGIC - 0.4) / 3e-3)
        assert same(most, 300e-9 / (0.8473 * capacitance * 1e-12))
        assert number(least) <= number(fitted) <= number(most)


def test_the_longest_cable_and_parallel_pull_ups_follow_from_the_fitted_resistor(table: Table) -> None:
    row = table("Bus capacitance")[0]
    fitted = number(row[8])
    allowed = 300e-9 / (0.8473 * fitted) * 1e12
    assert f"With {fitted:.0f} Ω a bus may have {allowed:.0f} pF" in TEXT
    longest = re.search(r"cable of I2C0 longer than (\d+) cm", TEXT)
    assert longest is not None and float(longest[1]) * number(row[3]) <= allowed - number(row[1]) - number(row[4])

    def beside(each: float) -> float:
        return 1 / (1 / fitted + 4 / each)

    assert f"beside {fitted:.0f} Ω are {round(beside(10_000), -1):.0f} Ω: allowed" in TEXT
    assert f"Four of 4.7 kΩ beside it are {beside(4700):.0f} Ω: less" in TEXT
    assert beside(4700) < number(row[6]) < beside(10_000)


def test_the_sums_of_the_current_budget_are_those_of_its_rows(table: Table) -> None:
    *rows, total = table("Current budget")
    assert total[0] == "sum"
    for column in (2, 3):
        assert same(total[column], sum(number(row[column]) for row in rows))
    assert all(number(row[2]) <= number(row[3]) for row in rows)


def test_power_fuse_and_limits_follow_from_the_current_budget(table: Table) -> None:
    rows = table("Current budget")[:-1]
    typical, peak = (sum(number(row[column]) for row in rows) / 1000 for column in (2, 3))
    by_source = {source: sum(number(row[3]) for row in rows if row[1] == source) for source in ("hub", "Pi", "VBUS", "3V3")}
    head = by_source["Pi"] + by_source["VBUS"] + by_source["3V3"]
    night, weekend = (typical * RAIL / EFFICIENCY / 24 * hours for hours in (14, 62))
    lowest = peak * RAIL / EFFICIENCY / 18
    expected = {
        "power at 5 V, typical (W)": typical * RAIL,
        "power at 5 V, peak (W)": peak * RAIL,
        "at 24 V, typical, converter 90 % (A)": typical * RAIL / EFFICIENCY / 24,
        "at 18 V, peak (A)": lowest,
        "least fuse, at most 75 % loaded (A)": lowest / 0.75,
        "3.3 V of the Pico, peak (mA)": by_source["3V3"],
        "USB port of the Pi that feeds the head, peak (mA)": head,
        "the hub's parts and the head, if all were on the Pi, peak (mA)": by_source["hub"] + head,
        "a night parked, 14 h (Ah at 24 V)": night,
        "a weekend parked, 62 h (Ah at 24 V)": weekend,
    }
    told = follows(table)
    for name, value in expected.items():
        assert same(told[name][0], value), (name, value)
        if told[name][1] and "hence" not in told[name][1]:
            assert value < number(told[name][1]), name
    too_much = told["the hub's parts and the head, if all were on the Pi, peak (mA)"]
    assert number(too_much[0]) > number(too_much[1])
    # the hold-up bank's charger (1 A at 5 V from the rail) is on F1 too
    charging = RAIL * 1.0 / EFFICIENCY / 18
    assert f"F1 then carries {charging:.2f} A more" in TEXT
    assert (lowest + charging) / 0.75 < 5


def test_the_drop_of_each_cable_follows_from_its_length_and_stays_below_what_is_allowed(table: Table) -> None:
    told = follows(table)
    rows = table("Cables and fuses")
    for name, metres, per_metre, ampere, drop, most, _ in rows:
        computed = 2 * number(metres) * number(per_metre) * number(ampere)
        assert abs(number(drop) - computed) <= 1, (name, computed)
        assert computed < number(most), name
    budget = {row[0]: row for row in table("Current budget")}
    head = number(told["USB port of the Pi that feeds the head, peak (mA)"][0])
    assert same(rows[0][3], (number(budget["Raspberry Pi 5"][3]) + head) / 1000)
    assert same(rows[1][3], head / 1000)
    assert rows[2][3] == told["at 18 V, peak (A)"][0]


def test_what_the_load_switch_takes_and_how_long_it_is_off_follow_from_its_parts(table: Table) -> None:
    section = TEXT.split("### The load switch of the particle sensor\n", 1)[1].split("\n## ", 1)[0]
    pull_up, pull_down = 10e3, 50e3
    assert f"leaves {LOGIC * pull_down / (pull_up + pull_down):.2f} V at ON" in section
    assert f"are discharged through 25 Ω: 5 time constants are {5 * 1000e-6 * 25} s" in section
    assert f"takes it for {head_bus._OFF_MS / 1000:.0f} s" in section and f"In {head_bus._OFF_MS / 1000:.0f} s the fan" in section
    assert head_bus._FIRST_MS == 60_000 and head_bus._LONGEST_MS == 60 * head_bus._FIRST_MS and "2, 4, 8 … 60 minutes" in section
    budget = {row[0]: row for row in table("Current budget")}
    sensor = number(budget["SPS30"][3])
    part = next(row for row in table("Bill of materials") if row[1] == "load switch")
    ohms = float(re.search(r"(\d+) mΩ", part[2])[1])  # type: ignore[index]
    assert f"At {sensor:.0f} mA the switch takes {sensor * ohms / 1000:.0f} mV" in section
    assert "a twentieth of its 2 A" in section and "2 A, 52 mΩ" in part[2]
    drop = next(row for row in table("Cables and fuses") if row[0].startswith("Pi to Pico"))
    assert f"its load switch takes {sensor * ohms / 1000:.0f} mV more" in drop[6] and number(drop[4]) + 4 < number(drop[5])


def test_a_load_dump_is_too_much_for_a_clamp_and_little_for_a_stopper(table: Table) -> None:
    peak = sum(number(row[3]) for row in table("Current budget")[:-1]) / 1000 * RAIL / EFFICIENCY / 60
    for name, volts, ohms, milliseconds, ampere, joules, stopper in table("What a 24 V supply does"):
        us, ri, tau = number(volts), number(ohms), number(milliseconds) / 1000 / math.log(10)
        above = tau * (us - 60 - 60 * math.log(us / 60))  # V·s above the clamp of 60 V
        assert same(ampere, (us - 60) / ri), name
        assert same(joules, 60 * above / ri), (name, 60 * above / ri)
        assert same(stopper, peak * above), (name, peak * above)


def test_the_hold_up_bank_lasts_longer_than_an_orderly_stop(table: Table) -> None:
    *steps, total = table("Hold-up")
    seconds = sum(number(row[1]) for row in steps)
    assert same(total[1], seconds)
    assert f"debounce={number(steps[0][1]) * 1000:.0f}\n" in TEXT
    watts = sum(number(row[2]) for row in table("Current budget")[:-1]) / 1000 * RAIL
    assert f"typical power x {seconds:.0f} s = {watts * seconds:.0f} J" in TEXT
    section = TEXT.split("| bank |", 1)[1]
    banks = [[cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in section.splitlines()[2:5]]
    for name, cells, farad, full, empty, stored, left, lasts in banks:
        joules = 0.5 * number(farad) / number(cells) * (number(full) ** 2 - number(empty) ** 2)
        aged = joules * EFFICIENCY * 0.7
        assert same(stored, joules) and same(left, aged), name
        assert number(lasts) == math.floor(aged / watts), (name, aged / watts)
        assert number(full) / number(cells) <= 2.7, name
    fitted = banks[-1]
    assert fitted[0] == "fitted" and number(fitted[6]) >= 1.5 * watts * seconds
    assert f"hold-up bank | {fitted[1]} x {fitted[2]} F, " in TEXT and f"charger to {fitted[3]} V" in TEXT
    filling = re.search(r"full after (\d+) minutes \((\d+) J at 90 %\)", TEXT)
    assert filling is not None
    joules = 0.5 * number(fitted[2]) / number(fitted[1]) * number(fitted[3]) ** 2
    assert (float(filling[1]), float(filling[2])) == (round(joules / EFFICIENCY / 5 / 60), round(joules))


def test_the_time_of_an_orderly_stop_counts_the_drain_of_the_uplinks_unit(table: Table) -> None:
    unit = (ROOT / "fleet" / "units" / "cruisers-uplink.service").read_text()
    drain = next(row for row in table("Hold-up") if row[0].startswith("uplink"))
    assert f"--drain {drain[1]}\n" in unit and f"`--drain {drain[1]}`" in drain[2]


def test_the_years_of_each_disk_follow_from_252_gb_a_day(table: Table) -> None:
    written = 0.252 * 365
    assert f"252 GB a day, {written:.0f} TB a year" in TEXT
    for name, size, endurance, years, days, _, source in table("SSD"):
        assert same(years, number(endurance) / 92), name
        assert same(days, number(size) / 0.252), name
        if "computed" in source or source == "likewise":
            assert number(endurance) == pytest.approx(number(size) * 365 * 5), name


def test_what_a_window_passes_decides_whether_the_sun_saturates_the_light_sensor(table: Table) -> None:
    assert f"less than {FULL_SCALE_LUX / SUN_LUX:.3f}" in TEXT
    assert f"then {FULL_SCALE_LUX / (SUN_LUX * 1.2):.3f}" in TEXT
    for name, passes, lux, percent, verdict in table("Light through the windows"):
        at_sensor = SUN_LUX * number(passes)
        assert same(lux, at_sensor) and same(percent, at_sensor / FULL_SCALE_LUX * 100), name
        assert (verdict == "saturates") == (at_sensor > FULL_SCALE_LUX), name
        assert "clouds" not in verdict or at_sensor * 1.2 < FULL_SCALE_LUX


def test_fitting_a_truck_takes_ten_minutes_by_its_own_list(table: Table) -> None:
    *steps, total = table("Fitting and acceptance")
    assert [row[0] for row in steps] == [str(index) for index in range(1, len(steps) + 1)]
    seconds = sum(number(row[3]) for row in steps)
    assert number(total[3]) == seconds <= 600
