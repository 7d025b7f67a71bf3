"""The Delta tables themselves: one for each kind of rows, partitioned by date (UTC), written by delta-rs.

A table a kind, for kinds share few columns and are asked for one by one. Only `date` parts it: a partition a truck as well would make a
hundred files of each batch. Within a settled date rows lie by truck and boot time, so a question about one truck reads few files.

Every write carries the number of its batch as a transaction of the table (Delta protocol, `txn`): what was committed is known by it, so
that a batch that is done again after a kill writes only the tables that it had not reached. Files that a kill left without commit are
nobody's and go with the next vacuum. Commits of others (compaction by another engine) are met with delta-rs's own retries.
"""

from collections.abc import Sequence
from datetime import date

import pyarrow as pa  # type: ignore[import-untyped]
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from center.store import Store, StoreError

APP = "cruisers-tables"
TARGET_BYTES = 256_000_000
COMPRESSION = WriterProperties(compression="ZSTD", compression_level=3)
UNKNOWN = ""  # the date of rows that nobody knows the time of, as `touched` has it
CONFIGURATION = {
    "delta.dataSkippingStatsColumns": "time,boottime_ns,truck,boot,segment",  # what is looked for; the log would be mostly statistics
    "delta.checkpointInterval": "50",
    "delta.logRetentionDuration": "interval 7 days",
}

__all__ = ["APP", "UNKNOWN", "Delta", "DeltaError"]


class Delta:
    """All tables of one archive. Methods raise DeltaError, OSError."""

    def __init__(self, objects: Store) -> None:
        self._objects, self._root, self._options = objects, objects.tables, objects.options

    def table(self, name: str) -> DeltaTable | None:
        """A table as it is now; None if there is none."""
        try:
            return DeltaTable(f"{self._root}/{name}", storage_options=self._options)
        except TableNotFoundError:
            return None

    def write(self, name: str, rows: pa.Table, batch: int, replaced: str | None) -> None:
        """Add the rows of a batch, once, however often it is called; with `replaced`, a condition that the new rows fulfil too, they take
        the place of those that fulfil it, in one commit."""
        table = self.table(name)
        done = table.transaction_version(APP) if table is not None else None
        if done is not None and done > batch:
            raise StoreError(f"table {name} has batch {done} and the index only {batch}: an older index? cruisers center rebuild")
        if done is None or done < batch:
            properties = CommitProperties(app_transactions=[Transaction(APP, batch)])
            if table is None:
                write_deltalake(
                    f"{self._root}/{name}", rows, mode="append", partition_by=["date"], configuration=CONFIGURATION,
                    storage_options=self._options, writer_properties=COMPRESSION, commit_properties=properties,
                )  # fmt: skip
            elif replaced is None:
                write_deltalake(
                    table, rows, mode="append", schema_mode="merge", partition_by=["date"], writer_properties=COMPRESSION,
                    commit_properties=properties,
                )  # fmt: skip
            else:
                write_deltalake(
                    table, rows, mode="overwrite", schema_mode="merge", predicate=replaced, partition_by=["date"],
                    writer_properties=COMPRESSION, commit_properties=properties,
                )  # fmt: skip
        written = self.table(name)
        if written is not None:  # also where it was passed over: a kill may have come before this
            self._objects.sync_table(name, written.version())

    def compact(self, name: str, day: str) -> None:
        """Make few files of many, in one partition."""
        table = self.table(name)
        if table is not None:
            table.optimize.compact(
                partition_filters=_filter(day), target_size=TARGET_BYTES, max_concurrent_tasks=1, writer_properties=COMPRESSION
            )

    def settle(self, name: str, day: str) -> None:
        """Sort a partition that is complete by truck and boot time."""
        table = self.table(name)
        if table is not None:
            table.optimize.z_order(
                ["truck", "boottime_ns"], partition_filters=_filter(day), target_size=TARGET_BYTES, max_concurrent_tasks=1,
                writer_properties=COMPRESSION,
            )  # fmt: skip

    def vacuum(self, name: str, keep_hours: int) -> None:
        """Remove the files that no version of the last `keep_hours` names, and old log entries."""
        table = self.table(name)
        if table is not None:
            table.vacuum(retention_hours=keep_hours, dry_run=False, enforce_retention_duration=False)
            table.create_checkpoint()
            table.cleanup_metadata()


def condition(segment_ids: Sequence[str], days: Sequence[str]) -> str:
    """Rows of these segments (their ids have only letters, digits and '-') on these days, "" for those without a date."""
    dates = " OR ".join(
        "date IS NULL" if day == UNKNOWN else f"date = '{date.fromisoformat(day).isoformat()}'" for day in sorted(set(days))
    )
    ids = ", ".join(f"'{one}'" for one in segment_ids)
    return f"({dates}) AND segment IN ({ids})"


def _filter(day: str) -> list[tuple[str, str, str]]:
    return [("date", "=", day)]
