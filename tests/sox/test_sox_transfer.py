"""Uploads and fetches against HTTPS servers that stall, lie, hang up and dawdle."""

import asyncio
import hashlib
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hub import certificates
from sox.client import Slot
from sox.transfer import CHUNK, TransferError, fetch, put_file
from sox.transfer_wire import CS1

pytestmark = pytest.mark.timeout(60)

Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATH = "/upload/capability/name"
IP_PKTOPTIONS = 9  # linux/in.h
IP_RECVTOS = 13


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> certificates.Files:
    return certificates.ensure(tmp_path_factory.mktemp("tls"), "cruisers.test", "127.0.0.1")


def with_server(tls: certificates.Files, server: Server, work: Callable[[str], Coroutine[Any, Any, Any]]) -> Any:
    """The result of work(url) while `server` answers there."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.server, tls.server_key)

    async def main() -> Any:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await server(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # the client cut the transfer, as it should in some of these tests
            finally:
                writer.transport.abort()

        # A small window, so that bytes are acknowledged as they are read and not in lumps of megabytes.
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        door.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
        door.bind(("127.0.0.1", 0))
        async with await asyncio.start_server(serve, sock=door, ssl=context) as listening:
            result = await work(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}{PATH}")
            listening.close()
            return result

    return asyncio.run(main())


def answering(status: str, seen: dict[str, Any] | None = None, headers: str = "") -> Server:
    """Reads a whole request, notes it in `seen`, and answers `status`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].split("\r\n")[0])
        body = await reader.readexactly(length)
        if seen is not None:
            seen.update(head=head, body=body)
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n{headers}\r\n".encode())
        await writer.drain()
        await reader.read()

    return serve


