"""Images packed without loss: every byte of the camera comes back, or the image stays as it is."""

import hashlib
import json
import os
import shutil
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from gateway_sweeper_parts import (
    FOLDER,
    SECOND,
    UTC_NS,
    announce,
    image,
    kept_images,
    ledger_of,
    present,
    seal,
    truck,
    uplink,
    without_syncs,
)

from center.pictures import last_picture
from gateway import shrink, sweeper
from gateway.sweeper import RECORDER_LOCK, Sweeper
from gateway.sweeper_derivation import Shrinking
from gateway.sweeper_disk import spooled_bytes
from logbook import channels, files, images, reader
from logbook.images import NotRestored, as_taken, restore, viewable
from logbook.segment_writer import Entry

pytestmark = pytest.mark.timeout(120)

WAYS: list[Shrinking] = ["huffman", "jpeg-xl"]
no_jpegtran = pytest.mark.skipif(shutil.which("jpegtran") is None, reason="no jpegtran here (Debian: libjpeg-turbo-progs)")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    without_syncs(monkeypatch)


def jpeg(seed: int, *options: int) -> bytes:
    """A JPEG of a street of noise, as a camera makes it: the standard Huffman tables."""
    noise = np.random.default_rng(seed).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    made, data = cv2.imencode(".jpg", cv2.GaussianBlur(noise, (7, 7), 3), [cv2.IMWRITE_JPEG_QUALITY, 80, *options])
    assert made
    return data.tobytes()


def entry(time_ns: int, data: bytes, format: str = "jpeg") -> Entry:
    message = CompressedImage(frame_id="front", format=format, data=data)
    return Entry(channels.camera_topic("front"), time_ns, UTC_NS + time_ns, message.SerializeToString())


def taken_back(spool: Path) -> list[bytes]:
    """The camera's bytes of all images in the spool, made again by what docs/formats.md promises alone."""
    restored = []
    for path in sorted(spool.glob("[!.]*/*-images.mcap")):
        for message in reader.read(path):
            if isinstance(message.message, CompressedImage):
                sha256 = as_taken(message.metadata, message.sequence)
                restored.append(restore(message.message.data, message.message.format, sha256))
    return restored


def formats(spool: Path) -> list[str]:
    messages = [message.message for path in sorted(spool.glob("[!.]*/*.mcap")) for message in reader.read(path)]
    return [message.format for message in messages if isinstance(message, CompressedImage)]


@no_jpegtran
@pytest.mark.parametrize("how", WAYS)
def test_every_byte_of_every_image_comes_back_and_the_center_shows_them(tmp_path: Path, how: Shrinking) -> None:
    originals = [jpeg(seed) for seed in range(6)]
    seal(tmp_path, 1, "images", [entry(at * SECOND, data) for at, data in enumerate(originals)])
    ledger = ledger_of(tmp_path)
    before = spooled_bytes(tmp_path)
    work = Sweeper(truck(tmp_path, shrink=how))
    with uplink(tmp_path, ledger):
        assert not work.shrink(), "one segment, and nothing more to do"
        work.shrink()
    status = work.status(None)
    assert status["shrunk_segments"] == 1 and status["shrunk_bytes"] == before - spooled_bytes(tmp_path) > 0.02 * before
    assert formats(tmp_path) == ["jxl" if how == "jpeg-xl" else "jpeg"] * 6
    assert taken_back(tmp_path) == originals
    (path,) = tmp_path.glob("[!.]*/*.mcap")
    assert reader.verify(path) == [] and reader.info(path).derived_from == f"truck-1-{FOLDER}-000001-images"
    shown = last_picture(path, "s")
    assert shown is not None and shown.jpeg == originals[-1]
    assert ledger.totals().dropped["shrunk_segments"] == 1 and ledger.totals().dropped["shrunk_bytes"] == status["shrunk_bytes"]
    ledger.close()


@no_jpegtran
@pytest.mark.parametrize("how", WAYS)
def test_an_image_that_would_not_come_back_stays_as_the_camera_gave_it(tmp_path: Path, how: Shrinking) -> None:
    own_tables = jpeg(1, cv2.IMWRITE_JPEG_OPTIMIZE, 1)
    odd = [own_tables, jpeg(2) + b"behind the end", b"\xff\xd8no picture\xff\xd9", b"", jpeg(3, cv2.IMWRITE_JPEG_RST_INTERVAL, 4)]
    originals = [*odd, *(jpeg(seed) for seed in range(10, 20))]
    seal(tmp_path, 1, "images", [entry(at * SECOND, data) for at, data in enumerate(originals)])
    ledger = ledger_of(tmp_path)
    with uplink(tmp_path, ledger):
        Sweeper(truck(tmp_path, shrink=how)).shrink()
    assert taken_back(tmp_path) == originals
    (path,) = tmp_path.glob("[!.]*/*.mcap")
    held = [m.message.data for m in reader.read(path) if isinstance(m.message, CompressedImage)]
    assert held[2:4] == originals[2:4] and held[5] != originals[5]
    if how == "huffman":
        assert held[0] == own_tables, "its own tables would be lost"
    ledger.close()


