"""`cruisers status`: what a technician reads, and that it never passes off an old word as news."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_status_parts import says
from typer.testing import CliRunner, Result

from cruisers.__main__ import app
from gateway.clock import NANO, boottime_ns
from gateway.uplink_status import write_json

SWEEPER = {"truck": "truck-014", "problem": None, "spool_bytes": 5, "quota_bytes": 9}


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Of a truck whose processes run and are well."""
    told = says()
    told["recorder"]["sensors"].pop("sps30")
    write(tmp_path, {**told, "set_aside": []})
    write_json(tmp_path / "sweeper.json", {**SWEEPER, "pid": os.getpid(), "boottime_ns": boottime_ns()})
    return tmp_path


@pytest.fixture
def dead_pid() -> Iterator[int]:
    """Of a process that is gone."""
    child = subprocess.Popen(["true"])
    child.wait()
    yield child.pid


def write(spool: Path, status: dict[str, Any]) -> None:
    write_json(spool / "uplink.json", status)


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, ["status", *arguments])


def test_a_truck_that_is_well_is_told_in_80_columns_with_exit_code_0(spool: Path) -> None:
    shown = run("--spool", str(spool))
    assert shown.exit_code == 0
    assert max(len(line) for line in shown.stdout.splitlines()) <= 80
    text = " ".join(shown.stdout.split())
    for words in ("truck-014", "metered wwan0: rule 2", "77.0 GB, 35.0 h at 4.90 Mbit/s", "images 4812 77.0", "10 min ago: delivered",
                  "(25 h ago), images", "disk free 34.5 GB", "thinned: disk full 1200", "nothing is wrong"):  # fmt: skip
        assert words in text, words


def test_everything_that_is_wrong_is_listed_with_exit_code_1(spool: Path) -> None:
    write(spool, {**says(), "problem": "upload: the hub answers 413", "connected": False, "live_waiting": "no UTC yet"})
    shown = run("--spool", str(spool), "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["wrong"] == [
        "uplink: upload: the hub answers 413",
        "live: no UTC yet",
        "set aside: truck-014-01234567-89abcdef-000123-images: center: sha256 differs",
        "sensor sps30: failed: time-out",
    ]


def test_a_process_that_is_gone_is_said_not_to_run_and_what_it_knew_is_old(spool: Path, dead_pid: int) -> None:
    write(spool, {**says(), "pid": dead_pid, "boottime_ns": boottime_ns() - 7200 * NANO})
    shown = run("--spool", str(spool))
    assert shown.exit_code == 1
    assert "uplink: is not running" in shown.stdout and "not running, 2 h ago" in shown.stdout
    assert "sps30" not in shown.stdout  # it may be well by now


def test_a_process_that_hangs_is_told_by_the_age_of_its_status(spool: Path) -> None:
    write(spool, {**says(), "boottime_ns": boottime_ns() - 60 * NANO})
    assert "uplink: runs, and its status is 60 s old" in run("--spool", str(spool)).stdout


def test_a_status_of_before_the_last_reboot_has_no_age_and_its_process_does_not_run(spool: Path) -> None:
    write(spool, {**says(), "boottime_ns": boottime_ns() + 3600 * NANO})
    shown = json.loads(run("--spool", str(spool), "--json").stdout)
    assert (shown["uplink"]["age_s"], shown["uplink"]["runs"], shown["last_receipt_age_s"]) == (None, False, None)
    assert "uplink: is not running" in shown["wrong"]


def test_a_recorder_that_is_silent_is_noticed(spool: Path) -> None:
    told = says()
    write(spool, {**told, "recorder": {**told["recorder"], "heard_boottime_ns": boottime_ns() - 100 * NANO}})
    assert "recorder: has said nothing for 2 min" in run("--spool", str(spool)).stdout
    write(spool, {**told, "recorder": None})
    assert "recorder: has said nothing to this uplink" in run("--spool", str(spool)).stdout


def test_hours_are_not_invented_while_nothing_moves(spool: Path) -> None:
    for rate, words in ((None, "no rate is known"), (0.0, "nothing was receipted in the last 10 minutes")):
        write(spool, {**says(), "receipted_bytes_per_s": rate})
        assert words in " ".join(run("--spool", str(spool)).stdout.split())


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, spool: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "uplink.json").write_text('{"pid": 1')
    bad = (["--spool", str(tmp_path / "none")], [], ["--config", str(tmp_path / "none.toml")], ["--spool", str(tmp_path / "broken")])
    for arguments in bad:
        shown = run(*arguments)
        assert shown.exit_code == 2, arguments
        assert shown.stderr.startswith("cruisers status: ") and shown.stderr.count("\n") == 1


def test_an_empty_spool_is_not_bad_input_but_nothing_runs_there(tmp_path: Path) -> None:
    shown = run("--spool", str(tmp_path))
    assert shown.exit_code == 1
    assert "uplink: has never written its status here" in shown.stdout and "not known" in shown.stdout


def test_watching_goes_on_until_it_is_interrupted(spool: Path) -> None:
    arguments = [sys.executable, "-m", "cruisers", "status", "--spool", str(spool), "--watch", "--json"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = json.loads(child.stdout.readline())
        before = time.monotonic()
        write(spool, {**says(), "truck": "truck-015"})
        while json.loads(child.stdout.readline())["truck"] != "truck-015":
            assert time.monotonic() - before < 30
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 1 and first["wrong"] == []
