"""Which images are kept, and that every image is accounted for."""

import threading
from collections import Counter
from collections.abc import Sequence
from itertools import count, pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import config
from gateway.config import Images
from gateway.image_policy import LATE_SECONDS, ImagePolicy
from gateway.journal import Entry
from gateway.travel import Travel
from logbook import channels, reader, segment
from logbook.channels import camera_topic
from logbook.schemas import cruisers_pb2 as pb
from logbook.segment import Segments
from logbook.segment_writer import SegmentWriter
from sim.route import Route

pytestmark = pytest.mark.timeout(60)

SECOND = 1_000_000_000
FRONT, REAR = camera_topic("front"), camera_topic("rear")
EVENT = Images(policy="event", metres=5, seconds=10, standing_seconds=60, around_seconds=10)
DISTANCE = msgspec.structs.replace(EVENT, policy="distance")


class Bench:
    """A policy between the cameras and a writer that keeps what it is given; `refusing`: its memory is full."""

    def __init__(self, images: Images) -> None:
        self.travel = Travel()
        self.policy = ImagePolicy(images, self, self.travel, self.journal(), self)
        self.kept: dict[str, list[int]] = {FRONT: [], REAR: []}
        self.counts: Counter[str] = Counter()
        self.newest: tuple[str, int, int] | None = None
        self.refusing = False

    def journal(self) -> "Journal":
        self.told = Journal()
        return self.told

    def write(self, topic: str, log_time: int, publish_time: int, data: bytes) -> bool:
        assert publish_time == log_time + 1
        if not self.refusing:
            self.kept[topic].append(log_time)
        return not self.refusing

    def count(self, name: str, number: int = 1) -> None:
        self.counts[name] += number

    def image(self, camera: str, at_ns: int, size: int) -> None:
        self.counts["images"] += 1
        self.newest = camera, at_ns, size

    def take(self, at_ns: int, topic: str = FRONT, size: int = 1_000) -> None:
        self.counts["images_received"] += 1
        self.policy.write(topic, at_ns, at_ns + 1, bytes(size))

    def drive(self, begin: float, end: float, speed: float | None, fps: float = 10.0, topic: str = FRONT) -> None:
        """Images from `begin` to `end` (s) at `fps`, and a fix a second of `speed` (m/s; None: none)."""
        for number in range(round(begin * fps), round(end * fps)):
            at = round(number * SECOND / fps)
            if speed is not None and at % SECOND == 0:
                self.travel.drive(at, speed)
            self.take(at, topic)

    def seconds(self, topic: str = FRONT) -> list[float]:
        return [at / SECOND for at in self.kept[topic]]

    def waiting(self) -> int:
        """Those that no counter tells of yet."""
        return self.counts["images_received"] - sum(self.counts[name] for name in ("images", "images_passed_over", "images_dropped"))


