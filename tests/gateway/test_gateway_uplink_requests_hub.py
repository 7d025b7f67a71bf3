"""Asked by the real command over the real hub (ejabberd): a truck with real segments answers, marks and refuses, and does nothing twice."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from gateway_request_parts import HOME, east_of_home, listening, way
from gateway_sweeper_parts import UTC_NS, images
from gateway_uplink_parts import until

from center.requests import ask, asked, follow
from gateway import config, uplink_joined, uplink_requests, uplink_requests_answer
from gateway.clock import boottime_ns
from gateway.ledger import LEDGER_NAME, Ledger, kernel_boot_id
from gateway.uplink import Pace, Uplink
from gateway.uplink_books import Books
from gateway.uplink_link import Link
from gateway.uplink_requests import Requests
from gateway.uplink_requests_look import Looking
from gateway.uplink_scan import describe, scan
from sox import nodes
from sox.client import SoxClient
from sox.documents import TransducerValue, data_document, parse_device, xep0082
from sox.requests import ANSWERED, BOOKMARK, DONE, FOUND, IMAGES, REFUSED, SENDING, Answer, Place, Request
from sox.segments import STORED, Receipt, read_announcement, receipt_document

pytestmark = pytest.mark.timeout(60)
ROOT = Path(__file__).resolve().parents[2]
TRUCK = "truck-1"
SECOND = 1_000_000_000
NOW = UTC_NS + 1_000 * SECOND


class OnTruck:
    """The truck's requests, links and ledger as the uplink joins them, without its other tasks."""

    def __init__(self, hub: dict[str, Any], spool: Path) -> None:
        where = config.Hub(hub["domain"], hub["host"], hub["c2s_port"], hub["ca_file"], str(Path(hub["secrets"], TRUCK)))
        self.spool = spool
        truck = config.Truck(name=TRUCK, spool=str(spool), live_socket=str(spool / "live"), hub=where, spool_quota_bytes=3_000_000)
        self.ledger = Ledger(spool / LEDGER_NAME)
        self.ledger.add(scan(spool, TRUCK, self.ledger.known())[0])
        self.books = Books(self.ledger)
        self.link = Link(truck, self._prepare, 0.1)
        self.looking = Looking(spool, self.books, 0.0)
        self.requests = Requests(truck, self.books, self.link, 0.1, answer_seconds=0.05)
        self.requests.utc_ns = lambda: NOW
        self.link.on_item = self.requests.item
        self._tasks: list[asyncio.Task[None]] = []

    async def _prepare(self, client: SoxClient) -> None:
        pass

    def start(self) -> "OnTruck":
        works = (self.link.run, self.looking.run, self.requests.follow, self.requests.run)
        self._tasks = [asyncio.create_task(work()) for work in works]
        return self

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.books.close()

    async def deliver(self, segment_id: str) -> None:
        """As bulk, announcement and receipt do."""
        row = await self.books(Ledger.segment, segment_id)
        assert row is not None
        description = describe(self.spool / row.path)
        await self.books(Ledger.describe, segment_id, description)
        await self.books(Ledger.uploaded, segment_id, "https://hub.test/x")
        assert (
            await self.books(Ledger.receipt, Receipt(segment_id, "stored", description.sha256, description.size, ""), True) == "delivered"
        )


@pytest.fixture
async def truck(hub: dict[str, Any], tmp_path: Path) -> AsyncIterator[OnTruck]:
    """Four segments with images, of which the second and third were taken near HOME."""
    way(tmp_path, 1, 0, [east_of_home(2000.0 - 10.0 * second) for second in range(400)])
    for number, begin in ((2, 20), (3, 185), (4, 205), (5, 380)):
        images(tmp_path, number, begin, size=200)
    made = OnTruck(hub, tmp_path).start()
    yield made
    await made.stop()


@pytest.fixture
async def center(hub: dict[str, Any]) -> AsyncIterator[SoxClient]:
    where = config.Hub(hub["domain"], hub["host"], hub["c2s_port"], hub["ca_file"], str(Path(hub["secrets"], "center")))
    client = where.client("center")
    await client.connect()
    yield client
    await client.disconnect()


def request(name: str, kind: str = IMAGES, **fields: Any) -> Request:
    return Request(name, kind, 0, 0, None, NOW)._replace(**fields)


async def first(center: SoxClient, name: str, state: str = "") -> Answer:
    """The first answer (in `state`) to a request."""
    answers: list[Answer] = []
    await follow(center, TRUCK, name, answers.append, lambda answer: not state or answer.state == state)
    return answers[-1]


