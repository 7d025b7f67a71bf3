"""What is stored of a camera's bytes, and the message around them."""

import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from gateway_camera import Stream, Watching, decoded, jpeg
from gateway_recording import wait_for

from gateway.camera import compressed_image
from gateway.jpeg import HUFFMAN_TABLES, scan_without_tables, whole

pytestmark = pytest.mark.timeout(60)


def test_a_jpeg_is_whole_from_soi_to_eoi_and_loses_only_padding() -> None:
    image = jpeg(1)
    assert whole(memoryview(image)) == image
    assert whole(memoryview(image + bytes(512))) == image
    for torn in (b"", b"\xff\xd8", image[2:], image[:-2], image[:100], image + b"\xff\xd8\x00rest", image + bytes(8) + b"x"):
        assert whole(memoryview(torn)) is None


def without_tables(image: bytes, header: bytes = b"") -> bytes:
    """`image` as Motion JPEG may have it: `header` behind SOI, no DHT segments."""
    kept, at = image[:2] + header, 2
    while image[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(image[at + 2 : at + 4], "big")
        kept += image[at:end] if image[at + 1] != 0xC4 else b""
        at = end
    return kept + image[at:]


AVI1 = b"\xff\xe0\x00\x10AVI1" + bytes(10)


def test_the_tables_that_motion_jpeg_implies_are_those_that_encoders_write() -> None:
    image = jpeg(1)
    bare = without_tables(image)
    scan = scan_without_tables(memoryview(bare))
    assert scan is not None and scan_without_tables(memoryview(image)) is None
    restored = bare[:scan] + HUFFMAN_TABLES + bare[scan:]
    assert np.array_equal(decoded(restored), decoded(image)) and without_tables(restored) == bare
    segments = [image[at : at + length] for at, length in _dht(image)]
    assert b"".join(segment[4:] for segment in segments) == HUFFMAN_TABLES[4:]


def _dht(image: bytes) -> Iterator[tuple[int, int]]:
    at = 2
    while image[at + 1] != 0xDA:
        length = 2 + int.from_bytes(image[at + 2 : at + 4], "big")
        if image[at + 1] == 0xC4:
            yield at, length
        at += length


def test_only_a_baseline_image_can_be_without_its_tables() -> None:
    progressive = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert scan_without_tables(memoryview(without_tables(progressive))) is None
    filled = b"\xff\xd8" + b"\xff\xff\xff" + without_tables(jpeg(1))[2:]  # markers may have fill bytes before them
    assert scan_without_tables(memoryview(filled)) is not None
    for nothing in (b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xe0\x00\x00\xff\xd9", b"\xff\xd8ab"):
        assert scan_without_tables(memoryview(nothing)) is None


@pytest.fixture
def stream() -> Iterator[Stream]:
    made = Stream()
    yield made
    made.close()


def test_images_without_tables_are_stored_so_that_any_decoder_reads_them_and_that_is_told_once(tmp_path: Path, stream: Stream) -> None:
    stream.picture = lambda number: without_tables(jpeg(number), AVI1)
    with pytest.raises(imagecodecs.JpegxlError):
        imagecodecs.jpegxl_encode_jpeg(stream.picture(1))
    watching = Watching(tmp_path, stream.url)
    wait_for(lambda: watching.images() >= 3, "images")
    recording = watching.end()
    for image in recording.decoded("/camera/front"):
        assert decoded(image.data).shape == (48, 64, 3)
        assert imagecodecs.jpegxl_encode_jpeg(image.data)
        assert image.data.replace(HUFFMAN_TABLES, b"") in stream.sent  # the camera's own bytes, all of them
    (event,) = recording.events("camera_tables")
    assert event.source == "camera/front" and "420 bytes" in event.detail


@pytest.mark.parametrize("utc", [0, 1_780_000_000_123_456_789])
@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 196_000, 2_100_000])
def test_the_message_made_around_an_image_is_the_librarys_own(size: int, utc: int) -> None:
    image = os.urandom(size)
    message = CompressedImage(frame_id="front", data=image, format="jpeg")
    if utc:
        message.timestamp.FromNanoseconds(utc)
    rest = CompressedImage(frame_id="front", format="jpeg").SerializeToString()
    made = compressed_image(utc, (memoryview(image)[:5], image[5:]), rest)
    assert CompressedImage.FromString(made) == message
    assert len(made) == message.ByteSize() + (2 if not size else 0)  # the library leaves empty data out


def test_an_image_is_copied_once_between_opencvs_array_and_the_writer() -> None:
    frame = np.frombuffer(jpeg(1)[:-2] + bytes(4_000_000) + b"\xff\xd9", np.uint8).reshape(1, -1)
    tracemalloc.start()
    try:
        image = whole(frame.reshape(-1).data)
        assert image is not None and scan_without_tables(image) is None
        message = compressed_image(0, (image,), b"")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(message) <= peak < 1.01 * len(message)
