"""A camera that costs next to nothing, a process of its own: the same few JPEGs as an MJPEG stream over HTTP on loopback, at a steady rate.

python -m bench.mjpeg --bytes 97000 --fps 30        prints its address; ends with its standard input
"""

import argparse
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BOUNDARY = "benchframe"
DIFFERENT = 8


def jpeg_of(size: int) -> bytes:
    """`size` bytes from SOI to EOI with noise between them, in a comment segment per 64 kB: what a pass-through sees of an image."""
    body = bytearray()
    room = size - 4
    while room:
        length = min(room, 65_000)
        length = length if room - length >= 4 or room == length else length - 4
        body += b"\xff\xfe" + (length - 2).to_bytes(2, "big") + os.urandom(length - 4).replace(b"\xff", b"\xfe")
        room -= length
    return b"\xff\xd8" + bytes(body) + b"\xff\xd9"


def main() -> None:
    """Serves until standard input ends."""
    parser = argparse.ArgumentParser(prog="bench.mjpeg", description="a cheap camera for measurements")
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--fps", type=float, required=True)
    options = parser.parse_args()
    frames = []
    for _ in range(DIFFERENT):
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {options.bytes}\r\n\r\n"
        frames.append(head.encode() + jpeg_of(options.bytes) + b"\r\n")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            self.end_headers()
            self.close_connection = True
            begin, number = time.monotonic(), 0
            try:
                while True:
                    self.wfile.write(frames[number % DIFFERENT])
                    number += 1
                    time.sleep(max(0.0, begin + number / options.fps - time.monotonic()))
            except ConnectionError:
                return  # the reader has gone

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not worth a line."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}/stream.mjpg", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
