"""One file per chip: talk to it, and turn its bytes into SI values. Runs unchanged on MicroPython and CPython; imports nothing of ours."""
