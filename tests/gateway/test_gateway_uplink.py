"""The parts of the uplink without a hub: live documents, receipts, scanning, refused uploads against a web server that misbehaves."""

import asyncio
import socket
import sqlite3
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from gateway_uplink_parts import BOOT_NS, FOLDER, UTC_NS, OpenWays, seal, until

from gateway.ledger import REFUSALS_MAX, Ledger
from gateway.uplink_announcer import Announcer, Receipts
from gateway.uplink_books import Books
from gateway.uplink_bulk import Bulk, is_refusal
from gateway.uplink_link import Link
from gateway.uplink_live import BadSnapshot, data_item, snapshot
from gateway.uplink_scan import Unreadable, describe, scan
from gateway.uplink_sender import Numbers, Sender
from hub.certificates import ensure
from logbook.quantities import BY_ID
from sox.client import Slot
from sox.documents import parse_data, parse_xep0082
from sox.errors import SoxError, TransferError
from sox.segments import STORED, Receipt, receipt_document

pytestmark = pytest.mark.timeout(60)


def datagram(number: int = 1, utc_ns: int = UTC_NS, **values: dict[str, Any]) -> dict[str, Any]:
    return {
        "truck": "truck-1", "boot": FOLDER, "number": number, "boottime_ns": BOOT_NS, "utc_ns": utc_ns, "utc_source": "gnss",
        "values": values, "counts": {}, "sensors": {}, "head": None, "image": None,
    }  # fmt: skip


def value(number: float | None, raw: str = "", reason: str | None = None, age_ns: int = 0) -> dict[str, Any]:
    return {"value": number, "reason": reason, "raw": raw, "boottime_ns": BOOT_NS - age_ns, "calibrated": False}


# -- live documents


def test_live_values_carry_the_unit_of_the_table_their_raw_number_and_their_own_time_of_collection() -> None:
    sent = datagram(magnetic_field_x=value(-31.5e-6, "-210"), temperature=value(298.15, "26214", age_ns=1_500_000_000))
    item = data_item(snapshot(sent, "truck-1"))
    assert item is not None
    field, temperature = parse_data(item)
    assert field.typed is not None and temperature.typed is not None
    assert (field.id, field.raw) == ("magnetic_field_x", "-210")
    assert float(field.typed) == pytest.approx(-31.5), "microtesla: unitScaler -6"
    assert (temperature.id, float(temperature.typed)) == ("temperature", 298.15), "kelvin"
    assert parse_xep0082(field.timestamp) == UTC_NS
    assert parse_xep0082(temperature.timestamp) == UTC_NS - 1_500_000_000


def test_a_position_keeps_its_last_digit() -> None:
    item = data_item(snapshot(datagram(longitude=value(139.4912347, "1394912347")), "truck-1"))
    assert item is not None and parse_data(item)[0].typed == "139.4912347"


def test_a_value_without_number_is_published_as_its_reason_and_never_as_a_number() -> None:
    sent = datagram(uva=value(None, "65535", "saturated"), pressure=value(float("nan"), "1"), unheard_of=value(1.0))
    item = data_item(snapshot(sent, "truck-1"))
    assert item is not None
    assert [(v.id, v.typed) for v in parse_data(item)] == [("uva.reason", "saturated"), ("pressure.reason", "unknown")]
    assert not set(BY_ID) & {v.id for v in parse_data(item)}


@pytest.mark.parametrize(
    "broken",
    [
        {},
        datagram() | {"truck": "truck-2"},
        datagram() | {"utc_ns": "now"},
        datagram(pressure={"value": "high", "boottime_ns": 1}),
        datagram() | {"values": [1, 2]},
    ],
)
def test_a_datagram_that_is_no_snapshot_of_this_truck_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(BadSnapshot):
        snapshot(broken, "truck-1")


def test_a_time_that_no_calendar_has_is_refused() -> None:
    with pytest.raises(BadSnapshot, match="no such time"):
        data_item(snapshot(datagram(utc_ns=2**62 * 2**30, pressure=value(1.0)), "truck-1"))


# -- the live task


