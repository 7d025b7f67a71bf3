import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.clock import Clock
from gateway.live import LiveError, LiveReceiver, LiveSender
from gateway.snapshot import Snapshot

pytestmark = pytest.mark.timeout(60)


def test_a_snapshot_arrives_as_it_was_sent(tmp_path: Path) -> None:
    receiver, sender = LiveReceiver(tmp_path / "live.sock"), LiveSender(tmp_path / "live.sock")
    assert sender.send({"truck": "truck-1", "values": {"pressure": {"value": 101325.0, "reason": None}}})
    assert receiver.receive(1.0) == {"truck": "truck-1", "values": {"pressure": {"value": 101325.0, "reason": None}}}
    assert receiver.receive(0) is None
    sender.close()
    receiver.close()


def test_without_an_uplink_a_snapshot_is_dropped_and_counted(tmp_path: Path) -> None:
    sender = LiveSender(tmp_path / "live.sock")
    assert not sender.send({"truck": "truck-1"})
    receiver = LiveReceiver(tmp_path / "live.sock")
    assert sender.send({"truck": "truck-1"})  # it comes later than we, and is found
    receiver.close()
    assert not sender.send({"truck": "truck-1"})
    assert (sender.sent, sender.dropped) == (1, 2)
    sender.close()


def test_an_uplink_that_does_not_read_never_blocks_the_recorder(tmp_path: Path) -> None:
    receiver, sender = LiveReceiver(tmp_path / "live.sock"), LiveSender(tmp_path / "live.sock")
    for number in range(2_000):
        sender.send({"number": number, "filler": "x" * 5_000})
    assert sender.dropped > 0 and sender.sent + sender.dropped == 2_000
    newest = receiver.newest()
    assert newest is not None and newest["number"] == sender.sent - 1
    sender.close()
    receiver.close()


def test_a_datagram_larger_than_the_kernel_takes_is_dropped(tmp_path: Path) -> None:
    receiver, sender = LiveReceiver(tmp_path / "live.sock"), LiveSender(tmp_path / "live.sock")
    assert not sender.send({"filler": "x" * 10_000_000})
    sender.close()
    receiver.close()


def test_what_is_no_json_object_is_counted_and_passed_over(tmp_path: Path) -> None:
    receiver = LiveReceiver(tmp_path / "live.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        for data in (b"\xff\xfe", b"[1]", b'{"number": 1}'):
            stranger.sendto(data, str(tmp_path / "live.sock"))
    assert receiver.receive(1.0) == {"number": 1}
    assert receiver.malformed == 2
    receiver.close()


def test_the_socket_of_a_killed_uplink_is_taken_over_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "live.sock"
    code = f"from gateway.live import LiveReceiver; import os; LiveReceiver({str(path)!r}); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert path.exists()
    receiver = LiveReceiver(path)
    with pytest.raises(LiveError, match="live socket .*in use"):
        LiveReceiver(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    receiver.close()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "valuable"
    path.write_text("data")
    with pytest.raises(LiveError, match="valuable: is there and is no socket"):
        LiveReceiver(path)
    assert path.read_text() == "data"


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LiveError, match="live socket"):
        LiveReceiver(tmp_path / "file" / "live.sock")


def test_a_snapshot_has_what_formats_md_promises(tmp_path: Path) -> None:
    sender = LiveSender(tmp_path / "live.sock")
    snapshot = Snapshot("truck-1", "0a1b2c3d-00000001", Clock(system=lambda: None), sender)
    snapshot.values(5, {"pressure": 101_000.0, "uva": "saturated", "speed": float("nan")}, {"pressure": "7"}, frozenset({"pressure"}))
    snapshot.count("samples.bmp390")
    snapshot.sensor("bmp390", "ok", "")
    snapshot.head({"firmware": "1"})
    snapshot.head({"heap_free": 7})
    snapshot.image("front", 6, 70_000)
    built = snapshot.build()
    assert set(built) == {
        "truck", "boot", "number", "boottime_ns", "utc_ns", "utc_source", "utc_error_s", "values", "counts", "sensors", "head", "image",
        "place", "parked",
    }  # fmt: skip
    assert built["values"]["pressure"] == {"value": 101_000.0, "reason": None, "raw": "7", "boottime_ns": 5, "calibrated": True}
    assert built["values"]["uva"] == {"value": None, "reason": "saturated", "raw": "", "boottime_ns": 5, "calibrated": False}
    assert built["values"]["speed"]["value"] is None  # JSON has no NaN
    assert built["counts"] == {"images": 1, "gaps": 0, "head_frames": 0, "head_repeats": 0, "samples.bmp390": 1}
    assert built["head"] == {"firmware": "1", "heap_free": 7}
    assert built["image"] == {"camera": "front", "boottime_ns": 6, "bytes": 70_000}
    assert (built["utc_ns"], built["utc_source"]) == (0, "none")
    assert snapshot.build()["number"] == built["number"] + 1
    assert (built["place"], built["parked"]) == (None, False)
    snapshot.head(None)
    snapshot.place("south")
    snapshot.park()
    built = snapshot.build()
    assert (built["head"], built["place"], built["parked"]) == (None, "south", True)
    sender.close()
