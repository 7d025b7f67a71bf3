"""`cruisers hub` as a person types it: start, stop, status, and what is said when something is not possible."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hub import control, running
from hub.tool import app as tool
from sox.client import SoxClient
from sox.errors import SoxError

pytestmark = pytest.mark.timeout(120)
FREE = ("--c2s-port", "0", "--http-port", "0")
ROOT = Path(__file__).resolve().parents[2]


def cruisers(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, as typed."""
    return subprocess.run(
        [sys.executable, "-m", "cruisers", "hub", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False,
        env={**os.environ, "COLUMNS": "80"},
    )  # fmt: skip


def inside(*arguments: str) -> tuple[int, str, str]:
    """In this process: (exit code, stdout, stderr)."""
    done = CliRunner().invoke(tool, list(arguments))
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def home(needs_ejabberd, tmp_path_factory) -> Iterator[Path]:
    """The folder of a hub that `cruisers hub start` left running; with a long name, longer than a Unix socket's may be."""
    folder = tmp_path_factory.mktemp("tool") / ("far-down-" * 12) / "hub"
    folder.parent.mkdir()
    done = cruisers(
        "start", "--home", str(folder), "--trucks", "truck-1,truck-2", "--open-data", "truck-2", "--c2s-port", "0", "--http-port", "0"
    )
    assert done.returncode == 0, done.stderr
    assert "the hub runs (pid " in done.stdout and max(map(len, done.stdout.splitlines())) <= 80
    yield folder
    control.stop(folder)


def status(home: Path) -> dict:
    code, out, _ = inside("status", "--home", str(home), "--json")
    return {"exit": code, **json.loads(out)}


def test_the_hub_outlives_the_command_that_started_it_and_says_how_it_is(home):
    found = status(home)
    assert (found["exit"], found["running"], found["ready"]) == (0, True, True)
    assert found["trucks"] == ["truck-1", "truck-2"] and found["open_data"] == {"truck-2": False} and found["connected"] == []
    assert os.getsid(found["pid"]) == found["pid"], "no terminal of ours ends it"
    assert Path(found["ca_file"]).is_file() and found["disk_free_bytes"] > 0

    async def main() -> list[str]:
        client = SoxClient(f"truck-1@{found['domain']}", (home / "secrets" / "truck-1").read_text(), found["host"], found["c2s_port"],
                           found["ca_file"])  # fmt: skip
        await client.connect()
        connected = (await asyncio.to_thread(status, home))["connected"]
        await client.disconnect()
        return connected

    assert asyncio.run(main()) == ["truck-1"]
    until = time.monotonic() + 30
    while not (home / "reaper.json").exists():  # the reaper works beside it
        assert time.monotonic() < until
        time.sleep(0.1)
    (home / "upload" / "some").mkdir()
    (home / "upload" / "some" / "object").write_bytes(b"x" * 1000)
    found = status(home)
    assert (found["upload_objects"], found["upload_bytes"]) == (1, 1000)
    code, out, _ = inside("status", "--home", str(home))
    assert code == 0 and "running (pid" in out and "1 objects" in out


def test_starting_again_changes_nothing_and_says_so(home):
    before = status(home)["pid"]
    code, out, _ = inside("start", "--home", str(home), "--trucks", "truck-1,truck-9")
    assert code == 0 and f"already running (pid {before})" in out and "cruisers hub add truck-9" in out
    assert status(home)["pid"] == before and "truck-9" not in status(home)["trucks"]


def test_accounts_come_and_go_by_command(home):
    code, out, _ = inside("add", "truck-3", "--home", str(home), "--open-data", "--packed")
    assert code == 0 and str(home / "secrets" / "truck-3") in out
    assert inside("reader", "map", "--truck", "truck-3", "--home", str(home))[0] == 0
    assert inside("open-data", "truck-3", "--off", "--home", str(home))[0] == 0
    found = status(home)
    assert (found["trucks"], found["readers"], found["open_data"]) == (
        ["truck-1", "truck-2", "truck-3"], {"reader-map": ["truck-3"]}, {"truck-2": False},
    )  # fmt: skip
    for account in ("truck-3", "reader-map"):
        code, out, _ = inside("revoke", account, "--home", str(home))
        assert (code, out) == (0, f"{account}: revoked\n")
    assert status(home)["revoked"] == ["reader-map", "truck-3"] and status(home)["readers"] == {}


@pytest.mark.parametrize(("arguments", "said"), [
    (["start", "--trucks", "Bad_Name"], "'Bad_Name'"),
    (["start", "--domain", "nodots"], "'nodots'"),
    (["start", "--host", "example.org"], "'example.org'"),
    (["start", "--open-data", "truck-7"], "'truck-7'"),
    (["start", "--federate", "cruisers.test"], "hub's own"),
    (["start", "--federate", "Nowhere"], "'Nowhere'"),
    (["add", "truck-1"], "cruisers hub start"),
    (["add", "truck-1", "--packed"], "--packed"),
    (["open-data", "truck-1"], "'truck-1'"),
    (["reader", "map", "--truck", "truck-1"], "'truck-1'"),
    (["revoke", "truck-1"], "'truck-1'"),
    (["revoke", "admin"], "'admin'"),
])  # fmt: skip
def test_what_cannot_be_is_one_line_and_leaves_nothing(needs_ejabberd, tmp_path, arguments, said):
    code, out, err = inside(*arguments, "--home", str(tmp_path / "hub"))
    assert (code, out) == (2, "") and len(err.splitlines()) == 1
    assert err.startswith(f"cruisers hub {arguments[0]}: ") and said in err
    assert not (tmp_path / "hub").exists()


def test_where_nothing_runs_the_exit_code_is_one(tmp_path):
    for command in ("status", "stop"):
        code, out, err = inside(command, "--home", str(tmp_path / "hub"))
        assert (code, err) == (1, "") and "not running" in out
    assert status(tmp_path / "hub")["exit"] == 1 and not (tmp_path / "hub").exists()


def test_a_lock_that_nobody_holds_names_nobody_whatever_pid_stands_in_it(tmp_path):
    (tmp_path / "lock").write_text(json.dumps({"pid": os.getpid(), "c2s_port": 1}), "ascii")
    assert running.look(tmp_path) is None and running.end(tmp_path, 1.0) is False
    with running.own(tmp_path):
        assert running.look(tmp_path) == {"pid": os.getpid()}


def test_stopping_waits_and_what_was_revoked_meanwhile_is_gone_at_the_next_start(home):
    found = status(home)
    began = time.monotonic()
    assert inside("stop", "--home", str(home))[:2] == (0, "stopped\n")
    assert time.monotonic() - began < control.END_SECONDS
    assert not Path(f"/proc/{found['ejabberd_pid']}").exists() and status(home)["running"] is False
    password = (home / "secrets" / "truck-2").read_text("ascii")
    code, out, _ = inside("revoke", "truck-2", "--home", str(home))
    assert code == 0 and "its next start removes the account" in out
    assert inside("start", "--home", str(home), *FREE)[0] == 0
    found = status(home)
    assert found["trucks"] == ["truck-1"] and "truck-2" in found["revoked"]
    with pytest.raises(SoxError, match="not-authorized"):
        asyncio.run(SoxClient(f"truck-2@{found['domain']}", password, found["host"], found["c2s_port"], found["ca_file"]).connect())
    assert "truck-2" not in control.LocalCommands(home, found["domain"]).registered()
