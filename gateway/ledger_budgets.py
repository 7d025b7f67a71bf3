"""The ledger's account of bytes sent over each link a month, for links with a monthly budget. Functions take the Ledger, as Books calls
them."""

SCHEMA = """
CREATE TABLE budgets (interface TEXT NOT NULL, month TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (interface, month)) WITHOUT ROWID;
"""
