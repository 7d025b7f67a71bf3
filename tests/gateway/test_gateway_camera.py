import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_camera import Stream, Watching, decoded, jpeg
from gateway_recording import wait_for

import gateway.camera
import sim.camera
from gateway import config
from gateway.clock import boottime_ns
from gateway.jpeg import whole
from sim.clock import Clock
from sim.world import World

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def stream() -> Iterator[Stream]:
    made = Stream()
    yield made
    made.close()


def test_images_are_stored_byte_for_byte(tmp_path: Path, stream: Stream) -> None:
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.images() >= 5, "images")
    snapshot = watching.bench.snapshot.build()
    images = watching.end().decoded("/camera/front")
    assert len(images) >= 5
    assert all(image.data in stream.sent for image in images)
    order = [stream.sent.index(image.data) for image in images]
    assert order == sorted(set(order))  # none twice
    assert {image.format for image in images} == {"jpeg"} and {image.frame_id for image in images} == {"front"}
    assert snapshot["image"]["camera"] == "front" and snapshot["sensors"]["camera/front"] == {"state": "ok", "reason": ""}


def test_images_have_utc_as_soon_as_it_is_known_and_none_before(tmp_path: Path, stream: Stream) -> None:
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.images() >= 2, "images without a clock")
    known, utc = boottime_ns(), 1_790_000_000_000_000_000
    watching.bench.clock.observe_gnss(known, utc, 0.0)
    before = watching.images()
    wait_for(lambda: watching.images() >= before + 30, "images for more than the second that a mapping is used")
    images = watching.end().messages["/camera/front"]
    assert images[0].publish_time == 0 and not images[0].message.HasField("timestamp")
    assert {image.publish_time for image in images if image.log_time < known} == {0}
    last = images[-1]
    assert last.publish_time == last.message.timestamp.ToNanoseconds() == utc + last.log_time - known
    assert all(image.publish_time for image in images if image.log_time > known + 1_000_000_000)


def test_a_camera_that_goes_and_returns_is_a_gap_not_the_end(tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.camera, "READ_MS", 500)
    monkeypatch.setattr(gateway.camera, "RECONNECT_SECONDS", 0.2)
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.images() >= 2, "images")
    stream.close()
    wait_for(lambda: watching.state() == "failed", "the loss being noticed")
    time.sleep(0.6)  # longer than the grace
    before = watching.images()
    stream.listen()
    wait_for(lambda: watching.images() >= before + 2, "images after the return")
    recording = watching.end()
    (gap,) = recording.gaps("camera/front")
    assert gap.reason in ("no image", "cannot be opened") and gap.to_boottime_ns - gap.from_boottime_ns > 500_000_000
    assert len(recording.events("source_delivers")) == 2


def test_torn_images_are_counted_told_as_gaps_and_not_stored(tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    stream.picture = lambda number: jpeg(number) if number % 3 else jpeg(number)[:-40]
    began = boottime_ns()
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.images() >= 16 and watching.camera.torn >= 8, "whole and torn images")
    recording = watching.end()
    images = recording.messages["/camera/front"]
    assert all(whole(memoryview(image.message.data)) == image.message.data for image in images)
    gaps = recording.gaps("camera/front")
    assert {gap.reason for gap in gaps} == {"torn images"}
    assert sum(gap.count for gap in gaps) == watching.camera.torn == watching.count("images_torn")
    times = [time for gap in gaps for time in (gap.from_boottime_ns, gap.to_boottime_ns)]
    assert began < times[0] and times == sorted(times)
    assert gaps[0].count == 1  # the first at once, the others once a second
    assert len(gaps) <= (times[-1] - times[0]) / gateway.camera.TORN_NS + 2
    assert watching.count("images_received") == watching.images() + watching.count("images_torn") == len(images) + watching.camera.torn


def test_a_stream_of_only_torn_images_is_opened_anew_and_none_of_them_is_lost_from_the_account(
    tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway.camera, "TORN_LIMIT", 3)
    stream.picture = lambda number: jpeg(number)[:-40]
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.camera.torn >= 7, "torn images over more than one connection")
    recording = watching.end()
    assert {event.detail for event in recording.events("source_lost")} == {"only torn images"}
    torn = [gap for gap in recording.gaps("camera/front") if gap.reason == "torn images"]
    assert sum(gap.count for gap in torn) == watching.camera.torn == watching.count("images_received")


@pytest.mark.parametrize("silent_from_the_start", [True, False])
def test_a_camera_that_hangs_never_hangs_the_stop(
    tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch, silent_from_the_start: bool
) -> None:
    monkeypatch.setattr(gateway.camera, "READ_MS", 500)
    monkeypatch.setattr(gateway.camera, "OPEN_MS", 500)
    if silent_from_the_start:
        stream.stalled.set()
    watching = Watching(tmp_path, stream.url)
    if not silent_from_the_start:
        wait_for(lambda: watching.images() >= 2, "images")
        stream.stalled.set()
    wait_for(lambda: watching.state() == "failed", "the silence being noticed")
    assert watching.end().events("source_lost")


