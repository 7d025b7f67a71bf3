"""Chip models: pure state machines on the byte level, written from the datasheet facts, never from our drivers."""
