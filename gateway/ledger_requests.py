"""The ledger's tables for what the center asks: its requests, where the truck was, and segments that are no longer here.

Functions take the Ledger, as Books calls them."""

SCHEMA = """
CREATE TABLE requests (
  request_id TEXT PRIMARY KEY, document TEXT NOT NULL, state TEXT NOT NULL, answered TEXT NOT NULL DEFAULT ''
);
CREATE TABLE track (
  boot TEXT NOT NULL, boottime_ns INTEGER NOT NULL, utc_ns INTEGER NOT NULL, latitude REAL NOT NULL, longitude REAL NOT NULL,
  PRIMARY KEY (boot, boottime_ns)
) WITHOUT ROWID;
CREATE TABLE gone (
  segment_id TEXT PRIMARY KEY, boot TEXT NOT NULL, first_boottime_ns INTEGER, last_boottime_ns INTEGER, first_utc_ns INTEGER,
  last_utc_ns INTEGER, how TEXT NOT NULL
) WITHOUT ROWID;
"""
