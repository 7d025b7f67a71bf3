"""A real, small disk (ext4 in a file) that other programs fill; a disk that lies; a recorder that calls; an uplink that is not there."""

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_sweeper_parts import (
    FOLDER,
    SECOND,
    announce,
    deliver,
    gaps,
    image,
    images,
    kept_images,
    ledger_of,
    present,
    readings,
    seal,
    truck,
    uplink,
    without_syncs,
)

from gateway import sweeper, sweeper_disk, sweeper_work
from gateway.ledger import Ledger
from gateway.sweeper import Sweeper
from gateway.sweeper_call import SOCKET_NAME, Bell, call
from gateway.sweeper_disk import Reserve, free_bytes, is_flocked, spooled_bytes
from gateway.uplink_lock import InUse, lock
from gateway.uplink_scan import scan
from logbook import files, reader
from logbook.recovery import recover_spool

pytestmark = pytest.mark.timeout(120)

DISK_BYTES = 32_000_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted ext4 of 32 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    picture = tmp_path / "disk.img"
    with picture.open("wb") as file:
        file.truncate(DISK_BYTES)
    made = subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(picture)], capture_output=True, text=True, check=False)
    mounted = subprocess.run(["mount", "-o", "loop", str(picture), str(place)], capture_output=True, text=True, check=False)
    if made.returncode or mounted.returncode:
        pytest.skip(f"no loop mounts here: {(made.stderr + mounted.stderr).strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(place: Path, leave: int = 0) -> Path:
    """Another program takes all of the disk, or all but `leave` bytes."""
    path = place / "somebody-elses"
    with path.open("ab", buffering=0) as file:
        while free_bytes(place) > leave:
            try:
                file.write(bytes(min(100_000, max(4096, free_bytes(place) - leave))))
            except OSError as error:
                assert error.errno == errno.ENOSPC
                break
        os.fsync(file.fileno())
    return path


def test_thinning_goes_on_from_its_reserve_when_another_program_has_filled_the_disk(disk: Path) -> None:
    spool = disk / "spool"
    for number in range(1, 6):
        images(spool, number, 100 * number, count=20, size=100_000)
    ledger = ledger_of(spool)
    work = Sweeper(truck(spool, free_reserve_bytes=1_000_000, thinning_reserve_bytes=3_000_000))
    with uplink(spool, ledger):
        assert work.sweep() is None and work.status(None)["thinning_reserve_bytes"] >= 3_000_000
        fill(disk)
        problem = work.sweep()
    status = work.status(None)
    assert problem is None and status["thinned_images"] > 0 and status["dropped_images"] == 0
    assert free_bytes(spool) >= 1_000_000 and status["thinning_reserve_bytes"] >= 3_000_000, "and the reserve is whole again"
    assert len(kept_images(spool)) + sum(gap.count for gap in gaps(spool)) == 100
    assert all(reader.verify(path) == [] for path in spool.glob("[!.]*/*.mcap"))
    ledger.close()


def test_a_disk_that_others_fill_again_and_again_is_emptied_to_the_last_image_and_then_readings_stay(disk: Path) -> None:
    spool = disk / "spool"
    readings(spool, 1, 0, count=100)
    for number in range(2, 7):
        images(spool, number, 100 * number, count=20, size=100_000)
    ledger = ledger_of(spool)
    work = Sweeper(truck(spool, free_reserve_bytes=1_600_000, thinning_reserve_bytes=3_000_000))
    with uplink(spool, ledger):
        work.sweep()
        for _ in range(60):
            fill(disk, leave=200_000)  # above the floor of 100,000
            problem = work.sweep()
            if problem is not None and "only readings" in problem:
                break
    assert problem is not None and "only readings" in problem
    assert kept_images(spool) == [] and f"{FOLDER}/000001-readings" in present(spool)
    assert sum(gap.count for gap in gaps(spool) if gap.source == "/camera/front") == 100
    ledger.close()


def test_a_thief_that_is_quicker_than_the_writer_costs_an_attempt_and_nothing_else(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = disk / "spool"
    for number in range(1, 4):
        images(spool, number, 100 * number, count=20, size=100_000)
    ledger = ledger_of(spool)
    work = Sweeper(truck(spool, free_reserve_bytes=1_000_000, thinning_reserve_bytes=4_000_000))
    before = {path: path.read_bytes() for path in spool.glob("*/*.mcap")}
    with uplink(spool, ledger):
        assert work.sweep() is None
        real, steals = files.make_folder, []

        def steal(folder: Path) -> None:
            if not steals:
                steals.append(fill(disk))  # what the reserve has just given back
            real(folder)

        monkeypatch.setattr(files, "make_folder", steal)
        fill(disk)
        work.sweep()
        monkeypatch.undo()
        assert steals
        recover_spool(spool)
        assert all(path.read_bytes() == data for path, data in before.items() if path.exists())
        work.sweep()
    assert len(kept_images(spool)) + sum(gap.count for gap in gaps(spool)) == 60
    ledger.close()


def test_readings_are_dropped_for_the_floor_alone_and_as_few_as_it_takes(disk: Path) -> None:
    spool = disk / "spool"
    for number in range(1, 9):
        entries = [image(int((100 * number + index) * SECOND), 50_000) for index in range(4)]
        seal(spool, number, "images", entries)  # their bytes; named readings below, for readings are small
        path = spool / FOLDER / f"{number:06d}-images.mcap"
        path.rename(path.with_name(f"{number:06d}-readings.mcap"))
    ledger = ledger_of(spool)
    work = Sweeper(truck(spool, free_reserve_bytes=16 * 300_000, thinning_reserve_bytes=1_000_000))
    with uplink(spool, ledger):
        work.sweep()
        fill(disk, leave=20_000)
        problem = work.sweep()
    assert problem is not None and "only readings" in problem
    assert free_bytes(spool) >= 300_000
    assert work.status(None)["dropped_readings_segments"] in (1, 2, 3)
    assert f"{FOLDER}/000001-readings" not in present(spool) and f"{FOLDER}/000008-readings" in present(spool)
    ledger.close()


# --- a disk that says it has room and refuses


def test_a_file_system_that_lies_about_its_room_is_met_with_the_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, 1, 100, count=20)
    ledger = ledger_of(tmp_path)
    work = Sweeper(truck(tmp_path, quota=spooled_bytes(tmp_path) - 1_000, thinning_reserve_bytes=4_000_000))
    real = files.write_whole

    def refuse(fd: int, *parts: bytes) -> None:
        if work._work.reserve.held() >= 3_990_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd, *parts)

    with uplink(tmp_path, ledger):
        work._work.begin()
        monkeypatch.setattr(files, "write_whole", refuse)
        assert work.sweep() is None
    assert len(kept_images(tmp_path)) == 10
    ledger.close()


