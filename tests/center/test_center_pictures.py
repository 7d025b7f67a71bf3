"""The last picture: the newest one recorded, its bytes untouched, whatever order segments arrive in."""

import cv2
import imagecodecs
import numpy as np
from center_keeping import keep

from center.pictures import newest_picture


def test_there_is_none_before_one_came(archive, maker):
    assert newest_picture(archive, "truck-1") is None
    keep(archive, maker.readings())
    assert newest_picture(archive, "truck-1") is None


def test_the_last_picture_of_a_segment_is_taken_with_camera_and_time(archive, maker, utc_ns):
    keep(archive, maker.images([b"first", b"second", b"third"]))
    picture = newest_picture(archive, "truck-1")
    assert (picture.jpeg, picture.camera, picture.utc_ns) == (b"third", "front", utc_ns + 2_000_000_000)


def test_an_older_segment_that_arrives_later_does_not_replace_it(archive, maker):
    old, new = maker.images([b"old"], start_ns=1_000_000_000), maker.images([b"new"], start_ns=90_000_000_000)
    keep(archive, new)
    keep(archive, old)
    assert newest_picture(archive, "truck-1").jpeg == b"new"


def test_pictures_of_another_truck_are_not_mixed_in(archive, maker):
    keep(archive, maker.images([b"other"], "truck-2"))
    assert newest_picture(archive, "truck-1") is None


def test_segments_without_a_picture_are_passed_over_however_many_there_are(archive, maker):
    """A camera that died this morning: its gaps are still recorded, and the last picture stays the newest."""
    keep(archive, maker.images([b"last"], start_ns=1_000_000_000))
    for minute in range(1, 8):
        keep(archive, maker.images([], start_ns=minute * 60_000_000_000))
    assert newest_picture(archive, "truck-1").jpeg == b"last"


def test_a_picture_that_the_truck_has_packed_is_shown_as_the_camera_made_it(archive, maker):
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
    keep(archive, maker.images([bytes(imagecodecs.jpegxl_encode_jpeg(jpeg))], format="jxl"))
    assert newest_picture(archive, "truck-1").jpeg == jpeg


def test_a_picture_of_a_format_that_nobody_knows_is_not_shown_and_not_raised(archive, maker):
    keep(archive, maker.images([b"some bytes"], format="heic"))
    assert newest_picture(archive, "truck-1") is None
