"""The ledger alone: which answers move a segment, and what survives."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger import REFUSALS_MAX, Description, Found, Ledger
from sox.segments import Receipt

pytestmark = pytest.mark.timeout(60)

SHA = "ab" * 32
DESCRIPTION = Description(100, SHA, 10, 20, 0, 0)


def found(number: int, stream: str = "readings", size: int = 100) -> Found:
    return Found(f"truck-1-aaaaaaaa-bbbbbbbb-{number:06d}-{stream}", f"aaaaaaaa-bbbbbbbb/{number:06d}-{stream}.mcap", stream, size)


class Now:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def ledger(tmp_path: Path, now: Now) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.sqlite", boot="boot-1", now=now)
    yield ledger
    ledger.close()


def announce(ledger: Ledger, segment: Found, url: str = "https://hub/x") -> str:
    ledger.add([segment])
    ledger.describe(segment.segment_id, DESCRIPTION)
    ledger.uploaded(segment.segment_id, url)
    ledger.announced(segment.segment_id, url)
    return segment.segment_id


def state(ledger: Ledger, segment_id: str) -> str:
    segment = ledger.segment(segment_id)
    assert segment is not None
    return segment.state


def stored(segment_id: str, sha256: str = SHA, size: int = 100) -> Receipt:
    return Receipt(segment_id, "stored", sha256, size, "")


def test_only_a_receipt_of_the_same_bytes_makes_a_segment_delivered(ledger: Ledger) -> None:
    identity = announce(ledger, found(1))
    assert ledger.deletable() == []
    assert ledger.receipt(stored(identity, sha256="cd" * 32), True) == "refused"
    announce(ledger, found(1))
    assert ledger.receipt(stored(identity, size=99), True) == "refused"
    announce(ledger, found(1))
    assert ledger.deletable() == []
    assert ledger.receipt(stored(identity), True) == "delivered"
    assert [segment.segment_id for segment in ledger.deletable()] == [identity]


def test_a_receipt_twice_or_for_an_unknown_segment_changes_nothing(ledger: Ledger) -> None:
    identity = announce(ledger, found(1))
    assert ledger.receipt(stored(identity), True) == "delivered"
    before = ledger.totals()
    assert ledger.receipt(stored(identity), True) == "duplicate"
    assert ledger.receipt(Receipt(identity, "refused", "", 0, "late"), True) == "duplicate"
    assert ledger.receipt(stored("truck-1-00000000-00000000-000001-readings"), True) == "unknown"
    assert ledger.totals() == before


def test_an_uploaded_segment_is_not_delivered_and_a_receipt_is_never_undone(ledger: Ledger) -> None:
    ledger.add([found(1)])
    identity = found(1).segment_id
    ledger.describe(identity, DESCRIPTION)
    ledger.uploaded(identity, "https://hub/x")
    assert state(ledger, identity) == "uploaded" and ledger.deletable() == []
    assert ledger.receipt(stored(identity), False) == "delivered"
    ledger.uploaded(identity, "https://hub/y")
    ledger.announced(identity, "https://hub/x")
    ledger.upload_refused(identity, "late")
    ledger.set_aside(identity, "late")
    assert state(ledger, identity) == "receipted"


def test_readings_go_before_images_and_older_before_newer(ledger: Ledger) -> None:
    ledger.add([found(1, "images"), found(2), found(3, "images"), found(4)])
    order: list[str] = []
    while (segment := ledger.next_upload(frozenset(order))) is not None:
        order.append(segment.segment_id)
    assert order == [found(2).segment_id, found(4).segment_id, found(1, "images").segment_id, found(3, "images").segment_id]


def test_refused_uploads_set_a_segment_aside_and_it_blocks_nothing(ledger: Ledger, now: Now) -> None:
    ledger.add([found(1), found(2)])
    poison, good = found(1).segment_id, found(2).segment_id
    for _ in range(REFUSALS_MAX - 1):
        ledger.upload_refused(poison, "http: 413")
        assert state(ledger, poison) == "sealed"
    ledger.upload_refused(poison, "http: 413")
    assert state(ledger, poison) == "refused"
    assert ledger.totals().set_aside == [{"segment_id": poison, "reason": "http: 413"}]
    assert (segment := ledger.next_upload()) is not None and segment.segment_id == good
    ledger.uploaded(good, "https://hub/x")
    assert ledger.next_upload() is None
    now.ns += 7 * 3600 * 10**9  # much later, with nothing else to do, it gets another chance
    assert (segment := ledger.next_upload()) is not None and segment.segment_id == poison
    assert ledger.deletable() == []


def test_a_segment_that_was_set_aside_has_its_turn_again_however_many_wait(ledger: Ledger, now: Now) -> None:
    """A truck that never catches up with its images must not keep a reading back for ever because a hub was misconfigured for an hour."""
    ledger.add([found(1, "images"), found(2), found(3, "images"), found(4)])
    for _ in range(REFUSALS_MAX):
        ledger.upload_refused(found(1, "images").segment_id, "http: 413")
        ledger.upload_refused(found(2).segment_id, "http: 413")
    now.ns += 7 * 3600 * 10**9
    order: list[str] = []
    while (segment := ledger.next_upload(frozenset(order))) is not None:
        order.append(segment.segment_id)
    assert order == [found(2).segment_id, found(4).segment_id, found(1, "images").segment_id, found(3, "images").segment_id]


def test_the_ledger_holds_capabilities_and_is_for_its_own_user_only(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    announce(ledger, found(1))
    assert {path.stat().st_mode & 0o077 for path in tmp_path.iterdir()} == {0}
    ledger.close()


def test_refusals_of_the_center_are_bounded(ledger: Ledger) -> None:
    outcomes = []
    for _ in range(REFUSALS_MAX):
        identity = announce(ledger, found(1))
        outcomes.append(ledger.receipt(Receipt(identity, "refused", "", 0, "chunk 3 damaged"), True))
    assert outcomes == ["refused"] * (REFUSALS_MAX - 1) + ["set aside"]
    assert ledger.totals().set_aside == [{"segment_id": identity, "reason": "center: chunk 3 damaged"}]


def test_an_old_refusal_read_again_from_the_node_is_not_counted_again(ledger: Ledger) -> None:
    identity = announce(ledger, found(1))
    refusal = Receipt(identity, "refused", "", 0, "not found")
    assert ledger.receipt(refusal, False) == "refused"
    assert ledger.receipt(refusal, False) == "stale", "it waits for its upload: nothing was announced since"
    announce(ledger, found(1))
    assert ledger.receipt(refusal, False) == "stale"
    assert ledger.receipt(refusal, True) == "refused", "announced on this connection, so this is a new answer"


def test_an_announcement_without_receipt_is_due_again_after_its_time_and_in_another_boot(tmp_path: Path, now: Now) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", boot="boot-1", now=now)
    identity = announce(ledger, found(1))
    assert ledger.to_announce(600) == []
    now.ns += 599 * 10**9
    assert ledger.to_announce(600) == []
    now.ns += 2 * 10**9
    assert [segment.segment_id for segment in ledger.to_announce(600)] == [identity]
    ledger.announced(identity, "https://hub/x")
    assert ledger.to_announce(600) == []
    ledger.close()
    now.ns = 5  # BOOTTIME began anew
    ledger = Ledger(tmp_path / "ledger.sqlite", boot="boot-2", now=now)
    assert [segment.segment_id for segment in ledger.to_announce(600)] == [identity]
    ledger.close()


def test_a_refusal_that_overtakes_the_hubs_answer_to_the_announcement_stands(ledger: Ledger) -> None:
    ledger.add([found(1)])
    identity = found(1).segment_id
    ledger.describe(identity, DESCRIPTION)
    ledger.uploaded(identity, "https://hub/x")
    assert ledger.receipt(Receipt(identity, "refused", "", 0, "gone"), True) == "refused"
    ledger.announced(identity, "https://hub/x")
    assert state(ledger, identity) == "sealed"


def test_forgotten_segments_become_counters_and_unreceipted_ones_are_never_forgotten(ledger: Ledger) -> None:
    first, second = announce(ledger, found(1)), announce(ledger, found(2))
    ledger.receipt(stored(first), True)
    assert ledger.forget([first, second, "nobody"]) == 1
    assert ledger.known() == {second}
    totals = ledger.totals()
    assert (totals.deleted_segments, totals.deleted_bytes, totals.segments["announced"]) == (1, 100, 1)


def test_item_ids_rise_over_restarts_and_above_the_hubs(tmp_path: Path) -> None:
    numbers = []
    for at_least in (0, 0, 5000, 0):
        ledger = Ledger(tmp_path / "ledger.sqlite")
        numbers.append(ledger.reserve_ids(at_least, 100))
        ledger.close()
    assert numbers == [1, 101, 5000, 5100]


@pytest.mark.parametrize("garbage", [b"this is not a database at all, only text" * 100, b"SQLite format 3\0" + bytes(range(256)) * 40])
def test_a_damaged_ledger_is_put_aside_and_begun_anew(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(garbage)
    ledger = Ledger(path)
    assert ledger.rebuilt is not None and "damaged" in ledger.rebuilt
    ledger.add([found(1)])
    assert ledger.known() == {found(1).segment_id}
    ledger.close()
    assert (tmp_path / "ledger.sqlite.damaged").read_bytes() == garbage


def test_a_ledger_of_another_version_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    ledger = Ledger(path)
    assert ledger.rebuilt == "ledger of version 99, not 3"
    ledger.close()


def test_every_commit_is_synced(ledger: Ledger) -> None:
    assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,), "2 is FULL"


WRITER = """
import sys
from pathlib import Path
from gateway.ledger import Found, Ledger
ledger = Ledger(Path(sys.argv[1]))
number = max(0, len(ledger.known()) - 1)  # the step that a kill cut is repeated
while True:
    number += 1
    ledger.add([Found(f"s-{number}", f"f/{number:06d}-readings.mcap", "readings", 1)])
    ledger.uploaded(f"s-{number}", "https://hub/x")
    print(number, flush=True)
"""


def test_what_was_written_down_survives_sigkill_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    for delay in (0.0, 0.013, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        last = int(writer.stdout.readline())
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        said = writer.stdout.read().split("\n")[:-1]  # the last line may be torn
        writer.wait()
        writer.stdout.close()
        last = int(said[-1]) if said else last
        ledger = Ledger(path)
        assert ledger.rebuilt is None
        assert ledger.known() >= {f"s-{number}" for number in range(1, last + 1)}
        assert all(state(ledger, f"s-{number}") == "uploaded" for number in range(1, last + 1))
        ledger.close()
