"""The sweeper against the real ledger socket: what it deletes, and above all what it does not."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_sweeper_parts import truck, uplink

from gateway import sweeper, sweeper_events, sweeper_work
from gateway.ledger import Description, Found, Ledger
from gateway.sweeper import Sweeper
from gateway.sweeper_call import call
from gateway.uplink_socket import SOCKET_NAME, Line, NoUplink, Refused
from sox.segments import Receipt

pytestmark = pytest.mark.timeout(60)

SIZE = 1000
FOLDER = "aaaaaaaa-bbbbbbbb"


def fill(spool: Path, count: int, receipted: set[int]) -> Ledger:
    """A spool with `count` sealed segments and its ledger in which those of `receipted` are delivered."""
    folder = spool / FOLDER
    folder.mkdir(parents=True)
    ledger = Ledger(spool / "ledger.sqlite")
    for number in range(1, count + 1):
        name = f"{number:06d}-readings"
        (folder / f"{name}.mcap").write_bytes(bytes(SIZE))
        identity = f"truck-1-{FOLDER}-{name}"
        ledger.add([Found(identity, f"{FOLDER}/{name}.mcap", "readings", SIZE)])
        ledger.describe(identity, Description(SIZE, "00" * 32, 0, 0, 0, 0))
        if number in receipted:
            assert ledger.receipt(Receipt(identity, "stored", "00" * 32, SIZE, ""), True) == "delivered"
    return ledger


def present(spool: Path) -> list[int]:
    return sorted(int(path.name[:6]) for path in (spool / FOLDER).glob("*.mcap"))


def test_it_deletes_receipted_segments_oldest_first_and_only_as_many_as_needed(tmp_path: Path) -> None:
    ledger = fill(tmp_path, 10, receipted=set(range(1, 11)))
    with uplink(tmp_path, ledger):
        work = Sweeper(truck(tmp_path, quota=7 * SIZE))
        assert work.sweep() is None
    assert present(tmp_path) == [4, 5, 6, 7, 8, 9, 10]
    assert [work.status(None)[name] for name in ("deleted_segments", "deleted_bytes")] == [3, 3 * SIZE]
    assert (ledger.totals().deleted_segments, ledger.totals().deleted_bytes) == (3, 3 * SIZE)


def test_a_quota_never_costs_readings_and_the_status_says_that_it_presses(tmp_path: Path) -> None:
    ledger = fill(tmp_path, 5, receipted={2, 4})
    with uplink(tmp_path, ledger):
        problem = Sweeper(truck(tmp_path, quota=0)).sweep()
    assert present(tmp_path) == [1, 3, 5]
    assert problem == f"{3 * SIZE} bytes too much, and only readings are left: they go for the last 0 bytes of the disk alone"


def test_receipted_files_that_cannot_go_do_not_hide_the_others_and_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = sweeper_work.BATCH + 10
    ledger = fill(tmp_path, bad + 2, receipted=set(range(1, bad + 3)))
    for number in range(1, bad + 1):
        (tmp_path / FOLDER / f"{number:06d}-readings.mcap").write_bytes(b"not what was receipted")
    with uplink(tmp_path, ledger):
        work = Sweeper(truck(tmp_path, quota=0))
        for _ in range(3):
            problem = work.sweep()
    assert present(tmp_path) == list(range(1, bad + 1))
    assert problem is not None and "only readings are left" in problem
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == bad
    work.write_status(problem)
    assert json.loads((tmp_path / "sweeper.json").read_text())["kept"] == bad


def test_it_deletes_nothing_while_there_is_room(tmp_path: Path) -> None:
    ledger = fill(tmp_path, 3, receipted={1, 2, 3})
    with uplink(tmp_path, ledger):
        assert Sweeper(truck(tmp_path, quota=3 * SIZE)).sweep() is None
    assert present(tmp_path) == [1, 2, 3]


def test_too_little_free_disk_makes_it_delete_below_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = fill(tmp_path, 4, receipted={1, 2, 3, 4})
    settings = truck(tmp_path, quota=10**12)
    settings.free_reserve_bytes = 50_000
    monkeypatch.setattr(sweeper, "free_bytes", lambda spool: 50_000 - 2 * SIZE + (4 - len(present(spool))) * SIZE)
    with uplink(tmp_path, ledger):
        assert Sweeper(settings).sweep() is None
    assert present(tmp_path) == [3, 4]


def test_segments_being_written_count_against_the_quota_and_are_not_touched(tmp_path: Path) -> None:
    ledger = fill(tmp_path, 2, receipted={1, 2})
    being_written = tmp_path / FOLDER / "000003-images.mcap.open"
    being_written.write_bytes(bytes(SIZE))
    with uplink(tmp_path, ledger):
        assert Sweeper(truck(tmp_path, quota=2 * SIZE)).sweep() is None
    assert present(tmp_path) == [2] and being_written.exists()


def test_without_an_uplink_it_deletes_nothing_and_says_so(tmp_path: Path) -> None:
    fill(tmp_path, 3, receipted={1, 2, 3}).close()
    problem = Sweeper(truck(tmp_path, quota=0)).sweep()
    assert problem is not None and "no uplink" in problem
    assert present(tmp_path) == [1, 2, 3]


def test_a_dead_uplinks_socket_file_is_no_uplink(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        left.bind(SOCKET_NAME)
    finally:
        os.chdir(here)
    left.close()
    with pytest.raises(NoUplink, match="Connection refused"), Line(tmp_path) as line:
        line.ask({"ask": "deletable", "limit": 1})


@pytest.mark.parametrize("path", ["../outside.mcap", "/etc/passwd", f"{FOLDER}/000001-readings.mcap.open", f"{FOLDER}/../x-y.mcap"])
def test_a_path_that_is_no_sealed_segment_is_kept(tmp_path: Path, path: str) -> None:
    (tmp_path / FOLDER).mkdir()
    work = sweeper_work.Work(truck(tmp_path, quota=0))
    assert not work._delete(sweeper_work.Offered("s", path, 0, 1), "deletable")
    assert len(work.kept) == 1


def test_a_file_that_is_not_the_receipted_one_is_kept(tmp_path: Path) -> None:
    ledger = fill(tmp_path, 2, receipted={1, 2})
    (tmp_path / FOLDER / "000001-readings.mcap").write_bytes(bytes(SIZE + 1))
    outside = tmp_path / "precious"
    outside.write_bytes(bytes(SIZE))
    (tmp_path / FOLDER / "000002-readings.mcap").unlink()
    (tmp_path / FOLDER / "000002-readings.mcap").symlink_to(outside)
    with uplink(tmp_path, ledger):
        work = Sweeper(truck(tmp_path, quota=0))
        work.sweep()
    assert present(tmp_path) == [1, 2] and outside.exists() and work.status(None)["deleted_segments"] == 0


def test_only_the_same_user_may_ask(tmp_path: Path) -> None:
    ledger = fill(tmp_path, 1, receipted={1})
    with uplink(tmp_path, ledger), Line(tmp_path) as line:
        assert stat.S_IMODE((tmp_path / SOCKET_NAME).stat().st_mode) == 0o600
        with pytest.raises(Refused, match="unknown request"):
            line.ask({"ask": "the impossible"})
        assert line.ask({"ask": "deletable", "limit": 1})["segments"] == [
            {"segment_id": f"truck-1-{FOLDER}-000001-readings", "path": f"{FOLDER}/000001-readings.mcap", "size": SIZE, "keep_every": 1}
        ]


def test_the_process_sweeps_as_soon_as_the_uplink_is_back_and_ends_in_order(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    ledger = fill(spool, 3, receipted={1, 2})
    config = tmp_path / "truck.toml"
    config.write_text(
        f'name = "truck-1"\nspool = "{spool}"\nlive_socket = "{tmp_path}/live"\nspool_quota_bytes = {SIZE}\nfree_reserve_bytes = 0\n'
        "thinning_reserve_bytes = 0\n"
        '[hub]\ndomain = "hub.test"\nhost = "127.0.0.1"\nport = 1\nca_file = "/ca"\npassword_file = "/password"\n'
    )
    process = subprocess.Popen([sys.executable, "-m", "gateway.sweeper", str(config), "--every", "0.1"], stderr=subprocess.PIPE, text=True)
    try:
        status = spool / "sweeper.json"
        wait_for(lambda: status.exists() and "no uplink" in json.loads(status.read_text())["problem"])
        assert present(spool) == [1, 2, 3]
        with uplink(spool, ledger):
            wait_for(lambda: json.loads(status.read_text())["deleted_segments"] == 2)
        assert present(spool) == [3]
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    assert said.count("deleted aaaaaaaa-bbbbbbbb/00000") == 2, "every deletion is logged"


def test_a_call_of_the_recorder_is_answered_at_once_and_a_second_sweeper_is_refused(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    config = tmp_path / "truck.toml"
    config.write_text(
        f'name = "truck-1"\nspool = "{spool}"\nlive_socket = "{tmp_path}/live"\nfree_reserve_bytes = 0\nthinning_reserve_bytes = 0\n'
        '[hub]\ndomain = "hub.test"\nhost = "127.0.0.1"\nport = 1\nca_file = "/ca"\npassword_file = "/password"\n'
    )
    command = [sys.executable, "-m", "gateway.sweeper", str(config), "--every", "3600"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_for((spool / "sweeper.json").exists)
        assert call(spool)
        wait_for(lambda: json.loads((spool / "sweeper.json").read_text())["calls"] == 1)
        second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert (second.returncode, second.stderr) == (2, f"another sweeper already works on {spool}\n")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and not (spool / "sweeper.sock").exists()


def test_bad_configuration_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "truck.toml"
    config.write_text('name = "Truck!"\n')
    for path in (config, tmp_path / "absent.toml"):
        assert sweeper.main([str(path)]) == 2
        said = capsys.readouterr()
        assert said.out == "" and len(said.err.splitlines()) == 1 and str(path) in said.err


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_every_field_of_the_status_is_in_the_table_of_formats_md(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    table = text[text.index("| in sweeper.json | meaning |") :].split("\n\n")[0]
    told = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert told == set(Sweeper(truck(tmp_path, quota=0)).status(None))


def test_every_kind_of_event_that_the_gateway_writes_either_protects_images_or_is_of_the_machinery() -> None:
    gateway = Path(__file__).parents[2] / "gateway"
    written = {kind for path in gateway.glob("*.py") for kind in re.findall(r'\bevent\(\s*"(\w+)"', path.read_text())}
    assert written - sweeper_events.MACHINERY == {"ignition_on", "ignition_off"}
    assert "shock" not in sweeper_events.MACHINERY
