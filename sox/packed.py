"""A second of the IMU on `<truck>_packed_data` (docs/formats.md 5): one column block in base64, ~1.3 kB where per-sample XML takes 65 kB.

How to read the columns is said once, in the meta node; each item names that description by its CRC-32, so that a reader never types
numbers by the description of another range. A reader that comes later finds both retained.

An item may be lost (the node keeps one, a slow link leaves seconds out); the numbers show it. Everything is in the segments too."""

import re
import zlib
from typing import NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt

from logbook import block
from sox.documents import NAMESPACE, DocumentError, device_document, parse_data, parse_xep0082
from sox.fields import document

VALUES = ("block", "number", "clock", "columns")
COLUMNS = "columns"  # the property of the meta document

_NUMBER = re.compile(r"([0-9a-f]{8}-[0-9a-f]{8})-([0-9]{6,12})")
_NO_CLOCK = "none"


class BadPacked(ValueError):
    """An item of a packed node that cannot be read; the text says why."""


class Packed(NamedTuple):
    """One item. `boot`: folder of the recorder; `number`: 1, 2, 3 … of it. `utc_ns`: of the first sample, ± `utc_error_s`, by
    `utc_source`; 0 and `none` where the truck had no clock. `block`: base64; `columns_id`: which description it is read by."""

    boot: str
    number: int
    utc_ns: int
    utc_source: str
    utc_error_s: float
    columns_id: str
    block: str


class Samples(NamedTuple):
    """The samples of one item: CLOCK_BOOTTIME and UTC [n] in ns (UTC None without clock); by column SI values (NaN where there is none) and
    why there is none (codes of block.REASONS)."""

    head_boot: int
    boottime_ns: npt.NDArray[np.uint64]
    utc_ns: npt.NDArray[np.int64] | None
    values: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8]]]


def columns_id(columns: str) -> str:
    """The name of a columns description: CRC-32 of its UTF-8, 8 hex digits."""
    return f"{zlib.crc32(columns.encode()):08x}"


def packed_device(device: str, columns: str) -> ET.Element:
    """The meta document, with the description of the columns as a property."""
    root = device_document(device, list(VALUES))
    root.append(ET.Element(f"{{{NAMESPACE}}}property", {"name": COLUMNS, "value": columns}))
    return root


def read_columns(element: ET.Element) -> str:
    """The description of the columns in a meta document; raises BadPacked."""
    for found in element.iter():
        attributes = {key.lower(): value for key, value in found.attrib.items()}
        if str(found.tag).rpartition("}")[2].lower() == "property" and attributes.get("name") == COLUMNS:
            return attributes.get("value", "")
    raise BadPacked("the meta document has no property `columns`")


def packed_document(packed: Packed) -> ET.Element:
    """The item; its time is that of the first sample, 1970 without clock."""
    clock = f"{packed.utc_source} {packed.utc_error_s:.3g}" if packed.utc_ns else _NO_CLOCK
    values = (packed.block, f"{packed.boot}-{packed.number:06d}", clock, packed.columns_id)
    return document(dict(zip(VALUES, values, strict=True)), packed.utc_ns)


def read_packed(element: ET.Element) -> Packed:
    """The item without its block decoded: cheap enough for every item of a fleet. Raises BadPacked."""
    try:
        found = {value.id: value for value in parse_data(element)}
        texts = {name: found[name].typed or "" for name in VALUES}
    except DocumentError as error:
        raise BadPacked(f"no SoX document: {error}") from error
    except KeyError as error:
        raise BadPacked(f"no value {error}") from error
    name = _NUMBER.fullmatch(texts["number"])
    if name is None:
        raise BadPacked(f"number is {texts['number'][:50]!r}")
    source, _, error_s = texts["clock"].partition(" ")
    try:
        known = source != _NO_CLOCK
        utc_ns, uncertain = (parse_xep0082(found["block"].timestamp), float(error_s)) if known else (0, float("inf"))
    except ValueError as error:
        raise BadPacked(f"clock: {error}") from error
    return Packed(name[1], int(name[2]), utc_ns, source, uncertain, texts["columns"], texts["block"])


def samples(packed: Packed, columns: str) -> Samples:
    """The samples of an item, typed by the `columns` of the meta document. Raises BadPacked: also if that describes other columns."""
    if columns_id(columns) != packed.columns_id:
        raise BadPacked(f"described are columns {columns_id(columns)}, the block has {packed.columns_id}")
    try:
        head_boot, times, raw = block.decode(block.from_live(packed.block))
        values = block.typed(columns, raw)
    except (block.BlockError, ValueError, LookupError, TypeError, ArithmeticError) as error:  # the last four: of a wrong description
        raise BadPacked(f"block: {error}") from error
    utc = (times - times[0]).astype(np.int64) + packed.utc_ns if packed.utc_ns else None
    return Samples(head_boot, times, utc, values)
