"""In which order things go when the disk is full, on real segments, a real ledger and the uplink's real desk."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_sweeper_parts import (
    FOLDER,
    SECOND,
    announce,
    deliver,
    event,
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
)  # fmt: skip
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from center.ingest_take import verified
from gateway import sweeper, sweeper_work
from gateway.ledger import Ledger
from gateway.sweeper import Sweeper
from gateway.sweeper_disk import spooled_bytes
from gateway.uplink_scan import describe
from gateway.uplink_socket import Line
from logbook import reader
from sox.segments import Announcement, announcement_document, read_announcement

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def _small_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' segments are small: so is what is dropped beyond what must go."""
    monkeypatch.setattr(sweeper_work, "RECORD_COSTS", 8_000)
    without_syncs(monkeypatch)


def sweep(spool: Path, ledger: Ledger, less: int) -> tuple[Sweeper, str | None]:
    """One sweep with a quota of `less` bytes below what is there."""
    work = Sweeper(truck(spool, quota=spooled_bytes(spool) - less))
    with uplink(spool, ledger):
        return work, work.sweep()


def test_receipted_segments_go_before_any_image_is_thinned(tmp_path: Path) -> None:
    readings(tmp_path, 1, 0)
    old = images(tmp_path, 2, 0)
    new = images(tmp_path, 3, 100)
    ledger = ledger_of(tmp_path)
    deliver(ledger, new)
    work, problem = sweep(tmp_path, ledger, less=1_000)
    assert problem is None
    assert present(tmp_path) == [f"{FOLDER}/000001-readings", f"{FOLDER}/000002-images"]
    assert ledger.segment(old) is not None and work.status(None)["thinned_segments"] == 0


