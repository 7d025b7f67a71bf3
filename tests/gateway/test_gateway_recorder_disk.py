"""What a disk that refuses does to the recorder: nothing ends, the live view goes on with an alarm, and what was taken is written later."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_head import HeadStandIn
from gateway_recording import PATIENCE, Recording, Running, start_process, truck, wait_for

import gateway.recorder
from gateway.live import LiveReceiver
from gateway.sweeper_call import Bell
from logbook import files

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def head(tmp_path: Path) -> Iterator[HeadStandIn]:
    stand_in = HeadStandIn(tmp_path)
    yield stand_in
    stand_in.close()


class Disk:
    """The disk under the recorder: `refuses` is the errno of its syncs, 0 while it works."""

    refuses = 0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made, real = Disk(), files.sync_data

    def sync(fd: int) -> None:
        if made.refuses:
            raise OSError(made.refuses, os.strerror(made.refuses))
        real(fd)

    monkeypatch.setattr(files, "sync_data", sync)
    return made


def disk_row(live: LiveReceiver) -> dict[str, Any]:
    """What the newest snapshot says of the disk."""
    return ((live.newest() or {}).get("sensors") or {}).get("disk") or {}


def test_a_disk_that_refuses_for_a_while_is_an_alarm_and_two_events_and_costs_nothing(
    tmp_path: Path, head: HeadStandIn, disk: Disk
) -> None:
    config = truck(tmp_path, head.link)
    live = LiveReceiver(config.live_socket)
    with Running(config):
        wait_for(lambda: head.acknowledged > 20, "acknowledgements")
        disk.refuses = errno.EIO
        wait_for(lambda: disk_row(live) == {"state": "failed", "reason": "disk refused: Input/output error"}, "the alarm")
        acknowledged = head.acknowledged
        disk.refuses = 0
        wait_for(lambda: disk_row(live).get("state") == "ok", "the end of the alarm")
        wait_for(lambda: head.acknowledged > acknowledged, "acknowledgements again")
        head.sampling = False
        wait_for(lambda: head.acknowledged == head.sequence, "all of them")
    live.close()
    recording = Recording(tmp_path / "spool")
    assert recording.imu_numbers == list(range(head.samples)), "nothing is missing, nothing twice"
    assert recording.events("disk_error") and recording.events("disk_well")
    assert recording.gaps("icm20948") == [] and recording.gaps("head") == []


def test_a_full_disk_calls_the_sweeper(tmp_path: Path, disk: Disk) -> None:
    config = truck(tmp_path)
    Path(config.spool).mkdir()
    bell = Bell(Path(config.spool))
    disk.refuses = errno.ENOSPC
    with Running(config):
        assert bell.wait(PATIENCE), "the sweeper is called"
        disk.refuses = 0
    bell.close()


def test_a_commit_that_is_late_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.recorder, "STALL_SECONDS", 0.2)
    real, slow = files.sync_data, [True]

    def sync(fd: int) -> None:
        while slow[0]:
            os.sched_yield()
        real(fd)

    config = truck(tmp_path)
    live = LiveReceiver(config.live_socket)
    monkeypatch.setattr(files, "sync_data", sync)
    with Running(config):
        wait_for(lambda: disk_row(live) == {"state": "degraded", "reason": "a commit is late"}, "the stall")
        slow[0] = False
        wait_for(lambda: disk_row(live).get("state") == "ok", "its end")
    live.close()


def test_a_recorder_starts_on_a_disk_that_is_read_only_and_records_when_it_is_not_any_more(tmp_path: Path) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(mount)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        config = truck(tmp_path)
        config.spool = str(mount / "spool")
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        live = LiveReceiver(config.live_socket)
        process = start_process(config, tmp_path)
        try:
            wait_for(lambda: disk_row(live).get("state") == "failed", "a live view with the alarm")
            assert process.poll() is None
            subprocess.run(["mount", "-o", "remount,rw", str(mount)], check=True)
            wait_for(lambda: disk_row(live).get("state") == "ok", "the end of the alarm")
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            process.wait(PATIENCE)
            live.close()
        assert Recording(mount / "spool").events("disk_well")
    finally:
        subprocess.run(["umount", str(mount)], check=True)
