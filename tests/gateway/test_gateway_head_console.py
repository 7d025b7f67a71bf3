"""`cruisers head console` on the real firmware: what it shows, that it takes nothing from the head's ring, how it ends, what it refuses."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from typer.testing import CliRunner

from cruisers.__main__ import app
from firmware import frames
from gateway import head_console
from gateway.head_console import Follower
from gateway.head_console_page import as_json
from gateway.head_duty import Duty
from sim.clock import Clock
from sim.faults import parse
from sim.head import SimulatedHead
from sim.unit import AIR, desk

pytestmark = pytest.mark.timeout(180)
FAULTS = {"faults": [{"kind": "flip", "chip": "as7331", "part": "read", "byte": 0, "bit": 3}]}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedHead]:
    folder = tmp_path_factory.mktemp("head")
    with SimulatedHead(folder, desk, lambda *_: None, Clock(), faults=parse(json.dumps(FAULTS).encode())) as made:
        yield made


def console(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["head", "console", *arguments])


def step_until(follower: Follower, what: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        follower.step()


def test_a_sensor_that_failed_is_told_with_its_reason_and_without_a_number(head: SimulatedHead) -> None:
    follower = Follower(str(head.link))  # at once: the change is in the ring for 20 s
    seen = follower.seen
    step_until(follower, lambda: any(one.source == "as7331" and one.state == "failed" for one in seen.changes) and seen.caught_up)
    follower.close()
    said = as_json(follower.seen, "", time.monotonic())
    (sensor,) = [one for one in said["sensors"] if one["sensor"] == "as7331"]
    assert sensor["reason"] == "wrong identity" and sensor["failures"] > 0
    assert not any("value" in value for value in sensor["values"].values())
    assert any("failed (wrong identity)" in change["text"] for change in said["changes"] if change["source"] == "as7331")


def test_ctrl_c_however_often_leaves_the_last_page_and_the_exit_code_0(head: SimulatedHead, tmp_path: Path) -> None:
    shown, ended = tmp_path / "shown", tmp_path / "ended"
    typing = f"until grep -qs Humidity {shown}; do sleep 0.05; done; for time in 1 2 3; do printf '\\003'; sleep 0.02; done"
    command = f"exec {sys.executable} -m cruisers head console --port {head.link}"
    program = f"({typing}) | script -qefc 'stty cols 80 rows 24; {command}' {shown}; echo $? > {ended}"
    done = subprocess.run(
        ["sh", "-c", program], capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "TERM": "xterm"}
    )
    last = done.stdout.rpartition("\x1b[?25h")[2]  # the cursor shows again: what follows stays on the screen
    assert "Humidity" in last and "as7331" in last and "Traceback" not in done.stdout + done.stderr
    assert ended.read_text() == "0\n"


def test_a_port_that_the_recorder_uses_is_one_line_that_says_how_to_stop_it(head: SimulatedHead) -> None:
    with serial.Serial(str(head.link), exclusive=True):
        done = console("--port", str(head.link))
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "in use" in done.stderr and "systemctl stop cruisers-recorder" in done.stderr


def test_where_nothing_answers_it_says_so_and_the_exit_code_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_console, "ANSWER_S", 0.2)
    master, slave = os.openpty()
    port = os.ttyname(slave)
    try:
        done = console("--port", port)
    finally:
        os.close(master)
        os.close(slave)
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.startswith(f"cruisers head console: nothing answers at {port}") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port", "/dev/nowhere"], "/dev/nowhere: no such port"),
        (["--port", "/dev/nowhere", "--config", "truck.toml"], "--port and --config: one or the other"),
        (["--config", "/nowhere.toml"], "/nowhere.toml"),
        (["--port", "/dev/null", "--seconds", "0"], "--seconds 0: it must be more than 0"),
        (["--port", "/dev/null", "--seconds", "nan"], "--seconds nan: it must be more than 0"),
        (["--port", "/dev/null"], "/dev/null: it is not a serial port"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(arguments: list[str], told: str) -> None:
    done = console(*arguments)
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith(f"cruisers head console: {told}") and done.stderr.count("\n") == 1, done.stderr


def test_it_says_who_the_head_is_and_what_it_measures_and_acknowledges_nothing(
    head: SimulatedHead, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    command = Duty.command
    monkeypatch.setattr(Duty, "command", lambda line, kind: (sent.append(kind), command(line, kind)))
    monkeypatch.setattr(head_console, "ONCE_S", 60.0)
    done = console("--port", str(head.link), "--json")
    assert done.exit_code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["hello"]["unique_id"] == "e6614c311b7d4f2a" and said["health"]["heap_free"] > 0 and said["ring"]["newest"] > 10
    sensors = {sensor["sensor"]: sensor for sensor in said["sensors"]}
    assert sensors["bmp390"]["values"]["pressure"]["value"] == pytest.approx(AIR["pressure"], abs=100)
    assert sensors["sht45"]["values"]["temperature"]["shown"] == "24.00 °C"
    assert set(sent) <= {frames.HELLO_REQUEST, frames.PING}  # for boot 0: the ring is sent again, and nothing of it released


def test_a_head_that_is_unplugged_or_restarts_is_shown_again_when_it_is_back(head: SimulatedHead) -> None:
    follower = Follower(str(head.link))
    seen = follower.seen
    try:
        step_until(follower, lambda: seen.hello is not None and seen.newest > 0)
        head.unplug()
        step_until(follower, lambda: follower.trouble == f"{head.link} is gone")
        newest = seen.newest
        head.plug()
        step_until(follower, lambda: not follower.trouble and seen.newest > newest)
        assert seen.restarts == 0
        head.restart()
        step_until(follower, lambda: seen.restarts == 1 and seen.hello is not None and bool(list(seen.sensors())))
    finally:
        follower.close()
