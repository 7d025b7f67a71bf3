"""XMPP spoken by hand, for what no client would say: broken XML, replayed logins, streams that stop half-way.

Blocking sockets with a time limit; `source` is the loopback address it comes from (Linux: all of 127.0.0.0/8 is there)."""

import base64
import hashlib
import hmac
import re
import secrets
import socket
import ssl
from typing import Any

SECONDS = 20.0
STARTTLS = "urn:ietf:params:xml:ns:xmpp-tls"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"


class RawXmpp:
    """One connection to the hub with the ready file `info`; use it in a with statement."""

    def __init__(self, info: dict[str, Any], source: str = "127.0.0.1", namespace: str = "jabber:client", port: int | None = None) -> None:
        self._info = info
        self._namespace = namespace
        self.connection: socket.socket = socket.create_connection((info["host"], port or info["c2s_port"]), SECONDS, (source, 0))
        self.buffer = b""
        self.sasl: list[bytes] = []  # what we said to log in, for a replay

    def __enter__(self) -> "RawXmpp":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def send(self, data: bytes) -> None:
        """All of `data`; a connection that the other end closed meanwhile is no error: what it said is still to be read."""
        try:
            self.connection.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return

    def read_until(self, *patterns: bytes) -> bytes:
        """What came up to the first of `patterns` (regular expressions), or to the end of the connection."""
        expression = re.compile(b"|".join(patterns) if patterns else b"(?!)", re.DOTALL)
        while not (found := expression.search(self.buffer)):
            try:
                more = self.connection.recv(65536)
            except (ConnectionResetError, ssl.SSLError):
                more = b""
            if not more:
                text, self.buffer = self.buffer, b""
                return text
            self.buffer += more
        text, self.buffer = self.buffer[: found.end()], self.buffer[found.end() :]
        return text

    def open(self, sender: str = "") -> bytes:
        """A stream header; returns the features."""
        from_ = f" from='{sender}'" if sender else ""
        self.send(
            f"<?xml version='1.0'?><stream:stream to='{self._info['domain']}'{from_} version='1.0' xmlns='{self._namespace}' "
            "xmlns:stream='http://etherx.jabber.org/streams'>".encode()
        )
        return self.read_until(b"</stream:features>", b"<stream:features/>", b"</stream:stream>")

    def secure(self, context: ssl.SSLContext | None = None, sender: str = "") -> bytes:
        """Stream, STARTTLS, stream; returns the features that TLS shows, or what a hub says that does not let us in."""
        said = self.open(sender)
        if b"starttls" not in said:
            return said
        self.send(f"<starttls xmlns='{STARTTLS}'/>".encode())
        assert b"proceed" in self.read_until(b"/>")
        context = context or ssl.create_default_context(cafile=self._info["ca_file"])
        self.connection = context.wrap_socket(self.connection, server_hostname=self._info["domain"])
        return self.open(sender)

    def log_in(self, user: str, password: str) -> bytes:
        """SCRAM-SHA-256 (RFC 5802); returns the server's last word: success or failure."""
        first = f"n={user},r={secrets.token_urlsafe(18)}"
        challenge = self._say("auth", " mechanism='SCRAM-SHA-256'", f"n,,{first}".encode())
        if b"<challenge" not in challenge:
            return challenge
        server_first = base64.b64decode(re.search(rb">([^<]+)</challenge>", challenge)[1]).decode()  # type: ignore[index]
        nonce, salt, rounds = (part.partition("=")[2] for part in server_first.split(","))
        final = f"c=biws,r={nonce}"
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), f"{first},{server_first},{final}".encode(), "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        return self._say("response", "", f"{final},p={proof}".encode())

    def replay(self, said: list[bytes]) -> bytes:
        """Say again what another connection said to log in; returns the server's last word."""
        answer = b""
        for stanza in said:
            self.send(stanza)
            answer = self.read_until(b"</challenge>|</success>|<success[^>]*/>|</failure>(</stream:stream>)?|</stream:stream>")
        return answer

    def bind(self) -> str:
        """A new stream and a resource; returns the full JID."""
        self.open()
        self.send(f"<iq type='set' id='bind'><bind xmlns='{BIND}'/></iq>".encode())
        answer = self.read_until(b"</iq>")
        found = re.search(rb"<jid>([^<]+)</jid>", answer)
        assert found, answer
        return found[1].decode()

    def session(self, user: str, password: str) -> "RawXmpp":
        """Logged in and bound."""
        self.secure()
        assert b"<success" in self.log_in(user, password)
        self.bind()
        return self

    def _say(self, name: str, attributes: str, content: bytes) -> bytes:
        stanza = f"<{name} xmlns='{SASL}'{attributes}>{base64.b64encode(content).decode()}</{name}>".encode()
        self.sasl.append(stanza)
        return self.replay([stanza])
