"""docs/formats.md against the code: its tables, and two decoders written from the document alone."""

import ast
import importlib
import json
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from firmware import frames
from logbook import block, channels, reader
from logbook.recovery import recover
from logbook.segment_writer import Entry, Identity, SegmentWriter

pytestmark = pytest.mark.timeout(60)

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "formats.md").read_text()


def section(number: int) -> str:
    return re.split(r"^## \d+\. ", TEXT, flags=re.M)[number]


def rows(number: int, first_heading: str) -> list[list[str]]:
    """The cells of the table of a section whose first heading is `first_heading`, without the two heading lines."""
    lines = iter(section(number).splitlines())
    for line in lines:
        if line.startswith(f"| {first_heading} |"):
            break
    next(lines)
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split(" | ")])
    assert found, first_heading
    return found


def numbered(word: str) -> dict[int, str]:
    """The list `word: 0 this, 1 that, …` of section 1, without what stands in parentheses."""
    text = re.search(rf"{word}: (.*?)\.(?: |\n)", section(1).replace("\n", " "))
    assert text is not None
    pairs = re.findall(r"(\d+) ([^,]+)", re.sub(r"\([^)]*\)", "", text[1]))
    return {int(number): " ".join(name.split()) for number, name in pairs}


def test_the_frame_types_are_those_of_the_head() -> None:
    for number, name, way, *_ in rows(1, "type"):
        constant = "HELLO_REQUEST" if name == "HELLO?" else name
        assert getattr(frames, constant) == int(number, 16)
        assert (int(number, 16) >= 0x80) == way.startswith("→")
    listed = {int(number, 16) for number, *_ in rows(1, "type")}
    known = {frames.HELLO, frames.TRIM, frames.PONG, frames.SAMPLE, frames.STATE, frames.GAP, frames.HEALTH}
    assert listed == known | {frames.HELLO_REQUEST, frames.ACK, frames.PING, frames.MAINTENANCE}


def test_the_limits_of_a_frame_are_those_of_the_head() -> None:
    text = " ".join(section(1).split())
    assert f"at most {frames.ENCODED_MAX} bytes with its delimiter" in text
    assert f"a body is at most {frames.BODY_MAX} bytes and a payload at most {frames.PAYLOAD_MAX}" in text
    assert f"(header {frames.HEADER_SIZE} bytes)" in text


def test_sensors_states_and_reasons_have_the_numbers_of_the_head() -> None:
    assert numbered("Sensors") == {**frames.SENSORS, 0: "the head itself"}
    assert numbered("States") == dict(enumerate(frames.STATES))
    assert numbered("Reasons") == dict(enumerate(frames.REASONS))


def test_raw_and_trim_sizes_are_those_of_the_drivers() -> None:
    table = {sensor: int(size) for sensor, _, size in rows(1, "sensor")}
    assert set(table) == set(frames.SENSORS.values())
    trims = section(1)[section(1).index("Trim: ") :]
    for sensor, size in table.items():
        driver = importlib.import_module(f"drivers.{sensor}")
        assert size == driver.RAW_SIZE, sensor
        said = re.search(rf"{sensor} = [^;]*?(\d+) bytes?\b", trims.replace("\n", " "))
        assert said is not None and int(said[1]) == driver.TRIM_SIZE, sensor


def test_the_channels_of_readings_are_those_that_are_written() -> None:
    written = {kind.topic: (kind.encoding, kind.schema) for kind in channels.channel_types(channels.READINGS)}
    listed = {}
    for topics, encoding, message in rows(2, "topic"):
        named = re.match(r"`((?:cruisers|foxglove)\.\w+)`", message)
        for topic in re.findall(r"`(/[^`]*)`", topics):
            listed[topic] = (encoding.strip("`"), named[1] if named else "")
    assert listed == written


def test_every_field_of_the_uplinks_status_is_in_its_table() -> None:
    table = " ".join(row[0] + row[1] for row in rows(6, "field"))
    told = set(re.findall(r"`(\w+)`", table))
    for name, function in (("uplink", "_status"), ("uplink_sender", "status"), ("uplink_bulk", "status")):
        tree = ast.parse((ROOT / "gateway" / f"{name}.py").read_text())
        (found,) = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function]
        returned = [node.value for node in ast.walk(found) if isinstance(node, ast.Return)]
        keys = {key.value for value in returned if isinstance(value, ast.Dict) for key in value.keys if isinstance(key, ast.Constant)}
        assert keys and keys <= told, f"{name}: {keys - told}"