class FakeClient:
    """A client whose publications the test answers."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str, Any]] = []
        self.slots = 0
        self.slot_error: SoxError | None = None
        self.url = "https://localhost:1/"
        self.gate = asyncio.Event()
        self.gate.set()
        self.fail = 0

    async def publish(self, node: str, item_id: str, element: Any) -> None:
        await self.gate.wait()
        self.published.append((node, item_id, element))
        if self.fail:
            self.fail -= 1
            raise SoxError("timeout", "no answer")

    async def ping(self) -> None:
        await asyncio.sleep(0.001)

    async def upload_slot(self, name: str, size: int, content_type: str) -> Slot:
        if self.slot_error is not None:
            raise self.slot_error
        self.slots += 1
        return Slot(f"{self.url}{self.slots}/{name}", {}, f"{self.url}{self.slots}/{name}")


class FakeLink:
    """A link that is always connected."""

    def __init__(self) -> None:
        self.fake = FakeClient()

    async def client(self) -> FakeClient:
        return self.fake


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    (tmp_path / "spool").mkdir()
    books = Books(Ledger(tmp_path / "spool" / "ledger.sqlite"))
    yield books
    books.close()


async def test_only_the_newest_snapshot_is_published_and_ids_rise_even_after_failures(books: Books) -> None:
    link = FakeLink()
    link.fake.fail = 1
    link.fake.gate.clear()
    sender = Sender("truck-1", Numbers(books), link, 0.01)  # type: ignore[arg-type]
    task = asyncio.create_task(sender.run())
    try:
        sender.offer(datagram(1, pressure=value(1.0)))
        await until(lambda: sender._newest is None)
        for number in range(2, 10):
            sender.offer(datagram(number, pressure=value(float(number))))
        link.fake.gate.set()
        await until(lambda: sender.published == 1)
    finally:
        task.cancel()
    assert [parse_data(element)[0].typed for _, _, element in link.fake.published] == ["1", "9"]
    ids = [int(item_id) for _, item_id, _ in link.fake.published]
    assert ids == sorted(set(ids)), "an id whose answer was lost is not used again"
    assert (sender.conflated, sender.failed, sender.waiting) == (7, 1, None)


async def test_without_utc_nothing_is_published_and_the_status_says_so(books: Books) -> None:
    link = FakeLink()
    sender = Sender("truck-1", Numbers(books), link, 0.01)  # type: ignore[arg-type]
    task = asyncio.create_task(sender.run())
    try:
        sender.offer(datagram(1, utc_ns=0, pressure=value(1.0)))
        assert sender.waiting is not None and "no UTC" in sender.waiting
        sender.offer(datagram(2, pressure=value(2.0)))
        await until(lambda: sender.published == 1)
    finally:
        task.cancel()
    assert [parse_data(element)[0].typed for _, _, element in link.fake.published] == ["2"]


async def test_ids_go_on_above_what_the_hub_has_when_the_ledger_was_lost(books: Books) -> None:
    numbers = Numbers(books)
    await numbers.above([("current", None), ("41", None), ("7", None), ("9" * 30, None), ("²", None)])  # type: ignore[list-item]
    assert [await numbers.next(), await numbers.next()] == ["42", "43"]
    await numbers.above([("43", None)])  # type: ignore[list-item]
    assert await numbers.next() == "44"


def test_a_calibrated_value_is_marked_and_an_uncalibrated_one_is_not() -> None:
    item = data_item(snapshot(datagram(pressure=value(1.0) | {"calibrated": True}, humidity=value(2.0)), "truck-1"))
    assert item is not None
    assert [(v.id, v.typed) for v in parse_data(item)] == [("pressure", "1"), ("pressure.calibrated", "true"), ("humidity", "2")]


# -- receipts


class Node:
    """A client with the receipts node alone."""

    def __init__(self, *receipts: Receipt) -> None:
        self.receipts = receipts
        self.reads = 0

    async def subscribe(self, node: str) -> None:
        return

    async def items(self, node: str, most: int) -> list[tuple[str, Any]]:
        self.reads += 1
        return [(receipt.segment_id, receipt_document(receipt, UTC_NS)) for receipt in self.receipts]


def delivered(books_of: Path) -> Receipt:
    """The receipt of a segment that lies sealed in the spool."""
    path = seal(books_of, 1)
    description = describe(path)
    return Receipt(f"truck-1-{FOLDER}-000001-readings", STORED, description.sha256, description.size, "")


async def receipts_of(books: Books, spool: Path, node: Node) -> tuple[Receipts, Link]:
    await books(Ledger.add, scan(spool, "truck-1", set())[0])
    link = Link(None, None, 0.01)  # type: ignore[arg-type]
    link._client = node  # type: ignore[assignment]
    return Receipts("truck-1", spool, books, link, 0.01), link


async def test_receipts_do_not_count_as_read_while_the_disk_refuses_one(
    books: Books, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = delivered(tmp_path / "spool")
    receipts, _ = await receipts_of(books, tmp_path / "spool", Node(receipt))
    following = asyncio.create_task(receipts.follow())

    def full(*_: object) -> str:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "receipt", full)
        for _ in range(3):
            with pytest.raises(sqlite3.OperationalError):
                await receipts.run()
            assert not receipts.read_once.is_set(), "bulk would upload again what is delivered"
    running = asyncio.create_task(receipts.run())
    await asyncio.wait_for(receipts.read_once.wait(), 20)
    assert await states(books) == {"receipted": 1}
    for task in (following, running):
        task.cancel()


async def test_a_connection_that_replaced_another_unseen_has_its_receipts_read_too(books: Books, tmp_path: Path) -> None:
    receipt = delivered(tmp_path / "spool")
    before, after = Node(), Node(receipt)
    receipts, link = await receipts_of(books, tmp_path / "spool", before)
    following = asyncio.create_task(receipts.follow())
    await until(lambda: before.reads == 1)
    link._client = after  # type: ignore[assignment]  # while what came over the first is still being entered
    running = asyncio.create_task(receipts.run())
    await until(lambda: after.reads == 1 and receipts.outcomes == {"delivered": 1})
    for task in (following, running):
        task.cancel()


async def test_an_announcement_that_the_hub_refuses_does_not_hold_up_the_others(books: Books, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        seal(tmp_path / "spool", number)
    receipts, link = await receipts_of(books, tmp_path / "spool", Node())
    ids = [f"truck-1-{FOLDER}-{number:06d}-readings" for number in (1, 2, 3)]
    for identity in ids:
        await books(Ledger.uploaded, identity, "https://hub/x")

    class Picky(Node):
        async def publish(self, node: str, item_id: str, element: Any) -> None:
            if item_id == ids[0]:
                raise SoxError("not-acceptable", "payload too big")

    link._client = Picky()  # type: ignore[assignment]
    receipts.caught_up.set()
    announcer = Announcer("truck-1", books, link, receipts, 600.0, 0.01)
    running = asyncio.create_task(announcer.run())
    await until(lambda: announcer.announcements == 2 and announcer.problem is not None)
    running.cancel()
    assert "not-acceptable" in (announcer.problem or "")
    assert await states(books) == {"uploaded": 1, "announced": 2}


# -- what the folder says


def test_only_sealed_segments_are_found_oldest_first(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    names = [
        "000002-readings.mcap",
        "000001-readings.mcap",
        "000003-images.mcap",
        "000004-readings.mcap.open",
        "notes.txt",
        "x-images.mcap",
    ]
    (spool / FOLDER).mkdir(parents=True)
    for name in names:
        (spool / FOLDER / name).write_bytes(b"1234")
    (spool / "000009-readings.mcap").write_bytes(b"not in a folder")
    (spool / FOLDER / "000005-readings.mcap").symlink_to(spool / FOLDER / "notes.txt")
    found, present = scan(spool, "truck-1", set())
    assert {segment.path for segment in found} == {f"{FOLDER}/{name}" for name in names[:3]}
    assert [segment.stream for segment in found if segment.path.endswith("images.mcap")] == ["images"]
    assert {segment.size for segment in found} == {4}
    assert present == {f"truck-1-{FOLDER}-{name[:-5]}" for name in names[:3]}
    assert scan(spool, "truck-1", present) == ([], present)
    assert scan(tmp_path / "absent", "truck-1", set()) == ([], set())


def test_a_segments_bytes_say_its_times_and_sum(tmp_path: Path) -> None:
    path = seal(tmp_path, 1)
    description = describe(path)
    assert (description.size, description.first_boottime_ns, description.last_boottime_ns) == (
        path.stat().st_size,
        BOOT_NS,
        BOOT_NS + 2 * 10**9,
    )
    assert (description.first_utc_ns, description.last_utc_ns) == (UTC_NS, UTC_NS + 2 * 10**9)
    path.write_bytes(b"no segment")
    with pytest.raises(Unreadable, match=r"000001-readings\.mcap"):
        describe(path)
    path.unlink()
    with pytest.raises(Unreadable, match="No such file"):
        describe(path)


# -- bulk against a web server that answers what the test wants


class Shop:
    """A web server for PUTs: answers the statuses of `answers` in turn (then 201); status 0 cuts the connection in the middle."""

    def __init__(self) -> None:
        self.answers: dict[str, list[int]] = {}
        self.puts: list[tuple[str, str]] = []
        self.bodies: dict[str, bytes] = {}

    async def put(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.puts.append((request.match_info["slot"], name))
        planned = self.answers.get(name) or [201]
        status = planned.pop(0) if len(planned) > 1 else planned[0]
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        self.bodies[name] = await request.read()
        return web.Response(status=status)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[tuple[Shop, str, str]]:
    """The server, its address, its certificate authority's file."""
    files = ensure(tmp_path / "tls", "shop.test", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.server, files.server_key)
    shop = Shop()
    application = web.Application(client_max_size=1 << 26)
    application.router.add_put("/{slot}/{name}", shop.put)
    runner = web.AppRunner(application)
    await runner.setup()
    listener = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, listener, ssl_context=context).start()
    yield shop, f"https://localhost:{listener.getsockname()[1]}/", str(files.ca)
    await runner.cleanup()


