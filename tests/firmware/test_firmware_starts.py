"""Boot count and own reset marker: the words themselves, the board's main.py, and the whole head as it starts again and again."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import both_interpreters as both
import pytest
import serial

from firmware import frames
from sim.clock import Clock
from sim.compiled import compiled
from sim.head import SimulatedHead


@both.each_check(__file__, "starts_on_both.py")
def test_words_on_both_interpreters(run: Callable[[], None]) -> None:
    run()


# Two starts of the board: into maintenance, and then of an older version, which knows no words and cannot be run.
BOARD = """
import sys
from array import array
class machine:
    words = array("I", [0x2D4D414E, 0x2B << 24 | 7 << 1, 0, 0])
    resets = 0
    @staticmethod
    def mem_backup(): return machine.words
    @staticmethod
    def reset(): machine.resets += 1
class clock:
    @staticmethod
    def sleep(seconds): raise KeyboardInterrupt
sys.modules["machine"] = machine
sys.modules["time"] = clock
from firmware import boot_main
def shown():
    print("#", machine.words[0], machine.words[1] >> 1 & 0x7FFFFF, machine.words[1] & 1, machine.words[2] >> 24,
        machine.words[2] & 0x7FFFFF, machine.resets)
try:
    boot_main.run()
except KeyboardInterrupt:
    shown()
from firmware import slots
slots.pick = lambda: ("a", "switch.0")
boot_main.run()
shown()
"""
OLDER = """
def run(slot, record, alive):
    alive()
    print("runs", slot, record)
    raise RuntimeError("broken")
"""


def test_the_boards_main_py_counts_each_start_and_says_why_it_made_one(tmp_path: Path) -> None:
    room = tmp_path / "firmware"
    room.mkdir()
    for name in ("__init__", "boot_main", "boot_duty", "boot_switch", "slots"):
        shutil.copy(both.REPO / "firmware" / f"{name}.py", room)
    (room / "main.py").write_text(OLDER)
    result = subprocess.run(
        [str(both.BIN / "micropython"), "-c", BOARD],
        cwd=tmp_path,
        env={**os.environ, "MICROPYPATH": f"{tmp_path}:.frozen"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    told = [line for line in result.stdout.splitlines() if line.startswith("#")]
    assert told == ["# 0 8 1 1 8 0", "# 0 9 1 4 9 1"], result.stdout + result.stderr
    assert "runs a switch.0" in result.stdout


# The head's own program; when the file "hang" is on its flash, a task of it hangs, and its watchdog bites soon.
HANGING = """
import os
import machine
from firmware import main
def run():
    from firmware import supervisor
    step = supervisor.Watched.step
    def hung(watched, now):
        if "hang" in os.listdir():
            os.remove("hang")
            machine.WDT(timeout=200)
            while True:
                pass
        step(watched, now)
    supervisor.Watched.step = hung
    main.run()
"""
ASK_S = 0.25  # a head that the machine holds up has room for 8 commands, and the one that is said once must be among them
READING = dict.fromkeys(("pressure", "temperature_barometer"), 300.0)


class Gateway:
    """Asks the head who it is until it is another than before."""

    def __init__(self, head: SimulatedHead) -> None:
        self._port = serial.Serial(head.port, 115200, timeout=0.02)
        self._decoder = frames.Decoder()
        self._boot = 0

    def say(self, kind: int) -> None:
        self._port.write(frames.pack(kind, 0, 0, 0, 0, bytes(8)))

    def next_hello(self) -> tuple[str, int | None, str | None]:
        """(reset cause, boot count, marker) of the start after the one heard last."""
        end = time.monotonic() + 40
        asked = 0.0
        while time.monotonic() < end:
            if time.monotonic() - asked > ASK_S:
                asked = time.monotonic()
                self.say(frames.HELLO_REQUEST)
            for frame in self._decoder.feed(self._port.read(4096)):
                if frame.type == frames.HELLO and frame.boot != self._boot:
                    self._boot = frame.boot
                    told: dict[str, Any] = json.loads(frame.payload)
                    return told["reset_cause"], told.get("boot_count"), told.get("marker")
        raise AssertionError("no HELLO of another start")


@pytest.mark.timeout(120)
def test_each_start_of_a_head_says_which_it_is_and_whether_the_program_itself_made_it(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.mkdir()
    (program / "hanging.py").write_text(HANGING)
    path = f"{program}:{compiled(both.REPO)}"
    with SimulatedHead(tmp_path, lambda t_us: READING, lambda *_: None, Clock(), program="hanging", path=path, fit=["bmp390"]) as head:
        gateway = Gateway(head)
        assert gateway.next_hello() == ("power-on", 1, None)
        gateway.say(frames.MAINTENANCE)
        assert gateway.next_hello() == ("watchdog", 2, "maintenance")  # the chip tells a reset by neither
        (head.flash / "hang").touch()
        assert gateway.next_hello() == ("watchdog", 3, None)
        head.restart()
        assert gateway.next_hello() == ("power-on", 1, None)
    assert (tmp_path / "head.log").read_text() == ""


@pytest.mark.timeout(60)
def test_a_head_before_micropython_1_29_counts_nothing_and_marks_maintenance_on_its_flash(tmp_path: Path) -> None:
    with SimulatedHead(tmp_path, lambda t_us: READING, lambda *_: None, Clock(), fit=["bmp390"], backup=False) as head:
        gateway = Gateway(head)
        assert gateway.next_hello() == ("power-on", None, None)
        gateway.say(frames.MAINTENANCE)
        assert gateway.next_hello() == ("watchdog", None, None)
        assert (head.flash / "maintenance").exists()
    assert (tmp_path / "head.log").read_text() == ""