class Journal:
    """What was told."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def write(self, entries: Sequence[Entry]) -> bool:
        self.entries += entries
        return True

    def events(self) -> list[tuple[str, str]]:
        found = [pb.Event.FromString(entry.data) for entry in self.entries]
        assert {event.source for event in found} <= {"images"}
        return [(event.kind, event.detail) for event in found]


def test_all_keeps_every_image_as_it_comes() -> None:
    bench = Bench(Images())
    bench.drive(0, 10, None)
    bench.policy.event("shock", 5 * SECOND)
    assert bench.kept[FRONT] == [number * SECOND // 10 for number in range(100)]
    assert bench.counts == {"images_received": 100, "images": 100} and bench.newest == ("front", round(9.9 * SECOND), 1_000)
    assert bench.told.events() == []


def test_while_the_truck_drives_there_is_one_image_for_each_five_metres() -> None:
    bench = Bench(DISTANCE)
    bench.drive(0, 100, 10.0)
    assert bench.seconds() == pytest.approx([second / 2 for second in range(200)])
    assert bench.counts == {"images_received": 1000, "images": 200, "images_passed_over": 800}


def test_a_truck_that_crawls_is_seen_after_the_time_that_comes_before_the_way() -> None:
    bench = Bench(DISTANCE)
    bench.drive(0, 35, 0.4)
    assert bench.seconds() == [0, 10, 20, 30]


def test_a_truck_that_stands_is_seen_once_a_minute_and_at_once_when_it_drives_off() -> None:
    bench = Bench(DISTANCE)
    bench.drive(0, 150, 0.0)
    bench.drive(150, 152, 2.0)
    assert bench.seconds() == [0, 60, 120, 150]


def test_each_camera_has_its_own_way_and_time() -> None:
    bench = Bench(DISTANCE)
    bench.drive(0, 4, 1.0)
    for second in range(4, 12):
        bench.travel.drive(second * SECOND, 1.0)
        bench.take(second * SECOND, FRONT)
        bench.take(second * SECOND, REAR)
    assert bench.seconds(FRONT) == [0, 5, 10] and bench.seconds(REAR) == [4, 9]


def test_without_a_position_the_time_alone_decides_and_that_is_told_once_after_a_minute() -> None:
    bench = Bench(DISTANCE)
    bench.drive(0, 59, None)
    assert bench.told.events() == []
    bench.drive(59, 200, None)
    assert bench.seconds() == list(range(0, 200, 10))
    assert bench.told.events() == [("images_by_time", "no position for 60 s: an image is due every 10 s, standing or not")]


def test_a_fix_that_goes_leaves_the_time_and_one_that_comes_back_brings_the_way_back() -> None:
    bench = Bench(DISTANCE)
    bench.drive(0, 10, 10.0)
    bench.drive(10, 40, None)
    bench.drive(40, 42, 10.0)
    assert bench.seconds()[-9:] == [9.5, 10, 10.5, 11, 21, 31, 40.5, 41, 41.5]  # two seconds are extrapolated from the fix at 9 s
    assert bench.told.events() == []


def test_on_a_collection_round_no_seven_metres_stay_unseen_and_not_one_image_in_fifty_is_kept() -> None:
    bench, route = Bench(DISTANCE), Route(seed=1)
    for number in range(600 * 30):
        at = number * SECOND // 30
        if number % 30 == 0:
            bench.travel.drive(at, route.motion(at / SECOND).speed)
        bench.take(at)
    places = [route.motion(second).distance for second in bench.seconds()]
    assert max(after - before for before, after in pairwise(places)) < 7  # 5 m, and what a fix a second does not know of starting
    assert places[-1] / 7 < len(places) < bench.counts["images_received"] / 50


def test_without_an_event_only_what_is_due_is_kept_after_it_has_waited() -> None:
    bench, plain = Bench(EVENT), Bench(DISTANCE)
    bench.drive(0, 40, 5.0)
    plain.drive(0, 40, 5.0)
    newest = 39.9
    assert bench.seconds() == [second for second in plain.seconds() if second < newest - 10 - LATE_SECONDS]
    assert bench.waiting() == 121
    bench.policy.finish()
    assert bench.kept == plain.kept and bench.counts == plain.counts


def test_everything_from_ten_seconds_before_an_event_to_ten_after_it_is_kept() -> None:
    bench = Bench(EVENT)
    bench.drive(0, 30, 0.0)
    bench.policy.event("shock", 29 * SECOND)
    assert bench.seconds() == [0, *(number / 10 for number in range(190, 300))]  # at once: the truck may lose its power
    bench.drive(30, 60, 0.0)
    bench.policy.finish()
    assert bench.seconds() == [0, *(number / 10 for number in range(190, 391))]
    assert bench.counts == {"images_received": 600, "images": 202, "images_passed_over": 398}


def test_where_events_overlap_no_image_is_written_twice_and_none_is_missing_between() -> None:
    bench = Bench(EVENT)
    bench.drive(0, 30, 0.0)
    bench.policy.event("shock", 29 * SECOND)
    bench.policy.event("shock", 29 * SECOND)
    bench.drive(30, 36, 0.0)
    bench.policy.event("bookmark", 36 * SECOND)
    bench.drive(36, 80, 0.0)
    bench.policy.finish()
    around = [second for second in bench.seconds() if 19 <= second <= 46]
    assert around == [number / 10 for number in range(190, 461)]
    assert bench.kept[FRONT] == sorted(set(bench.kept[FRONT]))


def test_an_event_that_is_told_late_finds_what_was_before_it() -> None:
    bench = Bench(EVENT)
    bench.drive(0, 31.9, 0.0)
    bench.policy.event("shock", 30 * SECOND)
    assert [second for second in bench.seconds() if second > 1] == [number / 10 for number in range(200, 319)]


def test_an_event_told_behind_a_later_one_does_not_end_what_that_one_keeps() -> None:
    bench = Bench(EVENT)
    bench.drive(0, 30, 0.0)
    bench.policy.event("shock", 29 * SECOND)
    bench.policy.event("bookmark", 22 * SECOND)
    bench.drive(30, 60, 0.0)
    bench.policy.finish()
    assert [second for second in bench.seconds() if second > 1] == [number / 10 for number in range(190, 391)]


def test_an_event_long_ago_keeps_its_own_time_only() -> None:
    bench = Bench(EVENT)
    bench.drive(0, 30, 0.0)
    bench.policy.event("shock", 12 * SECOND)
    assert [second for second in bench.seconds() if second > 1] == [number / 10 for number in range(179, 221)]  # 12 s wait, up to 22


def test_a_camera_that_gives_no_more_does_not_keep_its_images_to_itself() -> None:
    bench = Bench(EVENT)
    bench.drive(0, 5, 5.0)
    assert bench.seconds() == []
    bench.policy.settle(14 * SECOND)
    assert bench.seconds() == [0, 1]
    bench.policy.settle(60 * SECOND)
    assert bench.seconds() == [0, 1, 2, 3, 4] and bench.waiting() == 0


def test_a_camera_that_died_before_the_event_is_kept_too() -> None:
    bench = Bench(EVENT)
    bench.drive(0, 20, 0.0)
    bench.policy.event("shock", 22 * SECOND)
    assert [second for second in bench.seconds() if second > 1] == [number / 10 for number in range(120, 200)]


def test_the_ring_of_all_cameras_together_is_bounded_and_says_once_how_little_it_holds() -> None:
    bench = Bench(msgspec.structs.replace(EVENT, ring_bytes=1_000_000))
    for number in range(400):
        for topic in (FRONT, REAR):
            bench.take(number * SECOND // 10, topic, 10_000)
        assert bench.waiting() <= 100
    assert bench.told.events() == [("images_ring_short", "ring_bytes 1000000 holds 5.0 s of images before an event, not 10 s")]
    bench.policy.event("shock", 40 * SECOND)
    for topic in (FRONT, REAR):
        assert [second for second in bench.seconds(topic) if second > 34] == [number / 10 for number in range(350, 400)]


def test_a_ring_that_is_short_only_for_events_told_late_is_not_called_short() -> None:
    bench = Bench(msgspec.structs.replace(EVENT, ring_bytes=1_050_000))
    for number in range(400):
        bench.take(number * SECOND // 10, FRONT, 10_000)
    assert bench.waiting() == 105 and bench.told.events() == []


def test_the_whole_ring_fits_into_the_writers_memory_beside_what_is_being_written() -> None:
    assert segment.MEMORY_BYTES[channels.IMAGES] >= config.MOST_RING_BYTES + 2 * segment.CHUNK_BYTES


@settings(max_examples=150, deadline=None)
@given(
    policy=st.sampled_from(["all", "distance", "event"]),
    ring=st.sampled_from([1_000_000, 40_000_000]),
    steps=st.lists(
        st.tuples(
            st.sampled_from([FRONT, REAR]),
            st.integers(1, 3 * SECOND),
            st.sampled_from(["image"] * 12 + ["event", "late", "refuse", "fix", "stand", "settle"]),
        ),
        max_size=300,
    ),
)
def test_whatever_happens_every_image_is_accounted_for_once_and_in_order(policy: str, ring: int, steps: list[tuple[str, int, str]]) -> None:
    bench = Bench(msgspec.structs.replace(EVENT, policy=policy, ring_bytes=ring))
    now, taken, events, dropped = 0, {FRONT: [], REAR: []}, [], False  # type: ignore[var-annotated]
    for topic, step, what in steps:
        now += step
        if what == "image":
            bench.take(now, topic, 97_000)
            taken[topic].append(now)
        elif what in ("event", "late"):
            events.append(max(0, now - (SECOND if what == "late" else 0)))
            bench.policy.event("shock", events[-1])
        elif what == "refuse":
            bench.refusing = not bench.refusing
            dropped = True
        elif what in ("fix", "stand"):
            bench.travel.drive(now, 8.0 if what == "fix" else 0.0)
        else:
            bench.policy.settle(now)
    bench.policy.finish()
    assert bench.waiting() == 0
    for topic, times in bench.kept.items():
        assert times == sorted(set(times)) and set(times) <= set(taken[topic])
        if policy == "event" and events == sorted(events) and not dropped and ring == 40_000_000:
            around = {at for at in taken[topic] if any(abs(at - event) <= 10 * SECOND for event in events)}
            assert around <= set(times)
    assert bench.counts["images_dropped"] == 0 or dropped


def test_events_from_other_threads_neither_lose_nor_repeat_nor_disorder_images() -> None:
    bench, stop, now = Bench(EVENT), threading.Event(), [0]

    def shake() -> None:
        while not stop.is_set():
            bench.policy.event("shock", now[0])
            bench.policy.settle(now[0])

    def film(topic: str) -> None:
        for number in range(3_000):
            now[0] = number * SECOND // 30
            bench.policy.write(topic, now[0], now[0] + 1, b"jpeg")

    shaking = threading.Thread(target=shake)
    filming = [threading.Thread(target=film, args=(topic,)) for topic in (FRONT, REAR)]
    for thread in (shaking, *filming):
        thread.start()
    for thread in filming:
        thread.join()
    stop.set()
    shaking.join()
    bench.policy.finish()
    for times in bench.kept.values():
        assert all(before < after for before, after in pairwise(times))
    kept = sum(map(len, bench.kept.values()))
    assert bench.counts["images"] == kept and kept + bench.counts["images_passed_over"] == 6_000


def test_what_a_stalled_disk_refuses_is_a_gap_of_the_writer_and_counted_as_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stalled, errors = threading.Event(), []
    append = SegmentWriter.append
    monkeypatch.setattr(SegmentWriter, "append", lambda writer, entries: (stalled.wait(), append(writer, entries))[1])
    segments = Segments(
        tmp_path, "truck-1", "0" * 36, channels.IMAGES, "bench", count(1).__next__, 60, memory_bytes=1_000_000, topics=[FRONT, REAR],
        on_durable=lambda token: None, on_sealed=lambda path: None, on_error=errors.append,
    )  # fmt: skip
    bench = Bench(EVENT)
    policy = ImagePolicy(EVENT, segments, bench.travel, bench.told, bench)
    for number in range(100):
        policy.write(FRONT, number * SECOND // 10, 0, bytes(20_000))
    policy.event("shock", 9 * SECOND)
    assert 0 < bench.counts["images_dropped"] < 100
    stalled.set()
    assert segments.close() and errors == []
    messages = [message for path in sorted(tmp_path.glob("*/*.mcap")) for message in reader.read(path)]
    gaps = [message.message for message in messages if message.topic == channels.GAP]
    assert sum(gap.count for gap in gaps) == bench.counts["images_dropped"]  # type: ignore[union-attr]
    assert sum(message.topic == FRONT for message in messages) == bench.counts["images"]
    assert bench.counts["images"] + bench.counts["images_dropped"] == 100


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('policy = "best"', "Invalid enum value 'best' - at `$.images.policy`"),
        ("metres = 0", "> 0.0 - at `$.images.metres`"),
        ("seconds = 90", "standing_seconds 60 is less than seconds 90 - at `$.images`"),
        ("ring_bytes = 50_000_000", "ring_bytes is 50000000, not 1000000 to 40000000 - at `$.images`"),
        ("ring_bytes = 1", "ring_bytes is 1, not 1000000 to 40000000 - at `$.images`"),
    ],
)
def test_settings_that_cannot_be_are_one_clear_line(tmp_path: Path, more: str, words: str) -> None:
    path = tmp_path / "truck.toml"
    hub = '[hub]\ndomain = "d"\nhost = "h"\nport = 1\nca_file = "c"\npassword_file = "p"\n'
    path.write_text(f'name = "t"\nspool = "s"\nlive_socket = "l"\n{hub}[images]\n{more}\n')
    with pytest.raises(config.ConfigError) as refused:
        config.load(path)
    assert words in str(refused.value) and "\n" not in str(refused.value)
