"""Which chips are on the board, and that the head is told so."""

import json
import time
from pathlib import Path

import pytest
from chip_bench import Bench

from sim.chips.board import I2C0, PARTS, STANDARD, UART0, UART1, Board
from sim.clock import Clock
from sim.head import PARTS_FILE, SimulatedHead

pytestmark = pytest.mark.timeout(60)
SPARES = ("icm20948", "bmp390", "sht45", "veml7700", "as7331", "pms5003", "neo_m9n")


def board(*fit: str) -> Board:
    bench = Bench()
    return Board(lambda t_us: {}, bench.record, bench.clock, fit=fit)


def test_the_standard_fit_is_there_unless_another_is_named() -> None:
    bench = Bench()
    standard = Board(lambda t_us: {}, bench.record, bench.clock)
    assert tuple(standard.chips) == STANDARD and set(standard.uart) == {UART1}
    assert sorted(standard.i2c[I2C0].chips) == [0x0C, 0x44, 0x45, 0x68, 0x77]


def test_spares_sit_on_their_wires_and_are_counted() -> None:
    spares = board(*SPARES)
    assert sorted(spares.i2c[I2C0].chips) == [0x0C, 0x10, 0x44, 0x68, 0x77]
    assert spares.uart[UART1].speed == 9600 and spares.uart[UART0].speed == 38_400
    assert set(spares.counters()) == {"icm20948", "bmp390", "sht45", "veml7700", "as7331", "pms5003", "neo_m9n"}
    assert board("sps30_i2c").counters() == {"sps30": {"samples": 0}} and board("sps30_i2c").uart == {}


def test_every_part_can_be_fitted_alone_and_no_two_on_one_line() -> None:
    for name in PARTS:
        assert tuple(board(name).chips) == (name,)
    with pytest.raises(ValueError, match="UART1"):
        board("sps30", "pms5003")


def test_the_head_finds_its_list_of_parts_and_the_chips_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import machine\n"
        "found = machine.I2C(0, scl=machine.Pin(5), sda=machine.Pin(4)).scan()\n"
        "with open('scanned', 'w') as file:\n"
        "    file.write(str(found))\n"
    )
    fit = ("veml7700", "sps30_i2c", "bmp390")
    with SimulatedHead(
        tmp_path / "head", lambda t_us: {"illuminance": 1.0}, lambda *_: None, Clock(), program="program", path=tmp_path, fit=fit
    ) as head:
        end = time.monotonic() + 10
        while not head.halted:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert json.loads((head.flash / PARTS_FILE).read_text()) == [{"part": name} for name in fit]
        assert (head.flash / "scanned").read_text() == str([0x10, 0x69, 0x77])
