"""Which images go: halves outside of events, each told; nothing else."""

import pytest
from gateway_sweeper_parts import BOOT_ID, FOLDER, SECOND, TRUCK, event, image
from hypothesis import given
from hypothesis import strategies as st

from gateway.sweeper_derivation import ORIGINAL
from gateway.sweeper_derive import Content
from gateway.thinning import drop_record, fit, is_near, lost, merge, thin
from logbook import channels
from logbook.schemas.cruisers_pb2 import Gap
from logbook.segment_writer import Entry, Identity

IDENTITY = Identity(f"{TRUCK}-{FOLDER}-000001-images", TRUCK, "images", BOOT_ID)
TYPES = channels.channel_types("images", ["front", "back"])


def content(entries: list[Entry]) -> Content:
    return Content(IDENTITY, ORIGINAL, TYPES, {}, entries)


def told(entries: list[Entry]) -> list[Gap]:
    return [Gap.FromString(entry.data) for entry in entries if entry.topic == channels.GAP]


@pytest.mark.parametrize(("seconds", "near"), [(89.999, False), (90.0, True), (100.0, True), (110.0, True), (110.001, False)])
def test_ten_seconds_are_ten_seconds(seconds: float, near: bool) -> None:
    assert is_near(int(seconds * 1000) * 1_000_000, [5, 100 * SECOND]) == near
    assert not is_near(int(seconds * SECOND), [])


TIMES = st.lists(st.integers(0, 100 * SECOND), max_size=40, unique=True)


@given(TIMES, TIMES, st.lists(st.integers(0, 100 * SECOND), max_size=3).map(sorted))
def test_of_each_camera_half_of_the_free_images_go_and_everything_else_stays(front: list[int], back: list[int], events: list[int]) -> None:
    notes = [event("shock", at) for at in events]
    made = content([*(image(t, 1_000, "front") for t in front), *(image(t, 1_000, "back") for t in back), *notes])
    derived = thin(made, events)
    gone = made.entries if derived is None else [entry for entry in made.entries if entry not in derived.entries]
    for times, topic in ((front, "/camera/front"), (back, "/camera/back")):
        free = sorted(t for t in times if all(abs(t - at) > 10 * SECOND for at in events))
        if derived is None:
            assert len(free) < 2, "nothing was to gain"
            continue
        assert sorted(entry.log_time for entry in gone if entry.topic == topic) == free[1::2]
        assert sum(gap.count for gap in told(derived.entries) if gap.source == topic) == len(free[1::2])
    if derived is not None:
        assert [entry for entry in derived.entries if entry.topic == channels.EVENT] == notes
        assert derived.derivation.dropped == sum(gap.count for gap in told(derived.entries)) > 0
        for gap in told(derived.entries):
            times = [entry.log_time for entry in gone if entry.topic == gap.source]
            assert (gap.from_boottime_ns, gap.to_boottime_ns) == (min(times), max(times))


def test_what_was_packed_keeps_its_proof_with_its_image() -> None:
    made = content([image(at * SECOND) for at in range(6)])
    made.as_taken = {"/camera/front": [f"sum of {at}" if at % 3 else None for at in range(6)]}
    derived = thin(made, [])
    assert derived is not None
    assert [entry.log_time // SECOND for entry in derived.entries if entry.topic == "/camera/front"] == [0, 2, 4]
    assert derived.content.as_taken == {"/camera/front": [None, "sum of 2", "sum of 4"]}


def test_merged_segments_keep_their_images_their_proofs_and_their_counts() -> None:
    packed, plain = content([image(at * SECOND) for at in range(4)]), content([image(at * SECOND) for at in range(10, 14)])
    packed.as_taken = {"/camera/front": ["a", "b", "c", "d"]}
    one, other = thin(packed, []), thin(plain, [])
    assert one is not None and other is not None and fit(one, other)
    both = merge([one, other])
    assert [entry.log_time // SECOND for entry in both.entries if entry.topic == "/camera/front"] == [0, 2, 10, 12]
    assert both.content.as_taken == {"/camera/front": ["a", "c", None, None]} and both.derivation.dropped == 4
    plain.identity = IDENTITY._replace(boot_id="another")
    assert (stranger := thin(plain, [])) is not None and not fit(one, stranger)


def test_a_record_of_drops_holds_old_gaps_and_events_and_counts_only_what_is_new() -> None:
    old = Gap(source="/camera/front", reason="thinned", count=30).SerializeToString()
    made = content([image(5 * SECOND), Entry(channels.GAP, SECOND, 0, old), event("bookmark", 2 * SECOND), image(6 * SECOND)])
    notes = [entry for entry in made.entries if not entry.topic.startswith("/camera")]
    record = drop_record("images", BOOT_ID, lost(made), notes)
    assert [(gap.count, gap.reason) for gap in told(record.entries)] == [(30, "thinned"), (2, "dropped: disk full")]
    assert record.derivation.dropped == 2 and record.derivation.keep_every == 0
    assert [entry.log_time for entry in record.entries] == sorted(entry.log_time for entry in record.entries)
