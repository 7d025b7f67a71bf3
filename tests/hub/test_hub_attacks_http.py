"""Attacks on the uploads of the real ejabberd: other people's objects, other people's slots, requests that lie or never end.

An address that is not known, listings and a second PUT by our own client: test_hub_upload.py.
"""

import asyncio
import contextlib
import re
import secrets
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from honest_trucks import Honest

from sox.client import Slot, SoxClient
from sox.errors import SoxError

pytestmark = pytest.mark.timeout(120)

SECONDS = 20.0


@pytest.fixture(scope="module")
def honest(hub) -> Iterator[Honest]:
    working = Honest(hub).start()
    yield working
    working.stop()


@pytest.fixture(autouse=True)
def honest_trucks_go_on(honest) -> Iterator[None]:
    yield
    honest.goes_on()


def connection(hub) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=hub.info["ca_file"])
    plain = socket.create_connection((hub.info["host"], hub.info["http_port"]), SECONDS)
    return context.wrap_socket(plain, server_hostname="localhost")


def ask(hub, method: str, path: str, headers: str = "", body: bytes = b"") -> tuple[int, bytes]:
    """(status, body) of a request written by hand."""
    with connection(hub) as made:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLError):  # it answered before it had all
            made.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\r\n".encode() + body)
        text = b""
        while more := received(made):
            text += more
    head, _, rest = text.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, rest


def received(made: ssl.SSLSocket) -> bytes:
    try:
        return made.recv(65536)
    except (ConnectionResetError, ssl.SSLError):
        return b""


def slots(hub, count: int, size: int = 10, user: str = "truck-1", name: str = "object.bin") -> list[str]:
    """Paths of `count` fresh slots of `user`."""

    async def work(client: SoxClient) -> list[Slot]:
        return [await client.upload_slot(name, size) for _ in range(count)]

    return [urlsplit(slot.put).path for slot in as_user(hub, user, work)]


def as_user(hub, user: str, work: Callable[[SoxClient], Awaitable]):
    async def main():
        client = hub.client(user)
        await client.connect()
        try:
            return await work(client)
        finally:
            await client.disconnect()

    return asyncio.run(main())


def put(hub, path: str, body: bytes, length: int | None = None) -> int:
    return ask(hub, "PUT", path, f"Content-Length: {len(body) if length is None else length}\r\n", body)[0]


def stored(hub, path: str) -> bytes | None:
    file = hub.home / "upload" / path.removeprefix("/upload/")
    return file.read_bytes() if file.exists() else None


def wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


OUTWARD = [
    "/upload/../secrets/admin", "/upload/%2e%2e/secrets/admin", "/upload/..%2fsecrets/./admin", "/upload/.%2e/secrets/admin",
    "/upload/a/b/..%2f..%2f..%2fsecrets%2fadmin", "/upload/a/%2e%2e/%2e%2e/secrets/admin", "//upload//..//secrets/admin",
    "/upload/x/..\\..\\secrets/admin", "/upload/..%252fsecrets/a/admin", "/upload/a/b/%00", "/upload/%c0%ae%c0%ae/secrets/admin",
    "https://127.0.0.1/upload/../secrets/admin", "/upload/../tls/server-key.pem", "/upload/..//..//..//etc/passwd",
]  # fmt: skip


def test_no_path_leads_out_of_the_folder_of_uploads(hub):
    for path in OUTWARD:
        for method, headers in (("GET", ""), ("PUT", "Content-Length: 1\r\n")):
            status, body = ask(hub, method, path, headers, b"x" if method == "PUT" else b"")
            assert status in (400, 403, 404), path
            for file in ("secrets/admin", "tls/server-key.pem"):
                assert (hub.home / file).read_bytes()[:20] not in body
            assert b"root:" not in body


def test_the_name_of_an_object_cannot_lead_elsewhere(hub):
    before = {file for file in hub.home.rglob("*") if file.is_file()}
    for name in ("../../x", "..", "a/b", "%2e%2e%2fx", "a\nb"):
        (path,) = slots(hub, 1, name=name)
        assert re.fullmatch(r"/upload/[0-9a-f]{40}/[A-Za-z0-9]{40}/[^/]+", path)
        put(hub, path, b"0123456789")
    made = {file for file in hub.home.rglob("*") if file.is_file()} - before
    assert all(file.is_relative_to(hub.home / "upload") or file.is_relative_to(hub.home / "db") for file in made)


def test_who_knows_the_folder_of_a_truck_still_cannot_guess_an_object(hub):
    path, other = slots(hub, 2)
    assert put(hub, path, b"secret-123") == 201
    _, _, folder, random, name = path.split("/")
    assert len(random) == 40 and random != other.split("/")[3]  # 62^40: 238 bit
    for guess in (
        f"/upload/{folder}/{secrets.token_hex(20)}/{name}",
        f"/upload/{folder}/{random[:-1]}/{name}",
        f"/upload/{folder}/*/{name}",
    ):
        assert ask(hub, "GET", guess)[0] == 404
    for listing in (f"/upload/{folder}", f"/upload/{folder}/", f"/upload/{folder}/{random}", f"/upload/{folder}/{random}/", "/upload", "/"):
        status, body = ask(hub, "GET", listing)
        assert status == 404 and name.encode() not in body and random.encode() not in body