async def test_the_whole_uplink_sends_what_was_asked_for_over_a_link_that_other_images_may_not_use(
    hub: dict[str, Any], center: SoxClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink_joined, "Requests", partial(Requests, answer_seconds=0.1))
    made = [images(tmp_path, number, number * 100.0, size=200) for number in range(1, 6)]
    where = config.Hub(hub["domain"], hub["host"], hub["c2s_port"], hub["ca_file"], str(Path(hub["secrets"], TRUCK)))
    links = config.Uplink(network_manager=False, images="depot")
    uplink = Uplink(
        config.Truck(name=TRUCK, spool=str(tmp_path), live_socket=str(tmp_path / "live"), hub=where, uplink=links),
        Pace(back_off_first=0.1, look_seconds=0.1),
    )
    announced: list[str] = []

    async def receipt(node: str, item_id: str, element: ET.Element) -> None:
        if node == nodes.data(nodes.channel(TRUCK, "segments")):
            said = read_announcement(item_id, element)
            announced.append(item_id)
            document = receipt_document(Receipt(item_id, STORED, said.sha256, said.size, ""), NOW)
            await center.publish(nodes.data(nodes.channel(TRUCK, "receipts")), item_id, document)

    center.on_item(receipt)
    await center.subscribe(nodes.data(nodes.channel(TRUCK, "segments")))
    running = asyncio.create_task(uplink.run())
    window = {"from_utc_ns": UTC_NS + 300 * SECOND, "to_utc_ns": UTC_NS + 400 * SECOND}
    await ask(center, TRUCK, request("whole", **window, asked_utc_ns=time.time_ns()))
    answers: list[Answer] = []
    await asyncio.wait_for(follow(center, TRUCK, "whole", answers.append, lambda answer: answer.sent_segments == 2), 40)
    assert sorted(announced) == made[2:4] and [one.segment_id for one in answers[-1].sent] == made[2:4]
    [(_, meta)] = await center.items(nodes.meta(nodes.channel(TRUCK, "answers")))
    assert [transducer.id for transducer in parse_device(meta).transducers] == list(ANSWERED)
    uplink.stop()
    await asyncio.wait_for(running, 20)
    states = json.loads((tmp_path / "uplink.json").read_text("utf-8"))
    assert states["segments"]["receipted"] == 2 and states["segments"]["sealed"] == 3


async def test_images_of_a_place_are_found_sent_first_and_followed_until_all_are_receipted(truck: OnTruck, center: SoxClient) -> None:
    woken: list[bool] = []
    truck.requests.on_requested = lambda: woken.append(True)
    place = request("place", place=Place(*HOME, 100.0), to_utc_ns=UTC_NS + 500 * SECOND)
    await ask(center, TRUCK, place)
    told: list[Answer] = []
    following = asyncio.create_task(follow(center, TRUCK, "place", told.append))
    await until(lambda: bool(told) and len(told[-1].exists) == 2)
    near = [one.segment_id for one in told[-1].exists]
    assert told[-1].state == FOUND and [name[-13:-7] for name in near] == ["000003", "000004"]
    assert (told[-1].segments, told[-1].images, told[-1].gone_segments) == (2, 40, 0) and woken
    upload = await truck.books(Ledger.next_upload, frozenset(), classes=("requested",))
    assert upload is not None and upload.segment_id == near[0]
    await truck.deliver(near[0])
    await until(lambda: told[-1].state == SENDING)
    assert told[-1].reason == "1 of 2 sent" and [one.segment_id for one in told[-1].sent] == near[:1]
    await truck.deliver(near[1])
    await asyncio.wait_for(following, 20)
    assert (told[-1].state, told[-1].sent_segments, told[-1].exists) == (DONE, 2, ())
    assert [(one.request.request_id, one.open) for one in await asked(center, TRUCK)][-1] == ("place", False)


async def test_a_request_is_done_once_however_often_it_is_read_also_after_the_ledger_was_lost(
    truck: OnTruck, center: SoxClient, hub: dict[str, Any]
) -> None:
    marks: list[str] = []
    with listening(truck.spool, lambda source, detail: marks.append(f"{source} {detail}") is None):
        await ask(center, TRUCK, request("once", BOOKMARK))
        assert (await first(center, "once")).state == DONE and marks == ["center once"]
        client = await truck.link.client()
        await client.disconnect()
        await until(lambda: truck.link.connects == 2)
        await ask(center, TRUCK, request("once", BOOKMARK))  # and once more by the center
        await ask(center, TRUCK, request("next", BOOKMARK))
        assert (await first(center, "next")).state == DONE and marks == ["center once", "center next"]
        await truck.stop()
        (truck.spool / LEDGER_NAME).unlink()
        anew = OnTruck(hub, truck.spool).start()
        await ask(center, TRUCK, request("last", BOOKMARK))
        assert (await first(center, "last")).state == DONE and marks == ["center once", "center next", "center last"]
        await anew.stop()