# --- from here on only what sections 2 and 3 say: struct, zlib and zstd, nothing of logbook


def block_from_the_document(data: bytes) -> tuple[int, list[int], list[list[int]]]:
    magic, version, width, n, head_boot, first = struct.unpack_from("<2sBBHIQ", data)
    assert magic == b"CB"
    times, columns = (version_1 if version == 1 else version_2)(data[18:], width, n)
    return head_boot, [first + time for time in times], columns


def version_1(data: bytes, width: int, n: int) -> tuple[list[int], list[list[int]]]:
    assert len(data) == n * (4 + 2 * width)
    position = 0

    def series(w: int) -> list[int]:
        nonlocal position
        planes = [data[position + plane * n : position + (plane + 1) * n] for plane in range(w // 8)]
        position += n * w // 8
        values, value = [], 0
        for i in range(n):
            zigzag = sum(planes[plane][i] << 8 * plane for plane in range(w // 8))
            value = (value + ((zigzag >> 1) ^ -(zigzag & 1))) % 2**w
            values.append(value)
        return values

    return series(32), [[signed(value) for value in series(16)] for _ in range(width)]


def signed(value: int) -> int:
    value %= 2**16
    return value - 2**16 if value >= 2**15 else value


def version_2(data: bytes, width: int, n: int) -> tuple[list[int], list[list[int]]]:
    text = "".join(f"{byte:08b}" for byte in data)

    def number(bits: int) -> int:
        nonlocal text
        assert len(text) >= bits
        value, text = int(text[:bits] or "0", 2), text[bits:]
        return value

    def long(bits: int) -> int:
        return number(number(bits))

    def unzigzag(z: int) -> int:
        return -(z + 1) // 2 if z % 2 else z // 2

    def header(of_times: bool) -> dict[str, int]:
        length = 6 if of_times else 5
        found = {"order": number(1), "base": unzigzag(long(length)), "seldom": number(1), "changes": -1, "distance": 0, "gain": 0, "k": 0}
        if found["seldom"]:
            found["changes"] = long(length)
        elif not of_times and number(1):
            found["distance"], found["gain"] = number(4), number(6)
            found["gain"] -= 64 if found["gain"] >= 32 else 0
        if found["changes"]:
            found["k"] = number(5 if of_times else 4)
        return found

    step, phase = number(40), number(8)
    headers = [header(of_times=column == 0) for column in range(width + 1)]
    plain = [one["changes"] if one["seldom"] else n - one["order"] for one in headers]  # numbers of k bits
    lengths = [one["changes"] if one["seldom"] else 0 for one in headers]  # numbers that tell their own bits
    quotients: list[list[int]] = []
    for counts in zip(plain, lengths, strict=True):
        quotients.append([])
        for _ in range(sum(counts)):
            quotients[-1].append(text.index("1"))
            text = text[text.index("1") + 1 :]
    series: list[list[int]] = []
    for one, first, found in zip(headers, plain, quotients, strict=True):
        numbers = [q * 2 ** one["k"] + number(one["k"]) for q in found[:first]] + [2**w + number(w) for w in found[first:]]
        if one["seldom"]:
            zeros, amounts = numbers[:first], numbers[first:]
            numbers = [z for before, amount in zip(zeros, amounts, strict=True) for z in [0] * before + [amount]]
            numbers += [0] * (n - one["order"] - len(numbers))
        d = [0] * one["order"] + [unzigzag(z) for z in numbers]
        assert len(d) == n
        other = series[-one["distance"]] if one["distance"] else [0] * n
        values = [one["base"]]
        for i in range(n):
            m = signed(other[i] - other[i - 1 if one["order"] and i else 0])
            share = (one["gain"] * m + 8) >> 4 if one["distance"] else 0
            if one["order"] == 0:
                values[i:] = [one["base"] + share + d[i]]
            elif i:
                values.append(values[i - 1] + share + d[i])
        series.append(values if one is headers[0] else [signed(value) for value in values])
    assert len(text) < 8 and not text.strip("0")
    times = [(value + ((step * i + phase) >> 8)) % 2**32 for i, value in enumerate(series[0])]
    return times, series[1:]


def text_at(data: bytes, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", data, position)
    return data[position + 4 : position + 4 + length].decode(), position + 4 + length


def map_at(data: bytes, position: int) -> dict[str, str]:
    (length,) = struct.unpack_from("<I", data, position)
    found, end = {}, position + 4 + length
    position += 4
    while position < end:
        key, position = text_at(data, position)
        found[key], position = text_at(data, position)
    return found


def records_from_the_document(data: bytes, position: int) -> Iterator[tuple[int, int, bytes]]:
    while position < len(data) and data[position:] != b"\x89MCAP0\r\n":
        opcode, length = struct.unpack_from("<BQ", data, position)
        yield position, opcode, data[position + 9 : position + 9 + length]
        position += 9 + length


def segment_from_the_document(data: bytes) -> dict[str, Any]:
    """Metadata by name, messages as (topic, encoding, schema, sequence, log_time, publish_time, data), numbers of the chunks, scars."""
    assert data[:8] == b"\x89MCAP0\r\n" == data[-8:]
    found: dict[str, Any] = {"metadata": {}, "messages": [], "chunks": [], "scars": 0}
    schemas, listed, mark = {0: ""}, {}, (0, 0)
    for position, opcode, content in records_from_the_document(data, 8):
        if opcode == 0x01:
            assert text_at(content, 0)[0] == "cruisers"
        elif opcode == 0x03:
            schemas[struct.unpack_from("<H", content)[0]] = text_at(content, 2)[0]
        elif opcode == 0x04:
            number, schema = struct.unpack_from("<HH", content)
            topic, after = text_at(content, 4)
            encoding, after = text_at(content, after)
            listed[number] = topic, encoding, schemas[schema], map_at(content, after)
        elif opcode == 0x0C:
            name, after = text_at(content, 0)
            found["metadata"][name] = map_at(content, after)
            if name == "head":
                assert found["metadata"]["head"] == {"crc32": f"{zlib.crc32(data[:position]):08x}"}
        elif opcode == 0x80:
            text, sequence, offset, length, crc = struct.unpack("<4sIQQI", content)
            behind = data[position + 37 : position + 37 + length]
            assert (text, offset, len(content)) == (b"CRMK", position, 28)
            assert crc == zlib.crc32(data[position : position + 33] + behind) != 0
            mark = sequence, position + 37
        elif opcode == 0x81:
            text, offset, crc = struct.unpack_from("<4sQI", content)
            assert (text, offset, crc) == (b"CRSC", position, zlib.crc32(data[position : position + 21]))
            found["scars"] += 1
        elif opcode == 0x06:
            assert mark[1] == position
            found["chunks"].append(mark[0])
            first, last, size, crc = struct.unpack_from("<QQQI", content)
            compression, after = text_at(content, 28)
            inside = content[after + 8 :]
            inside = zstandard.ZstdDecompressor().decompress(inside) if compression == "zstd" else inside
            assert (len(inside), zlib.crc32(inside)) == (size, crc) and crc
            times = []
            for _, kind, message in records_from_the_document(inside, 0):
                if kind == 0x05:
                    channel, sequence, log_time, publish_time = struct.unpack_from("<HIQQ", message)
                    found["messages"].append((*listed[channel][:3], sequence, log_time, publish_time, message[22:]))
                    times.append(log_time)
            assert (min(times), max(times)) == (first, last)
        elif opcode == 0x0F:
            assert struct.unpack("<I", content)[0] == zlib.crc32(data[:position]) != 0
            break
    found["columns"] = {topic: json.loads(metadata["columns"]) for topic, _, _, metadata in listed.values() if "columns" in metadata}
    return found


def test_a_stranger_decodes_what_a_block_makes_of_a_road_with_the_document_alone() -> None:
    # As a truck has it: noise on related axes, what drifts, what seldom changes, times on a line that moved once.
    dice = np.random.default_rng(2)
    noise = dice.normal(0, 300, (54, 3))
    still = np.where(np.arange(54)[:, None] < [20, 30, 54], 7, 9)
    columns = np.concatenate([noise, noise * [0.5, -1.5, 0.1] + 4000, np.cumsum(dice.integers(-9, 10, (54, 2)), axis=0), still], axis=1)
    times = np.arange(54, dtype=np.uint64) * 9_785_870 + np.where(np.arange(54) < 25, 0, 53_211).astype(np.uint64) + np.uint64(2**50)
    data = block.encode(5, times, columns.astype(np.int16))
    assert block_from_the_document(data) == (5, times.tolist(), columns.astype(np.int16).T.tolist())


def test_a_stranger_decodes_a_column_block_with_the_document_alone() -> None:
    dice = np.random.default_rng(1)
    times = np.sort(dice.integers(0, 4_000_000_000, 51)).astype(np.uint64) + np.uint64(2**40)
    columns = dice.integers(-32768, 32768, (51, 10)).astype(np.int16)
    columns[0] = [-32768, 32767, -1, 0, 1, 5, -5, 100, -100, 0x0801]
    head_boot, found_times, found = block_from_the_document(block.encode(77, times, columns))
    assert head_boot == 77
    assert found_times == times.tolist()
    assert found == columns.T.tolist()


def test_a_stranger_reads_a_block_of_version_1_with_the_document_alone() -> None:
    found = segment_from_the_document((ROOT / "tests" / "logbook" / "golden" / "block-1" / "000001-readings.mcap").read_bytes())
    head_boot, times, columns = block_from_the_document(found["messages"][0][-1])
    ours = block.decode(found["messages"][0][-1])
    assert found["messages"][0][-1][2] == 1 and (head_boot, times) == (ours[0], ours[1].tolist()) and columns == ours[2].T.tolist()


@pytest.mark.parametrize("stream", channels.STREAMS)
def test_a_stranger_reads_a_sealed_segment_with_the_document_alone(stream: str) -> None:
    path = ROOT / "tests" / "logbook" / "golden" / f"000001-{stream}.mcap"
    found = segment_from_the_document(path.read_bytes())
    segment = found["metadata"]["segment"]
    assert set(segment) == {"segment_id", "truck", "stream", "boot_id", "format"} and segment["format"] == "1"
    assert segment["segment_id"] == f"golden-1-89abcdef-01234567-000001-{stream}"
    assert found["chunks"] == [1, 2]
    ours = [(m.topic, m.sequence, m.log_time, m.publish_time, m.data) for m in reader.read(path)]
    assert [(topic, *rest) for topic, _, _, *rest in found["messages"]] == ours
    if stream == channels.READINGS:
        frames_told = dict(found["metadata"]["head_frames"])
        crc = frames_told.pop("crc32")
        lines = "".join(f"{boot} {frames_told[boot]}\n" for boot in sorted(frames_told, key=int))
        assert crc == f"{zlib.crc32(lines.encode()):08x}" and frames_told == {"5": "9"}
        topic, encoding, schema, *_, data = found["messages"][0]
        assert (topic, encoding, schema) == ("/imu/block", "cruisers-block", "")
        _, _, columns = block_from_the_document(data)
        described = found["columns"]["/imu/block"]
        assert columns[1][0] * described[1]["scale"] == -500.0


def test_a_stranger_reads_what_recovery_left_with_the_document_alone(tmp_path: Path) -> None:
    types = channels.channel_types(channels.READINGS)
    identity = Identity("t-89abcdef-01234567-000001-readings", "t", "readings", "89abcdef-")
    writer = SegmentWriter.create(tmp_path / "000001-readings.mcap", identity, types, {})
    ends = [writer.size]
    for number in range(4):
        writer.append([Entry("/event", 10 + number, 0, b"")])
        ends.append(writer.size)
    writer.close()
    data = bytearray(writer.open_path.read_bytes() + b"torn")
    data[ends[1] + 60] ^= 1
    writer.open_path.write_bytes(data)
    report = recover(writer.open_path)
    found = segment_from_the_document(report.path.read_bytes())
    assert found["chunks"] == [1, 3, 4, 5] and found["scars"] == 1
    assert [message[3] for message in found["messages"] if message[0] == "/event"] == [1, 3, 4]
    assert set(found["metadata"]["recovered"]) == {"reason", "kept_chunks", "damaged_chunks", "cut_bytes"}
    damaged, ended = report.gaps
    assert (damaged.source, damaged.reason, damaged.count) == ("readings", "damaged chunk", 1)
    assert (damaged.from_boottime_ns, damaged.to_boottime_ns) == (10, 12)
    assert ended.reason == "writer ended without sealing: torn tail, 4 bytes cut" and ended.to_boottime_ns == 0
    for reason in ("damaged chunk", "damaged mark", "chunk without sense", "torn tail, N bytes cut"):
        assert reason in section(2)
