"""Questions to the archive's tables, in SQL: a DuckDB of this process with a view for each table, and what a city's questions need.

    imu, position, event, gap, health, clock, trim, images, and one of each slow sensor (sps30, bmp390, …)     the Delta tables
    pm2_5, temperature, …      one for each slow quantity: `value` (SI) and `reason`, of whichever `sensor` gave it
    cell(lat, lon)             the cell of about 50 m that a place is in, as text; cell_lat(cell), cell_lon(cell): its middle
    utc_date()                 today's date in UTC, which `date` in all tables is

A view is the table as of when it was opened. Files are left out by `date` and by the least and greatest time, truck and boot in them,
so say `date = …` and `truck = …` in a WHERE. DuckDB reads through Arrow: its own Delta extension would have to be downloaded.
"""

from collections.abc import Sequence
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]

from center.archive import Archive
from center.tables_delta import Delta
from logbook.quantities import TABLE

CELL_M = 50.0
METRES_PER_DEGREE = 111_195.0  # of latitude, on a sphere of 6371 km
APART_S = 10.0  # a reading belongs to the last fix, if that is not older (logbook/export_gpx.py)

# Rows of cells have one height everywhere; within a row cells are as wide as they are high at the row's middle.
MACROS = f"""
CREATE MACRO cell_deg() AS CAST({CELL_M / METRES_PER_DEGREE!r} AS DOUBLE);
CREATE MACRO cell_row(lat) AS CAST(floor(lat / cell_deg()) AS BIGINT);
CREATE MACRO cell_row_lat(line) AS (line + 0.5::DOUBLE) * cell_deg();
CREATE MACRO cell_width(line) AS cell_deg() / greatest(cos(radians(cell_row_lat(line))), 1e-6::DOUBLE);
CREATE MACRO cell(lat, lon) AS cell_row(lat) || ':' || CAST(floor(lon / cell_width(cell_row(lat))) AS BIGINT);
CREATE MACRO cell_lat(cell) AS cell_row_lat(CAST(split_part(cell, ':', 1) AS BIGINT));
CREATE MACRO cell_lon(cell) AS
  (CAST(split_part(cell, ':', 2) AS BIGINT) + 0.5::DOUBLE) * cell_width(CAST(split_part(cell, ':', 1) AS BIGINT));
CREATE MACRO utc_date() AS CAST(timezone('UTC', now()) AS DATE);
"""

PM25_BY_CELL = f"""
WITH pm AS (
  SELECT truck, boot, boottime_ns, value FROM pm2_5
  WHERE date BETWEEN CAST($first AS TIMESTAMP)::DATE AND CAST($last AS TIMESTAMP)::DATE AND truck = $truck AND value IS NOT NULL
    AND time >= timezone('UTC', CAST($first AS TIMESTAMP)) AND time < timezone('UTC', CAST($last AS TIMESTAMP))),
fixes AS (
  SELECT truck, boot, boottime_ns, latitude, longitude FROM position
  WHERE date BETWEEN CAST($first AS TIMESTAMP)::DATE - 1 AND CAST($last AS TIMESTAMP)::DATE AND truck = $truck
    AND valid AND latitude IS NOT NULL AND longitude IS NOT NULL),
placed AS (
  SELECT cell(latitude, longitude) AS cell, value FROM pm ASOF JOIN fixes
    ON pm.truck = fixes.truck AND pm.boot = fixes.boot AND pm.boottime_ns >= fixes.boottime_ns
  WHERE pm.boottime_ns - fixes.boottime_ns <= {int(APART_S * 1e9)})
SELECT cell, cell_lat(cell) AS latitude, cell_lon(cell) AS longitude, count(*) AS samples, avg(value) * 1e9 AS mean_ug_m3,
  median(value) * 1e9 AS median_ug_m3, max(value) * 1e9 AS most_ug_m3
FROM placed GROUP BY cell ORDER BY mean_ug_m3 DESC, cell
"""


class QueryError(ValueError):
    """A question that cannot be answered; the text says why in one line."""


class Answer:
    """What a question found: names of the columns, and rows."""

    def __init__(self, names: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
        self.names, self.rows = list(names), rows


class Asking:
    """One connection to the tables of an archive, as they are now."""

    def __init__(self, archive: Archive) -> None:
        """Raises OSError, DeltaError."""
        self._connection = duckdb.connect(":memory:", config={"TimeZone": "UTC", "autoinstall_known_extensions": "false"})
        self.tables: dict[str, pa.Schema] = {}
        delta = Delta(archive.objects)
        for name in archive.objects.tables_there():
            table = delta.table(name)
            if table is not None:
                found = table.to_pyarrow_dataset()
                self._connection.register(name, found)
                self.tables[name] = found.schema
        self._connection.execute(MACROS)
        self.quantities = [quantity.id for quantity in TABLE if self._quantity(quantity.id)]

    def ask(self, sql: str, values: dict[str, object] | None = None) -> Answer:
        """The answer to one statement; raises QueryError."""
        try:
            found = self._connection.execute(sql, values or {})
            return Answer([column[0] for column in found.description or ()], found.fetchall())
        except (duckdb.Error, OSError) as error:
            raise QueryError(" ".join(str(error).split())) from error

    def arrow(self, sql: str) -> pa.Table:
        """The same as a table; raises QueryError."""
        try:
            return self._connection.execute(sql).to_arrow_table()
        except (duckdb.Error, OSError) as error:
            raise QueryError(" ".join(str(error).split())) from error

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def pm25(self, truck: str, first: str, last: str) -> Answer:
        """PM2.5 of a truck by cell, in µg/m³, from `first` until before `last` (UTC, as ISO 8601 without a zone). Raises QueryError."""
        if "pm2_5" not in self.quantities or "position" not in self.tables:
            return Answer(["cell", "latitude", "longitude", "samples", "mean_ug_m3", "median_ug_m3", "most_ug_m3"], [])
        return self.ask(PM25_BY_CELL, {"truck": truck, "first": first, "last": last})

    def _quantity(self, id: str) -> bool:
        """Make the view of a slow quantity; False if no sensor's table has it."""
        parts = [
            f'SELECT date, time, boottime_ns, truck, boot, segment, \'{name}\' AS sensor, "{id}" AS value, "{id}_reason" AS reason'
            f' FROM "{name}"'
            for name, schema in sorted(self.tables.items())
            if id in schema.names and f"{id}_reason" in schema.names and name != "imu"
        ]
        if parts:
            self._connection.execute(f'CREATE VIEW "{id}" AS {" UNION ALL ".join(parts)}')
        return bool(parts)
