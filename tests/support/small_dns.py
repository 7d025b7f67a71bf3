"""A name server for federated hubs on loopback: each server of a domain is a port of this machine (SRV records, RFC 2782)."""

import socket
import struct
import threading
from pathlib import Path

SRV = 33
NO_SUCH_NAME = 3


class SmallDns:
    """Answers `_xmpp-server._tcp.NAME` for `names` {name: port} and nothing else; use it in a with statement."""

    def __init__(self, names: dict[str, int]) -> None:
        self._names = {f"_xmpp-server._tcp.{name}".lower(): port for name, port in names.items()}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.asked: list[str] = []

    def __enter__(self) -> "SmallDns":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()

    def inetrc(self, file: Path) -> dict[str, str]:
        """The environment that makes Erlang ask here (ERL_INETRC; kernel's inet configuration)."""
        file.write_text(f'{{resolv_conf, ""}}.\n{{nameserver, {{127,0,0,1}}, {self._socket.getsockname()[1]}}}.\n', "ascii")
        return {"ERL_INETRC": str(file)}

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            end = query.index(b"\0", 12) + 5
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii"))
                at += 1 + query[at]
            name = ".".join(labels).lower()
            self.asked.append(name)
            port = self._names.get(name)
            head = query[:2] + struct.pack(">HHHHH", 0x8180 | (0 if port else NO_SUCH_NAME), 1, 1 if port else 0, 0, 0)
            answer = b""
            if port:
                place = struct.pack(">HHH", 0, 0, port) + b"\x09localhost\0"
                answer = b"\xc0\x0c" + struct.pack(">HHIH", SRV, 1, 5, len(place)) + place
            self._socket.sendto(head + query[12:end] + answer, client)
