"""The whole uplink without a hub: bad input, a full disk, the last status, draining, and going on trying."""

import asyncio
import json
import sqlite3
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from gateway_uplink_parts import FOLDER, seal, until

from gateway import uplink
from gateway.ledger import Found, Ledger
from gateway.live import LiveSender
from gateway.uplink_lock import lock
from gateway.uplink_part import Part
from gateway.uplink_scan import describe, scan
from hub.certificates import ensure
from sox.segments import Receipt

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).resolve().parents[2]


def write_config(folder: Path, **changes: str) -> Path:
    settings = {
        "name": "truck-1", "spool": f"{folder}/spool", "live_socket": f"{folder}/live", "ca_file": f"{folder}/ca.pem",
        "password_file": f"{folder}/password",
    } | changes  # fmt: skip
    path = folder / "truck.toml"
    path.write_text(
        f'name = "{settings["name"]}"\nspool = "{settings["spool"]}"\nlive_socket = "{settings["live_socket"]}"\n'
        f'[hub]\ndomain = "hub.test"\nhost = "127.0.0.1"\nport = 1\n'
        f'ca_file = "{settings["ca_file"]}"\npassword_file = "{settings["password_file"]}"\n'
    )
    return path


@pytest.fixture
def hub_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    ensure(tmp_path / "tls", "hub.test", "127.0.0.1").ca.rename(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "Truck 1"}, "truck name"),
        ({"password_file": "/nowhere/password"}, "/nowhere/password: No such file or directory"),
        ({"ca_file": "/nowhere/ca.pem"}, "/nowhere/ca.pem: No such file or directory"),
        ({"spool": "/proc/nowhere"}, "spool /proc/nowhere: "),
        ({"live_socket": "/proc/nowhere/live"}, "live socket /proc/nowhere/live"),
    ],
)
def test_bad_configuration_is_one_line_and_exit_2(
    tmp_path: Path, hub_files: None, capsys: pytest.CaptureFixture[str], changes: dict[str, str], said: str
) -> None:
    assert uplink.main([str(write_config(tmp_path, **changes))]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1 and said in captured.err


@pytest.mark.parametrize("arguments", [[], ["x", "--drain", "soon"], ["x", "--drain", "nan"], ["x", "--drain", "-1"], ["x", "--other"]])
def test_a_bad_command_line_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        uplink.main(arguments)
    assert end.value.code == 2 and len(capsys.readouterr().err.splitlines()) == 1


def test_of_several_trucks_all_begin_or_none_and_it_is_told_which_cannot(
    tmp_path: Path, hub_files: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink, "LOCK_SECONDS", 0.1)
    good = write_config(tmp_path)
    (tmp_path / "other").mkdir()
    files = {name: f"{tmp_path}/{name}" for name in ("password", "ca.pem")}
    bad = write_config(
        tmp_path / "other", name="truck-2", live_socket="/proc/nowhere/live", ca_file=files["ca.pem"], password_file=files["password"]
    )
    assert uplink.main([str(good), str(bad)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and said.startswith(f"{bad}: live socket /proc/nowhere/live")
    assert not (tmp_path / "live").exists() and not (tmp_path / "spool" / "uplink.json").exists(), "the good one let go of what it had"
    with lock(tmp_path / "spool"):
        assert uplink.main([str(good)]) == 2, "nor does it hold the spool"


async def test_several_trucks_run_in_one_process_and_end_with_it(tmp_path: Path, hub_files: None) -> None:
    configs = []
    for name in ("truck-1", "truck-2", "truck-3"):
        folder = tmp_path / name
        folder.mkdir()
        configs.append(write_config(folder, name=name, ca_file=f"{tmp_path}/ca.pem", password_file=f"{tmp_path}/password"))
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway.uplink", *map(str, configs), cwd=ROOT)
    await until(lambda: all((tmp_path / f"truck-{number}" / "spool" / "uplink.json").exists() for number in (1, 2, 3)))
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 30) == 0
    shown = [json.loads((tmp_path / f"truck-{number}" / "spool" / "uplink.json").read_text()) for number in (1, 2, 3)]
    assert [(one["truck"], one["draining"], one["pid"]) for one in shown] == [(f"truck-{n}", True, process.pid) for n in (1, 2, 3)]


async def test_the_status_says_which_link_it_is_and_who_may_use_it(tmp_path: Path, hub_files: None) -> None:
    path = write_config(tmp_path)
    path.write_text(path.read_text() + '[uplink]\nnetwork_manager = false\n[[uplink.rules]]\nlink = "metered"\nmonthly_bytes = 5\n')
    (tmp_path / "spool").mkdir()
    work = uplink.Uplink(uplink.config.load(path), uplink.Pace(back_off_first=0.01, look_seconds=0.05))
    running = asyncio.create_task(work.run())
    status = tmp_path / "spool" / "uplink.json"
    wanted = {
        "interface": "lo", "ssid": None, "class": "metered", "why": "rule 1", "allows": ["packed", "readings", "requested"],
        "budget_bytes": 5, "budget_used_bytes": 0,
    }  # fmt: skip
    await until(lambda: status.exists() and json.loads(status.read_text())["link"] == wanted)
    work._ways.count(5)
    await until(lambda: json.loads(status.read_text())["link"]["allows"] == [])
    work._limits = uplink.Limits(1_000_000, None)
    await until(lambda: "images_segment_bytes is 16000000, and the hub takes" in (json.loads(status.read_text())["problem"] or ""))
    assert json.loads(status.read_text())["hub_limits"] == {"max_file_bytes": 1_000_000, "max_payload_bytes": None}
    work.stop()
    await running


async def test_draining_does_not_wait_for_what_the_link_does_not_allow(tmp_path: Path, hub_files: None) -> None:
    seal(tmp_path / "spool", 1, "images")
    path = write_config(tmp_path)
    path.write_text(path.read_text() + '[uplink]\nnetwork_manager = false\n[[uplink.rules]]\nlink = "metered"\n')
    work = uplink.Uplink(uplink.config.load(path), uplink.Pace(back_off_first=0.01, look_seconds=0.05))
    running = asyncio.create_task(work.run(drain_seconds=50))
    await until(lambda: work._scans > 1)
    work.stop()
    await asyncio.wait_for(running, 20)
    assert json.loads((tmp_path / "spool" / "uplink.json").read_text())["segments"]["sealed"] == 1


async def test_every_datagram_goes_to_every_part_and_only_snapshots_to_the_live_values(tmp_path: Path, hub_files: None) -> None:
    (tmp_path / "spool").mkdir()
    work = uplink.Uplink(uplink.config.load(write_config(tmp_path)), uplink.Pace(back_off_first=0.01, look_seconds=0.05))
    seen: list[dict[str, Any]] = []
    offered: list[dict[str, Any]] = []
    work._parts = [Part(on_datagram=seen.append, status=lambda: {"mine": len(seen)})]
    work._sender.offer = offered.append  # type: ignore[method-assign]
    running = asyncio.create_task(work.run())
    sender = LiveSender(tmp_path / "live")
    sent: list[dict[str, Any]] = [{"kind": "event", "n": 1}, {"number": 1}, {"kind": "packed"}, {"number": 2}, {"kind": "event", "n": 2}]
    for datagram in sent:
        assert sender.send(datagram)
    status = tmp_path / "spool" / "uplink.json"
    await until(lambda: [d for d in seen if "kind" in d] == [d for d in sent if "kind" in d] and offered[-1:] == [{"number": 2}])
    await until(lambda: status.exists() and json.loads(status.read_text()).get("mine") == len(seen))
    assert [d for d in seen if "kind" not in d] == offered
    sender.close()
    work.stop()
    await running


async def test_a_second_uplink_on_the_same_spool_is_refused(tmp_path: Path, hub_files: None, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path)
    (tmp_path / "spool").mkdir()
    first = uplink.Uplink(uplink.config.load(config))
    running = asyncio.create_task(first.run())
    await until((tmp_path / "spool" / "uplink.json").exists)
    assert await asyncio.to_thread(uplink.main, [str(write_config(tmp_path, live_socket=f"{tmp_path}/other"))]) == 2
    assert "another uplink already works on" in capsys.readouterr().err
    first.stop()
    await running
    assert not (tmp_path / "spool" / "ledger.sock").exists() and not (tmp_path / "live").exists()


async def test_a_full_disk_is_told_and_never_an_exit(tmp_path: Path, hub_files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seal(tmp_path / "spool", 1)
    full = [True]
    real = Ledger.add

    def add(self: Ledger, found: Iterable[Found]) -> None:
        if full[0]:
            raise sqlite3.OperationalError("database or disk is full")
        real(self, found)

    monkeypatch.setattr(Ledger, "add", add)
    work = uplink.Uplink(uplink.config.load(write_config(tmp_path)), uplink.Pace(back_off_first=0.01, look_seconds=0.05))
    running = asyncio.create_task(work.run())
    status = tmp_path / "spool" / "uplink.json"
    await until(lambda: status.exists() and "scan: database or disk is full" in (json.loads(status.read_text())["problem"] or ""))
    assert not running.done()
    full[0] = False
    await until(lambda: json.loads(status.read_text())["segments"]["sealed"] == 1)
    work.stop()
    await running


async def test_the_last_status_is_the_last_one_written(tmp_path: Path, hub_files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A status being written when the end comes must not replace the one that says how it ended."""
    real, begun, released = uplink.write_json, threading.Event(), threading.Event()

    def slow(path: Path, status: dict[str, Any]) -> None:
        if not status["draining"]:
            begun.set()
            released.wait(30)
        real(path, status)

    (tmp_path / "spool").mkdir()
    monkeypatch.setattr(uplink, "write_json", slow)
    work = uplink.Uplink(uplink.config.load(write_config(tmp_path)))
    running = asyncio.create_task(work.run())
    await until(begun.is_set)
    work.stop()
    asyncio.get_running_loop().call_later(0.3, released.set)
    await running
    await asyncio.sleep(0.3)  # time for a late writer
    assert json.loads((tmp_path / "spool" / "uplink.json").read_text())["draining"]


async def test_a_segment_sealed_just_before_the_end_is_waited_for_while_draining(tmp_path: Path, hub_files: None) -> None:
    (tmp_path / "spool").mkdir()
    work = uplink.Uplink(uplink.config.load(write_config(tmp_path)), uplink.Pace(back_off_first=0.01, look_seconds=0.3))
    running = asyncio.create_task(work.run(drain_seconds=1.5))
    await until(lambda: work._scans == 1)
    seal(tmp_path / "spool", 1)
    began = asyncio.get_running_loop().time()
    work.stop()
    await running
    assert asyncio.get_running_loop().time() - began >= 1.5, "there is no hub, so all of the time is used"
    assert json.loads((tmp_path / "spool" / "uplink.json").read_text())["segments"]["sealed"] == 1


async def test_a_receipted_segment_that_the_sweeper_deleted_without_saying_so_becomes_a_counter(tmp_path: Path, hub_files: None) -> None:
    path = seal(tmp_path / "spool", 1)
    identity = f"truck-1-{FOLDER}-000001-readings"
    ledger = Ledger(tmp_path / "spool" / "ledger.sqlite")
    ledger.add(scan(tmp_path / "spool", "truck-1", set())[0])
    description = describe(path)
    ledger.describe(identity, description)
    assert ledger.receipt(Receipt(identity, "stored", description.sha256, description.size, ""), True) == "delivered"
    ledger.close()
    path.unlink()
    work = uplink.Uplink(uplink.config.load(write_config(tmp_path)), uplink.Pace(back_off_first=0.01, look_seconds=0.05))
    running = asyncio.create_task(work.run())
    status = tmp_path / "spool" / "uplink.json"
    await until(lambda: status.exists() and json.loads(status.read_text())["deleted_segments"] == 1)
    work.stop()
    await running
    shown = json.loads(status.read_text())
    assert (shown["segments"]["receipted"], shown["deleted_bytes"]) == (0, description.size)


async def test_without_a_hub_it_goes_on_trying_and_the_status_says_why(tmp_path: Path, hub_files: None) -> None:
    seal(tmp_path / "spool", 1)  # makes the spool
    work = uplink.Uplink(uplink.config.load(write_config(tmp_path)), uplink.Pace(back_off_first=0.01))
    running = asyncio.create_task(work.run())
    status = tmp_path / "spool" / "uplink.json"

    def said() -> bool:
        shown = json.loads(status.read_text()) if status.exists() else {}
        return bool(shown) and "refused" in (shown["problem"] or "") and shown["backlog_segments"] == 1 and not shown["connected"]

    await until(said)
    work.stop()
    await running
    assert {state for state, count in json.loads(status.read_text())["segments"].items() if count} == {"sealed"}
