"""The judge of the uplink's proofs can say no: each way to break the promise is told for what it is."""

import random
import shutil
from pathlib import Path

import pytest
from uplink_faults import main
from uplink_faults_rig import seal
from uplink_oracle import Oracle

from gateway.ledger import LEDGER_NAME, Ledger
from gateway.sweeper_derivation import Derivation
from gateway.sweeper_derive import Writer, load, publish
from gateway.uplink_scan import describe, scan
from sox.segments import Receipt

TRUCK = "t01"


class Place:
    """A truck's spool and ledger and the city's archive, without any process."""

    def __init__(self, folder: Path) -> None:
        self.spool, self.archive, graveyard = (folder / name for name in ("spool", "archive", "graveyard"))
        for made in (self.spool, self.archive / TRUCK, graveyard):
            made.mkdir(parents=True)
        self.oracle = Oracle(TRUCK, self.spool, self.archive, graveyard)
        self.paths = [seal(self.spool, TRUCK, number, "images", 20_000, random.Random(number)) for number in (1, 2)]
        self.ids = [self.oracle.owe(path) for path in self.paths]
        self.ledger = Ledger(self.spool / LEDGER_NAME)
        self.ledger.add(scan(self.spool, TRUCK, set())[0])

    def store(self, at: int, name: str | None = None, data: bytes | None = None) -> None:
        (self.archive / TRUCK / f"{name or self.ids[at]}.mcap").write_bytes(data or self.paths[at].read_bytes())

    def receipt(self, at: int) -> None:
        description = describe(self.paths[at])
        self.ledger.describe(self.ids[at], description)
        assert self.ledger.receipt(Receipt(self.ids[at], "stored", description.sha256, description.size, ""), True) == "delivered"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_what_was_stored_receipted_and_deleted_in_this_order_is_well(place: Place) -> None:
    for at in (0, 1):
        place.store(at)
        place.receipt(at)
    place.oracle.look()
    place.paths[0].unlink()
    place.ledger.forget([place.ids[0]])
    verdict = place.oracle.verdict()
    assert verdict.problems == [] and verdict.segments == 2 and verdict.books is not None
    assert verdict.books.deleted and verdict.books.receipted and not verdict.books.backlog


def test_a_segment_that_never_came_is_lost_and_one_that_came_under_another_name_too_is_doubled(place: Place) -> None:
    place.store(0)
    place.store(0, place.ids[0].replace("000001", "000009"))
    verdict = place.oracle.verdict()
    assert verdict.lost == [place.ids[1]] and place.ids[0] in verdict.duplicated
    assert verdict.unowed == [place.ids[0].replace("000001", "000009")]


def test_a_second_copy_in_the_archive_is_a_double(place: Place) -> None:
    for at in (0, 1):
        place.store(at)
    (place.archive / "elsewhere").mkdir()
    shutil.copy(place.archive / TRUCK / f"{place.ids[0]}.mcap", place.archive / "elsewhere")
    assert place.ids[0] in place.oracle.verdict().duplicated


def test_other_bytes_are_damage_and_a_receipt_for_them_is_false(place: Place) -> None:
    data = place.paths[0].read_bytes()
    place.store(0, data=data[:-1] + bytes([data[-1] ^ 1]))
    place.receipt(0)
    verdict = place.oracle.verdict()
    assert verdict.damaged == [place.ids[0]] and verdict.receipted_unstored == [place.ids[0]]


def test_a_receipt_before_the_archive_has_it_is_false_even_if_it_comes_later(place: Place) -> None:
    place.receipt(0)
    place.oracle.look()
    for at in (0, 1):
        place.store(at)
    assert place.oracle.verdict().receipted_unstored == [place.ids[0]]


def test_a_file_deleted_too_early_is_told_even_if_it_was_uploaded_and_arrives_later(place: Place) -> None:
    data = place.paths[0].read_bytes()
    place.paths[0].unlink()
    place.oracle.look()
    place.store(0, data=data)
    place.store(1)
    assert place.oracle.verdict().deleted_unreceipted == [place.ids[0]]


def test_a_derived_segment_that_came_too_late_is_missed_only_if_one_of_its_originals_went_no_other_way(place: Place) -> None:
    contents = [load(path) for path in place.paths]
    writer = Writer(place.spool, TRUCK)

    def derive(*numbers: int) -> Path:
        identities = [place.ids[number] for number in numbers]
        entries = [entry for number in numbers for entry in contents[number].entries[::2]]
        written, at = writer.write(contents[numbers[0]], identities, place.paths[0].parent.name, Derivation("thinning", 2), entries)
        publish(written, at)
        return at

    late = derive(0, 1)
    place.oracle.look()
    late.unlink()  # the first original was on its way already: it is given up, though nothing of it is delivered yet
    place.oracle.look()
    again = derive(1)
    place.oracle.look()
    place.paths[1].unlink()
    place.store(0)
    name = f"{TRUCK}-{again.parent.name}-{again.stem}"
    assert name in place.oracle.verdict().lost  # the second original went into another, which has not come
    place.store(1, name, again.read_bytes())
    verdict = place.oracle.verdict()
    assert verdict.lost == verdict.deleted_unreceipted == verdict.unowed == [] and verdict.segments == 2


def test_a_ledger_that_forgot_a_segment_does_not_balance(place: Place) -> None:
    for at in (0, 1):
        place.store(at)
    place.ledger.db.execute("DELETE FROM segments WHERE segment_id=?", (place.ids[0],))
    [problem] = place.oracle.verdict().problems
    assert f"off by {place.paths[0].stat().st_size} bytes" in problem


def test_a_row_that_is_not_there_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "no such fault"]) == 2
    assert capsys.readouterr().err == "faults-uplink: no row with 'no such fault'\n"
