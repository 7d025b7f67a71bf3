"""The column block (docs/formats.md 3): many samples of one sensor as raw int16 columns, as small as they get without loss.

    "CB" · version u8 · columns u8 · samples u16 · head_boot u32 · first_boottime_ns u64 · times and columns        (little endian)

Version 2, which is written, holds times and columns as logbook/series.py tells them, bit by bit. Version 1, which is still read, left the
packing to the zstd of its chunk: differences, zigzagged and byte shuffled. Per-sample messages made the IMU larger than its raw rows;
nine axes of the recorded drive take 1.5 times less than these in version 1, 2.5 times less in version 2 (0.5 s a block).

Values are typed on read: typed = raw * scale + offset, unless saturated or not a new sample. How, the channel's metadata `columns` says.
"""

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from logbook import series

MAGIC = b"CB"
VERSION = 2
_HEAD = struct.Struct("<2sBBHIQ")
MAX_SAMPLES = 0xFFFF
MAX_COLUMNS = 0xFF
MAX_SPAN_NS = 0xFFFF_FFFF  # 4.29 s: a block is one commit (0.5 s), with room for a stalled disk

# Why a typed value is NaN: codes of the status arrays that `typed` returns; REASONS[code] is the text used everywhere else.
OK = 0
SATURATED = 1
NO_NEW_SAMPLE = 2
REASONS = ("", "saturated", "no new sample")


# What a column is where its description does not say (docs/formats.md 3).
_USUAL: dict[str, Any] = {"offset": 0.0, "lowest": -32768, "highest": 32767, "status": None, "mask": 0, "value": 0}


class BlockError(ValueError):
    """The bytes are no column block of a known version, or the samples do not fit into one."""


def encode(head_boot: int, times_ns: npt.ArrayLike, columns: npt.ArrayLike) -> bytes:
    """One block: `times_ns` CLOCK_BOOTTIME of each sample [n] (the first is the earliest), `columns` raw values int16 [n, k].

    Raises BlockError if n is 0 or above 65535, k above 255, the times span more than 4.29 s or a value is no int16."""
    times = np.asarray(times_ns)
    table = np.asarray(columns)
    if times.ndim != 1 or table.ndim != 2 or len(times) != len(table):
        raise BlockError(f"times [n] and columns [n, k] needed, not {times.shape} and {table.shape}")
    samples, width = table.shape
    if not 1 <= samples <= MAX_SAMPLES or width > MAX_COLUMNS:
        raise BlockError(f"a block holds 1 to {MAX_SAMPLES} samples and at most {MAX_COLUMNS} columns, not {samples} and {width}")
    if not (np.issubdtype(times.dtype, np.integer) and np.issubdtype(table.dtype, np.integer)):
        raise BlockError(f"integers needed, not {times.dtype} and {table.dtype}")
    if table.dtype != np.int16 and table.size and not (table.min() >= -32768 and table.max() <= 32767):
        raise BlockError("a value is outside int16")
    first, last = int(times.min()), int(times.max())
    if first < 0 or first != int(times[0]) or last - first > MAX_SPAN_NS:
        raise BlockError(f"times must start with the earliest and span at most {MAX_SPAN_NS} ns")
    offsets = (times.astype(np.uint64) - np.uint64(first)).astype(np.int64)
    head = _HEAD.pack(MAGIC, VERSION, width, samples, head_boot, first)
    return head + series.pack(offsets, table.astype(np.int16))


def decode(data: bytes) -> tuple[int, npt.NDArray[np.uint64], npt.NDArray[np.int16]]:
    """(head_boot, times_ns uint64 [n], columns int16 [n, k]) of a block of any version; raises BlockError."""
    if len(data) < _HEAD.size:
        raise BlockError(f"a block has at least {_HEAD.size} bytes, not {len(data)}")
    magic, version, width, samples, head_boot, first = _HEAD.unpack_from(data)
    if magic != MAGIC or version not in (1, VERSION):
        raise BlockError(f"no column block of version 1 or {VERSION}")
    if samples == 0:
        raise BlockError("a block without samples")
    offsets, columns = _decode_1(data, samples, width) if version == 1 else _decode_2(data, samples, width)
    return head_boot, offsets.astype(np.uint64) + np.uint64(first), columns