def giving(body: bytes, length: int | None = None, status: str = "200 OK", headers: str = "") -> Server:
    """Answers a GET with `body` under a Content-Length of `length`, then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        length_line = f"Content-Length: {len(body) if length is None else length}\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{length_line}{headers}\r\n".encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    return serve


def open_files(path: Path) -> list[str]:
    return [link for link in os.listdir("/proc/self/fd") if os.path.realpath(f"/proc/self/fd/{link}") == str(path)]


def put_error(tls: certificates.Files, server: Server, path: Path, **options: Any) -> TransferError:
    async def work(url: str) -> TransferError:
        with pytest.raises(TransferError) as caught:
            await put_file(Slot(url, {}, url), path, tls.ca, **options)
        return caught.value

    error = with_server(tls, server, work)
    assert PATH not in str(error)  # the address is a capability
    assert open_files(path) == []
    return error


def fetch_error(tls: certificates.Files, server: Server, target: Path, size: int, **options: Any) -> TransferError:
    async def work(url: str) -> TransferError:
        with pytest.raises(TransferError) as caught:
            await fetch(url, tls.ca, target, size, **options)
        return caught.value

    error = with_server(tls, server, work)
    assert PATH not in str(error)
    assert not target.exists() and open_files(target) == []
    return error


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(300_000))
    return path


# --- upload ---


@pytest.mark.parametrize("status", ["200 OK", "201 Created"])
def test_an_upload_goes_out_with_its_exact_length_and_the_headers_of_the_slot(tls, source, status):
    seen: dict[str, Any] = {}
    told: list[int] = []

    async def work(url: str) -> int:
        return await put_file(Slot(url, {"Authorization": "Basic x"}, url), source, tls.ca, told.append)

    assert with_server(tls, answering(status, seen), work) == 300_000
    assert seen["body"] == source.read_bytes()
    assert seen["head"].startswith(f"put {PATH} http/1.1\r\n")
    assert "content-length: 300000\r\n" in seen["head"] and "authorization: basic x\r\n" in seen["head"]
    assert "transfer-encoding" not in seen["head"]
    assert told == sorted(told) and told[-1] == 300_000
    assert open_files(source) == []


@pytest.mark.parametrize("status", [202, 204, 206, 301, 302, 307, 400, 401, 403, 404, 409, 412, 413, 500, 502, 503, 507])
def test_no_other_answer_is_success(tls, source, status):
    error = put_error(tls, answering(f"{status} Nope", headers="Location: /elsewhere\r\n"), source)
    assert (error.condition, error.status) == ("http", status)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ("Retry-After: 120\r\n", 120.0),
        ("Date: Fri, 15 Jan 2027 08:00:00 GMT\r\nRetry-After: Fri, 15 Jan 2027 08:00:30 GMT\r\n", 30.0),
        ("Date: Fri, 15 Jan 2027 08:00:00 GMT\r\nRetry-After: Thu, 14 Jan 2027 08:00:30 GMT\r\n", 0.0),
        ("Retry-After: soon\r\n", None),
        ("", None),
    ],
)
def test_a_server_may_ask_for_patience_in_seconds_or_until_a_date_of_its_own_clock(tls, source, headers, seconds):
    assert put_error(tls, answering("503 Busy", headers=headers), source).retry_after == seconds


@pytest.mark.parametrize(
    ("status", "words"), [(413, "takes no object of this size: 300000 bytes"), (507, "disk is full"), (409, "there already")]
)
def test_answers_that_a_technician_must_act_on_are_told_in_words(tls, source, status, words):
    assert words in str(put_error(tls, answering(f"{status} X"), source))


def test_a_put_that_broke_is_not_repeated_on_its_spent_slot(tls, source):
    puts = 0

    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal puts
        await reader.readuntil(b"\r\n\r\n")
        puts += 1

    put_error(tls, hangs_up, source)
    assert puts == 1


def test_uploads_are_marked_as_background_traffic_and_counted_as_the_link_counts_them(tls, source):
    marks: list[bytes] = []
    counted: list[int] = []

    async def looks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The kernel keeps the TOS byte of the packets that came (ip(7), IP_PKTOPTIONS).
        marks.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_IP, IP_PKTOPTIONS, 256))
        await answering("201 Created")(reader, writer)

    async def work(url: str) -> int:
        return await put_file(Slot(url, {}, url), source, tls.ca, on_wire=counted.append)

    with_server(tls, looks, work)
    level, kind, mark = struct.unpack_from("@iii", marks[0], struct.calcsize("@N"))
    assert (level, kind, mark) == (socket.IPPROTO_IP, socket.IP_TOS, CS1)
    assert 300_000 < sum(counted) < 330_000


def test_a_cut_upload_is_reset_so_that_nothing_more_leaves(tls, tmp_path):
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate(40_000_000)
    ended = asyncio.Event()

    async def reads_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await cut.wait()
        writer.transport.resume_reading()
        try:
            while await reader.read(65_536):
                pass
        except ConnectionResetError:
            ended.set()

    async def work(url: str) -> None:
        nonlocal cut
        cut = asyncio.Event()
        task = asyncio.create_task(put_file(Slot(url, {}, url), large, tls.ca))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        cut.set()
        await asyncio.wait_for(ended.wait(), 20)

    cut = asyncio.Event()
    with_server(tls, reads_late, work)


def test_an_upload_that_is_held_by_its_pace_is_not_taken_for_stalled(tls, source):
    async def pace(moved: int) -> None:
        await asyncio.sleep(1.2 if moved == 2 * CHUNK else 0.0)

    async def work(url: str) -> int:
        return await put_file(Slot(url, {}, url), source, tls.ca, pace, stall_seconds=0.5)

    assert with_server(tls, answering("201 Created"), work) == 300_000


def test_an_upload_that_moves_no_byte_is_cut(tls, tmp_path):
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate(40_000_000)  # far more than the kernel's buffers of both ends hold

    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()
        await asyncio.sleep(50)

    error = put_error(tls, never_reads, large, stall_seconds=1.0)
    assert error.condition == "stalled"


def test_an_upload_without_answer_is_cut(tls, source):
    async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass

    assert put_error(tls, never_answers, source, stall_seconds=0.5).condition == "stalled"


def test_a_slow_upload_that_keeps_moving_is_not_cut_however_long_it_takes(tls, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(os.urandom(6_000_000))
    loop_time = []

    async def dawdles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started = asyncio.get_running_loop().time()
        head = await reader.readuntil(b"\r\n\r\n")
        left = 6_000_000
        while left:
            left -= len(await reader.read(min(left, 100_000)))
            await asyncio.sleep(0.1)
        assert b"PUT" in head
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        loop_time.append(asyncio.get_running_loop().time() - started)
        await reader.read()

    async def work(url: str) -> int:
        return await put_file(Slot(url, {}, url), large, tls.ca, stall_seconds=2.5)

    assert with_server(tls, dawdles, work) == 6_000_000
    assert loop_time[0] > 2 * 2.5


def test_pacing_by_a_coroutine_is_waited_for(tls, source):
    waits: list[int] = []

    async def pace(moved: int) -> None:
        waits.append(moved)
        await asyncio.sleep(0.01)

    async def work(url: str) -> int:
        return await put_file(Slot(url, {}, url), source, tls.ca, pace)

    assert with_server(tls, answering("201 Created"), work) == 300_000
    assert waits == [*range(0, 300_000, CHUNK), 300_000]


def test_an_upload_that_is_cancelled_stops_at_once_and_closes_its_file(tls, source):
    async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass

    async def work(url: str) -> None:
        task = asyncio.create_task(put_file(Slot(url, {}, url), source, tls.ca))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_files(source) == []

    with_server(tls, never_answers, work)


@pytest.mark.parametrize("change", [lambda file: file.truncate(100_000), lambda file: (file.seek(0, 2), file.write(b"more"))])
def test_a_file_that_changes_while_it_is_sent_is_no_upload(tls, source, change):
    def alter(moved: int) -> None:
        if moved == 4 * CHUNK:
            with open(source, "r+b") as file:
                change(file)

    assert put_error(tls, answering("201 Created"), source, on_progress=alter).condition == "file"


def test_a_server_that_hangs_up_is_a_broken_transfer(tls, source):
    async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    assert put_error(tls, hangs_up, source).condition == "connection"


def test_an_absent_file_is_told(tls, tmp_path):
    assert put_error(tls, answering("201 Created"), tmp_path / "absent").condition == "file"


def test_an_unknown_authority_gets_no_byte(tls, source, tmp_path):
    foreign = certificates.ensure(tmp_path / "tls", "cruisers.test", "127.0.0.1")
    seen: dict[str, Any] = {}

    async def work(url: str) -> str:
        with pytest.raises(TransferError) as caught:
            await put_file(Slot(url, {}, url), source, foreign.ca)
        return caught.value.condition

    assert with_server(tls, answering("201 Created", seen), work) == "certificate"
    assert seen == {}


def test_an_address_that_is_not_the_servers_name_is_refused(tls, source):
    async def work(url: str) -> str:
        other = url.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(TransferError) as caught:
            await put_file(Slot(other, {}, other), source, tls.ca)
        return caught.value.condition

    assert with_server(tls, answering("201 Created"), work) in ("certificate", "connection")


@pytest.mark.parametrize("start", ["http://127.0.0.1:1", "https://[broken", "//127.0.0.1", ""])
def test_nothing_but_an_https_address_is_followed(tls, source, tmp_path, start):
    async def main() -> None:
        url = start + PATH
        with pytest.raises(TransferError) as put:
            await put_file(Slot(url, {}, url), source, tls.ca)
        with pytest.raises(TransferError) as get:
            await fetch(url, tls.ca, tmp_path / "target", 1)
        assert put.value.condition == get.value.condition == "bad-address"

    asyncio.run(main())
    assert not (tmp_path / "target").exists()


def test_nobody_listening_is_a_broken_transfer(tls, source):
    async def main() -> str:
        async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as listening:
            url = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}{PATH}"
        with pytest.raises(TransferError) as caught:
            await put_file(Slot(url, {}, url), source, tls.ca)
        return caught.value.condition

    assert asyncio.run(main()) == "connection"


# --- fetch ---


@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_001])
def test_a_fetch_writes_what_came_and_says_its_hash(tls, tmp_path, size):
    body, target = os.urandom(size), tmp_path / "target"

    async def work(url: str) -> str:
        return await fetch(url, tls.ca, target, size)

    assert with_server(tls, giving(body), work) == hashlib.sha256(body).hexdigest()
    assert target.read_bytes() == body


def test_an_object_cut_short_too_short_or_too_long_is_refused(tls, tmp_path):
    target = tmp_path / "target"
    assert fetch_error(tls, giving(b"x" * 500, length=1000), target, 1000).condition == "connection"
    assert fetch_error(tls, giving(b"x" * 999), target, 1000).condition == "size"
    assert fetch_error(tls, giving(b"x" * 1001), target, 1000).condition == "size"


def test_an_endless_object_is_left_at_the_first_byte_too_many(tls, tmp_path):
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while sent < 200_000_000:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    assert fetch_error(tls, endless, tmp_path / "target", 1000).condition == "size"
    assert sent < 100_000_000


@pytest.mark.parametrize("status", [201, 204, 206, 301, 302, 403, 404, 410, 500])
def test_only_200_gives_an_object(tls, tmp_path, status):
    error = fetch_error(tls, giving(b"", status=f"{status} Nope", headers="Location: /elsewhere\r\n"), tmp_path / "target", 0)
    assert (error.condition, error.status) == ("http", status)


def test_a_fetch_that_moves_no_byte_is_cut(tls, tmp_path):
    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
        await writer.drain()
        await asyncio.sleep(50)

    assert fetch_error(tls, stalls, tmp_path / "target", 1000, stall_seconds=0.5).condition == "stalled"


def test_a_body_is_never_unpacked(tls, tmp_path):
    body = b"not really gzip"

    async def work(url: str) -> str:
        return await fetch(url, tls.ca, tmp_path / "target", len(body))

    assert with_server(tls, giving(body, headers="Content-Encoding: gzip\r\n"), work) == hashlib.sha256(body).hexdigest()


def test_a_target_that_exists_is_not_overwritten(tls, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"mine")

    async def work(url: str) -> str:
        with pytest.raises(TransferError) as caught:
            await fetch(url, tls.ca, target, 1)
        return caught.value.condition

    assert with_server(tls, giving(b"x"), work) == "file"
    assert target.read_bytes() == b"mine"


def test_a_full_disk_is_told_as_our_own_trouble(tls):
    target = Path("/dev/full")

    async def work(url: str) -> str:
        with pytest.raises(TransferError) as caught:
            await fetch(url, tls.ca, target, 1_000_000)
        return caught.value.condition

    # /dev/full exists, so it is refused as a target before a byte is asked for: a device is never truncated or removed.
    assert with_server(tls, giving(b"x" * 1_000_000), work) == "file"
    assert target.exists()
