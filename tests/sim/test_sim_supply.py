"""The load switch in front of the particle sensor, as the head's pins move it."""

import socket

import pytest
from chip_bench import Bench

from sim.busserver import BusServer
from sim.chips.board import POWER, UART1, Board
from sim.faults import Fault, Faults, parse
from sim.supply import DISCHARGE_US
from sim.unit import desk

PIN_DRIVE = 15
VERSION = bytes.fromhex("7E00D1002E7E")
LINE = UART1[1]


class Rig:
    """A board with a particle sensor, and what its head does to the pins."""

    def __init__(self, *faults: Fault, fit: tuple[str, ...] = ("sps30",)) -> None:
        self.bench = Bench()
        self.board = Board(desk, lambda *_: None, self.bench.clock, Faults(faults), fit)
        self.uart = self.board.uart[UART1]

    def answers(self) -> bool:
        self.uart.read(256)
        self.uart.write(VERSION)
        self.bench.wait_us(20_000)
        return self.uart.any() > 0

    def off_and_on(self, us: int, line: int = 0) -> None:
        self.board.pins[POWER](0)
        self.board.pins[LINE](line)
        assert not self.answers()
        self.bench.wait_us(us)
        self.board.pins[POWER](1)
        self.board.pins[LINE](1)


def test_a_sensor_has_its_power_until_a_program_takes_it_and_is_then_new() -> None:
    rig = Rig()
    assert rig.answers() and rig.board.switch is not None
    rig.uart.write(bytes.fromhex("7E0000020103F97E"))  # start
    rig.bench.wait_us(2_500_000)
    rig.off_and_on(5_000_000)
    rig.bench.wait_us(2_000_000)
    assert rig.answers() and rig.board.chips["sps30"].samples == 2  # idle: it measured nothing since
    assert len(rig.board.switch.switched_us) == 1


def test_only_a_supply_that_was_really_away_ends_a_latch_up() -> None:
    rig = Rig(Fault(kind="latched", chip="sps30", begin_s=1.0))
    assert rig.answers()
    rig.bench.wait_us(2_000_000)
    assert not rig.answers()
    rig.off_and_on(5_000_000, line=1)  # fed through its input by the idle line
    assert not rig.answers()
    rig.off_and_on(DISCHARGE_US // 2)
    assert not rig.answers()
    rig.off_and_on(DISCHARGE_US)
    assert rig.answers()


@pytest.mark.parametrize("kind", ["brown_out", "unplugged"])
def test_a_cut_of_the_wires_ends_a_latch_up_too_but_not_one_that_comes_later(kind: str) -> None:
    script = '{"faults": [{"kind": "latched", "chip": "sps30", "begin_s": 1}, {"kind": "%s", "chip": "sps30", "begin_s": 2, "end_s": 3},'
    script += ' {"kind": "latched", "chip": "sps30", "begin_s": 4}]}'
    rig = Rig(*[strike.fault for strike in parse(script % kind).strikes])
    heard = []
    for _ in range(5):
        heard.append(rig.answers())
        rig.bench.wait_us(1_000_000)
    assert heard == [True, False, kind == "brown_out", True, False]


def test_a_board_without_a_part_on_that_uart_has_no_switch() -> None:
    rig = Board(desk, lambda *_: None, Bench().clock, None, ("sht45", "sps30_i2c"))
    assert rig.switch is None and rig.pins == {}


class Processor:
    """A head that asks for nothing of its processor (sim.busserver.Control)."""

    def watchdog_start(self, milliseconds: int) -> None:
        raise AssertionError

    def watchdog_feed(self) -> None:
        raise AssertionError

    def request_reset(self) -> None:
        raise AssertionError

    def reset_cause(self) -> int:
        raise AssertionError

    def unique_id(self) -> bytes:
        raise AssertionError

    def interrupt_char(self, char: int | None) -> None:
        raise AssertionError


def test_a_program_drives_the_pins_and_the_next_start_finds_them_let_go() -> None:
    rig = Rig()
    server = BusServer(rig.board.i2c, rig.board.uart, Processor(), rig.board.pins)
    server.start()

    def program(*levels: tuple[int, int]) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            for pin, level in (*levels, (20, 1)):  # nothing is soldered to the last: when it is answered, the program has begun
                sock.sendall(bytes((3, 0, PIN_DRIVE, pin, level)))
                assert sock.recv(3) == bytes(3)

    try:
        program((POWER, 0), (LINE, 0))
        assert not rig.answers()
        rig.bench.wait_us(5_000_000)
        program()
        assert rig.answers()
    finally:
        server.stop()
