"""A camera that costs next to nothing, a process of its own: the same few JPEGs as an MJPEG stream over HTTP on loopback, at a steady rate.

python -m bench.mjpeg --bytes 97000 --fps 30        prints its address; ends with its standard input. Under /wire.mjpg the same comes
                                                    packet by packet, as over 100 Mbit/s
"""

import argparse
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from gateway.jpeg import HUFFMAN_TABLES

BOUNDARY = "benchframe"
DIFFERENT = 8
PACKET_BYTES, PACKET_SECONDS = 1_448, 0.000_12


def jpeg_of(size: int) -> bytes:
    """`size` bytes from SOI to EOI: the segments of a 1080p baseline JPEG as a camera writes them, and noise for its scan."""
    head = (
        b"\xff\xd8\xff\xe0" + (16).to_bytes(2, "big") + b"JFIF\0\1\1\0\0\1\0\1\0\0"
        b"\xff\xdb" + (132).to_bytes(2, "big") + b"\0" + bytes([16] * 64) + b"\1" + bytes([17] * 64)
        + b"\xff\xc0" + (17).to_bytes(2, "big") + b"\x08\x04\x38\x07\x80\3\1\x22\0\2\x11\1\3\x11\1"
        + HUFFMAN_TABLES + b"\xff\xda" + (12).to_bytes(2, "big") + b"\3\1\0\2\x11\3\x11\0\x3f\0"
    )  # fmt: skip
    return head + os.urandom(size - len(head) - 2).replace(b"\xff", b"\xfe") + b"\xff\xd9"


def part_of(image: bytes) -> bytes:
    """As it stands in the stream."""
    return f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n".encode() + image + b"\r\n"


def main() -> None:
    """Serves until standard input ends."""
    parser = argparse.ArgumentParser(prog="bench.mjpeg", description="a cheap camera for measurements")
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--fps", type=float, required=True)
    options = parser.parse_args()
    frames = [part_of(jpeg_of(options.bytes)) for _ in range(DIFFERENT)]

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            self.end_headers()
            self.close_connection = True
            begin, number = time.monotonic(), 0
            try:
                while True:
                    self.send(frames[number % DIFFERENT])
                    number += 1
                    time.sleep(max(0.0, begin + number / options.fps - time.monotonic()))
            except ConnectionError:
                return  # the reader has gone

        def send(self, frame: bytes) -> None:
            if self.path != "/wire.mjpg":
                self.wfile.write(frame)
                return
            begin = time.monotonic()
            for number, at in enumerate(range(0, len(frame), PACKET_BYTES)):
                time.sleep(max(0.0, begin + number * PACKET_SECONDS - time.monotonic()))
                self.wfile.write(frame[at : at + PACKET_BYTES])

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not worth a line."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}/stream.mjpg", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
