"""What the status asks the ledger, beside its totals: the backlog by class, what was delivered for ever, the oldest that is not. Functions
take the Ledger, as Books calls them."""

from typing import NamedTuple

from gateway.ledger import CLASSES, Ledger, Segment

_DELIVERED, _SUPERSEDED = "receipted", "superseded"


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
    """The ledger as it is now, read in one pass: a spool may hold 20,000 segments."""
    groups = ledger.db.execute(
        "SELECT stream, requested, state, COUNT(*), SUM(size), MIN(ifnull(place, seq)) FROM segments GROUP BY stream, requested, state"
    ).fetchall()
    classes = dict.fromkeys(CLASSES, Backlog(0, 0))
    delivered, first = 0, None
    for stream, requested, state, count, size, place in groups:
        if state == _DELIVERED:
            delivered += size
        elif state != _SUPERSEDED:
            name = _class_of(stream, requested)
            classes[name] = Backlog(classes[name].segments + count, classes[name].bytes + size)
            first = place if first is None else min(first, place)
    deleted = ledger.db.execute("SELECT ifnull(SUM(value), 0) FROM counters WHERE name='deleted_bytes'").fetchone()[0]
    return View(classes, delivered + deleted, None if first is None else _at(ledger, first))


def _at(ledger: Ledger, place: int) -> Segment | None:
    """The undelivered segment at `place` of the order: its own, or that of an original which it stands for."""
    for where in ("place IS NULL AND seq=?", "place=?"):
        undelivered = f"state NOT IN ('{_DELIVERED}', '{_SUPERSEDED}')"
        row = ledger.db.execute(f"SELECT * FROM segments WHERE {where} AND {undelivered} ORDER BY seq LIMIT 1", (place,)).fetchone()
        if row is not None:
            return Segment(*row)
    return None


def class_of(segment: Segment) -> str:
    """The class of `segment`."""
    return _class_of(segment.stream, segment.requested)


def _class_of(stream: str, requested: int) -> str:
    if stream == "readings":
        return "readings"
    return "requested" if requested else "images"
