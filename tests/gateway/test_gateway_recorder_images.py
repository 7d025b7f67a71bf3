"""A switch, an event and the choice of images in one recorder: what each finds has tests of its own; here they are joined."""

import os
import struct
from pathlib import Path

import msgspec
import pytest
from gateway_camera import Stream
from gateway_recording import Recording, Running, truck, wait_for

import gateway.inputs
from gateway.clock import boottime_ns
from gateway.config import Images, Inputs

pytestmark = pytest.mark.timeout(60)

BUTTON = 148
NANO = 1_000_000_000


def test_the_button_keeps_all_images_around_its_moment_and_each_image_is_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "event0"
    os.mkfifo(device)
    writer = os.open(device, os.O_RDWR)

    def ioctl(fd: int, request: int, argument: bytes | bytearray) -> int:
        if isinstance(argument, bytearray) and request == 0x80604521:  # EVIOCGBIT(EV_KEY): it has the button; EVIOCGKEY: nothing is pressed
            argument[BUTTON // 8] |= 1 << BUTTON % 8
        return 0

    monkeypatch.setattr(gateway.inputs, "ioctl", ioctl)
    stream = Stream()
    config = msgspec.structs.replace(
        truck(tmp_path, cameras={"front": stream.url}),
        images=Images(policy="event", metres=1e6, seconds=1000.0, standing_seconds=1000.0, around_seconds=0.4),
        inputs=Inputs([str(device)], bookmark=BUTTON),
    )
    with Running(config) as recorder:

        def count(name: str) -> int:
            return recorder.counts().get(name, 0)

        wait_for(lambda: count("images_received") > 20, "images")
        for value in (1, 0):
            at = divmod(boottime_ns() // 1000, 1_000_000)
            os.write(writer, struct.pack("@llHHi", *at, 1, BUTTON, value) + struct.pack("@llHHi", *at, 0, 0, 0))
        wait_for(lambda: count("events.bookmark") == 1, "the event")
        before = count("images_received")
        wait_for(lambda: count("images_received") > before + 60 and count("images_passed_over") > 0, "more images")
    counts = recorder.counts()
    stream.close()
    os.close(writer)
    recording = Recording(tmp_path / "spool")
    (bookmark,) = recording.events("bookmark")
    times = [message.log_time for message in recording.messages["/camera/front"]]
    kept = [time for time in times if abs(time - bookmark.boottime_ns) <= 0.4 * NANO]
    assert len(times) == counts["images"] and times == sorted(times)
    assert set(times) - set(kept) == {times[0]} - set(kept), "the first was due, all others are about the event"
    assert len(kept) > 5 and min(kept) < bookmark.boottime_ns < max(kept)
    passed = sum(counts.get(f"images_{why}", 0) for why in ("passed_over", "torn", "dropped"))
    assert counts["images_received"] == counts["images"] + passed and counts["images_passed_over"] > 0