async def test_what_cannot_be_followed_is_refused_in_words_and_an_answer_is_repeated_until_the_hub_has_it(
    truck: OnTruck, center: SoxClient
) -> None:
    node = nodes.data(nodes.channel(TRUCK, "request"))
    await center.publish(node, "malformed", data_document([TransducerValue("kind", "images", None, xep0082(NOW))]))
    refused = await first(center, "malformed")
    assert (refused.state, refused.reason) == (REFUSED, "neither a time nor a place is asked for")
    await ask(center, TRUCK, request("stale", from_utc_ns=SECOND, asked_utc_ns=NOW - 40 * 86_400 * SECOND))
    assert (await first(center, "stale")).reason == "asked 40 days ago: too late"
    await ask(center, TRUCK, request("late", BOOKMARK, asked_utc_ns=NOW - 100 * SECOND))
    assert (await first(center, "late")).reason == "asked 100 s ago: the moment is over"
    await ask(center, TRUCK, request("nobody", BOOKMARK))
    assert (await first(center, "nobody")).reason == "not marked: no recorder runs"
    await ask(center, TRUCK, request("never", from_utc_ns=SECOND, to_utc_ns=2 * SECOND))
    assert "never recorded: nothing is known of that time" in (await first(center, "never", DONE)).reason
    truck.requests._most_bytes = 10_000
    await ask(center, TRUCK, request("much", to_utc_ns=UTC_NS + 500 * SECOND))
    much = await first(center, "much", REFUSED)
    assert much.segments == 4 and "ask for less" in much.reason and truck.ledger.next_upload(classes=("requested",)) is None


async def test_a_window_that_is_not_over_stays_open_and_takes_what_is_sealed_later(truck: OnTruck, center: SoxClient) -> None:
    await ask(center, TRUCK, request("soon", from_utc_ns=UTC_NS + 600 * SECOND, to_utc_ns=UTC_NS + 990 * SECOND))
    open_answers: list[Answer] = []
    await follow(center, TRUCK, "soon", open_answers.append, lambda answer: "not over" in answer.reason)
    later = images(truck.spool, 9, 700, size=200)
    await truck.books(Ledger.add, scan(truck.spool, TRUCK, truck.ledger.known())[0])
    truck.looking.found.set()
    answers: list[Answer] = []
    await follow(center, TRUCK, "soon", answers.append, lambda answer: bool(answer.exists))
    assert [one.segment_id for one in answers[-1].exists] == [later]
    await truck.deliver(later)
    await until(lambda: len(truck.ledger.db.execute("SELECT 1 FROM requests WHERE state='sending'").fetchall()) == 1)
    truck.requests.utc_ns = lambda: NOW + 100 * SECOND
    assert (await first(center, "soon", DONE)).sent_segments == 1


async def test_without_a_system_clock_the_segments_of_this_boot_tell_the_time(truck: OnTruck) -> None:
    truck.requests.utc_ns = lambda: 0
    assert await truck.requests._now() == 0, "no segment of this boot"
    truck.ledger.db.execute("INSERT INTO clocks VALUES (?,?,?)", (kernel_boot_id()[:8], boottime_ns() - SECOND, NOW))
    assert NOW + SECOND <= await truck.requests._now() <= NOW + 60 * SECOND


async def test_the_command_asks_shows_and_waits(
    truck: OnTruck, hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (uplink_requests, uplink_requests_answer):  # the command lives today, the segments in 2027
        monkeypatch.setattr(module, "STALE_SECONDS", 1e12)
    config_file = tmp_path / "center.toml"
    config_file.write_text(
        f'archive = "{tmp_path}/archive"\ntrucks = ["{TRUCK}"]\n[hub]\ndomain = "{hub["domain"]}"\nhost = "{hub["host"]}"\n'
        f'port = {hub["c2s_port"]}\nca_file = "{hub["ca_file"]}"\npassword_file = "{Path(hub["secrets"], "center")}"\n'
    )

    async def run(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "center.ask_tool", *arguments, "--config", str(config_file)]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = await asyncio.wait_for(process.communicate(), 40)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    window = ["--from", xep0082(UTC_NS), "--to", xep0082(UTC_NS + 30 * SECOND)]
    waiting = asyncio.create_task(run("ask", TRUCK, *window, "--wait", "--json"))
    await until(lambda: truck.requests.open >= 1 and truck.ledger.next_upload(classes=("requested",)) is not None)
    row = truck.ledger.next_upload(classes=("requested",))
    assert row is not None
    await truck.deliver(row.segment_id)
    code, out, err = await waiting
    document = json.loads(out)
    assert (code, err) == (0, "") and document["answer"]["state"] == "done"
    assert [one["segment_id"] for one in document["answer"]["sent"]] == [row.segment_id]
    truck.requests.utc_ns = time.time_ns
    (code, out, err), (listed, table, _) = await asyncio.gather(run("bookmark", TRUCK), run("requests", TRUCK, "--all"))
    assert code == 1 and "refused: not marked: no recorder runs" in " ".join(out.split()), err
    assert listed == 0 and document["request"]["id"] in "".join(table.split()) and "done" in table
