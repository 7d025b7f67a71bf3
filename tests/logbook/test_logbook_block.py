"""The column block: what goes in comes out, the bytes are those of docs/formats.md 3, values are typed on read."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from logbook import block

pytestmark = pytest.mark.timeout(60)

COLUMNS = [
    {"id": "acceleration_x", "scale": -0.5, "lowest": -32767, "highest": 32766, "status": None, "mask": 0, "value": 0},
    {"id": "magnetic_field_x", "scale": 2.0, "lowest": -32752, "highest": 32752, "status": 2, "mask": 0x0801, "value": 1},
    {"id": "mag_status", "scale": 1, "offset": 0, "lowest": -32768, "highest": 32767, "status": None, "mask": 0, "value": 0},
]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_block_gives_back_exactly_what_was_encoded(data: st.DataObject) -> None:
    samples = data.draw(st.integers(1, 60))
    width = data.draw(st.integers(0, 12))
    columns = data.draw(hnp.arrays(np.int16, (samples, width)))
    first = data.draw(st.integers(0, 2**63))
    offsets = data.draw(st.lists(st.integers(0, block.MAX_SPAN_NS), min_size=samples - 1, max_size=samples - 1))
    times = np.array([first, *(first + offset for offset in offsets)], dtype=np.uint64)
    head_boot = data.draw(st.integers(0, 2**32 - 1))
    boot, decoded_times, decoded = block.decode(block.encode(head_boot, times, columns))
    assert boot == head_boot
    assert decoded_times.dtype == np.uint64 and np.array_equal(decoded_times, times)
    assert decoded.dtype == np.int16 and np.array_equal(decoded, columns)


def bits(*fields: str) -> bytes:
    text = "".join(fields).replace(" ", "")
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def test_the_bytes_are_those_of_the_documented_format() -> None:
    # By hand from docs/formats.md 3: times 0, 10, 20 after the first; the column 5, 3, -32768.
    data = block.encode(7, np.array([1000, 1010, 1020], np.uint64), np.array([[5], [3], [-32768]], np.int16))
    head = b"CB" + bytes([2, 1]) + struct.pack("<HIQ", 3, 7, 1000)
    line = f"{10 * 256:040b} 00000000"  # a step of 10 ns, phase 0
    times = "1 000000 1 000000"  # order 1, base 0, places and amounts: none
    # Order 1, base 5 (zigzag 10: 4 bits), all numbers, no other column, k 14. Differences -2 and -32771 = 32765 modulo 2^16; zigzag 3 and
    # 65530: quotients 0 and 3, rests 3 and 16378.
    column = "1 00100 1010 0 0 1110"
    assert data == head + bits(line, times, column, "1 0001", f"{3:014b} {16378:014b}")


def test_places_amounts_and_a_share_of_another_column_stand_as_documented() -> None:
    # Eight samples: noise of which the second column does half, and a third one that changes once, from -1 to 7.
    noise = np.array([0, 100, -60, 40, -80, 90, -50, 30])
    columns = np.stack([noise, noise // 2, [-1, -1, -1, 7, 7, 7, 7, 7]], axis=1).astype(np.int16)
    data = block.encode(1, np.arange(8, dtype=np.uint64), columns)
    # Order 0, base 9 (the mean; zigzag 18: 5 bits), all numbers, not shared, k 6
    first = "0 00101 10010 0 0 0110"
    zigzag = [17, 182, 137, 62, 177, 162, 117, 42]
    # Order 1, base 0, all numbers, shared: one column before, gain 8 sixteenths; k 0: nothing is left
    second = "1 00000 0 1 0001 001000 0000"
    # Order 1, base -1 (zigzag 1), places and amounts: one. k 1: two zeros before it; the amount 8 is zigzag 16
    third = "1 00001 1 1 00001 1 0001"
    quotients = "1 001 001 1 001 001 01 1" + "1111111" + "01" + "00001"
    rests = "".join(f"{number % 64:06b}" for number in zigzag) + "0" + "0000"
    line = f"{256:040b} 00000000 1 000000 1 000000"
    assert data[18:] == bits(line, first, second, third, quotients, rests)


def test_a_block_of_version_1_stays_readable() -> None:
    # By hand from docs/formats.md 3: times 0, 10, 25 after the first; the column 5, 3, -32768.
    head = b"CB" + bytes([1, 1]) + struct.pack("<HIQ", 3, 7, 1000)
    times = bytes([0, 20, 30]) + bytes(9)  # differences 0 10 15, zigzag 0 20 30, four planes
    # differences 5 -2 and -32771 = 32765 modulo 2^16; zigzag 10, 3, 65530; low bytes, then high bytes
    column = bytes([10, 3, 0xFA]) + bytes([0, 0, 0xFF])
    boot, found_times, columns = block.decode(head + times + column)
    assert (boot, found_times.tolist(), columns.tolist()) == (7, [1000, 1010, 1025], [[5], [3], [-32768]])
    for wrong in (head + times, head + times + column + b"\0"):
        with pytest.raises(block.BlockError):
            block.decode(wrong)


def test_times_cost_little_also_where_the_estimate_of_the_line_moves() -> None:
    regular = np.arange(54) * 9_785_870 + np.arange(54) // 3
    moved = regular + np.where(np.arange(54) < 20, 0, 53_211)
    nothing = np.zeros((54, 0), np.int16)
    assert len(block.encode(1, regular.astype(np.uint64), nothing)) <= 18 + 8
    assert len(block.encode(1, moved.astype(np.uint64), nothing)) <= 18 + 16
    assert block.decode(block.encode(1, moved.astype(np.uint64), nothing))[1].tolist() == moved.tolist()


def test_a_column_that_another_one_tells_costs_hardly_anything() -> None:
    dice = np.random.default_rng(1)
    noise = dice.normal(0, 200, 54)
    alone = np.stack([noise, dice.normal(0, 200, 54)], axis=1).astype(np.int16)
    told = np.stack([noise, -0.75 * noise], axis=1).astype(np.int16)
    times = np.arange(54, dtype=np.uint64)
    one = len(block.encode(1, times, alone[:, :1])) - len(block.encode(1, times, alone[:, :0]))
    assert len(block.encode(1, times, alone)) - len(block.encode(1, times, alone[:, :1])) > 0.8 * one
    assert len(block.encode(1, times, told)) - len(block.encode(1, times, told[:, :1])) < 0.3 * one


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_bits_that_were_changed_or_cut_are_refused_or_give_other_numbers_but_never_an_error_of_another_kind(data: st.DataObject) -> None:
    # The CRC of its chunk finds them before; a block that comes over the live link has none.
    columns = data.draw(hnp.arrays(np.int16, (data.draw(st.integers(1, 20)), 3), elements=st.integers(-300, 300)))
    whole = block.encode(1, np.arange(len(columns), dtype=np.uint64) * 9_777_777, columns)
    changed = bytearray(whole)
    changed[data.draw(st.integers(18, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        _, times, decoded = block.decode(bytes(changed))
    except block.BlockError:
        pass
    else:
        assert decoded.shape == columns.shape and len(times) == len(columns)
    with pytest.raises(block.BlockError):
        block.decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_a_live_block_joins_what_was_committed_since_the_last_one() -> None:
    dice = np.random.default_rng(1)
    times = np.arange(102, dtype=np.uint64) * 9_777_777 + 5
    columns = dice.integers(-500, 500, (102, 11)).astype(np.int16)
    parts = [block.encode(9, times[:51], columns[:51]), block.encode(9, times[51:], columns[51:])]
    text = block.live(parts)
    boot, found_times, found = block.decode(block.from_live(text))
    assert boot == 9 and np.array_equal(found_times, times) and np.array_equal(found, columns)
    assert text.isascii() and len(text) == 4 * -(-len(block.from_live(text)) // 3)
    for wrong in ([], [parts[0], block.encode(8, times[51:], columns[51:])], [parts[0], block.encode(9, times[51:], columns[51:, :3])]):
        with pytest.raises(block.BlockError):
            block.live(wrong)
    with pytest.raises(block.BlockError):
        block.from_live("no base64!")


def test_a_jump_over_the_whole_range_survives_the_differences() -> None:
    columns = np.array([[-32768], [32767], [-32768], [0]], np.int16)
    _, _, decoded = block.decode(block.encode(1, np.arange(4, dtype=np.uint64), columns))
    assert np.array_equal(decoded, columns)


@pytest.mark.parametrize(
    ("times", "columns"),
    [
        ([], np.empty((0, 3), np.int16)),
        ([5, 4], np.zeros((2, 1), np.int16)),
        ([0, block.MAX_SPAN_NS + 1], np.zeros((2, 1), np.int16)),
        ([0, 1], np.zeros((3, 1), np.int16)),
        ([0], np.zeros((1, 256), np.int16)),
        ([0], np.array([[32768]], np.int32)),
        ([0], np.array([[0.5]])),
        ([-1], np.zeros((1, 1), np.int16)),
        (list(range(65536)), np.zeros((65536, 1), np.int16)),
    ],
)
def test_what_does_not_fit_into_a_block_is_refused(times: list[int], columns: np.ndarray) -> None:
    with pytest.raises(block.BlockError):
        block.encode(1, np.array(times, dtype=np.int64), columns)


def test_bytes_that_are_no_block_are_refused() -> None:
    whole = block.encode(1, np.array([1, 2], np.uint64), np.zeros((2, 3), np.int16))
    for wrong in (b"", whole[:-1], whole + b"\0", b"XB" + whole[2:], whole[:2] + b"\3" + whole[3:], whole[:4] + b"\0\0" + whole[6:]):
        with pytest.raises(block.BlockError):
            block.decode(wrong)


@pytest.mark.parametrize("form", [json.dumps, list])
def test_typed_values_are_raw_times_scale_and_offset_or_the_reason_why_there_is_none(form: type) -> None:
    #                 in range      no new sample       magnetic overflow    saturated both
    columns = np.array([[100, 7, 1], [-32767, 7, 0], [32766, 7, 0x0801], [-32768, 32753, 0x0101 - 0x0100]], np.int16)
    typed = block.typed(form(COLUMNS), columns)
    values, status = typed["acceleration_x"]
    assert status.tolist() == [block.OK, block.OK, block.OK, block.SATURATED]
    assert values[:3].tolist() == [-50.0, 16383.5, -16383.0] and np.isnan(values[3])
    values, status = typed["magnetic_field_x"]
    assert status.tolist() == [block.OK, block.NO_NEW_SAMPLE, block.SATURATED, block.SATURATED]
    assert values[0] == 14.0 and np.isnan(values[1:]).all()
    assert [block.REASONS[code] for code in status.tolist()] == ["", "no new sample", "saturated", "saturated"]
    # An overflow of which nothing is new is nothing new.
    assert block.typed(form(COLUMNS), np.array([[0, 7, 0x0800]], np.int16))["magnetic_field_x"][1].tolist() == [block.NO_NEW_SAMPLE]


def test_a_description_leaves_out_what_is_usual_and_is_read_as_if_it_stood_there() -> None:
    text = block.describe(COLUMNS)
    assert json.loads(text) == [
        {"id": "acceleration_x", "scale": -0.5, "lowest": -32767, "highest": 32766},
        {"id": "magnetic_field_x", "scale": 2.0, "lowest": -32752, "highest": 32752, "status": 2, "mask": 0x0801, "value": 1},
        {"id": "mag_status", "scale": 1},
    ]
    columns = np.array([[100, 7, 1], [-32768, 7, 0], [32766, 32753, 1]], np.int16)
    whole, short = block.typed(COLUMNS, columns), block.typed(text, columns)
    for id in whole:
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(whole[id], short[id], strict=True))


def test_a_column_may_have_an_offset_and_one_without_has_none() -> None:
    kelvin = dict(COLUMNS[0], id="temperature_imu", scale=1 / 333.87, offset=294.15)
    values, _ = block.typed([kelvin, COLUMNS[0]], np.array([[3339, 3339], [0, 0]], np.int16))["temperature_imu"]
    assert values - 273.15 == pytest.approx([31.0009, 21.0], abs=1e-4)
    plain, _ = block.typed([kelvin, COLUMNS[0]], np.array([[0, 4]], np.int16))["acceleration_x"]
    assert plain.tolist() == [-2.0]


def test_a_status_with_its_highest_bit_set_is_compared_as_unsigned() -> None:
    columns_metadata = [dict(COLUMNS[0], status=1, mask=0x8000, value=0x8000), COLUMNS[2]]
    values, _ = block.typed(columns_metadata, np.array([[4, -32768], [4, 0]], np.int16))["acceleration_x"]
    assert values[0] == -2.0 and np.isnan(values[1])


def test_columns_that_do_not_belong_to_the_block_are_refused() -> None:
    with pytest.raises(block.BlockError):
        block.typed(COLUMNS, np.zeros((1, 2), np.int16))
