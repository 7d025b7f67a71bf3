"""The real firmware's bus and supervisor on the real MicroPython, on a bus that a chip or a wire holds low."""

import textwrap
import time
from pathlib import Path

import pytest

from logbook.quantities import TABLE
from sim.clock import Clock
from sim.faults import Fault, Faults
from sim.head import SimulatedHead

pytestmark = pytest.mark.timeout(60)
VALUES = {quantity.id: min(max(300.0, quantity.low), quantity.high) for quantity in TABLE}
REPO = Path(__file__).resolve().parents[2]

PROGRAM = """
    import sys, machine, time
    sys.path.append("{repo}")
    from firmware.bus import I2CBus
    bus = I2CBus(machine, 0, 4, 5, 400000)
    one = bytearray(1)
    def ask():
        begin = time.ticks_ms()
        try:
            bus.i2c.readfrom_mem_into(0x77, 0, one)
            return "%02x" % one[0]
        except OSError as error:
            return "error %d%s" % (error.errno, " late" if time.ticks_diff(time.ticks_ms(), begin) >= 45 else "")
    def look():
        return "stuck" if bus.recover() else "free"
"""


def said(tmp_path: Path, faults: Faults, text: str) -> list[str]:
    """The words that `text` (after PROGRAM) writes into the file "said", on a head with these faults."""
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM.format(repo=REPO)) + textwrap.dedent(text))
    head = SimulatedHead(
        tmp_path / "head", lambda t_us: VALUES, lambda *_: None, Clock(), program="program", path=f"{tmp_path}", faults=faults
    )
    try:
        end = time.monotonic() + 30
        while not head.halted:
            assert time.monotonic() < end
            time.sleep(0.01)
        head.check()
        return (head.flash / "said").read_text().split(", ")
    finally:
        head.stop()


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"part": "read", "clocks": 1}, "error 110 late"),
        ({"part": "read", "clocks": 9}, "error 110 late"),
        ({"part": "read", "clocks": 4, "error": "no acknowledge"}, "error 5"),
        ({"part": "written", "byte": 0, "clocks": 1}, "error 110 late"),
    ],
)
def test_the_real_recovery_frees_a_bus_that_a_chip_holds_in_the_middle_of_a_byte(tmp_path: Path, fields: dict, error: str) -> None:
    faults = Faults([Fault(kind="stuck_sda", chip="bmp390", skip=1, times=1, **fields)])
    text = 'open("said", "w").write(", ".join((look(), ask(), ask(), look(), ask(), look())))\n'
    assert said(tmp_path, faults, text) == ["free", "60", error, "stuck", "60", "free"]


def test_a_line_that_is_low_for_good_is_stuck_until_it_ends(tmp_path: Path) -> None:
    for number, kind in enumerate(("stuck_sda", "stuck_scl")):
        faults = Faults([Fault(kind=kind, chip="bmp390", end_s=3.0)])  # type: ignore[arg-type]
        text = """
            words = [ask(), look(), str(bus.stuck), ask()]
            while bus.recover():
                time.sleep_ms(50)
            words += [str(bus.stuck), ask()]
            open("said", "w").write(", ".join(words))
        """
        folder = tmp_path / str(number)
        folder.mkdir()
        assert said(folder, faults, text) == ["error 110 late", "stuck", "True", "error 110 late", "False", "60"]


def test_other_pins_keep_their_own_level(tmp_path: Path) -> None:
    text = """
        led = machine.Pin("LED", machine.Pin.OUT, value=1)
        free = machine.Pin(20, machine.Pin.IN, machine.Pin.PULL_UP)
        words = [str(led.value()), str(free.value()), str(machine.Pin(4).value())]
        led.toggle()
        open("said", "w").write(", ".join(words + [str(led.value())]))
    """
    assert said(tmp_path, Faults(), text) == ["1", "1", "1", "0"]
