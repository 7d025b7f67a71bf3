"""What the status asks the ledger, beside its totals: the backlog by class, what was delivered for ever, the oldest that is not. Functions
take the Ledger, as Books calls them."""

from typing import NamedTuple

from gateway.ledger import CLASSES, Ledger, Segment

_UNDELIVERED = "state NOT IN ('receipted', 'superseded')"


class Backlog(NamedTuple):
    """Segments of a class that are not delivered, those set aside included, and their bytes."""

    segments: int
    bytes: int


class View(NamedTuple):
    """By class (CLASSES); bytes receipted for ever; the first in the order of recording that is not delivered, of any class."""

    classes: dict[str, Backlog]
    delivered_bytes: int
    oldest: Segment | None


def view(ledger: Ledger) -> View:
    """The ledger as it is now."""
    classes = {}
    for name, rows in CLASSES.items():
        found = ledger.db.execute(f"SELECT COUNT(*), ifnull(SUM(size), 0) FROM segments WHERE {_UNDELIVERED} AND {rows}").fetchone()
        classes[name] = Backlog(*found)
    receipted = ledger.db.execute("SELECT ifnull(SUM(size), 0) FROM segments WHERE state='receipted'").fetchone()[0]
    deleted = ledger.db.execute("SELECT ifnull(SUM(value), 0) FROM counters WHERE name='deleted_bytes'").fetchone()[0]
    oldest = ledger.db.execute(f"SELECT * FROM segments WHERE {_UNDELIVERED} ORDER BY ifnull(place, seq), seq LIMIT 1").fetchone()
    return View(classes, receipted + deleted, Segment(*oldest) if oldest else None)


def class_of(segment: Segment) -> str:
    """The class of `segment`."""
    if segment.stream == "readings":
        return "readings"
    return "requested" if segment.requested else "images"
