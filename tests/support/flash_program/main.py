"""A head's program for tests of flashing: says HELLO, and of three sensors that they are well, with one reading each; obeys MAINTENANCE.

It stands in for firmware/main.py, imports the real firmware/wire.py, and runs in the real MicroPython. SENSORS is what is heard of each:
number, trim, raw bytes of one sample."""

import json
import select
import struct
import sys

from firmware.wire import (
    BODY_BUFFER,
    ENCODED_MAX,
    HEADER_SIZE,
    HELLO,
    HELLO_REQUEST,
    MAINTENANCE,
    OK,
    SAMPLE,
    STATE,
    TRIM,
    decode_in_place,
    encode,
)  # fmt: skip

VERSION = "1.0.0"
SENSORS = (
    (1, b"\x1d\x1b\x00\x0a\x0a", b"\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x05\x37\x01\xc8\x00\x9c\xff\x2c\x01\x00\x00"),
    (3, b"\x0a\x0b\x0c\x0d", b"\x66\x67\xa2\x80\x00\xa2"),
    (4, b"\x30\x01", b"\x34\x56\xcc\x10"),
)


def _say(kind, payload):
    body = bytearray(BODY_BUFFER)
    size = HEADER_SIZE + len(payload)
    struct.pack_into("<BIIII", body, 0, kind, 7, 0, 0, 0)
    body[HEADER_SIZE:size] = payload
    out = bytearray(ENCODED_MAX)
    sys.stdout.buffer.write(bytes(out[: encode(body, size, out)]))


def _hello():
    import machine

    unit = "".join([f"{byte:02x}" for byte in machine.unique_id()])
    _say(HELLO, json.dumps({"firmware": VERSION, "unique_id": unit}).encode())
    for number, trim, raw in SENSORS:
        _say(STATE, struct.pack("<BBBH", number, OK, 0, 0))
        _say(TRIM, bytes((number,)) + trim)
        _say(SAMPLE, bytes((number, 1)) + raw)


def _obey(kind):
    if kind == HELLO_REQUEST:
        _hello()
    elif kind == MAINTENANCE:
        import machine

        sys.path[:] = [path for path in sys.path if path not in ("/a", "/b")]
        for name in list(sys.modules):
            if name.startswith("firmware"):
                del sys.modules[name]
        from firmware import boot_duty

        boot_duty.mark()
        machine.reset()


def run(*given):
    """As firmware/main.py's: what it is given last is called when the program runs."""
    import micropython

    micropython.kbd_intr(-1)
    given[-1]()
    poller = select.poll()
    poller.register(sys.stdin, select.POLLIN)
    buffer = bytearray(ENCODED_MAX)
    length = 0
    byte = bytearray(1)
    while True:
        poller.poll(1000)
        if not sys.stdin.buffer.readinto(byte):
            continue
        if byte[0]:
            if length < ENCODED_MAX:
                buffer[length] = byte[0]
                length += 1
        else:
            if length and decode_in_place(buffer, length) >= HEADER_SIZE:
                _obey(buffer[0])
            length = 0