def test_what_is_no_camera_is_told_and_tried_again(tmp_path: Path) -> None:
    watching = Watching(tmp_path, "http://127.0.0.1:9/stream")  # discard: nobody listens
    wait_for(lambda: watching.state() == "failed", "the absent camera being noticed")
    recording = watching.end()
    assert [event.detail for event in recording.events("source_lost")] == ["cannot be opened"]
    assert recording.decoded("/camera/front") == []


def test_images_missing_since_the_recorder_before_are_a_gap(tmp_path: Path, stream: Stream) -> None:
    since = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 30 * 10**9
    watching = Watching(tmp_path, stream.url, since_ns=since)
    wait_for(lambda: watching.images() >= 1, "images")
    (gap,) = watching.end().gaps("camera/front")
    assert (gap.reason, gap.from_boottime_ns) == ("recorder was not running", since)


def test_an_image_that_memory_cannot_take_is_not_counted_as_one(tmp_path: Path, stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.images() >= 1, "images")
    monkeypatch.setattr(watching.bench.images, "write", lambda topic, *_: bool(refused.append(topic)))
    wait_for(lambda: len(refused) >= 2, "a refused image")
    counted = watching.images()
    wait_for(lambda: len(refused) >= 5, "more refused images")
    assert watching.images() == counted and watching.state() == "ok"
    watching.end()
    assert watching.count("images_received") == counted + watching.count("images_dropped")


def test_of_four_cameras_one_that_dies_and_one_that_comes_late_stop_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway.camera, "RECONNECT_SECONDS", 0.2)
    streams = dict(zip(("front", "rear", "left", "right"), [Stream() for _ in range(4)], strict=True))
    streams["right"].close()
    watching = Watching(tmp_path, *(stream.url for stream in streams.values()))
    wait_for(lambda: [watching.state(name) for name in streams] == ["ok", "ok", "ok", "failed"], "three of four")
    streams["left"].close()
    streams["right"].listen()
    wait_for(lambda: [watching.state(name) for name in streams] == ["ok", "ok", "failed", "ok"], "the late one, and the loss")
    before = {name: len(stream.sent) for name, stream in streams.items()}
    wait_for(lambda: all(len(streams[name].sent) > before[name] + 5 for name in ("front", "rear", "right")), "images after all that")
    recording = watching.end()
    received = watching.count("images_received")
    assert received == watching.images() == sum(len(recording.decoded(f"/camera/{name}")) for name in streams)
    assert recording.events("source_failed") == []
    assert {event.source for event in recording.events("source_lost")} == {"camera/left", "camera/right"}
    for name, stream in streams.items():
        order = [stream.sent.index(image.data) for image in recording.decoded(f"/camera/{name}")]
        assert order == list(range(order[0], order[0] + len(order)))  # of its own stream, none missing
        assert order[-1] >= before[name] or name == "left"
        stream.close()


def test_the_simulated_cameras_pictures_arrive_byte_for_byte_and_can_be_seen(tmp_path: Path) -> None:
    frames: list[sim.camera.Frame] = []
    camera = sim.camera.Camera(World(1), Clock().now_us, fps=4, keep=frames.append)
    camera.start()
    watching = Watching(tmp_path, camera.url)
    wait_for(lambda: watching.images() >= 4, "pictures")
    recording = watching.end()
    camera.stop()
    sent = {frame.number: frame.jpeg for frame in frames}
    for image in recording.decoded("/camera/front"):
        number, _ = sim.camera.read_comment(image.data)
        assert image.data == sent[number] and decoded(image.data).shape == (720, 1280, 3)


def test_images_around_an_event_come_from_the_ring_and_the_account_is_exact(tmp_path: Path, stream: Stream) -> None:
    stream.picture = lambda number: jpeg(number) if number % 7 else jpeg(number)[:-40]
    images = config.Images(policy="event", seconds=1.0, standing_seconds=60.0, around_seconds=0.5)
    watching = Watching(tmp_path, stream.url, images=images)
    wait_for(lambda: watching.count("images_received") >= 50, "two and a half seconds")
    at = boottime_ns()
    watching.policy.event("bookmark", at)
    wait_for(lambda: watching.count("images_received") >= 75, "more images")
    recording = watching.end()
    times = [message.log_time for message in recording.messages["/camera/front"]]
    assert times == sorted(set(times))
    around = [number for number, time in enumerate(times) if abs(time - at) <= 500_000_000]
    kept = [stream.sent.index(recording.decoded("/camera/front")[number].data) for number in around]
    assert len(kept) >= 3
    assert kept == [number for number in range(kept[0], kept[-1] + 1) if (number + 1) % 7]  # none but the torn ones is missing
    counts = watching.bench.snapshot.counts()
    assert counts["images_received"] == counts["images"] + counts["images_passed_over"] + counts["images_torn"]
    assert counts["images"] == len(times) and counts["images_passed_over"] > 0