def test_a_call_makes_room_whatever_the_file_system_says_but_costs_no_readings_while_there_is_an_image(tmp_path: Path) -> None:
    readings(tmp_path, 1, 0)
    images(tmp_path, 2, 100, count=20)
    being_written = tmp_path / FOLDER / "000003-images.mcap.open"
    being_written.write_bytes(bytes(1_000))
    ledger = ledger_of(tmp_path)
    work = Sweeper(truck(tmp_path))
    with uplink(tmp_path, ledger):
        assert work.sweep() is None and len(kept_images(tmp_path)) == 20
        work.sweep(called=True)
        assert kept_images(tmp_path) == [] and f"{FOLDER}/000001-readings" in present(tmp_path)
        work.sweep(called=True)
        assert f"{FOLDER}/000001-readings" in present(tmp_path), "an image is being written"
    assert work.calls == 2
    ledger.close()


def test_a_call_on_a_small_spool_costs_a_part_of_it_and_not_all(tmp_path: Path) -> None:
    for number in range(1, 7):
        images(tmp_path, number, 100 * number, count=20)
    ledger = ledger_of(tmp_path)
    quota = spooled_bytes(tmp_path)
    with uplink(tmp_path, ledger):
        assert Sweeper(truck(tmp_path, quota=quota)).sweep(called=True) is None
    assert 15 / 16 * quota - 25_000 <= spooled_bytes(tmp_path) <= 15 / 16 * quota
    ledger.close()


