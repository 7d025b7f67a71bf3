"""What is leased to whom, and what a derived segment does to the ledger: the uplink's desk on its real socket."""

import asyncio
from pathlib import Path

import pytest
from gateway_sweeper_parts import FOLDER, TRUCK, announce, deliver, images, ledger_of, readings, uplink
from gateway_uplink_parts import OpenWays

from gateway.ledger import KEEP_EVERY_MOST, Found, Ledger
from gateway.sweeper_derivation import Derivation, derived_identity
from gateway.uplink_books import Books
from gateway.uplink_bulk import Bulk, Transfer
from gateway.uplink_scan import scan
from gateway.uplink_socket import Line, Refused
from logbook import channels
from logbook.segment_writer import Identity, SegmentWriter

pytestmark = pytest.mark.timeout(60)


def thinned(number: int, originals: tuple[str, ...], size: int = 40, kind: str = "thinning") -> Found:
    name = f"cccccccc-dddddddd/{number:06d}-images.mcap"
    derivation = Derivation(kind, 2 if kind == "thinning" else 0, dropped=7)  # type: ignore[arg-type]
    return Found(f"derived-{number}", name, "images", size, originals, derivation)


def found(number: int, size: int = 100) -> Found:
    return Found(f"original-{number}", f"{FOLDER}/{number:06d}-images.mcap", "images", size)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def states(ledger: Ledger) -> dict[str, str]:
    rows = (ledger.segment(identity) for identity in sorted(ledger.known()))
    return {row.segment_id: row.state for row in rows if row is not None}


def test_taken_is_taken_from_the_upload_and_from_others_until_it_is_given_back(tmp_path: Path) -> None:
    identity = images(tmp_path, 1, 100)
    ledger = ledger_of(tmp_path)
    take = {"ask": "take", "segment_ids": [identity]}
    unsent = {"ask": "unsent", "purpose": "thinning", "stream": "images", "limit": 5}
    with uplink(tmp_path, ledger) as hub, Line(tmp_path) as ours, Line(tmp_path) as theirs:
        assert ours.ask(take) == {"taken": [identity]}
        assert theirs.ask(take) == {"taken": []} and theirs.ask(unsent) == {"segments": []}
        assert ours.ask(take) == {"taken": [identity]}, "asked again: still ours"
        theirs.ask({"tell": "given back", "segment_ids": [identity]})
        assert list(hub.desk.taken) == [identity], "only the holder gives it back"
        ours.ask({"tell": "given back", "segment_ids": [identity]})
        assert theirs.ask(take) == {"taken": [identity]}
        with theirs:
            pass
        hub.uploading = identity
        with Line(tmp_path) as third:
            third.ask(unsent)  # the closed connection was noticed by now
            assert not hub.desk.taken
            assert third.ask(take) == {"taken": []}, "the upload has it in hand"


def test_what_was_sent_cannot_be_taken(tmp_path: Path) -> None:
    ids = [images(tmp_path, number, 100 * number) for number in range(1, 6)]
    ledger = ledger_of(tmp_path)
    ledger.uploaded(ids[0], "https://hub.test/x")
    announce(ledger, ids[1])
    deliver(ledger, ids[2])
    ledger.set_aside(ids[3], "poison")
    with uplink(tmp_path, ledger), Line(tmp_path) as line:
        assert line.ask({"ask": "take", "segment_ids": [*ids, "nobody"]}) == {"taken": ids[3:]}
        assert line.ask({"ask": "images left"}) == {"segments": 4}


