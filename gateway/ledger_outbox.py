"""The ledger's outbox: events that happened and that the hub has not yet taken (P1). Functions take the Ledger, as Books calls them.

An event stands in a segment too, durably and before anything else; the outbox only lets the city know of it within seconds."""

SCHEMA = """
CREATE TABLE outbox (
  number INTEGER PRIMARY KEY AUTOINCREMENT, item_id TEXT NOT NULL UNIQUE, boot TEXT NOT NULL, boottime_ns INTEGER NOT NULL,
  utc_ns INTEGER NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL, detail TEXT NOT NULL
);
"""
