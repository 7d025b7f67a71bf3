"""Where pictures were taken: between the fix before and the fix behind, of the same boot, as logbook/export_images.py has it. Nowhere
where fixes are more than APART_NS apart, or one of the two was none. What readings segments say is remembered for the pictures to come."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from center.tables_books import APART_NS
from center.tables_rows import Decoded

REMEMBERED = 1000  # segments of readings, some 3 kB each

Floats = npt.NDArray[np.float64]


class Fixes(NamedTuple):
    """Positions by boot time [n]; latitude is NaN where there was no fix, altitude where the fix had none."""

    times: npt.NDArray[np.int64]
    latitude: Floats
    longitude: Floats
    altitude: Floats


NONE = Fixes(np.empty(0, np.int64), np.empty(0), np.empty(0), np.empty(0))


class Places:
    """Fixes of segments, read by `read` where they are not remembered."""

    def __init__(self, read: Callable[[str], Decoded]) -> None:
        self._read = read
        self._known: OrderedDict[str, Fixes] = OrderedDict()

    def learn(self, decoded: Decoded) -> Fixes:
        """The fixes in a segment of readings."""
        parts = [part.rows for part in decoded.parts if part.table == "position"]
        fixes = self._known[decoded.segment_id] = _joined([_fixes(rows) for rows in parts])
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return fixes

    def of(self, segment_ids: Sequence[str]) -> Fixes:
        """All fixes of these segments, by time."""
        return _joined([self._known[one] if one in self._known else self.learn(self._read(one)) for one in segment_ids])


def placed(rows: pa.RecordBatch, fixes: Fixes) -> pa.RecordBatch:
    """Rows of pictures with their places."""
    latitude, longitude, altitude = between(fixes, rows.column("boottime_ns").to_numpy())
    for name, values in (("latitude", latitude), ("longitude", longitude), ("altitude", altitude)):
        index = rows.schema.get_field_index(name)
        rows = rows.set_column(index, rows.schema.field(index), pa.array(values, mask=np.isnan(values)))
    return rows


def between(fixes: Fixes, times: npt.NDArray[np.int64]) -> tuple[Floats, Floats, Floats]:
    """Latitude and longitude in degrees and altitude in m at boot times [n], NaN where nobody knows."""
    if len(fixes.times) < 2:
        nowhere = np.full(len(times), np.nan)
        return nowhere, nowhere, nowhere
    behind = np.clip(np.searchsorted(fixes.times, times), 1, len(fixes.times) - 1)
    before = behind - 1
    span = fixes.times[behind] - fixes.times[before]
    share = (times - fixes.times[before]) / np.maximum(span, 1)
    share[(span <= 0) | (span > APART_NS) | (share < 0) | (share > 1)] = np.nan
    east = (fixes.longitude[behind] - fixes.longitude[before] + 180) % 360 - 180  # the shorter way
    longitude = (fixes.longitude[before] + east * share + 180) % 360 - 180
    latitude = fixes.latitude[before] + (fixes.latitude[behind] - fixes.latitude[before]) * share
    altitude = fixes.altitude[before] + (fixes.altitude[behind] - fixes.altitude[before]) * share
    return latitude, longitude, altitude


def _fixes(rows: pa.RecordBatch) -> Fixes:
    def numbers(name: str) -> Floats:
        return np.asarray(rows.column(name).to_numpy(zero_copy_only=False), np.float64)

    latitude, longitude = numbers("latitude"), numbers("longitude")
    known = rows.column("valid").to_numpy(zero_copy_only=False) & ~np.isnan(latitude) & ~np.isnan(longitude)
    return Fixes(
        rows.column("boottime_ns").to_numpy(), np.where(known, latitude, np.nan), np.where(known, longitude, np.nan), numbers("altitude")
    )


def _joined(parts: Sequence[Fixes]) -> Fixes:
    if not parts:
        return NONE
    times, *values = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(times, kind="stable")
    return Fixes(times[order], *(column[order] for column in values))