def test_the_oldest_images_are_thinned_first_and_each_to_the_half_before_any_to_a_quarter(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        images(tmp_path, number, 100 * number, count=32)
    ledger = ledger_of(tmp_path)
    counts = []
    for _ in range(5):
        _, problem = sweep(tmp_path, ledger, less=1_000)
        assert problem is None
        kept = kept_images(tmp_path)
        counts.append([sum(begin <= time // SECOND < begin + 32 for time in kept) for begin in (100, 200, 300)])
    assert counts == [[16, 32, 32], [16, 16, 32], [16, 16, 16], [8, 16, 16], [8, 8, 16]]


def test_a_thinned_segment_costs_so_many_syncs_and_questions_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, 1, 100, count=40)
    ledger = ledger_of(tmp_path)
    syncs: list[int] = []
    asked: list[object] = []
    real = Line.ask
    monkeypatch.setattr(os, "fsync", syncs.append)
    monkeypatch.setattr(os, "fdatasync", syncs.append)
    monkeypatch.setattr(Line, "ask", lambda line, request: (asked.append(request), real(line, request))[1])
    work, problem = sweep(tmp_path, ledger, less=1_000)
    assert problem is None and work.status(None)["thinned_segments"] == 1
    assert len(syncs) <= 12, "folders, head, chunk, closing part, its names, and the original's"
    assert len(asked) <= 12


def test_thinned_neighbours_become_one_segment_so_that_files_get_fewer_as_images_do(tmp_path: Path) -> None:
    for number in range(1, 9):
        images(tmp_path, number, 100 * number, count=16)
    images(tmp_path, 9, 900, count=16, folder="cccccccc-bbbbbbbb")
    ledger = ledger_of(tmp_path)
    size = (tmp_path / FOLDER / "000001-images.mcap").stat().st_size
    work = Sweeper(truck(tmp_path, quota=spooled_bytes(tmp_path) - 4 * size, images_segment_bytes=size))
    with uplink(tmp_path, ledger):
        assert work.sweep() is None
    assert work.status(None)["thinned_segments"] == 9
    sizes = [path.stat().st_size for path in tmp_path.glob("[!.]*/*.mcap")]
    assert len(sizes) == 5 and max(sizes) < 1.3 * size, "pairs; another boot's times mean something else"
    assert len(kept_images(tmp_path)) == 9 * 8 and sum(gap.count for gap in gaps(tmp_path)) == 9 * 8
    assert all(reader.verify(path) == [] for path in tmp_path.glob("[!.]*/*.mcap"))
    first = ledger.next_upload()
    assert first is not None and reader.info(tmp_path / first.path).derived_from.split() == [
        f"truck-1-{FOLDER}-00000{number}-images" for number in (1, 2)
    ]


def test_the_spool_is_measured_as_a_whole_once_or_twice_a_sweep_however_much_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 7):
        images(tmp_path, number, 100 * number, count=20)
    ledger = ledger_of(tmp_path)
    looks: list[Path] = []
    monkeypatch.setattr(sweeper, "spooled_bytes", lambda spool: (looks.append(spool), spooled_bytes(spool))[1])
    work, problem = sweep(tmp_path, ledger, less=90_000)
    assert problem is None and work.status(None)["thinned_segments"] > 4
    assert len(looks) <= 4, "before, after, for the problem, and for the status"


def test_every_dropped_image_is_told_with_its_time_and_reason_over_all_generations(tmp_path: Path) -> None:
    times = [int((100 + index) * SECOND) for index in range(40)]
    seal(tmp_path, 1, "images", [image(time, camera=camera) for time in times for camera in ("front", "back")], cameras=("front", "back"))
    ledger = ledger_of(tmp_path)
    for _ in range(3):
        sweep(tmp_path, ledger, less=1_000)
    kept = kept_images(tmp_path)
    told = gaps(tmp_path)
    assert len(kept) == 2 * 5
    assert len(kept) + sum(gap.count for gap in told) == 80
    assert {gap.source for gap in told} == {"/camera/front", "/camera/back"}
    assert all("disk full" in gap.reason and 100 * SECOND <= gap.from_boottime_ns <= gap.to_boottime_ns for gap in told)
    assert ledger.totals().dropped["thinned_images"] == 70
    assert all(reader.verify(path) == [] for path in tmp_path.glob("*/*.mcap"))


def test_images_within_ten_seconds_of_an_event_stay_even_when_its_readings_are_delivered_and_gone(tmp_path: Path) -> None:
    told = readings(tmp_path, 1, 0, events=[("shock", 130.0), ("sensor_state", 110.0)])
    images(tmp_path, 2, 100, count=60)
    ledger = ledger_of(tmp_path)
    deliver(ledger, told)
    for _ in range(5):
        sweep(tmp_path, ledger, less=1)
    assert f"{FOLDER}/000001-readings" not in present(tmp_path)
    kept = kept_images(tmp_path)
    assert [time for time in kept if 120 * SECOND <= time <= 140 * SECOND] == [(120 + index) * SECOND for index in range(21)]
    assert len(kept) < 30, "the loose contact at 110 s protects nothing"
    again = Sweeper(truck(tmp_path, quota=0))._work._events
    assert again.of_boot(FOLDER[:8]) == [130 * SECOND], "another sweeper knows it too"


def test_an_event_in_the_next_segment_of_images_protects_the_end_of_this_one(tmp_path: Path) -> None:
    images(tmp_path, 1, 100, count=20)
    seal(tmp_path, 2, "images", [image(120 * SECOND), event("bookmark", 122 * SECOND)])
    ledger = ledger_of(tmp_path)
    sweep(tmp_path, ledger, less=1_000)
    assert [time // SECOND for time in kept_images(tmp_path) if time >= 112 * SECOND] == list(range(112, 121))


def test_whole_segments_of_images_go_only_when_thinning_is_at_its_end_and_leave_one_record(tmp_path: Path) -> None:
    readings(tmp_path, 1, 0)
    for number in range(2, 8):
        images(tmp_path, number, 100 * number, count=65, size=500)
    ledger = ledger_of(tmp_path)
    work, problem = sweep(tmp_path, ledger, less=spooled_bytes(tmp_path) - 26_000)
    assert problem is None
    status = work.status(None)
    assert status["thinned_images"] + status["dropped_images"] + len(kept_images(tmp_path)) == 6 * 65
    assert sum(gap.count for gap in gaps(tmp_path)) == status["thinned_images"] + status["dropped_images"]
    assert status["dropped_images_segments"] > 0 and kept_images(tmp_path)
    assert min(kept_images(tmp_path)) >= 300 * SECOND, "the oldest went"
    sweep(tmp_path, ledger, less=2_000)
    records = [path for path in tmp_path.glob("*/*-images.mcap") if reader.info(path).derivation.startswith('{"kind":"drop"')]
    assert len(records) == 1, "a later drop is told in the same record"
    assert f"{FOLDER}/000001-readings" in present(tmp_path)


def test_what_is_uploaded_announced_or_in_hand_is_not_touched(tmp_path: Path) -> None:
    ids = [images(tmp_path, number, 100 * number) for number in (1, 2, 3)]
    ledger = ledger_of(tmp_path)
    ledger.uploaded(ids[0], "https://hub.test/x")
    announce(ledger, ids[1])
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*.mcap")}
    work = Sweeper(truck(tmp_path, quota=0))
    with uplink(tmp_path, ledger) as hub:
        hub.uploading = ids[2]
        problem = work.sweep()
    assert problem is not None and "3 segments of images" in problem
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*.mcap")} == before


def test_images_of_this_minute_are_not_thinned_for_their_events_may_not_be_on_disk(tmp_path: Path) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    now = sweeper.boottime_ns() / SECOND
    images(tmp_path, 1, now - 90, count=20, folder=f"{boot}-bbbbbbbb")
    images(tmp_path, 2, now - 50, count=20, folder=f"{boot}-bbbbbbbb")
    ledger = ledger_of(tmp_path)
    for _ in range(4):
        sweep(tmp_path, ledger, less=500)
    kept = kept_images(tmp_path)
    assert len([time for time in kept if time > (now - 60) * SECOND]) == 20 and len(kept) < 40


def test_readings_go_as_the_very_last_oldest_first_and_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 3, 4):
        readings(tmp_path, number, 100 * number, events=[("shock", 100.0 * number)], count=600)
    picture = images(tmp_path, 5, 100)
    ledger = ledger_of(tmp_path)
    total = spooled_bytes(tmp_path)
    monkeypatch.setattr(sweeper, "free_bytes", lambda spool: total - spooled_bytes(spool))
    one, of_images = ((tmp_path / FOLDER / name).stat().st_size for name in ("000001-readings.mcap", "000005-images.mcap"))
    settings = truck(tmp_path, free_reserve_bytes=sweeper.FLOOR_PART * (of_images + one // 2))
    with uplink(tmp_path, ledger):
        announce(ledger, picture)
        assert Sweeper(settings).sweep() is not None
        assert len([name for name in present(tmp_path) if "readings" in name]) == 4, "an image on its way may still be delivered"
        deliver(ledger, picture)
        work = Sweeper(settings)
        problem = work.sweep()
    assert problem is not None and "only readings are left" in problem
    left = [name for name in present(tmp_path) if name.startswith(FOLDER)]
    assert left and left == [f"{FOLDER}/00000{number}-readings" for number in range(5 - len(left), 5)]
    dropped = 4 - len(left)
    assert dropped and work.status(None)["dropped_readings_segments"] == dropped
    assert ledger.totals().dropped["dropped_readings"] == 600 * dropped == sum(gap.count for gap in gaps(tmp_path))
    (record,) = [path for path in tmp_path.glob("*/*.mcap") if path.parent.name != FOLDER]
    assert [message.log_time for message in reader.read(record) if message.topic == "/event"] == [
        100 * SECOND * number for number in range(1, dropped + 1)
    ], "events outlive the readings around them"


def test_a_damaged_segment_is_not_thinned_into_one_that_looks_whole(tmp_path: Path) -> None:
    damaged = images(tmp_path, 1, 100)
    images(tmp_path, 2, 200)
    path = tmp_path / FOLDER / "000001-images.mcap"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    ledger = ledger_of(tmp_path)
    for _ in range(2):
        sweep(tmp_path, ledger, less=1_000)
    assert bytes(data) == path.read_bytes() and (row := ledger.segment(damaged)) is not None and row.state == "sealed"
    work = Sweeper(truck(tmp_path, quota=0))
    with uplink(tmp_path, ledger):
        work.sweep()
    (told,) = [gap for gap in gaps(tmp_path) if "damaged" in gap.reason]
    assert (told.count, told.from_boottime_ns, told.to_boottime_ns) == (20, 100 * SECOND, 119 * SECOND), "the damaged chunk's too"


def test_a_file_that_vanished_is_told_as_what_could_not_be_read(tmp_path: Path) -> None:
    lost = images(tmp_path, 1, 100)
    ledger = ledger_of(tmp_path)
    (tmp_path / FOLDER / "000001-images.mcap").unlink()
    images(tmp_path, 2, 200)
    with uplink(tmp_path, ledger):
        Sweeper(truck(tmp_path, quota=0)).sweep()
    assert any(lost in gap.reason and gap.count == 0 for gap in gaps(tmp_path))


# --- any spool, any state: what is never done

STATES = ("sealed", "sealed", "uploaded", "announced", "receipted", "refused", "uploading")
SEGMENT = st.tuples(st.sampled_from(["images", "readings"]), st.sampled_from(STATES), st.integers(1, 12))


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp())
    yield made
    shutil.rmtree(made)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SEGMENT, min_size=1, max_size=7), st.lists(st.floats(0, 120), max_size=2), st.floats(0, 1), st.booleans())
def test_the_order_holds_for_any_spool(
    folder: Path, spool: list[tuple[str, str, int]], events: list[float], part: float, floor: bool
) -> None:
    place = Path(tempfile.mkdtemp(dir=folder))
    states: dict[str, str] = {}
    protected: set[int] = set()
    begin = 0.0
    for number, (stream, state, count) in enumerate(spool, start=1):
        if state == "uploading" and "uploading" in states.values():
            state = "sealed"  # there is one upload at a time
        if stream == "images":
            states[images(place, number, begin, count=count)] = state
            times = [int((begin + index) * SECOND) for index in range(count)]
            near = [time for time in times if any(abs(time - int(at * SECOND)) <= 10 * SECOND for at in events)]
            protected.update(near if state in ("sealed", "refused") else times if state != "receipted" else [])
        else:
            states[readings(place, number, begin, [("shock", at) for at in events])] = state
        begin += count
    if not any(stream == "readings" for stream, _, _ in spool):
        readings(place, 99, 0, [("shock", at) for at in events])
    ledger = ledger_of(place)
    for identity, state in states.items():
        match state:
            case "uploaded":
                ledger.uploaded(identity, "https://hub.test/x")
            case "announced":
                announce(ledger, identity)
            case "receipted":
                deliver(ledger, identity)
            case "refused":
                ledger.set_aside(identity, "poison")
    made = kept_images(place)
    files = {path: path.read_bytes() for path in place.glob("*/*.mcap")}
    quota = int(sum(map(len, files.values())) * part)
    log: list[tuple[str, str]] = []
    work = Sweeper(truck(place, quota=quota))
    drop = work._work.drop

    def noted(line: object, stream: str, enough: int) -> int:
        images_left = [n for n in present(place) if n.endswith("images") and reader.info(place / f"{n}.mcap").messages.get("/camera/front")]
        freed = drop(line, stream, enough)  # type: ignore[arg-type]
        log.append((stream, ",".join(images_left)))
        return freed

    work._work.drop = noted  # type: ignore[method-assign]
    with uplink(place, ledger) as hub:
        hub.uploading = next((identity for identity, state in states.items() if state == "uploading"), None)
        work.sweep(called=floor)
    for identity, state in states.items():
        path = place / FOLDER / f"{identity.removeprefix(f'truck-1-{FOLDER}-')}.mcap"
        if state in ("uploaded", "announced") or identity == hub.uploading:
            assert path.read_bytes() == files[path], f"{state}: leased to an upload"
        if identity.endswith("readings") and state in ("sealed", "refused") and not path.exists():
            assert floor and not any(images_left for stream, images_left in log if stream == "readings"), "an image was there"
    thinned_only = not any(stream == "images" for stream, _ in log)
    kept = set(kept_images(place))
    if thinned_only:
        assert protected <= kept, "an image within 10 s of an event was thinned"
    delivered = sum(count for (stream, state, count) in spool if stream == "images" and state == "receipted") - sum(
        len([m for m in reader.read(p) if m.topic == "/camera/front"])
        for p in place.glob(f"{FOLDER}/*.mcap")
        if _state(ledger, p) == "receipted"
    )
    told = sum(gap.count for gap in gaps(place) if gap.source == "/camera/front")
    assert len(kept_images(place)) + told + delivered == len(made), "an image went without a word"
    ledger.close()


def _state(ledger: Ledger, path: Path) -> str:
    row = ledger.segment(f"truck-1-{FOLDER}-{path.stem}")
    return row.state if row else ""


def test_the_center_takes_what_is_left_and_what_tells_of_the_rest(tmp_path: Path) -> None:
    readings(tmp_path, 1, 100)
    vanished, whole = images(tmp_path, 2, 100), images(tmp_path, 3, 200, count=70)
    images(tmp_path, 4, 300)
    ledger = ledger_of(tmp_path)
    (tmp_path / FOLDER / "000002-images.mcap").unlink()
    for identity in (vanished, whole):
        ledger.tried(identity, 64, False)
    assert sweep(tmp_path, ledger, less=100_000)[1] is None
    kinds = set()
    for path in tmp_path.glob("[!.]*/*.mcap"):
        told = describe(path)
        identity, stream = f"truck-1-{path.parent.name}-{path.stem}", path.stem.partition("-")[2]
        times = (told.first_boottime_ns, told.last_boottime_ns, told.first_utc_ns, told.last_utc_ns)
        said = Announcement(identity, "https://hub.test/x", told.size, told.sha256, stream, *times, "truck-1")
        back = read_announcement(identity, announcement_document(said))
        kinds.add(verified(path, back).derivation[:14])
    assert kinds == {"", '{"kind":"thinn', '{"kind":"drop"'}
