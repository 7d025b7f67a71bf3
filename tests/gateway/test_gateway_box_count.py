"""How many samples of a box are missing over an interruption: from its numbers, as far as they can be believed."""

import pytest

from gateway.box_count import Heard, missing, newest
from logbook.schemas import cruisers_pb2 as pb
from sim.chips.first_fleet import frame

S = 1_000_000_000


@pytest.mark.parametrize(
    ("first", "then", "seconds", "recorded", "count"),
    [
        (100, 701, 6.0, 1, 600),  # it sampled on
        (100, 105, 60.0, 3, 2),  # it rested nearly all the time
        (100, 101, 3.0, 1, 0),
        (0xFFFFFF, 99, 1.5, 10, 90),  # over the wrap
        (100, 731, 6.0, 1, 630),  # 5 %: an oscillator, and other events of the same count
        (100, 1000, 6.0, 1, 0),  # more than there was time for
        (100, 3, 6.0, 4, 0),  # it began anew
        (100, 100, 6.0, 1, 0),
        (100, 105, 1.0, 9, 0),  # more came than were made: not of this count
    ],
)
def test_what_the_numbers_say_is_believed_where_there_was_time_for_it(
    first: int, then: int, seconds: float, recorded: int, count: int
) -> None:
    assert missing(Heard(7, first, 5 * S), Heard(7, then, 5 * S + round(seconds * S)), recorded) == count


def test_another_boxs_number_says_nothing() -> None:
    assert missing(Heard(7, 100, 0), Heard(8, 200, 2 * S), 1) == 0


def test_the_newest_sample_of_a_message_has_the_time_of_its_frame() -> None:
    def sample(number: int) -> bytes:
        return frame(0x8A, b"\x07\x01" + number.to_bytes(3, "little") + bytes(31))

    frames = [frame(0x8F, b"\0\x13"), sample(8), frame(0x8C, bytes(6) + b"\x04\x9a\x8a\x9a\x8a"), sample(9), frame(0x88, b"\0")]
    message = pb.BoxFrames(boottime_ns=1000, offsets_us=[0, 1, 2, 3, 4], frames=b"".join(frames))
    assert newest(message) == Heard(0x107, 9, 4000)
    assert newest(pb.BoxFrames(boottime_ns=1000, offsets_us=[0], frames=frames[0])) is None
