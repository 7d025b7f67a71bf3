"""Sensor-over-XMPP: documents, dialects, pubsub client, upload client. May import logbook."""