def live(blocks: Sequence[bytes]) -> str:
    """The samples of `blocks` of one head boot, in their order, as one block in base64: what the live link carries once a second.

    There is no zstd about it, and no dictionary: on the recorded drive both together, trained on other drives, made it no smaller. Raises
    BlockError."""
    parts = [decode(data) for data in blocks]
    if not parts or any(boot != parts[0][0] for boot, _, _ in parts):
        raise BlockError(f"blocks of one head boot needed, not {[boot for boot, _, _ in parts]}")
    if len({columns.shape[1] for _, _, columns in parts}) > 1:
        raise BlockError("blocks of different columns")
    joined = encode(parts[0][0], np.concatenate([times for _, times, _ in parts]), np.concatenate([columns for _, _, columns in parts]))
    return base64.b64encode(joined).decode()


def from_live(text: str) -> bytes:
    """The block in what `live` gave; raises BlockError if it is no base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BlockError(f"no base64: {error}") from error


def describe(columns: Sequence[Mapping[str, Any]]) -> str:
    """The channel's metadata `columns` for such columns: JSON without what is usual, for it stands twice in every file."""
    told = [{key: value for key, value in column.items() if key not in _USUAL or value != _USUAL[key]} for column in columns]
    return json.dumps(told, separators=(",", ":"))


def typed(
    columns_metadata: str | Sequence[Mapping[str, Any]], columns: npt.NDArray[np.int16]
) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]]:
    """id -> (SI values float64 [n], NaN where there is none; reason code uint8 [n], see REASONS).

    `columns_metadata` is the channel's `columns` metadata (its JSON text or the list in it), `columns` what `decode` gave; what a column
    does not say is as usual (docs/formats.md 3). A status bit that is missing means no new sample, one too many (the magnetometer's
    overflow) saturation. Raises BlockError if they do not belong together."""
    table = json.loads(columns_metadata) if isinstance(columns_metadata, str) else columns_metadata
    if len(table) != columns.shape[1]:
        raise BlockError(f"{len(table)} columns are described, {columns.shape[1]} are in the block")
    result = {}
    for index, told in enumerate(table):
        column, raw = {**_USUAL, **told}, columns[:, index]
        status = np.zeros(len(raw), dtype=np.uint8)
        status[(raw < column["lowest"]) | (raw > column["highest"])] = SATURATED
        if column["status"] is not None:
            flags = columns[:, column["status"]].view(np.uint16) & np.uint16(column["mask"])
            status[flags != column["value"]] = SATURATED
            status[flags & np.uint16(column["value"]) != column["value"]] = NO_NEW_SAMPLE
        values = raw.astype(np.float64) * column["scale"] + column["offset"]
        values[status != OK] = np.nan
        result[column["id"]] = (values, status)
    return result


def _decode_2(data: bytes, samples: int, width: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int16]]:
    try:
        return series.unpack(data[_HEAD.size :], samples, width)
    except series.SeriesError as error:
        raise BlockError(str(error)) from error


def _decode_1(data: bytes, samples: int, width: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.int16]]:
    expected = _HEAD.size + samples * (4 + 2 * width)
    if len(data) != expected:
        raise BlockError(f"{samples} samples of {width} columns need {expected} bytes, not {len(data)}")
    columns = np.empty((samples, width), dtype=np.int16)
    position = _HEAD.size + 4 * samples
    for index in range(width):
        columns[:, index] = _unpack(data, position, samples, np.uint16).view(np.int16)
        position += 2 * samples
    return _unpack(data, _HEAD.size, samples, np.uint32), columns


def _unpack(data: bytes, offset: int, samples: int, dtype: type[Any]) -> npt.NDArray[Any]:
    """Version 1: `samples` values at `offset`; differences, zigzagged, byte shuffled, modulo their width."""
    kind = np.dtype(dtype)
    planes = np.frombuffer(data, np.uint8, samples * kind.itemsize, offset).reshape(kind.itemsize, samples)
    zigzag = np.ascontiguousarray(planes.T).view(kind.newbyteorder("<")).reshape(samples).astype(kind)
    differences = (zigzag >> 1) ^ (~(zigzag & 1) + kind.type(1))
    return np.cumsum(differences, dtype=kind)
