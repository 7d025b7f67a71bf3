"""Packed blocks: written and read by us, and read by somebody who has docs/formats.md alone."""

import base64
import json
import struct
import zlib
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from logbook import block
from sox.packed import BadPacked, Packed, columns_id, packed_device, packed_document, read_columns, read_packed, samples

UTC_NS = 1_793_000_000_123_456_000  # 2026-10-26T07:33:20.123456Z
FIRST_NS = 5_000_000_000
COLUMNS = block.describe(
    [
        {"id": "acceleration_x", "scale": 9.80665 / 4096, "offset": 0.0, "lowest": -32768, "highest": 32766},
        {"id": "temperature_imu", "scale": 1 / 333.87, "offset": 294.15},
        {"id": "magnetic_field_x", "scale": -0.15e-6, "lowest": -32752, "highest": 32752, "status": 3, "mask": 0x0801, "value": 1},
        {"id": "mag_status", "scale": 1.0},
    ]
)


def second(count: int = 102) -> tuple[np.ndarray, np.ndarray]:
    """Times and columns of a second on a road; sample 7 is saturated, every third has no new magnetic sample, 10 has its overflow bit."""
    rng = np.random.default_rng(1)
    times = FIRST_NS + np.arange(count) * 9_778_000 + (np.arange(count) > 50) * 1234
    raw = np.zeros((count, 4), np.int16)
    raw[:, 0] = np.cumsum(rng.normal(0, 40, count)).astype(int)
    raw[:, 1] = 500
    raw[:, 2] = 200 + raw[:, 0] // 8
    raw[:, 3] = 1
    raw[::3, 3] = 0
    raw[10, 3] = 0x0801
    raw[7, 0] = 32767
    return times, raw


def item(utc_ns: int = UTC_NS) -> ET.Element:
    """As it comes over the wire."""
    times, raw = second()
    told = Packed("0123abcd-89ab4567", 1234, utc_ns, "gnss" if utc_ns else "none", 0.301, columns_id(COLUMNS),
                  block.live([block.encode(7, times[:51], raw[:51]), block.encode(7, times[51:], raw[51:])]))  # fmt: skip
    return ET.fromstring(ET.tostring(packed_document(told)))


def test_what_was_packed_comes_back_with_times_and_si_values() -> None:
    found = read_packed(item())
    assert (found.boot, found.number, found.utc_ns, found.utc_source, found.utc_error_s) == (
        "0123abcd-89ab4567",
        1234,
        UTC_NS,
        "gnss",
        0.301,
    )
    got = samples(found, read_columns(packed_device("truck-1_packed", COLUMNS)))
    times, raw = second()
    assert (got.boottime_ns == times).all() and got.utc_ns is not None and (got.utc_ns == UTC_NS + times - FIRST_NS).all()
    values, reasons = got.values["acceleration_x"]
    assert np.isnan(values[7]) and block.REASONS[reasons[7]] == "saturated"
    assert np.allclose(values[8:], raw[8:, 0] * 9.80665 / 4096)
    assert [block.REASONS[code] for code in got.values["magnetic_field_x"][1][9:12]] == ["no new sample", "saturated", ""]


def test_without_clock_the_item_says_so_and_has_boot_times_alone() -> None:
    found = read_packed(item(utc_ns=0))
    assert (found.utc_ns, found.utc_source) == (0, "none")
    assert samples(found, COLUMNS).utc_ns is None


def test_a_block_is_never_read_by_the_description_of_other_columns() -> None:
    with pytest.raises(BadPacked, match="described are columns"):
        samples(read_packed(item()), COLUMNS.replace("294.15", "294.16"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("number", "12"),
        ("number", "0123abcd-89ab4567-"),
        ("clock", "gnss much"),
        ("clock", "gnss"),
        ("block", "not base64!"),
        ("block", ""),
    ],
)
def test_an_item_that_is_none_is_said_to_be(value: str, text: str) -> None:
    element = item()
    for told in element:
        if told.get("id") == value:
            told.set("typedValue", text)
    with pytest.raises(BadPacked):
        samples(read_packed(element), COLUMNS)
    with pytest.raises(BadPacked):
        read_packed(ET.fromstring("<data/>"))


SENSELESS = ({"scale": "1"}, {"status": 9}, {"status": 0, "mask": 1 << 70}, {"lowest": "x"}, {"offset": []}, {"status": "x"})


@pytest.mark.parametrize(
    "columns",
    ["", "5", "[5, 5, 5, 5]", '[{"id": "x"}]', "[{}, {}, {}, {}]"]
    + [json.dumps([{"id": "x", "scale": 1.0, **wrong}] * 4) for wrong in SENSELESS],
)
def test_a_description_that_makes_no_sense_is_said_to_and_ends_nothing(columns: str) -> None:
    with pytest.raises(BadPacked):
        samples(read_packed(item())._replace(columns_id=columns_id(columns)), columns)


def test_a_second_of_a_road_takes_less_than_a_kilobyte_and_a_half() -> None:
    rng = np.random.default_rng(2)
    raw = np.clip(rng.normal(0, 60, (102, 11)), -32768, 32767).astype(np.int16)
    raw[:, 6], raw[:, 10] = 500, 1
    text = block.live([block.encode(7, FIRST_NS + np.arange(102) * 9_778_000, raw)])
    told = Packed("0123abcd-89ab4567", 123456, UTC_NS, "gnss", 0.301, "01234567", text)
    assert len(ET.tostring(packed_document(told))) < len(text) + 480


