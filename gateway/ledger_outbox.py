"""The ledger's outbox: events that happened and that the hub has not yet taken (P1). Functions take the Ledger, as Books calls them.

An event stands in a segment too, durably and before anything else; the outbox only lets the city know of it within seconds, also where a
tunnel or a kill comes between. So it is bounded: what the hub's node would push out again anyway is not kept here, and counted.

A truck whose clock is not yet right sends its events all the same, without UTC; they stay here, `sent`, until this boot's UTC is known, and
are then sent once more under the same item id. After a reboot nobody on the truck can know it any more (the center can, from the
segments): then they go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sox.events import Event
from sox.nodes import QUEUE_ITEMS

if TYPE_CHECKING:
    from gateway.ledger import Ledger

SCHEMA = """
CREATE TABLE outbox (
  number INTEGER PRIMARY KEY AUTOINCREMENT, item_id TEXT NOT NULL UNIQUE, boot TEXT NOT NULL, boottime_ns INTEGER NOT NULL,
  utc_ns INTEGER NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL, detail TEXT NOT NULL, sent INTEGER NOT NULL DEFAULT 0
);
"""
MOST = QUEUE_ITEMS
PASSED_OVER = "events_passed_over"  # a counter for ever


def put(ledger: Ledger, events: Sequence[Event]) -> None:
    """Enter `events` in one commit, in this order; one that is here already stays as it is. Beyond MOST the oldest go, counted."""
    db = ledger.db
    db.execute("BEGIN IMMEDIATE")
    try:
        db.executemany(
            "INSERT OR IGNORE INTO outbox (item_id, boot, boottime_ns, utc_ns, kind, source, detail) VALUES (?,?,?,?,?,?,?)",
            [(event.item_id, event.boot, event.boottime_ns, event.utc_ns, event.kind, event.source, event.detail) for event in events],
        )
        beyond = "number NOT IN (SELECT number FROM outbox ORDER BY number DESC LIMIT ?)"
        unsent = db.execute(f"SELECT COUNT(*) FROM outbox WHERE NOT sent AND {beyond}", (MOST,)).fetchone()[0]
        db.execute(f"DELETE FROM outbox WHERE {beyond}", (MOST,))
        if unsent:
            db.execute(
                "INSERT INTO counters (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                (PASSED_OVER, unsent),
            )
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def waiting(ledger: Ledger, truck: str, limit: int) -> list[Event]:
    """Events to publish now, oldest first."""
    rows = ledger.db.execute(
        "SELECT boot, item_id, kind, source, detail, boottime_ns, utc_ns FROM outbox WHERE NOT sent ORDER BY number LIMIT ?", (limit,)
    )
    return [Event(truck, boot, int(item_id.rpartition("-")[2]), *rest) for boot, item_id, *rest in rows]


def published(ledger: Ledger, event: Event, boot: str) -> None:
    """The hub took `event` as it was. One without UTC, of the kernel's boot `boot` (8 digits), stays, to be sent again with it; one that
    got its UTC meanwhile is still to be sent."""
    if not event.utc_ns and event.boot.startswith(boot):
        ledger.db.execute("UPDATE outbox SET sent=1 WHERE item_id=? AND utc_ns=0", (event.item_id,))
    else:
        ledger.db.execute("DELETE FROM outbox WHERE item_id=? AND utc_ns=?", (event.item_id, event.utc_ns))


def refused(ledger: Ledger, event: Event) -> None:
    """The hub will never take `event`: it goes, counted."""
    ledger.db.execute("DELETE FROM outbox WHERE item_id=?", (event.item_id,))


def clocked(ledger: Ledger, boot: str, offset_ns: int) -> int:
    """UTC less boot time is now known in the kernel's boot `boot` (8 digits): events of it without UTC get theirs and are to be sent
    (again). Returns how many."""
    return ledger.db.execute(
        "UPDATE outbox SET utc_ns=boottime_ns+?, sent=0 WHERE utc_ns=0 AND substr(boot, 1, 8)=?", (offset_ns, boot)
    ).rowcount


def forget_others(ledger: Ledger, boot: str) -> None:
    """Events that were sent without UTC in another boot than `boot` (8 digits) will never have one here."""
    ledger.db.execute("DELETE FROM outbox WHERE sent AND substr(boot, 1, 8)<>?", (boot,))


def counts(ledger: Ledger) -> tuple[int, int, int]:
    """Events to be published, events sent that wait for a clock, events passed over for ever."""
    unsent, sent = ledger.db.execute("SELECT ifnull(SUM(NOT sent), 0), ifnull(SUM(sent), 0) FROM outbox").fetchone()
    row = ledger.db.execute("SELECT value FROM counters WHERE name=?", (PASSED_OVER,)).fetchone()
    return unsent, sent, row[0] if row else 0
