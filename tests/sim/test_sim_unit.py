"""Boards on a desk: `cruisers sim head`, and the watchdog of a simulated unit."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cruisers.__main__ import app
from gateway.head_repl import LineError, Repl
from sim.desk import FIRST_ID
from sim.unit import Unit

pytestmark = pytest.mark.timeout(120)


def test_blank_boards_stand_at_their_links_until_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cruisers", "sim", "head", "--blank", "--units", "2", "--link", "head", "--folder", "boards"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as desk:
        assert desk.stdout is not None
        said = [desk.stdout.readline().strip() for _ in range(6)]
        assert said[:3] == ["2 simulated heads, blank but for MicroPython:", str(tmp_path / "head1"), str(tmp_path / "head2")]
        assert said[4].startswith("cruisers flash --port ") and said[5].startswith("cruisers head console --port ")
        for number in (1, 2):
            board = Repl(str(tmp_path / f"head{number}"))
            unit = board.call("import machine, binascii\nanswer = binascii.hexlify(machine.unique_id()).decode()")
            board.close()
            assert unit == f"{FIRST_ID + number - 1:x}"
        desk.send_signal(signal.SIGINT)
        desk.send_signal(signal.SIGINT)
        assert desk.wait(60) == 0
    assert sorted(os.listdir(tmp_path)) == ["boards"] and (tmp_path / "boards" / "unit2" / "flash.bin").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--units", "0"], "--units 0: from 1 to 32"), (["--link", "/dev/null"], "--link /dev/null: there is something else")],
)
def test_what_cannot_be_simulated_is_one_line_and_exit_code_2(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(app, ["sim", "head", "--blank", *arguments])
    assert done.exit_code == 2 and done.stderr == f"cruisers sim head: {told}\n"


def test_a_program_that_stops_feeding_its_watchdog_is_reset_and_its_port_comes_anew(tmp_path: Path) -> None:
    unit = Unit(tmp_path, bytes(8), fit=())
    try:
        unit.wait_plugged()
        starts = unit.starts
        board = Repl(str(unit.link))
        with contextlib.suppress(LineError):  # it may bite before the answer has come
            board.call("import machine\nmachine.WDT(timeout=500)")
        until = time.monotonic() + 60
        while unit.starts == starts and time.monotonic() < until:
            time.sleep(0.05)
        assert unit.starts > starts and unit.reset_cause() == 3
        with pytest.raises(LineError):
            board.call("answer = 1")
        board.close()
    finally:
        unit.stop()
