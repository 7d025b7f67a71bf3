"""How many samples of a first fleet's box are missing over an interruption: its own numbering goes on (modulo 2**24) unless it began anew.

That cannot be asked, but seen: from a number that it counted on to, no more samples have been made than there was time for. While the
recorder was away the box sampled on, or rested; in the time in which it is set up it rests."""

from typing import NamedTuple

from drivers.first_fleet_frames import EVENT_A, size_of
from logbook.schemas import cruisers_pb2 as pb

NANO = 1_000_000_000
PER_SECOND = 100
FASTEST = 1.05  # an oscillator's error, and events B and C (three a second), should they be numbered with the samples
DELAY_SECONDS = 1.0  # bytes that waited, in the adapter and in the kernel (4 kB: one second of them)
_MODULUS = 1 << 24


class Heard(NamedTuple):
    """A sample that came: its box's serial, its number, and the boot time (ns) at which it was whole."""

    serial: int
    number: int
    at_ns: int


def heard(sample: bytes | bytearray, at_ns: int) -> Heard:
    """The sample in the parameters of an event A (or in as many of their first bytes as the number takes)."""
    return Heard(int.from_bytes(sample[:2], "little"), int.from_bytes(sample[2:5], "little"), at_ns)


def newest(message: pb.BoxFrames) -> Heard | None:
    """The newest sample in a message on disk; None if it holds none."""
    found = None
    data, index = message.frames, 0
    while data and (size := size_of(data, len(data))):
        if data[1] == EVENT_A:
            found = heard(data[2:7], message.boottime_ns + message.offsets_us[index] * 1000)
        data, index = data[size:], index + 1
    return found


def missing(before: Heard, now: Heard, recorded: int) -> int:
    """How many samples were made after `before` up to `now` (itself one of them), less those `recorded`; 0 where it cannot be known."""
    made = (now.number - before.number) % _MODULUS
    most = ((now.at_ns - before.at_ns) / NANO + DELAY_SECONDS) * PER_SECOND * FASTEST
    if now.serial != before.serial or not 0 < made <= most:
        return 0
    return max(0, made - recorded)
