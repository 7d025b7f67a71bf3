"""A city's hub: several ejabberd nodes as one, accounts and nodes in PostgreSQL, uploads in one folder (docs/hub.md)."""