def test_what_is_stored_is_not_overwritten_changed_or_deleted(hub):
    (path,) = slots(hub, 1)
    assert put(hub, path, b"first-one.") == 201
    assert put(hub, path, b"second-one") == 403
    for method in ("POST", "DELETE", "PATCH", "MOVE", "PROPFIND"):
        assert ask(hub, method, path, "Content-Length: 10\r\n", b"third-one.")[0] in (400, 405)
    assert stored(hub, path) == b"first-one."


def test_a_put_of_another_length_or_to_another_place_than_its_slot_is_refused(hub):
    path, other = slots(hub, 2)
    for body in (b"123456789", b"x" * 5000):
        assert put(hub, path, body) == 413
    for wrong in (path.replace("object.bin", "other.bin"), path.replace(path.split("/")[3], "A" * 40)):
        assert put(hub, wrong, b"0123456789") == 403
        assert stored(hub, wrong) is None
    (foreign,) = slots(hub, 1, user="truck-2")
    mixed = path.replace(path.split("/")[2], foreign.split("/")[2])
    assert put(hub, mixed, b"0123456789") == 403, "a slot of one truck does not open the folder of another"
    assert stored(hub, path) is None
    assert put(hub, other, b"0123456789") == 201


def test_a_put_without_a_length_is_refused(hub):
    (path,) = slots(hub, 1)
    for headers in ("", "Content-Length: -5\r\n", "Content-Length: ten\r\n", "Transfer-Encoding: chunked\r\n"):
        assert ask(hub, "PUT", path, headers, b"a\r\n0123456789\r\n0\r\n\r\n")[0] in (400, 411, 413), headers
    assert stored(hub, path) is None


def test_more_than_the_length_said_is_cut_after_what_came_with_it(hub):
    # ejabberd writes what it had received beside the head, whatever was said: some 10 kB over a slot, never a disk full. The center
    # compares size and SHA-256, so such an object is no one's delivery.
    (path,) = slots(hub, 1)
    with connection(hub) as made:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLError):  # it stopped listening
            made.sendall(f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n".encode() + b"x" * 3_000_000)
        received(made)
    assert len(stored(hub, path) or b"") < 500_000


def test_a_put_that_breaks_off_leaves_nothing_to_fetch(hub):
    (path,) = slots(hub, 1, size=1_000_000)
    with connection(hub) as made:
        made.sendall(f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n".encode() + b"x" * 500_000)
        wait(lambda: stored(hub, path) is not None)
    wait(lambda: stored(hub, path) is None)  # ejabberd removes it when it sees the end of the connection
    assert ask(hub, "GET", path)[0] == 404
    assert put(hub, path, b"x" * 1_000_000) in (0, 403), "its slot is spent"
    assert stored(hub, path) is None


@pytest.mark.parametrize("user", ["admin", "center"])
def test_only_trucks_get_slots(hub, user):
    async def work(client: SoxClient) -> str:
        with pytest.raises(SoxError) as caught:
            await client.upload_slot("a", 10)
        return caught.value.condition

    assert as_user(hub, user, work) == "forbidden"


def test_a_head_of_many_lines_and_a_long_address_harm_nobody(hub):
    # ejabberd keeps a head of any length in memory until it ends or is silent for 300 s (100 MB sent took 180 MB, given back at the end):
    # nothing in its configuration bounds it, so a city puts a proxy in front of the uploads.
    many = "".join(f"X-{number}: y\r\n" for number in range(4_000))
    assert ask(hub, "GET", "/upload/a/b/c", many)[0] == 404
    assert ask(hub, "GET", "/upload/a/b/" + "c" * 200_000)[0] in (0, 400, 404, 414, 500)


def test_two_hundred_requests_that_never_end_keep_nobody_from_uploading(hub):
    # ejabberd holds such a connection for 300 s after its last byte and has 65,536 of them; a city filters by address in front of it.
    paths = slots(hub, 6)
    held = [connection(hub) for _ in range(200)]
    try:
        for number, made in enumerate(held):
            if number % 2:
                made.sendall(b"GET /upload/a/b/c HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
            else:
                made.sendall(f"PUT {paths[0]} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\n1".encode() if number < 2 else b"PU")
        for path in paths[1:]:
            assert put(hub, path, b"0123456789") == 201
            assert Path(hub.home / "upload" / path.removeprefix("/upload/")).stat().st_size == 10
    finally:
        for made in held:
            made.close()
