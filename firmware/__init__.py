"""The sensor head (RP2040, MicroPython): sample, frame, keep until acknowledged, answer commands. May import drivers."""