@pytest.mark.parametrize(
    "request_",
    [
        {"ask": "take", "segment_ids": [1]},
        {"ask": "unsent", "purpose": "thinning", "stream": "readings", "limit": 5},
        {"ask": "unsent", "purpose": "dropping", "stream": "../x", "limit": 5},
        {"ask": "deletable", "limit": 0},
        {"tell": "tried", "segment_id": "x", "keep_every": 2},
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_the_line_goes_on(tmp_path: Path, request_: dict[str, object]) -> None:
    ledger = ledger_of(tmp_path)
    with uplink(tmp_path, ledger), Line(tmp_path) as line:
        with pytest.raises(Refused):
            line.ask(request_)
        assert line.ask({"ask": "images left"}) == {"segments": 0}


async def test_an_upload_does_not_begin_with_what_was_taken_between_its_question_and_its_beginning(tmp_path: Path) -> None:
    identities = [readings(tmp_path, number, 0) for number in (1, 2)]
    ledger = ledger_of(tmp_path)
    books = Books(ledger)
    begun: list[str] = []
    taken: dict[str, object] = {}

    class Connected:
        async def client(self) -> None:
            return

    bulk = Bulk(tmp_path, "/ca", books, Connected(), OpenWays(), lambda: None, 0.01)  # type: ignore[arg-type]
    bulk.leases = lambda: taken
    ask = bulk._skip

    def asked_and_then_taken() -> frozenset[str]:
        skipped = ask()
        taken[identities[0]] = "the sweeper"  # right behind the question
        return skipped

    async def upload(transfer: Transfer, ahead: object) -> None:
        begun.append(transfer.segment.segment_id)
        await asyncio.sleep(3600)

    bulk._skip = asked_and_then_taken  # type: ignore[method-assign]
    bulk._upload = upload  # type: ignore[method-assign,assignment]
    task = asyncio.create_task(bulk.run())
    async with asyncio.timeout(20):
        while not begun:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    books.close()
    assert begun == [identities[1]]


# --- the ledger


def test_a_derived_segment_takes_its_originals_place_and_is_counted_in_the_same_commit(ledger: Ledger) -> None:
    ledger.add([found(1), found(2), found(3)])
    ledger.add([thinned(9, ("original-1",))])
    assert states(ledger) == {"original-1": "superseded", "original-2": "sealed", "original-3": "sealed", "derived-9": "sealed"}
    segment = ledger.next_upload()
    assert segment is not None and segment.segment_id == "derived-9", "in the place of the oldest"
    assert [row.segment_id for row in ledger.to_thin()] == ["original-2", "original-3", "derived-9"], "the least thinned first"
    assert [row.segment_id for row in ledger.superseded()] == ["original-1"] and ledger.deletable() == []
    ledger.add([thinned(9, ("original-1",))])
    dropped = ledger.totals().dropped
    assert (dropped["thinned_images"], dropped["thinned_bytes"]) == (7, 60), "once, however often it is found"
    assert ledger.forget(["original-1", "original-2"]) == 1
    assert ledger.totals().deleted_segments == 0, "nothing was delivered"


def test_a_record_of_drops_stands_for_many_and_is_never_dropped_itself(ledger: Ledger) -> None:
    ledger.add([found(1), found(2), found(3)])
    ledger.add([thinned(9, ("original-1", "original-2"), kind="drop")])
    assert [row.segment_id for row in ledger.to_drop("images")] == ["original-3"]
    assert [row.segment_id for row in ledger.drop_records("images")] == ["derived-9"]
    assert "derived-9" not in [row.segment_id for row in [*ledger.to_thin(), *ledger.to_shrink()]]
    assert ledger.images_left() == 1
    assert (ledger.totals().dropped["dropped_images"], ledger.totals().dropped["dropped_images_bytes"]) == (7, 160)


def test_an_original_that_is_on_its_way_is_not_replaced(ledger: Ledger) -> None:
    ledger.add([found(1), found(2)])
    ledger.uploaded("original-1", "https://hub.test/x")
    ledger.add([thinned(8, ("original-1",)), thinned(9, ("original-2", "original-1"), kind="drop")])
    assert states(ledger) == {"original-1": "uploaded", "original-2": "sealed", "derived-8": "superseded", "derived-9": "superseded"}
    assert not any(ledger.totals().dropped.values())


def test_an_upload_of_a_replaced_original_that_had_begun_ends_unannounced(ledger: Ledger) -> None:
    ledger.add([found(1)])
    ledger.add([thinned(9, ("original-1",))])
    ledger.uploaded("original-1", "https://hub.test/x")
    assert ledger.to_announce(600) == [] and states(ledger)["original-1"] == "superseded"


def test_a_ledger_begun_anew_knows_who_stands_for_whom_in_whatever_order_it_finds_them(ledger: Ledger) -> None:
    ledger.add([thinned(9, ("derived-8",)), thinned(8, ("original-1",)), found(1)])
    assert states(ledger) == {"original-1": "superseded", "derived-8": "superseded", "derived-9": "sealed"}


def test_what_was_tried_in_vain_is_not_tried_again(ledger: Ledger) -> None:
    ledger.add([found(1), found(2)])
    ledger.tried("original-1", KEEP_EVERY_MOST, False)
    ledger.tried("original-2", 1, True)
    assert [row.segment_id for row in ledger.to_thin()] == ["original-2"]
    assert [row.segment_id for row in ledger.to_shrink()] == ["original-1"]


def test_a_head_that_is_damaged_is_not_believed_whom_it_stands_for(tmp_path: Path) -> None:
    folder = tmp_path / "cccccccc-dddddddd"
    identity = Identity(f"{TRUCK}-cccccccc-dddddddd-000001-images", TRUCK, "images", "c", "original-1", Derivation("thinning", 2).text())
    writer = SegmentWriter.create(folder / "000001-images.mcap", identity, channels.channel_types("images"), {})
    path = writer.seal()
    assert derived_identity(path) == identity
    ((only,), _) = scan(tmp_path, TRUCK, set())
    assert only.derived_from == ("original-1",) and only.derivation.keep_every == 2
    data = bytearray(path.read_bytes())
    data[data.index(b"original-1") + 9] ^= 3  # original-2
    path.write_bytes(data)
    ((only,), _) = scan(tmp_path, TRUCK, set())
    assert only.derived_from == ()