async def states(books: Books) -> dict[str, int]:
    return {state: count for state, count in (await books(Ledger.totals)).segments.items() if count}


async def bulk_until(books: Books, spool: Path, shop: tuple[Shop, str, str], wanted: dict[str, int]) -> tuple[Bulk, FakeClient]:
    """Run bulk until the ledger's counts are `wanted`."""
    link = FakeLink()
    link.fake.url = shop[1]
    bulk = Bulk(spool, shop[2], books, link, OpenWays(), lambda: None, 0.001)  # type: ignore[arg-type]
    await books(Ledger.add, scan(spool, "truck-1", set())[0])
    task = asyncio.create_task(bulk.run())
    try:
        async with asyncio.timeout(20):
            while await states(books) != wanted:  # noqa: ASYNC110  files and counters have no event
                await asyncio.sleep(0.02)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return bulk, link.fake


@pytest.mark.parametrize("status", [401, 403, 409, 412, 413, 204, 302])
async def test_a_refused_put_is_never_uploaded_and_does_not_block_the_others(
    books: Books, tmp_path: Path, shop: tuple[Shop, str, str], status: int
) -> None:
    spool = tmp_path / "spool"
    poison, good = seal(spool, 1), seal(spool, 2)
    shop[0].answers[poison.name] = [status]
    bulk, client = await bulk_until(books, spool, shop, {"refused": 1, "uploaded": 1})
    tries = [slot for slot, name in shop[0].puts if name == poison.name]
    assert len(tries) == REFUSALS_MAX and len(set(tries)) == REFUSALS_MAX, "each try has a new slot"
    assert shop[0].bodies[good.name] == good.read_bytes()
    names = [name for _, name in shop[0].puts]
    assert names[0] == poison.name and names[-1] == poison.name, "the good one did not wait until the poison was set aside"
    assert (bulk.refused, bulk.uploads) == (REFUSALS_MAX, 1)
    aside = (await books(Ledger.totals)).set_aside
    assert [entry["segment_id"] for entry in aside] == [f"truck-1-{FOLDER}-000001-readings"] and str(status) in aside[0]["reason"]
    assert await books(Ledger.deletable) == []


