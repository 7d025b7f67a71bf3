"""Which segments a request asks for, what the truck says of them, and what asking does to the ledger: real segments, no network."""

import sqlite3
from pathlib import Path

import pytest
from gateway_request_parts import HOME, asking, east_of_home, look_through, way
from gateway_sweeper_parts import FOLDER, SECOND, UTC_NS, deliver, images, ledger_of, readings, seal, truck, uplink, without_syncs

from gateway import ledger_requests
from gateway.ledger import KEEP_EVERY_MOST, LEDGER_NAME, Found, Ledger
from gateway.ledger_requests import Point
from gateway.sweeper import Sweeper
from gateway.sweeper_derivation import Derivation
from gateway.uplink_requests_answer import MARKED, answer_to, answer_to_mark, stale
from gateway.uplink_requests_look import TRACK_METRES, Unreadable, look, thinned
from gateway.uplink_requests_match import Match, match, overlaps, union
from gateway.uplink_scan import describe, scan
from sox.requests import BOOKMARK, DONE, FOUND, REFUSED, SENDING, Held, Place, Request

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    without_syncs(monkeypatch)


def ids(held: list[Held]) -> list[str]:
    return [one.segment_id for one in held]


# -- looking into segments


def test_a_look_at_the_ends_of_an_images_segment_says_what_reading_all_of_it_says(tmp_path: Path) -> None:
    identity = images(tmp_path, 1, 100, count=35)
    path = tmp_path / FOLDER / "000001-images.mcap"
    seen = look(path, "images")
    said = describe(path)
    assert seen.images == 35 and seen.points == [] and identity.endswith("000001-images")
    assert seen.times == (said.first_boottime_ns, said.last_boottime_ns, said.first_utc_ns, said.last_utc_ns)
    empty = look(
        tmp_path / seal(tmp_path, 2, "images", []).replace("truck-1-", "").replace("-000002", "/000002").__add__(".mcap"), "images"
    )
    assert empty.images == 0 and empty.times == (0, 0, 0, 0)


