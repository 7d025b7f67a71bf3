"""The ledger's account of bytes sent over each link a month, for links with a monthly budget. Functions take the Ledger, as Books calls
them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the ledger makes our table
    from gateway.ledger import Ledger

MONTHS_KEPT = 24

SCHEMA = """
CREATE TABLE budgets (interface TEXT NOT NULL, month TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (interface, month)) WITHOUT ROWID;
"""


def add(ledger: "Ledger", moved: Mapping[tuple[str, str], int]) -> None:
    """Add bytes by (interface, month as "2027-01"), in one commit; raises sqlite3.OperationalError. Only the newest MONTHS_KEPT stay."""
    db = ledger.db
    db.execute("BEGIN IMMEDIATE")
    try:
        db.executemany(
            "INSERT INTO budgets (interface, month, bytes) VALUES (?, ?, ?)"
            " ON CONFLICT (interface, month) DO UPDATE SET bytes = bytes + excluded.bytes",
            [(interface, month, count) for (interface, month), count in moved.items()],
        )
        db.execute(
            "DELETE FROM budgets WHERE month < (SELECT min(month) FROM (SELECT DISTINCT month FROM budgets ORDER BY month DESC LIMIT ?))",
            (MONTHS_KEPT,),
        )
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def moved(ledger: "Ledger", interface: str, month: str) -> int:
    """Bytes that went over `interface` in `month`."""
    row = ledger.db.execute("SELECT bytes FROM budgets WHERE interface=? AND month=?", (interface, month)).fetchone()
    return row[0] if row else 0