# --- from here on what docs/formats.md says in sections 3 and 5, and nothing of ours


def test_a_stranger_reads_the_item_with_the_document_alone() -> None:
    meta, data = ET.tostring(packed_device("truck-1_packed", COLUMNS)), ET.tostring(item())
    sox = "{http://jabber.org/protocol/sox}"
    values = {value.attrib["id"]: value.attrib for value in ET.fromstring(data).findall(f"{sox}transducerValue")}
    (description,) = [found.attrib["value"] for found in ET.fromstring(meta).findall(f"{sox}property") if found.attrib["name"] == "columns"]
    assert f"{zlib.crc32(description.encode('utf-8')):08x}" == values["columns"]["typedValue"]
    boot, random, number = values["number"]["typedValue"].split("-")
    assert (boot, random, int(number)) == ("0123abcd", "89ab4567", 1234)
    assert values["clock"]["typedValue"].split() == ["gnss", "0.301"]
    began = datetime.strptime(values["block"]["timestamp"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    times, columns = stranger(base64.b64decode(values["block"]["typedValue"], validate=True))

    true_times, raw = second()
    assert [time - times[0] for time in times] == (true_times - FIRST_NS).tolist() and times[0] == FIRST_NS
    assert (began.timestamp() - UTC_NS / 1e9) ** 2 < 1e-11
    assert columns == raw.T.tolist()
    usual = {"offset": 0, "lowest": -32768, "highest": 32767, "status": None, "mask": 0, "value": 0}
    ours = samples(read_packed(item()), COLUMNS)
    for column, told in zip(columns, json.loads(description), strict=True):
        one = usual | told
        for i, value in enumerate(column):
            flags = (columns[one["status"]][i] & 0xFFFF & one["mask"]) if one["status"] is not None else one["value"]
            good = one["lowest"] <= value <= one["highest"] and flags == one["value"]
            expected = value * one["scale"] + one["offset"] if good else float("nan")
            assert ours.values[one["id"]][0][i] == pytest.approx(expected, nan_ok=True)


class Bits:
    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "big"), len(data) * 8

    def take(self, count: int) -> int:
        self.left -= count
        assert self.left >= 0
        return self.value >> self.left & (1 << count) - 1

    def long(self, width: int) -> int:
        return self.take(self.take(width))

    def quotient(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
        return zeros


def unzigzag(z: int) -> int:
    return z >> 1 if z % 2 == 0 else -(z + 1 >> 1)


def wrapped(value: int) -> int:
    return (value + 0x8000) % 0x10000 - 0x8000


def stranger(data: bytes) -> tuple[list[int], list[list[int]]]:
    mark, version, width, n, _, first = struct.unpack("<2sBBHIQ", data[:18])
    assert (mark, version) == (b"CB", 2)
    bits, headers = Bits(data[18:]), []
    for index in range(width + 1):
        of_times = index == 0
        length = 6 if of_times else 5
        h = {"step": bits.take(40), "phase": bits.take(8)} if of_times else {}
        h |= {"order": bits.take(1), "base": unzigzag(bits.long(length)), "seldom": bits.take(1), "changes": -1, "distance": 0, "gain": 0}
        if h["seldom"]:
            h["changes"] = bits.long(length)
        elif not of_times and bits.take(1):
            h["distance"] = bits.take(4)
            gain = bits.take(6)
            h["gain"] = gain - 64 if gain >= 32 else gain
        h["k"] = bits.take(5 if of_times else 4) if h["changes"] else 0
        headers.append(h)
    quotients = []
    for h in headers:
        plain = n - h["order"] if not h["seldom"] else h["changes"]
        quotients.append(([bits.quotient() for _ in range(plain)], [bits.quotient() for _ in range(h["changes"] if h["seldom"] else 0)]))
    differences = []
    for h, (runs, amounts) in zip(headers, quotients, strict=True):
        numbers = [q << h["k"] | bits.take(h["k"]) for q in runs]
        if h["seldom"]:
            spread = []
            for zeros, w in zip(numbers, amounts, strict=True):
                spread += [0] * zeros + [1 << w | bits.take(w)]
            numbers = spread + [0] * (n - h["order"] - len(spread))
        differences.append([unzigzag(z) for z in numbers])
    assert bits.take(bits.left) == 0

    def series(h: dict[str, int], d: list[int], before: list[int]) -> list[int]:
        def share(i: int) -> int:
            if not h["distance"]:
                return 0
            moved = wrapped(before[i] - before[i - 1 if h["order"] else 0])
            return h["gain"] * moved + 8 >> 4

        values = [h["base"]] if h["order"] else []
        while len(values) < n:
            i = len(values)
            values.append(values[-1] + share(i) + d[i - 1] if h["order"] else h["base"] + share(i) + d[i])
        return values

    line = series(headers[0], differences[0], [])
    times = [first + (v + (headers[0]["step"] * i + headers[0]["phase"] >> 8)) % 2**32 for i, v in enumerate(line)]
    columns: list[list[int]] = []
    for h, d in zip(headers[1:], differences[1:], strict=True):
        before = columns[len(columns) - h["distance"]] if h["distance"] else []
        columns.append([wrapped(value) for value in series(h, d, before)])
    return times, columns
