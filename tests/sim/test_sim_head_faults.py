"""The real firmware's bus and supervisor on the real MicroPython, on a bus that a chip or a wire holds low."""

import textwrap
import time
from pathlib import Path

import pytest
import serial

from firmware import frames
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


def test_the_whole_firmware_survives_a_held_bus_and_a_loose_connector(tmp_path: Path) -> None:
    faults = Faults(
        [
            Fault(kind="stuck_sda", chip="bmp390", begin_s=4.0, clocks=6, times=1),
            Fault(kind="stuck_sda", chip="sht45", begin_s=5.0, clocks=3, times=1, error="no acknowledge"),
            Fault(kind="unplugged", chip="as7331", begin_s=4.0, end_s=6.0),
        ]
    )
    world = VALUES | dict.fromkeys([name for name in VALUES if name.startswith("magnetic")], 30e-6)
    head = SimulatedHead(tmp_path / "head", lambda t_us: world, lambda *_: None, Clock(), faults=faults)
    states: dict[str, list[tuple[str, str]]] = {}
    decoder = frames.Decoder()
    try:
        with serial.Serial(head.port, 115_200, timeout=0.05) as port:
            port.write(frames.pack(frames.HELLO_REQUEST, 0, 0, 0, 0, bytes(8)))
            end = time.monotonic() + 40
            while not (
                ("degraded", "bus stuck") in states.get("bmp390", [])
                and ("degraded", "bus stuck") in states.get("sht45", [])
                and any(state == "failed" for state, _ in states.get("as7331", []))
                and all(states[name][-1][0] == "ok" for name in ("bmp390", "sht45", "as7331"))
            ):
                assert time.monotonic() < end, states
                port.write(frames.pack(frames.PING, 0, 0, 0, 0, bytes(8)))
                for frame in decoder.feed(port.read(4096)):
                    if frame.type == frames.STATE and frame.sequence:
                        sensor, state, reason = frame.payload[:3]
                        states.setdefault(frames.SENSORS[sensor], []).append((frames.STATES[state], frames.REASONS[reason]))
        head.check()
        assert head.starts == 1
    finally:
        head.stop()