@no_jpegtran
def test_what_comes_back_wrong_by_one_bit_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = images.jpegtran

    def flip(data: bytes, *options: str) -> bytes:
        made = bytearray(real(data, *options))
        if not options:
            made[-10] ^= 1
        return bytes(made)

    message = entry(0, jpeg(1)).data
    packed, sha256 = shrink._packed(message, "huffman")
    assert sha256 == hashlib.sha256(jpeg(1)).hexdigest() and len(packed) < len(message)
    monkeypatch.setattr(images, "jpegtran", flip)
    assert shrink._packed(message, "huffman") == (message, None)


@no_jpegtran
def test_nothing_that_is_on_its_way_is_shrunk_and_what_was_in_vain_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = seal(tmp_path, 1, "images", [entry(at * SECOND, jpeg(at)) for at in range(3)])
    seal(tmp_path, 2, "images", [image(at * SECOND) for at in range(100, 103)])  # no JPEGs in truth
    ledger = ledger_of(tmp_path)
    announce(ledger, sent)
    tried: list[str] = []
    real = shrink.shrink
    monkeypatch.setattr(shrink, "shrink", lambda content, *rest: (tried.append(content.identity.segment_id), real(content, *rest))[1])
    work = Sweeper(truck(tmp_path, shrink="huffman"))
    with uplink(tmp_path, ledger):
        for _ in range(3):
            assert not work.shrink()
    assert tried == [f"truck-1-{FOLDER}-000002-images"]
    assert present(tmp_path) == [f"{FOLDER}/000001-images", f"{FOLDER}/000002-images"]
    ledger.close()


@no_jpegtran
def test_thinned_images_can_be_shrunk_and_shrunk_ones_thinned_and_all_is_told(tmp_path: Path) -> None:
    originals = {at: jpeg(at) for at in range(8)}
    seal(tmp_path, 1, "images", [entry(at * SECOND, data) for at, data in originals.items()])
    ledger = ledger_of(tmp_path)
    with uplink(tmp_path, ledger):
        for how in WAYS:  # the second finds them shrunk already
            Sweeper(truck(tmp_path, shrink=how)).shrink()
            assert Sweeper(truck(tmp_path, quota=spooled_bytes(tmp_path) - 1)).sweep() is None
    kept = [time // SECOND for time in kept_images(tmp_path)]
    assert kept == [0, 4] and taken_back(tmp_path) == [originals[at] for at in kept]
    (row,) = [ledger.segment(f"truck-1-{name.replace('/', '-')}") for name in present(tmp_path)]
    assert row is not None and (row.keep_every, row.shrunk) == (4, 1)
    ledger.close()


def test_only_a_parked_truck_shrinks_and_it_stops_between_two_images_when_the_recorder_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tmp_path, 1, "images", [image(at * SECOND) for at in range(50)])
    before = (tmp_path / FOLDER / "000001-images.mcap").read_bytes()
    ledger = ledger_of(tmp_path)
    work = Sweeper(truck(tmp_path, shrink="jpeg-xl"))
    packed: list[float] = []
    started: list[float] = []
    recorder = os.open(tmp_path / RECORDER_LOCK, os.O_CREAT | os.O_RDWR)

    def start() -> None:
        files.try_lock(recorder)
        started.append(time.monotonic())

    def pack(data: bytes, how: str) -> tuple[bytes, str | None]:
        if len(packed) == 5:
            threading.Timer(0.0, start).start()
        packed.append(time.monotonic())
        time.sleep(0.02)
        return data[: len(data) // 2], "00" * 32

    monkeypatch.setattr(shrink, "_packed", pack)
    with uplink(tmp_path, ledger) as hub:
        assert not work.shrink()
        assert 5 < len(packed) < 50, "it was given up"
        assert not [at for at in packed if at > started[0] + 1.0], "within a second"
        assert not hub.desk.taken or _soon(lambda: not hub.desk.taken)
        assert not work.shrink()
        assert work.shrinking == "shrink: waits until the truck is parked"
    assert (tmp_path / FOLDER / "000001-images.mcap").read_bytes() == before and len(present(tmp_path)) == 1
    os.close(recorder)
    ledger.close()


def test_without_jpegtran_nothing_is_shrunk_and_the_status_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    work = Sweeper(truck(tmp_path, shrink="huffman"))
    assert not work.shrink()
    assert work.status(None)["shrinking"] == "shrink: jpegtran is not installed (Debian: libjpeg-turbo-progs)"
    assert Sweeper(truck(tmp_path)).status(None)["shrinking"] == "shrink: not asked for"
    with pytest.raises(NotRestored, match="jpegtran"):
        restore(jpeg(1), "jpeg", "00" * 32)
    assert sweeper.missing("no") is None


@no_jpegtran
def test_restoring_proves_itself_or_refuses() -> None:
    data = jpeg(1)
    assert restore(data, "jpeg", None) == data == viewable(data, "jpeg")
    with pytest.raises(NotRestored, match="other bytes"):
        restore(data, "jpeg", hashlib.sha256(b"another").hexdigest())
    for broken in (b"", b"no JPEG XL", data):
        with pytest.raises(NotRestored):
            viewable(broken, "jxl")
    with pytest.raises(NotRestored, match="format 'png'"):
        viewable(data, "png")


@pytest.mark.parametrize("said", ["no JSON", "{}", "[]", "[1]", "7", "null"])
def test_a_proof_that_makes_no_sense_is_refused(said: str) -> None:
    assert as_taken({}, 1) is None and as_taken({"as_taken": json.dumps([None, "ab"])}, 2) == "ab"
    with pytest.raises(NotRestored):
        as_taken({"as_taken": said}, 1)


def _soon(condition: object) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False
