"""Frames as the gateway sees them: round trip, zlib's CRC, resynchronisation; and how long the ring lasts."""

import importlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers import icm20948
from firmware import frames
from firmware.ring import RING_BYTES

U32 = st.integers(0, 2**32 - 1)
FRAME = st.tuples(st.integers(0, 255), U32, U32, st.integers(0, 2**30 - 1), U32, st.binary(max_size=frames.PAYLOAD_MAX))


def cobs_decoded(data: bytes) -> bytes:
    """COBS by its definition, another way than the firmware's."""
    out = bytearray()
    rest = data
    while rest:
        run, rest = rest[1 : rest[0]], rest[rest[0] :]
        assert len(run) < 255
        out += run
        if rest and len(run) < 254:
            out.append(0)
    return bytes(out)


@given(FRAME)
def test_every_frame_round_trips_in_any_pieces(frame: tuple) -> None:
    kind, boot, sequence, low, wraps, payload = frame
    packed = frames.pack(kind, boot, sequence, low, wraps, payload)
    assert len(packed) <= frames.ENCODED_MAX and packed.index(0) == len(packed) - 1
    decoder = frames.Decoder()
    found = [one for byte in packed for one in decoder.feed(bytes([byte]))]
    (one,) = found
    assert (one.type, one.boot, one.sequence, one.ticks, one.payload) == (kind, boot, sequence, wraps << 30 | low, payload)
    assert decoder.bad == 0


@given(FRAME)
def test_the_wire_is_cobs_of_body_and_zlib_crc(frame: tuple) -> None:
    plain = cobs_decoded(frames.pack(*frame)[:-1])
    assert int.from_bytes(plain[-4:], "little") == zlib.crc32(plain[:-4])
    assert plain[0] == frame[0] and plain[17:-4] == frame[5]


@given(st.binary(max_size=600), st.lists(FRAME, min_size=1, max_size=3), st.binary(max_size=300))
def test_the_decoder_takes_up_again_after_junk(before: bytes, some: list[tuple], between: bytes) -> None:
    decoder = frames.Decoder()
    stream = before + b"\0" + b"".join(frames.pack(*one) + between + b"\0" for one in some)
    found = [one for begin in range(0, len(stream), 50) for one in decoder.feed(stream[begin : begin + 50])]
    expected = [(one[0], one[1], one[2], one[5]) for one in some]
    assert [(one.type, one.boot, one.sequence, one.payload) for one in found] == expected
    junk = [part for part in (before + b"\0" + (between + b"\0") * len(some)).split(b"\0") if part]
    assert decoder.bad == len(junk)


@given(FRAME, st.data())
def test_a_damaged_frame_is_dropped_and_counted(frame: tuple, data: st.DataObject) -> None:
    packed = bytearray(frames.pack(*frame))
    place = data.draw(st.integers(0, len(packed) - 2))
    packed[place] ^= 1 << data.draw(st.integers(0, 7))
    decoder = frames.Decoder()
    assert decoder.feed(bytes(packed)) == []
    assert decoder.bad >= 1
    assert len(decoder.feed(frames.pack(*frame))) == 1


def test_reasons_are_those_of_the_bus_errors() -> None:
    errors = importlib.import_module("drivers.errors")
    names = {
        errors.NO_ACKNOWLEDGE: "no acknowledge",
        errors.TIME_OUT: "time-out",
        errors.BUS_STUCK: "bus stuck",
        errors.BAD_CHECKSUM: "bad checksum",
        errors.WRONG_IDENTITY: "wrong identity",
        errors.FIFO_OVERFLOW: "FIFO overflow",
        errors.FIFO_ODD: "FIFO count not a multiple of a frame",
        errors.POWER_ON_VALUES: "registers back at power-on values",
        frames.RING_FULL: "ring full",
        errors.OTHER: "other",
        errors.FIFO_BROKEN: "FIFO read broken off",
        errors.HEATER_ON: "heater on",
        errors.FAN_CLEANING: "fan cleaning",
        errors.DEVICE_FAULT: "device reports a fault",
        frames.PARTS_REFUSED: "list of parts refused",
        frames.POWER_SWITCHED: "power switched",
    }
    assert [frames.REASONS[code] for code in names] == list(names.values())
    assert len(frames.REASONS) == 17 and frames.STATES[frames.OK] == "ok" and frames.STATES[frames.FAILED] == "failed"


def test_the_ring_holds_more_than_20_seconds_of_everything() -> None:
    """Budget: bytes a second at the chips' rates, the IMU drained every 50 ms. The largest fit: the standard one and a receiver;
    the spares stand in the place of parts that send more."""

    def entry(payload: int) -> int:
        return 1 + len(frames.pack(0xFF, 2**30 - 1, 2**30 - 1, 2**30 - 1, 0x01010101, b"\xff" * payload))

    imu_rate = icm20948.sample_rate(bytes((0x1D, 0x1B, 0, 10, 10)))
    assert imu_rate == pytest.approx(102.27, abs=0.01)
    drains = 1 / 0.050
    per_second = drains * (entry(2) + imu_rate / drains * icm20948.RAW_SIZE)
    for chip in ("bmp390", "sht45", "opt3001", "as7331", "sps30", "neo_m9n"):
        module = importlib.import_module(f"drivers.{chip}")
        per_second += entry(2 + module.RAW_SIZE) * 1000 / module.PERIOD_MS
    per_second += entry(24) / 5  # HEALTH
    per_second += 1 * entry(5)  # one STATE a second
    seconds = RING_BYTES / per_second
    assert seconds >= 20, f"{per_second:.0f} B/s fill the ring in {seconds:.1f} s"