def test_a_full_disk_for_the_index_of_events_keeps_the_readings_and_not_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = readings(tmp_path, 1, 0, [("shock", 1.0)])
    picture = images(tmp_path, 2, 100)
    ledger = ledger_of(tmp_path)
    deliver(ledger, told)
    deliver(ledger, picture)

    def refuse(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gateway.sweeper_events.replace", refuse)
    work = Sweeper(truck(tmp_path, quota=0))
    with uplink(tmp_path, ledger):
        work.sweep()
        assert present(tmp_path) == [f"{FOLDER}/000001-readings"] and work.status(None)["kept"] == 1
        monkeypatch.undo()
        work.sweep()
    assert present(tmp_path) == []
    ledger.close()


# --- no uplink


def test_without_an_uplink_nothing_goes_above_the_floor_and_below_it_only_what_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = readings(tmp_path, 1, 0)
    sent = images(tmp_path, 2, 100, count=20)
    images(tmp_path, 3, 200, count=20)
    ledger = ledger_of(tmp_path)
    announce(ledger, sent)
    ledger.close()
    before = spooled_bytes(tmp_path)
    room = 20_000
    monkeypatch.setattr(sweeper, "free_bytes", lambda spool: room + before - spooled_bytes(spool))
    work = Sweeper(truck(tmp_path, free_reserve_bytes=16 * 20_000))
    problem = work.sweep()
    assert problem is not None and "no uplink" in problem and spooled_bytes(tmp_path) == before
    room = 10_000
    problem = work.sweep()
    assert problem is not None and "no uplink" in problem and "went without it" in problem
    assert work.status(None)["stood_in"] == 1
    assert len([time for time in kept_images(tmp_path) if time >= 200 * SECOND]) == 10, "one step was enough"
    assert f"{FOLDER}/000002-images" in present(tmp_path), "it waits for its receipt"
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert (row := ledger.segment(told)) is not None and row.state == "sealed"
    assert ledger.totals().dropped["thinned_images"] == 10, "the uplink that comes back finds it counted"
    ledger.close()
    lock(tmp_path).close()  # and its lock is free


def test_an_uplink_that_is_there_and_silent_is_not_replaced(tmp_path: Path) -> None:
    images(tmp_path, 1, 100)
    held = lock(tmp_path)
    problem = Sweeper(truck(tmp_path)).sweep(called=True)
    held.close()
    assert problem is not None and "another uplink already works" in problem
    assert len(kept_images(tmp_path)) == 20


def test_an_uplink_waits_for_the_sweeper_that_stands_in_for_it(tmp_path: Path) -> None:
    held = lock(tmp_path)
    with pytest.raises(InUse):
        lock(tmp_path, 0.1)
    threading.Timer(0.3, held.close).start()
    lock(tmp_path, 20.0).close()


# --- the call, the reserve, and who holds what


def test_a_call_wakes_the_sweeper_and_one_that_nobody_hears_neither_blocks_nor_raises(tmp_path: Path) -> None:
    assert not call(tmp_path) and not call(tmp_path / "nowhere")
    bell = Bell(tmp_path)
    try:
        assert (tmp_path / SOCKET_NAME).stat().st_mode & 0o777 == 0o600
        assert not bell.wait(0)
        threading.Timer(0.05, call, (tmp_path,)).start()
        assert bell.wait(30) and not bell.wait(0), "one call, one sweep"
        assert all(call(tmp_path) for _ in range(1_000)), "a full queue is a call that waits already"
        assert bell.wait(0) and not bell.wait(0)
        bell.ring()
        assert not bell.wait(30), "rung for the end: nobody called"
    finally:
        bell.close()
    assert not call(tmp_path)
    (tmp_path / SOCKET_NAME).touch()
    Bell(tmp_path).close()


def test_the_reserve_is_bytes_of_the_disk_and_not_a_promise(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, 1_000_000)
    assert (reserve.held(), reserve.missing()) == (0, 1_000_000) and not reserve.lend(1)
    reserve.grow()
    held = reserve.held()
    assert held >= 1_000_000 and reserve.missing() == 0
    assert reserve.lend(400_000, leave=100_000) and 600_000 <= reserve.held() <= held - 390_000
    assert reserve.lend(10_000_000, leave=100_000) and 100_000 <= reserve.held() < 110_000
    assert not reserve.lend(1, leave=110_000)
    reserve.grow()
    assert reserve.missing() == 0
    assert sweeper_disk.spooled_bytes(tmp_path) == 0, "it is no segment"


def test_on_a_small_disk_the_reserve_is_small(disk: Path) -> None:
    reserve = Reserve(disk, 256_000_000)
    reserve.grow()
    assert reserve.missing() == 0 and 1_000_000 < reserve.held() < DISK_BYTES // 8


def test_a_recorders_lock_is_seen_without_being_touched(tmp_path: Path) -> None:
    path = tmp_path / "recorder.lock"
    assert not is_flocked(path)
    with path.open("w") as file:
        assert not is_flocked(path)
        assert files.try_lock(file.fileno())
        assert is_flocked(path)
    assert not is_flocked(path)


# --- a day


def test_the_spool_stays_bounded_over_a_day_of_images_that_nobody_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of 252 GB a day against a disk of 16 GB, both a 64,000th: no link for images, one for readings, an event now and then."""
    monkeypatch.setattr(sweeper_work, "RECORD_COSTS", 8_000)
    without_syncs(monkeypatch)
    quota, made, largest = 250_000, 0, 0
    work = Sweeper(truck(tmp_path, quota=quota, images_segment_bytes=50_000))
    ledger = ledger_of(tmp_path)
    with uplink(tmp_path, ledger):
        for number in range(1, 51):
            shock = [("shock", 100.0 * number + 10)] if number % 10 == 0 else []
            readings(tmp_path, 2 * number, 100 * number, shock)
            images(tmp_path, 2 * number + 1, 100 * number, count=30, size=1_500)
            made += 30
            deliver_readings(ledger, tmp_path)
            assert work.sweep() is None, number
            largest = max(largest, spooled_bytes(tmp_path))
            assert spooled_bytes(tmp_path) <= quota
    assert largest > quota - 60_000, "and it is used"
    assert len(present(tmp_path)) < 2 * quota / 50_000 + 5, "and files do not get more and more"
    told = gaps(tmp_path)
    assert len(kept_images(tmp_path)) + sum(gap.count for gap in told) == made
    dropped = ledger.totals().dropped
    assert dropped["thinned_images"] + dropped["dropped_images"] == sum(gap.count for gap in told)
    assert not list(tmp_path.glob(".deriving/*/*"))
    ledger.close()


def deliver_readings(ledger: Ledger, spool: Path) -> None:
    """The link is too slow for images, not for readings."""
    ledger.add(scan(spool, "truck-1", ledger.known())[0])
    for segment in ledger.to_drop("readings"):
        deliver(ledger, segment.segment_id)