async def test_broken_puts_get_new_slots_and_are_not_held_against_the_segment(
    books: Books, tmp_path: Path, shop: tuple[Shop, str, str]
) -> None:
    spool = tmp_path / "spool"
    path = seal(spool, 1)
    shop[0].answers[path.name] = [0, 503, 500, 429, 0, 507, 0, 201]
    bulk, client = await bulk_until(books, spool, shop, {"uploaded": 1})
    assert (bulk.broken, bulk.refused, bulk.uploads, client.slots) == (7, 0, 1, 8)
    assert len({slot for slot, _ in shop[0].puts}) == 8
    segment = await books(Ledger.segment, f"truck-1-{FOLDER}-000001-readings")
    assert segment is not None and segment.url is not None and segment.url.endswith(f"/8/{path.name}") and segment.refusals == 0


async def test_readings_are_uploaded_before_images(books: Books, tmp_path: Path, shop: tuple[Shop, str, str]) -> None:
    spool = tmp_path / "spool"
    for number, stream in ((1, "images"), (2, "readings"), (3, "images"), (4, "readings")):
        seal(spool, number, stream)
    await bulk_until(books, spool, shop, {"uploaded": 4})
    assert [name for _, name in shop[0].puts] == [
        "000002-readings.mcap", "000004-readings.mcap", "000001-images.mcap", "000003-images.mcap"
    ]  # fmt: skip


async def test_an_unreadable_segment_is_set_aside_and_kept(books: Books, tmp_path: Path, shop: tuple[Shop, str, str]) -> None:
    spool = tmp_path / "spool"
    broken = seal(spool, 1)
    broken.write_bytes(b"garbage")
    seal(spool, 2)
    await bulk_until(books, spool, shop, {"refused": 1, "uploaded": 1})
    assert broken.exists() and [name for _, name in shop[0].puts] == ["000002-readings.mcap"]


def test_only_answers_about_the_file_itself_count_as_refusals() -> None:
    refusals: list[SoxError] = [TransferError("http", "x", status) for status in (400, 401, 403, 404, 409, 412, 413, 302, 204)]
    refusals += [TransferError("size", "x"), SoxError("not-acceptable", "file too large"), SoxError("forbidden")]
    others: list[SoxError] = [TransferError("http", "x", status) for status in (408, 429, 500, 502, 503, 507)]
    others += [TransferError("stalled", "x"), TransferError("connection", "x"), TransferError("certificate", "x")]
    others += [SoxError("timeout"), SoxError("disconnected"), SoxError("service-unavailable"), SoxError("resource-constraint")]
    assert [error for error in refusals if not is_refusal(error)] == []
    assert [error for error in others if is_refusal(error)] == []