def test_the_way_of_a_truck_is_a_point_every_ten_seconds_or_twenty_metres_and_both_its_ends(tmp_path: Path) -> None:
    standing = [east_of_home(0)] * 25
    driving = [east_of_home(9.0 * step) for step in range(1, 11)]
    way(tmp_path, 1, 100, [*standing, *driving])
    points = look(tmp_path / FOLDER / "000001-readings.mcap", "readings").points
    assert [point.boottime_ns // SECOND - 100 for point in points] == [0, 10, 20, 27, 30, 33, 34]
    assert points[0] == Point("aaaaaaaa", 100 * SECOND, UTC_NS + 100 * SECOND, *HOME)
    assert TRACK_METRES == 20.0 and thinned([]) == []


def test_a_segment_that_says_nothing_is_told_and_not_looked_at_again(tmp_path: Path) -> None:
    images(tmp_path, 1, 100)
    path = tmp_path / FOLDER / "000001-images.mcap"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(Unreadable, match="000001-images.mcap"):
        look(path, "images")
    with pytest.raises(Unreadable, match="No such file"):
        look(path.with_name("000009-readings.mcap"), "readings")
    ledger = ledger_of(tmp_path)
    look_through(tmp_path, ledger)
    assert ledger_requests.still_to_look(ledger) == 0 and match(ledger, asking(0, 1e6)).waiting == []


# -- by time


def test_images_are_found_by_their_time_also_those_from_before_the_first_clock_of_their_boot(tmp_path: Path) -> None:
    found = [images(tmp_path, number, number * 100.0) for number in range(1, 5)]
    ledger = ledger_of(tmp_path)
    look_through(tmp_path, ledger)
    assert ids(match(ledger, asking(205, 300)).waiting) == found[1:3], "a segment lasts 19 s"
    assert ids(match(ledger, asking(None, 119)).waiting) == found[:1] and ids(match(ledger, asking(400)).waiting) == found[3:]
    held = match(ledger, asking(205, 300)).waiting[0]
    assert (held.images, held.first_utc_ns, held.last_utc_ns, held.keep_every) == (20, UTC_NS + 200 * SECOND, UTC_NS + 219 * SECOND, 1)
    assert held.bytes == (tmp_path / FOLDER / "000002-images.mcap").stat().st_size
    ledger.db.execute("UPDATE segments SET first_utc_ns=0, last_utc_ns=0 WHERE segment_id=?", (found[0],))
    assert ids(match(ledger, asking(100, 110)).waiting) == found[:1]


def test_of_a_boot_without_any_clock_is_said_how_many_segments_it_has(tmp_path: Path) -> None:
    images(tmp_path, 1, 100)
    images(tmp_path, 2, 100, folder="cccccccc-dddddddd")
    ledger = ledger_of(tmp_path)
    look_through(tmp_path, ledger)
    ledger.db.execute("DELETE FROM clocks WHERE boot='cccccccc'")
    found = match(ledger, asking(0, 1000))
    assert len(found.waiting) == 1 and found.unclear == 1
    assert "of 1 segments with images no time is known" in answer_to(asking(0, 1000), found, True, False).reason
    way(tmp_path, 3, 100, [HOME], folder="cccccccc-dddddddd")
    ledger.add(scan(tmp_path, "truck-1", ledger.known())[0])
    look_through(tmp_path, ledger)
    assert match(ledger, asking(0, 1000)).unclear == 0, "the readings of the same boot knew it"


# -- by place


@pytest.mark.parametrize(
    ("centre_m", "radius", "expected"),
    [(1000, 50, [1]), (1000, 400, [1]), (1000, 460, [0, 1]), (1000, 470, [0, 1]), (3000, 100, []), (1010, 4, [1])],
)
def test_images_are_found_by_where_the_truck_was_also_between_two_points_of_its_way(
    tmp_path: Path, centre_m: float, radius: float, expected: list[int]
) -> None:
    # 20 m/s eastwards from HOME: the first images cover 0 to 540 m, the second 900 to 1280 m
    way(tmp_path, 1, 0, [east_of_home(20.0 * second) for second in range(70)])
    found = [images(tmp_path, 2, 0, count=28), images(tmp_path, 3, 45)]
    ledger = ledger_of(tmp_path)
    look_through(tmp_path, ledger)
    matched = match(ledger, asking(place=Place(*east_of_home(centre_m), radius)))
    assert ids(matched.waiting) == [found[index] for index in expected] and matched.there == bool(expected)


def test_a_place_is_not_met_by_a_line_across_a_tunnel_and_a_time_narrows_it_down(tmp_path: Path) -> None:
    way(tmp_path, 1, 0, [east_of_home(0)])
    way(tmp_path, 2, 60, [east_of_home(2000), east_of_home(0), east_of_home(0)])
    first, second = images(tmp_path, 3, 0), images(tmp_path, 4, 55)
    ledger = ledger_of(tmp_path)
    look_through(tmp_path, ledger)
    assert ids(match(ledger, asking(place=Place(*east_of_home(-300), 50))).waiting) == []
    assert ids(match(ledger, asking(place=Place(*HOME, 50))).waiting) == [first, second]
    assert ids(match(ledger, asking(50, 70, Place(*HOME, 50))).waiting) == [second]
    assert ids(match(ledger, asking(30, 50, Place(*HOME, 50))).waiting) == []


def test_a_place_without_a_time_needs_no_clock_and_lies_on_either_side_of_the_date_line(tmp_path: Path) -> None:
    way(tmp_path, 1, 0, [(10.0, 179.9999), (10.0, -179.9999)], clock=False)
    identity = images(tmp_path, 2, 0)
    ledger = ledger_of(tmp_path)
    look_through(tmp_path, ledger)
    ledger.db.execute("DELETE FROM clocks")
    found = match(ledger, asking(place=Place(10.0, 180.0, 5.0)))
    assert ids(found.waiting) == [identity] and found.waiting[0].first_utc_ns == 0 and found.unclear == 0
    assert ids(match(ledger, asking(place=Place(10.0, -180.0, 5.0))).waiting) == [identity]
    assert ids(match(ledger, asking(place=Place(89.99, 0.0, 5.0))).waiting) == []


def test_intervals_are_joined_and_searched() -> None:
    assert union([(5, 9), (1, 3), (8, 12), (20, 19)]) == [(1, 3), (5, 12)]
    assert [overlaps([(1, 3), (5, 12)], *span) for span in ((0, 0), (0, 1), (4, 4), (2, 6), (12, 12), (13, 99))] == [
        False, True, False, True, True, False,
    ]  # fmt: skip


# -- what was sent and what is gone


def test_what_was_delivered_is_told_as_sent_also_when_it_is_no_longer_here(tmp_path: Path) -> None:
    first, second = images(tmp_path, 1, 100), images(tmp_path, 2, 200)
    ledger = ledger_of(tmp_path)
    look_through(tmp_path, ledger)
    deliver(ledger, first)
    ledger.db.execute("UPDATE segments SET first_boottime_ns=100e9, last_boottime_ns=119e9 WHERE segment_id=?", (first,))
    for _ in range(2):
        found = match(ledger, asking(0, 1000))
        assert ids(found.sent) == [first] and ids(found.waiting) == [second] and found.gone == [] and found.sent[0].images == 20
        ledger.forget([first])
    ledger.forget([second])
    assert ledger.segment(second) is not None, "not delivered: never forgotten"


def test_what_was_thinned_or_dropped_is_told_with_the_reason_and_what_is_left_of_it_is_found(tmp_path: Path) -> None:
    original = [images(tmp_path, number, number * 100.0) for number in range(1, 4)]
    ledger = ledger_of(tmp_path)
    look_through(tmp_path, ledger)
    derived = ((11, 2, original[:1]), (12, 2, original[1:2]), (13, 4, ["d-11", "d-12"]), (14, 0, original[2:]))
    for number, keep_every, originals in derived:
        derivation = Derivation("thinning" if keep_every else "drop", keep_every)
        ledger.add([Found(f"d-{number}", f"aaaaaaaa-dddddddd/{number:06d}-images.mcap", "images", 40, tuple(originals), derivation)])
        ledger_requests.looked(ledger, f"d-{number}", 5 if keep_every else 0, (150 * SECOND, 250 * SECOND, 0, 0), [])
    for _ in range(2):
        found = match(ledger, asking(0, 1000))
        assert [(held.segment_id, held.keep_every) for held in found.waiting] == [("d-13", 4)]
        assert [gone.segment_id for gone in found.gone] == original
        assert [gone.how for gone in found.gone] == ["thinned: disk full, every 4. image outside of events is left"] * 2 + [
            "dropped: disk full"
        ]
        assert ledger.forget([*original, "d-11", "d-12"]) in (5, 0)
    ledger.db.execute("DELETE FROM segments WHERE segment_id='d-13'")
    assert "nothing is known any more" in match(ledger, asking(0, 150)).gone[0].how


def test_what_was_shrunk_without_loss_or_superseded_by_its_own_original_is_not_gone(tmp_path: Path) -> None:
    first, second = images(tmp_path, 1, 100), images(tmp_path, 2, 200)
    ledger = ledger_of(tmp_path)
    look_through(tmp_path, ledger)
    ledger.uploaded(second, "https://hub.test/x")
    for identity, original in (("s-1", first), ("s-2", second)):
        ledger.add(
            [Found(identity, f"aaaaaaaa-dddddddd/00000{identity[-1]}-images.mcap", "images", 40, (original,), Derivation("shrink", 1))]
        )
        ledger_requests.looked(ledger, identity, 20, (100 * SECOND, 119 * SECOND, 0, 0), [])
    found = match(ledger, asking(0, 1000))
    assert ids(found.waiting) == ["s-1", second] and found.gone == []


def test_the_tables_keep_their_newest_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACK_MOST", "GONE_MOST", "REQUESTS_MOST"):
        monkeypatch.setattr(ledger_requests, name, 2)
    made = [images(tmp_path, number, number * 100.0, count=1) for number in range(1, 4)]
    way(tmp_path, 9, 0, [east_of_home(30.0 * step) for step in range(5)])
    ledger = ledger_of(tmp_path)
    look_through(tmp_path, ledger)
    assert [point.boottime_ns for point in ledger_requests.points_near(ledger, -90, 90, -180, 180)] == [3 * SECOND, 4 * SECOND]
    for identity in made:
        deliver(ledger, identity)
    ledger.forget(made)
    assert [row[0] for row in ledger.db.execute("SELECT segment_id FROM gone")] == made[1:]
    assert [ledger_requests.enter_request(ledger, f"r-{number}", "{}") for number in (1, 2, 3, 3)] == [True, True, True, False]
    assert ledger_requests.known_requests(ledger) == {"r-2", "r-3"}


def test_a_segment_that_went_while_it_was_looked_into_is_not_entered_and_one_that_is_described_keeps_its_times(tmp_path: Path) -> None:
    identity = images(tmp_path, 1, 100)
    ledger = ledger_of(tmp_path)
    ledger_requests.looked(ledger, "truck-1-aaaaaaaa-bbbbbbbb-000099-images", 3, (1, 2, 3, 4), [])
    assert ledger.db.execute("SELECT count(*) FROM looked").fetchone() == (0,)
    ledger.describe(identity, describe(tmp_path / FOLDER / "000001-images.mcap"))
    ledger_requests.looked(ledger, identity, 3, (1, 2, 3, 4), [])
    row = ledger.segment(identity)
    assert row is not None and row.first_boottime_ns == 100 * SECOND


# -- what asking does


def test_requested_images_are_sent_first_inherited_and_go_last_among_images(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / LEDGER_NAME)
    ledger.add([Found(f"o-{n}", f"{FOLDER}/{n:06d}-images.mcap", "images", 100) for n in range(1, 4)])
    ledger.request(["o-2"])
    upload = ledger.next_upload()
    assert upload is not None and upload.segment_id == "o-2"
    assert [row.segment_id for row in ledger.to_thin()] == ["o-1", "o-3"] == [row.segment_id for row in ledger.to_drop("images")]
    assert [row.segment_id for row in ledger.to_shrink()] == ["o-3", "o-1"]
    thin = Derivation("thinning", KEEP_EVERY_MOST, dropped=1)
    ledger.add([Found("d-1", "aaaaaaaa-d/000001-images.mcap", "images", 50, ("o-1",), thin)])
    assert [row.segment_id for row in ledger.to_thin()] == ["o-3"], "others are thinned to their end, and dropped, before it"
    ledger.add([Found("d-2", "aaaaaaaa-d/000002-images.mcap", "images", 50, ("d-1", "o-3"), Derivation("drop", 0, dropped=1))])
    assert [row.segment_id for row in ledger.to_thin()] == ["o-2"] and ledger.to_drop("images") == []
    ledger.add([Found("d-3", "aaaaaaaa-d/000003-images.mcap", "images", 50, ("o-2",), thin)])
    row = ledger.segment("d-3")
    assert row is not None and row.requested, "what derives from it is asked for too"
    assert ledger.to_thin() == [] and [row.segment_id for row in ledger.to_drop("images")] == ["d-3"], "thinned before it is dropped"
    assert ledger_requests.requested_bytes(ledger) == 50


def test_the_sweeper_thins_and_drops_others_before_what_was_asked_for(tmp_path: Path) -> None:
    made = [images(tmp_path, number, number * 100.0, size=20_000) for number in range(1, 5)]
    readings(tmp_path, 9, 5000)
    ledger = ledger_of(tmp_path)
    ledger.request(made[:1])
    size = (tmp_path / FOLDER / "000001-images.mcap").stat().st_size
    ledger.close()
    ledger = Ledger(tmp_path / LEDGER_NAME)
    with uplink(tmp_path, ledger):
        sweeper = Sweeper(truck(tmp_path, int(size * 1.6)))
        assert sweeper.sweep() is None
    row = ledger.segment(made[0])
    assert row is not None and row.state == "sealed", "the oldest, which would have been the first to be thinned and dropped"
    assert all(kept is None for kept in map(ledger.segment, made[1:]))


# -- answers


def held(number: int) -> Held:
    return Held(f"truck-1-{FOLDER}-{number:06d}-images", 10, 100, 0, 0, 1)


NOTHING = Match([], [], [], [], 0, False, False, 0, 0)


def test_an_answer_goes_from_found_over_sending_to_done() -> None:
    request = asking(0, 100)
    one, two = held(1), held(2)
    first = answer_to(request, NOTHING._replace(waiting=[one, two]), True, False)
    assert (first.state, first.segments, first.images, first.bytes, first.sent_segments) == (FOUND, 2, 20, 200, 0)
    second = answer_to(request, NOTHING._replace(waiting=[two], sent=[one]), True, False)
    assert (second.state, second.reason, second.sent_segments, second.sent_bytes) == (SENDING, "1 of 2 sent", 1, 100)
    third = answer_to(request, NOTHING._replace(sent=[one, two]), True, False)
    assert (third.state, third.reason, third.sent) == (DONE, "", (one, two))


def test_an_answer_stays_open_while_more_can_come() -> None:
    request = asking(0, 100)
    assert answer_to(request, NOTHING._replace(sent=[held(1)]), False, False).state == SENDING
    assert "not over" in answer_to(request, NOTHING, False, False).reason
    looking = answer_to(request, NOTHING._replace(unseen=3), False, False)
    assert (looking.state, looking.reason) == (FOUND, "segments are still being looked into")


@pytest.mark.parametrize(
    ("place", "there", "recorded", "words"),
    [
        (Place(1, 2, 3), False, False, "the truck was not there"),
        (Place(1, 2, 3), True, True, "no camera"),
        (None, True, True, "no camera"),
        (None, True, False, "parked, switched off"),
    ],
)
def test_when_there_is_nothing_the_answer_says_why(place: Place | None, there: bool, recorded: bool, words: str) -> None:
    answer = answer_to(asking(0, 100, place), NOTHING._replace(there=there, recorded=recorded), True, False)
    assert answer.state == DONE and answer.reason.startswith("never recorded: ") and words in answer.reason


def test_a_request_for_too_much_is_refused_unless_some_of_it_is_on_its_way_and_an_old_one_is_given_up() -> None:
    request = asking(0, 100)
    untouched = NOTHING._replace(waiting=[held(1)], new=[held(1).segment_id])
    assert answer_to(request, untouched, True, False, too_much="42 GB")[1:3] == (REFUSED, "42 GB")
    begun = NOTHING._replace(waiting=[held(1), held(2)], new=[held(1).segment_id])
    assert answer_to(request, begun, True, False, too_much="42 GB").state == FOUND
    assert answer_to(request, begun._replace(sent=[held(3)]), True, True)[1:3] == (REFUSED, "given up after 30 days; 1 of 3 sent")
    assert answer_to(request, NOTHING._replace(sent=[held(3)]), True, True).state == DONE


def test_a_bookmark_counts_while_its_moment_lasts_and_says_whether_the_recorder_took_it() -> None:
    bookmark = Request("b", BOOKMARK, 0, 0, None, UTC_NS)
    assert stale(bookmark, UTC_NS + 59 * SECOND) == "" == stale(bookmark, UTC_NS - 5 * SECOND)
    assert stale(bookmark, UTC_NS + 90 * SECOND) == "asked 90 s ago: the moment is over"
    assert "no clock" in stale(bookmark, 0)
    assert stale(asking(0, 100), UTC_NS + 20_000 * SECOND) == "" == stale(asking(0, 100), 0)
    assert "40 days ago" in stale(asking(0, 100, asked_s=0), UTC_NS + 40 * 86_400 * SECOND)
    assert answer_to_mark(bookmark, MARKED).state == DONE and answer_to_mark(bookmark, "not marked: no recorder runs").state == REFUSED


def test_an_answer_is_published_once_each_time_it_is_another(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / LEDGER_NAME)
    ledger_requests.enter_request(ledger, "r", "{}")
    assert ledger_requests.unpublished(ledger) == [] and len(ledger_requests.open_requests(ledger, (DONE, REFUSED))) == 1
    ledger_requests.answer(ledger, "r", FOUND, "one")
    assert [asked.answer for asked in ledger_requests.unpublished(ledger)] == ["one"]
    ledger_requests.answer(ledger, "r", DONE, "two")
    ledger_requests.published(ledger, "r", "one")
    assert [asked.answer for asked in ledger_requests.unpublished(ledger)] == ["two"], "what came meanwhile is still to be published"
    ledger_requests.published(ledger, "r", "two")
    ledger_requests.answer(ledger, "r", DONE, "two")
    assert ledger_requests.unpublished(ledger) == [] == ledger_requests.open_requests(ledger, (DONE, REFUSED))
    ledger.close()
    with pytest.raises(sqlite3.ProgrammingError):
        ledger_requests.known_requests(ledger)
