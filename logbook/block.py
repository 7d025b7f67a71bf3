"""The column block (docs/formats.md 3): many samples of one sensor as raw int16 columns, stored so that zstd finds what repeats.

    "CB" · version u8 = 1 · columns u8 · samples u16 · head_boot u32 · first_boottime_ns u64 · times · columns        (little endian)

Times (u32, ns after the first) and columns (s16) are each stored as: first value and differences (modulo 2^32, 2^16), all of them
zigzagged (so that small negative differences are small numbers), then byte shuffled (all lowest bytes, then the next, …). Per-sample
messages made the IMU larger than its raw rows; blocks of 0.5 s in zstd chunks hold nine axes in 1.5 times less (facts/measured.md).

Values are typed on read: typed = raw * scale + offset, unless saturated or not a new sample.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

MAGIC = b"CB"
VERSION = 1
_HEAD = struct.Struct("<2sBBHIQ")
MAX_SAMPLES = 0xFFFF
MAX_COLUMNS = 0xFF
MAX_SPAN_NS = 0xFFFF_FFFF  # 4.29 s: a block is one commit (0.5 s), with room for a stalled disk

# Why a typed value is NaN: codes of the status arrays that `typed` returns; REASONS[code] is the text used everywhere else.
OK = 0
SATURATED = 1
NO_NEW_SAMPLE = 2
REASONS = ("", "saturated", "no new sample")


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
    offsets = (times.astype(np.uint64) - np.uint64(first)).astype(np.uint32)
    parts = [_HEAD.pack(MAGIC, VERSION, width, samples, head_boot, first), _pack(offsets)]
    parts.extend(_pack(table[:, index].astype(np.int16).view(np.uint16)) for index in range(width))
    return b"".join(parts)


def decode(data: bytes) -> tuple[int, npt.NDArray[np.uint64], npt.NDArray[np.int16]]:
    """(head_boot, times_ns uint64 [n], columns int16 [n, k]) of a block; raises BlockError."""
    if len(data) < _HEAD.size:
        raise BlockError(f"a block has at least {_HEAD.size} bytes, not {len(data)}")
    magic, version, width, samples, head_boot, first = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        raise BlockError(f"no column block of version {VERSION}")
    expected = _HEAD.size + samples * (4 + 2 * width)
    if samples == 0 or len(data) != expected:
        raise BlockError(f"{samples} samples of {width} columns need {expected} bytes, not {len(data)}")
    offsets = _unpack(data, _HEAD.size, samples, np.uint32)
    columns = np.empty((samples, width), dtype=np.int16)
    position = _HEAD.size + 4 * samples
    for index in range(width):
        columns[:, index] = _unpack(data, position, samples, np.uint16).view(np.int16)
        position += 2 * samples
    return head_boot, offsets.astype(np.uint64) + np.uint64(first), columns


def typed(
    columns_metadata: str | Sequence[Mapping[str, Any]], columns: npt.NDArray[np.int16]
) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]]:
    """id -> (SI values float64 [n], NaN where there is none; reason code uint8 [n], see REASONS).

    `columns_metadata` is the channel's `columns` metadata (its JSON text or the list in it), `columns` what `decode` gave; a column
    without `offset` (files before it existed) has 0. A status bit that is missing means no new sample, one too many (the magnetometer's
    overflow) saturation. Raises BlockError if they do not belong together."""
    table = json.loads(columns_metadata) if isinstance(columns_metadata, str) else columns_metadata
    if len(table) != columns.shape[1]:
        raise BlockError(f"{len(table)} columns are described, {columns.shape[1]} are in the block")
    result = {}
    for index, column in enumerate(table):
        raw = columns[:, index]
        status = np.zeros(len(raw), dtype=np.uint8)
        status[(raw < column["lowest"]) | (raw > column["highest"])] = SATURATED
        if column["status"] is not None:
            flags = columns[:, column["status"]].view(np.uint16) & np.uint16(column["mask"])
            status[flags != column["value"]] = SATURATED
            status[flags & np.uint16(column["value"]) != column["value"]] = NO_NEW_SAMPLE
        values = raw.astype(np.float64) * column["scale"] + column.get("offset", 0.0)
        values[status != OK] = np.nan
        result[column["id"]] = (values, status)
    return result


def _pack(values: npt.NDArray[Any]) -> bytes:
    """First value and differences, zigzagged, byte shuffled; `values` unsigned, arithmetic modulo their width."""
    bits = values.dtype.itemsize * 8
    differences = np.diff(values, prepend=values.dtype.type(0))
    signed = differences.view(np.dtype(f"i{values.dtype.itemsize}"))
    zigzag = (differences << 1) ^ (signed >> (bits - 1)).view(values.dtype)
    return zigzag.astype(zigzag.dtype.newbyteorder("<")).view(np.uint8).reshape(len(values), -1).T.tobytes()


def _unpack(data: bytes, offset: int, samples: int, dtype: type[Any]) -> npt.NDArray[Any]:
    """The inverse of `_pack` for `samples` values at `offset`."""
    kind = np.dtype(dtype)
    planes = np.frombuffer(data, np.uint8, samples * kind.itemsize, offset).reshape(kind.itemsize, samples)
    zigzag = np.ascontiguousarray(planes.T).view(kind.newbyteorder("<")).reshape(samples).astype(kind)
    differences = (zigzag >> 1) ^ (~(zigzag & 1) + kind.type(1))
    return np.cumsum(differences, dtype=kind)
